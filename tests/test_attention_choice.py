"""Which kernel takes which case, what it says about it, and that neither a device nor a compiler is made to wait."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from attention_cases import packed
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode

from mindllm.attention import CAUSAL, Mask, attend, describe, flash, kernels

# B batch, T queries, S keys, H heads, K key-value heads, D head dim

chooser = sys.modules["mindllm.attention.attend"]
BF16, FP32 = torch.bfloat16, torch.float32


def chosen(
    kind: str, dtype: torch.dtype, mask: Mask, window: int = 0, T: int = 2048, S: int = 2048, D: int = 64
) -> str:
    return chooser.choose(kind, dtype, (8, T, S, D), mask, window, False)


@pytest.mark.parametrize("has_flash", [True, False])
def test_who_takes_which_case(monkeypatch: pytest.MonkeyPatch, has_flash: bool) -> None:
    monkeypatch.setattr(chooser, "_has_flash_kernel", lambda: True)
    monkeypatch.setattr(flash, "usable", lambda: has_flash)
    prefix, documents = Mask(prefix=torch.zeros(8)), packed(8, 16)
    all_seen, unpacked = Mask(causal=False), Mask(documents=documents.documents)
    assert {chosen(kind, FP32, prefix, T=1) for kind in ("cpu", "cuda", "mps")} == {"one"}
    # a CPU
    assert chosen("cpu", BF16, CAUSAL) == chosen("cpu", BF16, prefix) == chosen("cpu", FP32, CAUSAL, 9) == "blocks"
    assert chooser.choose("cpu", FP32, (8, 2048, 2048, 64), CAUSAL, 0, True) == "blocks"
    assert chosen("cpu", FP32, CAUSAL, T=512, S=512) == chosen("cpu", BF16, CAUSAL, 9, T=64) == "blocks"
    assert chosen("cpu", FP32, CAUSAL) == chosen("cpu", BF16, CAUSAL, T=63, S=63) == "sdpa"
    assert chosen("cpu", torch.float64, CAUSAL, 9) == chosen("cpu", BF16, CAUSAL, 9, T=63) == "table"
    # a GPU
    assert chosen("cuda", BF16, CAUSAL) == chosen("cuda", BF16, all_seen) == ("flash" if has_flash else "sdpa")
    packed_by = "flash" if has_flash else "packed"
    assert chosen("cuda", BF16, documents) == chosen("cuda", BF16, CAUSAL, 256) == packed_by
    assert chosen("cuda", torch.float16, CAUSAL, S=4096) == packed_by
    assert chosen("cuda", BF16, prefix) == chosen("cuda", BF16, unpacked) == "flex"
    assert chosen("cuda", BF16, prefix, T=512, S=512) == chosen("cuda", BF16, prefix, T=1024) == "table"
    # anything else
    assert chosen("mps", BF16, CAUSAL) == "sdpa" and chosen("mps", BF16, documents) == "table"


@pytest.fixture
def quiet_again() -> Iterator[None]:
    chooser._say_reduced.cache_clear()
    yield
    chooser._say_reduced.cache_clear()


@pytest.mark.parametrize(
    ("dtype", "D", "new_enough", "message"),
    [(FP32, 64, True, "float32"), (BF16, 320, True, "head dimension of 320"), (BF16, 64, False, "capability 8.0")],
)
def test_a_reduced_path_is_said_once(
    monkeypatch: pytest.MonkeyPatch, quiet_again: None, dtype: torch.dtype, D: int, new_enough: bool, message: str
) -> None:
    monkeypatch.setattr(chooser, "_has_flash_kernel", lambda: new_enough)
    monkeypatch.setattr(flash, "usable", lambda: False)
    with pytest.warns(UserWarning, match=f"WITHOUT FlashAttention-2.*{message}"):
        assert chosen("cuda", dtype, CAUSAL, D=D) == "sdpa"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen("cuda", dtype, CAUSAL, 9, D=D) == "table"
        chosen("cuda", BF16, CAUSAL, D=64) if new_enough else None


def test_the_path_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CPU" in describe() and "\n" not in describe()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(chooser, "_has_flash_kernel", lambda: False)
    assert "SLOW" in describe()
    monkeypatch.setattr(chooser, "_has_flash_kernel", lambda: True)
    monkeypatch.setattr(flash, "_find", lambda: (None, "flash-attn is not installed"))
    assert "varlen" in describe() and describe().endswith("(flash-attn is not installed)")
    monkeypatch.setattr(flash, "_find", lambda: (object(), "2.8.3"))
    assert describe() == "flash-attn 2.8.3 (varlen for packed documents)"


def test_nothing_waits_for_the_device() -> None:
    """Fake tensors have no values: .item(), boolean indexing or a shape that depends on data would raise."""
    paths = {name: chooser.PATHS[name] for name in ("blocks", "table", "packed", "sdpa", "one")}
    with FakeTensorMode():
        rows, numbers = torch.zeros(2, dtype=torch.int32), torch.zeros(2, 256, dtype=torch.int32)
        some = [CAUSAL, Mask(prefix=rows), Mask(padding=rows), Mask(documents=numbers)]
        some.append(Mask(documents=numbers, boundaries=torch.zeros(9, dtype=torch.int32), longest=100))
        for mask in some:
            for name, path in paths.items():
                for window in (0, 64):
                    sequences = mask.plain or mask.boundaries is not None
                    if (name == "packed" and not sequences) or (name == "sdpa" and (window or not mask.plain)):
                        continue
                    query = torch.empty(2, 1 if name == "one" else 256, 4, 16, dtype=BF16, requires_grad=True)
                    key, value = (torch.empty(2, 256, 2, 16, dtype=BF16, requires_grad=True) for _ in range(2))
                    out = path(query, key, value, mask, window, 1.0)
                    gradients = torch.autograd.grad(out, (query, key, value), torch.empty_like(out))
                    assert [x.shape for x in (out, *gradients)] == [x.shape for x in (query, query, key, value)]
            blocks = kernels._blocks(mask, 2, 256, 64, torch.device("cpu"))  # what flex_attention is given
            assert blocks.kv_num_blocks.shape[-1] == 2


@pytest.mark.parametrize("window", [0, 3])
def test_shapes_alone_will_do(window: int) -> None:
    query, key = (torch.empty(2, 100, heads, 16, device="meta") for heads in (4, 2))
    assert attend(query, key, key, window=window).shape == query.shape


class Layer(torch.nn.Module):
    """A layer around attention, enough to be compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.project = torch.nn.Linear(32, 96)

    def forward(self, x: Tensor, mask: Mask, window: int) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 2, 16)).unbind(2)
        return attend(q, k, v, mask, window=window).flatten(2)


@pytest.mark.parametrize("amp", [True, False])
def test_compiled_layers_hold_attention_without_a_graph_break(amp: bool) -> None:
    torch.manual_seed(0)
    layer, x = Layer(), torch.randn(2, 150, 32, requires_grad=True)
    for mask in (CAUSAL, Mask(prefix=torch.tensor([3, 70])), packed(2, 150)):
        for window in (0, 40):
            torch._dynamo.reset()
            compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
            with torch.autocast("cpu", dtype=BF16, enabled=amp):
                results = [f(x, mask, window) for f in (compiled, layer)]
            gradients = [torch.autograd.grad(out.float().sum(), x)[0] for out in results]
            assert torch.equal(*results) and torch.equal(*gradients)


def test_other_documents_in_each_batch_do_not_compile_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the longest document and the number of documents go into the kernel: both change with each batch."""

    def kernel(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float) -> Tensor:
        assert mask.boundaries is not None
        return query * mask.longest + mask.boundaries.sum()

    monkeypatch.setitem(chooser.PATHS, "packed", kernel)
    monkeypatch.setattr(chooser, "choose", lambda *facts: "packed")
    torch._dynamo.reset()
    counter = CompileCounter()
    layer, x, compiled_at = torch.compile(Layer(), backend=counter), torch.randn(2, 60, 32), []
    for seed in range(6):
        layer(x, Mask.packed(np.random.default_rng(seed).random((2, 60)) < 0.1), 0)
        compiled_at.append(counter.frame_count)
    assert compiled_at[-1] == compiled_at[1] <= 2
