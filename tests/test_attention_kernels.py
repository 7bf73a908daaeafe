"""torch's kernels and flash-attn behind our masks. Those that need a GPU have stand-ins of the same signature here."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from attention_cases import TOLERANCE, agree, inputs, masks, packed
from torch import Tensor

from mindllm.attention import CAUSAL, Mask, flash, kernels
from mindllm.attention.kernels import (
    attend_from_one,
    attend_packed,
    attend_with_flex,
    attend_with_sdpa,
    attend_with_table,
)

# B batch, T queries, S keys, H heads, K key-value heads, D head dim

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def one_sequence(q: Tensor, k: Tensor, v: Tensor, scale: float, left: int, right: int) -> Tensor:
    """(T, H, D) against (S, K, D) with the last query at the last key; `left`, `right`: keys seen beside it, or -1."""
    shared = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(shared, dim=1) for x in (k, v))
    away = torch.arange(len(k))[None] - torch.arange(len(k) - len(q), len(k))[:, None]
    seen = ((away <= right) | (right < 0)) & ((-away <= left) | (left < 0))
    scores = torch.einsum("thd,shd->hts", q, k) * scale
    return torch.einsum("hts,shd->thd", torch.softmax(scores.masked_fill(~seen, float("-inf")), -1), v)


def many_sequences(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, key_ends: Tensor, *rules: Any) -> Tensor:
    """Flattened (B*T, H, D), cut at `ends`."""
    assert ends.dtype == key_ends.dtype == torch.int32 and ends[-1] == len(q) and key_ends[-1] == len(k)
    cuts = [list(zip(e.tolist()[:-1], e.tolist()[1:], strict=True)) for e in (ends, key_ends)]
    return torch.cat([one_sequence(q[a:b], k[c:d], v[c:d], *rules) for (a, b), (c, d) in zip(*cuts, strict=True)])


def longest(ends: Tensor) -> int:
    return int(ends.diff().max())


class FakeFlash(SimpleNamespace):
    """flash-attn 2.8's public functions, as its documentation describes them."""

    __version__ = "2.8.3"

    @staticmethod
    def flash_attn_func(
        q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None,
        causal: bool = False, window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
        alibi_slopes: Tensor | None = None, deterministic: bool = False, return_attn_probs: bool = False,
    ) -> Tensor:  # fmt: skip
        assert softmax_scale is not None and dropout_p == 0
        left, right = window_size[0], 0 if causal else window_size[1]
        rows = [one_sequence(*x, softmax_scale, left, right) for x in zip(q, k, v, strict=True)]
        return torch.stack(rows)

    @staticmethod
    def flash_attn_varlen_func(
        q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int,
        max_seqlen_k: int, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
        window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0, alibi_slopes: Tensor | None = None,
        deterministic: bool = False, return_attn_probs: bool = False, block_table: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        assert (max_seqlen_q, max_seqlen_k) == (longest(cu_seqlens_q), longest(cu_seqlens_k))
        left, right = window_size[0], 0 if causal else window_size[1]
        return many_sequences(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, left, right)


def fake_varlen(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int, *,
    scale: float | None = None, window_size: tuple[int, int] = (-1, -1), enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """torch.nn.attention.varlen.varlen_attn: (-1, 0) is causal, (W, 0) causal with W keys before the query's own."""
    assert enable_gqa or query.shape[1] == key.shape[1]
    assert (max_q, max_k) == (longest(cu_seq_q), longest(cu_seq_k))
    return many_sequences(query, key, value, cu_seq_q, cu_seq_k, scale, *window_size)


@pytest.fixture
def fake_flash(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "flash_attn", FakeFlash())
    flash._find.cache_clear()
    yield
    flash._find.cache_clear()


SEQUENCES = [(2, 40, 40, 4, 2), (1, 9, 9, 2, 2), (2, 6, 31, 2, 1)]
PLAIN = {"causal": CAUSAL, "all": Mask(causal=False)}


@pytest.mark.parametrize("window", [0, 1, 8])
@pytest.mark.parametrize("size", SEQUENCES, ids=str)
def test_flash_attn_is_called_as_it_wants(fake_flash: None, size: tuple[int, ...], window: int) -> None:
    documents = {"packed": packed(*size[:2]), "packed, all": packed(*size[:2], causal=False)}
    for name, mask in (PLAIN | (documents if size[1] == size[2] else {})).items():
        agree(flash.attend_with_flash, inputs(*size), mask, window, name)


@pytest.mark.parametrize("shares_keys", [True, False])
@pytest.mark.parametrize("window", [0, 1, 8])
@pytest.mark.parametrize("size", SEQUENCES, ids=str)
def test_varlen_is_called_as_it_wants(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, ...], window: int, shares_keys: bool
) -> None:
    monkeypatch.setattr(kernels, "varlen_attn", fake_varlen)
    monkeypatch.setattr(kernels, "_VARLEN_SHARES_KEYS", shares_keys)
    documents = {"packed": packed(*size[:2]), "packed, all": packed(*size[:2], causal=False)}
    for name, mask in (PLAIN | (documents if size[1] == size[2] else {})).items():
        agree(attend_packed, inputs(*size), mask, window, name)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("window", [0, 9])
@pytest.mark.parametrize("size", [(2, 33, 33, 4, 2), (1, 5, 40, 3, 1)], ids=str)
def test_sdpa_with_a_table(size: tuple[int, ...], window: int, dtype: torch.dtype) -> None:
    for name, mask in masks(*size[:3]).items():
        agree(attend_with_table, inputs(*size, dtype=dtype), mask, window, name)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_sdpa(dtype: torch.dtype) -> None:
    for name, mask in PLAIN.items():
        agree(attend_with_sdpa, inputs(2, 33, 33, 4, 2, dtype=dtype), mask, 0, name)
    with pytest.raises(AssertionError, match="no such rule"):
        attend_with_sdpa(*inputs(1, 4, 4, 1, 1), CAUSAL, 2, 1.0)


@pytest.mark.parametrize("window", [0, 1, 9, 60])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (4, 1)])
def test_one_query(heads: tuple[int, int], window: int) -> None:
    for name, mask in masks(3, 1, 41).items():
        agree(attend_from_one, inputs(3, 1, 41, *heads), mask, window, name)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("name", "window"), [("prefix", 9), ("padding", 0), ("documents and prefix", 0)])
def test_flex_forward_in_plain_arithmetic(name: str, window: int) -> None:
    """torch has no gradient of flex_attention on a CPU. slow: 1 s for each kind of mask."""
    data = tuple(x.detach() for x in inputs(2, 40, 40, 4, 2))
    agree(attend_with_flex, data, masks(2, 40, 40)[name], window, name)


def test_tables_are_made_once_and_go_with_their_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    visible = Mask.visible
    monkeypatch.setattr(Mask, "visible", lambda *args: made.append(args[1:4]) or visible(*args))
    before, mask = len(kernels._made), Mask(prefix=torch.tensor([2]))
    for window in (0, 4, 0, 4):
        attend_with_table(*inputs(1, 9, 9, 2, 2), mask, window, 1.0)
    assert made == [(9, 9, 0), (9, 9, 4)]
    assert len(kernels._made) == before + 1
    attend_with_table(*inputs(1, 8, 9, 2, 2), mask, 0, 1.0)
    assert made[2:] == [(8, 9, 0)]
    del mask
    assert len(kernels._made) == before


def test_blocks_for_flex_go_with_their_mask() -> None:
    """They hold a rule, and must not hold the mask by it: that would be a leak of one table a batch."""
    before, mask = len(kernels._made), Mask(prefix=torch.tensor([2]))
    made = kernels._blocks(mask, 1, 40, 0, torch.device("cpu"))
    assert kernels._blocks(mask, 1, 40, 0, torch.device("cpu")) is made and len(kernels._made) == before + 1
    del mask, made
    assert len(kernels._made) == before


@pytest.mark.parametrize(
    ("module", "answer"),
    [
        (SimpleNamespace(__version__="2.8.3"), "2.8.3"),
        (SimpleNamespace(__version__="2.2.5"), "flash-attn 2.2.5 is installed; 2.3 or a later 2.x is needed"),
        (SimpleNamespace(__version__="3.0.0b1"), "flash-attn 3.0.0b1 is installed; 2.3 or a later 2.x is needed"),
        (None, "flash-attn is not installed"),
    ],
)
def test_which_flash_attn_will_do(monkeypatch: pytest.MonkeyPatch, module: Any, answer: str) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", module)  # None: as if not installed
    flash._find.cache_clear()
    assert flash.version() == answer and flash.usable() == answer[0].isdigit()
    flash._find.cache_clear()


def test_a_broken_flash_attn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("undefined symbol: _ZN3c10")

    monkeypatch.setattr(flash.importlib, "import_module", broken)
    flash._find.cache_clear()
    assert flash.version() == "flash-attn is installed but does not load (undefined symbol: _ZN3c10)"
    assert not flash.usable()
    flash._find.cache_clear()


@gpu
@pytest.mark.parametrize("window", [0, 50])
@pytest.mark.parametrize("size", [(2, 300, 300, 4, 2, 64), (1, 128, 300, 4, 4, 64)], ids=str)
def test_gpu_kernels(size: tuple[int, ...], window: int) -> None:
    """flash-attn where it is installed, varlen, SDPA with and without a table, flex: bf16, forward and backward."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("needs compute capability 8.0")
    B, T, S = size[:3]
    data = tuple(x.detach().cuda().requires_grad_() for x in inputs(*size, dtype=torch.bfloat16))
    for name, mask in masks(B, T, S).items():
        mask = on_gpu(mask)
        plain = mask.plain or (mask.boundaries is not None and mask.prefix is None)
        paths: dict[str, Any] = {"table": attend_with_table}
        if plain:
            paths["varlen"] = attend_packed
            if flash.usable():
                paths["flash"] = flash.attend_with_flash
        if mask.plain and not window and (T == S or not mask.causal):
            paths["sdpa"] = attend_with_sdpa
        if T == S:
            paths["flex"] = attend_with_flex
        for path, kernel in paths.items():
            agree(kernel, data, mask, window, f"{path}, {name}")


def on_gpu(mask: Mask) -> Mask:
    """The same mask, its tensors on the GPU."""
    fields = {name: x.cuda() if isinstance(x, Tensor) else x for name, x in vars(mask).items()}
    return Mask(**fields)
