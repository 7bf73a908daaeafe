"""The next-token loss against plain logits and torch's cross-entropy: values, gradients, z-loss, dtypes, memory."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mindllm import loss
from mindllm.loss import IGNORED, next_token_loss, num_targets

VOCAB, WIDTH, CHUNK = 70, 24, 16


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 16 tokens, softmaxes of 5, 32 rows of the head: so short inputs cross many boundaries."""
    monkeypatch.setattr(loss, "chunk_sizes", lambda *_: (CHUNK, 5))
    monkeypatch.setattr(loss, "VOCAB_ROWS", 32)


def inputs(
    shape: tuple[int, int], dtype: torch.dtype = torch.float32, ignored: float = 0.0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden (B, T, C), weight (V, C) and labels (B, T) with a share of them ignored."""
    generator = torch.Generator().manual_seed(seed + shape[0] * 1000 + shape[1])
    hidden = torch.randn(*shape, WIDTH, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(VOCAB, WIDTH, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(VOCAB, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < ignored] = IGNORED
    return hidden, weight, labels


def plain_sums(logits: Tensor, labels: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """(total, nll) by the formulas, from full logits in fp32."""
    logits, labels = logits.float().flatten(0, -2), labels.flatten()
    nll = F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    return nll + z_loss * (logits.logsumexp(-1).square() * (labels != -100)).sum(), nll.detach()


def plain(
    hidden: Tensor, weight: Tensor, labels: Tensor, scale: float = 1.0, z_loss: float = 0.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """total, nll and the gradients of scale * total by autograd, all in fp32."""
    wide, head = (x.detach().float().requires_grad_() for x in (hidden, weight))
    total, nll = plain_sums(wide @ head.T, labels, z_loss)
    return total.detach(), nll, *torch.autograd.grad(total * scale, (wide, head))


def assert_equal_to_plain(
    hidden: Tensor, weight: Tensor, labels: Tensor, scale: float = 1.0, z_loss: float = 0.0
) -> None:
    total, nll = next_token_loss(hidden, weight, labels, z_loss)
    (total * scale).backward()
    found = (total.detach(), nll, hidden.grad, weight.grad)
    for ours, right in zip(found, plain(hidden, weight, labels, scale, z_loss), strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-5)
    assert total.dtype == nll.dtype == torch.float32 and total.shape == nll.shape == () and not nll.requires_grad
    assert hidden.grad is not None and not hidden.grad[labels == IGNORED].any()


def distance(found: Tensor | None, right: Tensor) -> float:
    """Norm of the difference, relative."""
    assert found is not None
    return float((found.float() - right).norm() / right.norm())


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, CHUNK), (1, 2 * CHUNK + 1), (3, CHUNK - 1), (1, CHUNK)])
@pytest.mark.parametrize("ignored", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_values_and_gradients_equal_full_logits(shape: tuple[int, int], ignored: float, z_loss: float) -> None:
    hidden, weight, labels = inputs(shape, ignored=ignored)
    assert_equal_to_plain(hidden, weight, labels, 1 / max(1, num_targets(labels)), z_loss)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_shape_chunk_and_pattern_of_ignored_labels(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 12)))
    tokens = data.draw(st.integers(1, 20))
    rows = data.draw(st.integers(1, tokens))
    hidden, weight, labels = inputs(shape, seed=data.draw(st.integers(0, 99)))
    flags = data.draw(st.lists(st.booleans(), min_size=labels.numel(), max_size=labels.numel()))
    labels[torch.tensor(flags, dtype=torch.bool).view(shape)] = IGNORED
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "chunk_sizes", lambda *_: (tokens, rows))
        assert_equal_to_plain(hidden, weight, labels, 1.0, data.draw(st.sampled_from([0.0, 1e-4, 0.1])))


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_an_empty_batch_costs_nothing(shape: tuple[int, int]) -> None:
    hidden, weight, labels = inputs(shape)
    total, nll = next_token_loss(hidden, weight, labels, 0.1)
    total.backward()
    assert total == nll == 0 and weight.grad is not None and not weight.grad.any()
    assert hidden.grad is not None and hidden.grad.shape == hidden.shape


def test_large_logits_stay_exact() -> None:
    """Logits far apart: probabilities of most labels are 0 in fp32, their losses are not."""
    hidden, weight, labels = inputs((2, 30))
    with torch.no_grad():
        hidden *= 100
    found, nll = next_token_loss(hidden, weight, labels)
    torch.testing.assert_close(found.detach(), plain(hidden, weight, labels)[0], rtol=1e-6, atol=0)
    assert float(nll) / 60 > 200


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_bf16_sums_in_fp32_and_returns_its_dtype(z_loss: float) -> None:
    """Within 0.2 % of the fp32 value and 1 % of the fp32 gradients of the same numbers: bf16 has 8 bits."""
    hidden, weight, labels = inputs((2, 300), torch.bfloat16, ignored=0.1)
    scale = 1 / num_targets(labels)
    total, nll = next_token_loss(hidden, weight, labels, z_loss)
    (total * scale).backward()
    right_total, right_nll, d_hidden, d_weight = plain(hidden, weight, labels, scale, z_loss)
    assert total.dtype == nll.dtype == torch.float32
    torch.testing.assert_close(total.detach(), right_total, rtol=2e-3, atol=0)
    torch.testing.assert_close(nll, right_nll, rtol=2e-3, atol=0)
    for found, right in ((hidden.grad, d_hidden), (weight.grad, d_weight)):
        assert found is not None and found.dtype == torch.bfloat16 and distance(found, right) < 0.01


def test_the_factor_from_above_is_not_rounded() -> None:
    """1 / 1021 in bf16 is .2 % off: in the mean over all elements of a gradient that does not average out."""
    hidden, weight, labels = inputs((1, 1021), torch.bfloat16)
    gradients = {}
    for factor in (1.0, 1 / 1021):
        total, _ = next_token_loss(hidden, weight, labels)
        gradients[factor] = torch.autograd.grad(total * factor, (hidden, weight))
    assert abs(float(torch.tensor(1 / 1021).bfloat16()) * 1021 - 1) > 1e-3
    for whole, part in zip(gradients[1.0], gradients[1 / 1021], strict=True):
        assert abs(float(part.float().abs().sum() * 1021 / whole.float().abs().sum()) - 1) < 3e-4


def test_gradient_of_the_head_is_added_up_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same token 4,096 times in chunks of 1: a sum in bf16 would stand still at 256 times the first."""
    monkeypatch.setattr(loss, "chunk_sizes", lambda *_: (1, 1))
    hidden = torch.full((1, 4096, 2), 0.5, dtype=torch.bfloat16)
    weight = torch.zeros(4, 2, dtype=torch.bfloat16, requires_grad=True)
    next_token_loss(hidden, weight, torch.zeros(1, 4096, dtype=torch.long))[0].backward()
    torch.testing.assert_close(weight.grad, (torch.tensor([-3.0, 1, 1, 1]) * 512)[:, None].expand(4, 2).bfloat16())


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("hidden_dtype", [torch.float32, torch.bfloat16])
def test_autocast_multiplies_in_bf16_and_keeps_the_weights_gradient_in_fp32(hidden_dtype: torch.dtype) -> None:
    hidden, weight, labels = inputs((2, 150), ignored=0.1)
    hidden = hidden.detach().to(hidden_dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        total, nll = next_token_loss(hidden, weight, labels, 1e-3)
    total.backward()
    right = plain(hidden.bfloat16(), weight.bfloat16(), labels, 1.0, 1e-3)
    assert total.dtype == nll.dtype == torch.float32
    torch.testing.assert_close(total.detach(), right[0], rtol=2e-3, atol=0)
    assert hidden.grad is not None and hidden.grad.dtype == hidden_dtype and distance(hidden.grad, right[2]) < 0.01
    assert weight.grad is not None and weight.grad.dtype == torch.float32 and distance(weight.grad, right[3]) < 0.01
    assert not torch.equal(weight.grad, weight.grad.bfloat16().float())  # it was never rounded as a whole


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_one_of_the_two_may_be_frozen(frozen: str) -> None:
    hidden, weight, labels = inputs((2, 9))
    expected = plain(hidden, weight, labels)
    (hidden if frozen == "hidden" else weight).requires_grad_(False)
    next_token_loss(hidden, weight, labels)[0].backward()
    kept, right = (weight.grad, expected[3]) if frozen == "hidden" else (hidden.grad, expected[2])
    torch.testing.assert_close(kept, right, rtol=1e-5, atol=1e-5)
    assert (hidden if frozen == "hidden" else weight).grad is None


def test_one_weight_used_twice_adds_up() -> None:
    """As a tied head, and as two micro-batches."""
    hidden, weight, labels = inputs((2, 7))
    embedded = F.embedding(labels, weight)
    (2 * next_token_loss(hidden + embedded, weight, labels)[0]).backward()
    next_token_loss(hidden.detach(), weight, labels)[0].backward()
    twin, states = weight.detach().clone().requires_grad_(), hidden.detach()
    (2 * plain_sums((states + F.embedding(labels, twin)) @ twin.T, labels, 0.0)[0]).backward()
    plain_sums(states @ twin.T, labels, 0.0)[0].backward()
    torch.testing.assert_close(weight.grad, twin.grad, rtol=1e-5, atol=1e-5)


def test_a_second_backward_pass_is_refused() -> None:
    """What is kept is scaled in place, so it would be scaled twice."""
    hidden, weight, labels = inputs((2, 7))
    total, _ = next_token_loss(hidden, weight, labels)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        total.backward()


def test_without_gradients_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, labels = inputs((2, 30), ignored=0.2)
    expected = [x.detach() for x in next_token_loss(hidden, weight, labels, 0.1)]
    monkeypatch.setattr(torch, "mul", lambda *_, **__: pytest.fail("made a gradient that nobody needs"))
    with torch.no_grad():
        assert list(next_token_loss(hidden, weight, labels, 0.1)) == expected
    assert list(next_token_loss(hidden.detach(), weight.detach(), labels, 0.1)) == expected


@pytest.mark.parametrize("label", [-1, VOCAB])
def test_a_label_that_is_no_token_is_an_error(label: int) -> None:
    hidden, weight, labels = inputs((1, 4))
    labels[0, 2] = label
    with pytest.raises(RuntimeError, match="out of bounds"):
        next_token_loss(hidden, weight, labels)


def test_shapes_must_agree() -> None:
    hidden, weight, labels = inputs((2, 4))
    with pytest.raises(AssertionError, match="labels for"):
        next_token_loss(hidden, weight, labels.T)
    with pytest.raises(AssertionError, match="a head"):
        next_token_loss(hidden, weight[:, :3], labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_waits_for_the_device(dtype: torch.dtype) -> None:
    """A tensor without data raises when its value is asked for."""
    with FakeTensorMode():
        hidden = torch.randn(2, 600, 8, dtype=dtype, requires_grad=True)
        weight = torch.randn(32000, 8, dtype=dtype, requires_grad=True)
        labels = torch.zeros(2, 600, dtype=torch.long)
        total, nll = next_token_loss(hidden, weight, labels, 1e-4)
        total.backward()
        assert hidden.grad is not None and weight.grad is not None and nll.shape == ()
        with pytest.raises(torch._subclasses.fake_tensor.DataDependentOutputException):
            total.item()


class Live(TorchDispatchMode):
    """The largest sum of bytes of tensors that were made under it and are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.peak, self.sizes, self.made = 0, {}, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                # the dispatcher keeps no reference, so a storage lives as long as a tensor on it
                self.made.append((torch.multiprocessing.reductions.StorageWeakRef(storage), storage.nbytes()))
        alive = {ref.cdata: nbytes for ref, nbytes in self.made if not ref.expired()}
        self.made = [(ref, nbytes) for ref, nbytes in self.made if not ref.expired()]
        self.peak = max(self.peak, sum(alive.values()))
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_is_eight_times_below_full_logits(dtype: torch.dtype) -> None:
    """V = 32,000, 4,096 tokens, 64 wide, forward and backward; fp32 logits would be 524 MB. No data is computed."""
    peaks = {}
    for name in ("ours", "naive"):
        with FakeTensorMode():
            hidden = torch.empty(1, 4096, 64, dtype=dtype, requires_grad=True)
            weight = torch.empty(32000, 64, dtype=dtype, requires_grad=True)
            labels = torch.empty(1, 4096, dtype=torch.long)
            with Live() as live:
                total = next_token_loss(hidden, weight, labels) if name == "ours" else None
                (total or plain_sums(F.linear(hidden, weight), labels, 0.0))[0].backward()
            peaks[name] = live.peak
    assert peaks["naive"] > 2 * 4096 * 32000 * 4
    assert peaks["ours"] * 8 < peaks["naive"], peaks


def test_chunk_sizes() -> None:
    """Large products for a GPU, some MB of logits for a CPU, never fewer than MIN_TOKENS tokens."""
    for vocab in (70, 8192, 32000, 50257, 125_700, 1_000_000):
        for dtype in (torch.float32, torch.bfloat16):
            with FakeTensorMode():
                for device in ("cpu", "cuda"):
                    tokens, rows = loss.chunk_sizes(vocab, torch.empty(1, dtype=dtype, device=device))
                    assert tokens >= loss.MIN_TOKENS and tokens % loss.MIN_TOKENS == 0 and 1 <= rows <= tokens
                    assert tokens == loss.MIN_TOKENS or tokens * vocab * dtype.itemsize <= loss.LOGITS_BYTES[device]


@pytest.mark.slow
def test_a_compiled_model_leaves_the_loss_alone() -> None:
    """About 20 s for inductor's first work; the loss inside a compiled function equals the one outside."""
    hidden, weight, labels = inputs((2, 40))
    expected = plain(hidden, weight, labels, 2.0, 0.01)
    run = torch.compile(lambda h, w: 2 * next_token_loss(h * 1.0, w, labels, 0.01)[0])
    value = run(hidden, weight)
    value.backward()
    torch.testing.assert_close(value.detach(), 2 * expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weight.grad, expected[3], rtol=1e-5, atol=1e-5)


def test_dynamo_breaks_at_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without inductor; the chunks are never traced."""
    hidden, weight, labels = inputs((2, 40), ignored=0.2)
    expected = plain(hidden, weight, labels, 1.0, 0.01)
    traced: list[bool] = []
    losses = loss._losses

    def spy(*arguments: Any) -> tuple[Tensor, Tensor]:
        traced.append(torch.compiler.is_compiling())
        return losses(*arguments)

    monkeypatch.setattr(loss, "_losses", spy)
    run = torch.compile(lambda h, w: next_token_loss(h * 1.0, w, labels, 0.01), backend="eager")
    total, nll = run(hidden, weight)
    total.backward()
    for found, right in zip((total.detach(), nll, hidden.grad, weight.grad), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)
    assert traced == [False]


# liger-kernel needs a GPU, so a stand-in with its signature and plain arithmetic takes its place.


class LigerFusedLinearCrossEntropyFunction(torch.autograd.Function):
    """Signature, results and dtypes of liger-kernel 0.8; with reduction="sum" only."""

    @staticmethod
    def forward(
        ctx: Any, _input: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None = None,
        ce_weight: Tensor | None = None, ignore_index: int = -100, lse_square_scale: float = 0.0,
        label_smoothing: float = 0.0, reduction: str = "mean", softcap: float | None = None,
        return_z_loss: bool = False, accum_dtype: torch.dtype | None = None, use_token_scaling: bool = False,
        return_token_accuracy: bool = False, return_predicted_tokens: bool = False,
    ) -> tuple[Tensor, Tensor | None, None, None]:  # fmt: skip
        assert bias is None and ce_weight is None and softcap is None and not label_smoothing and reduction == "sum"
        assert ignore_index == IGNORED and accum_dtype == torch.float32 and _input.dtype == weight.dtype
        assert _input.dim() == 2 and len(_input) and target.dim() == 1
        with torch.enable_grad():
            wide, head = (x.detach().float().requires_grad_() for x in (_input, weight))
            total, nll = plain_sums(wide @ head.T, target, lse_square_scale)
            if _input.requires_grad:  # without it liger makes no gradients
                d_input, d_weight = torch.autograd.grad(total, (wide, head))
                ctx.save_for_backward(d_input.to(_input.dtype), d_weight.to(weight.dtype))
        z_loss = (total.detach() - nll).to(_input.dtype) if return_z_loss else None
        return total.detach(), z_loss, None, None

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *((saved.float() * grads[0]).to(saved.dtype) for saved in ctx.saved_tensors), *[None] * 13


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A GPU and liger-kernel as far as the loss can tell; counts the tokens of each call."""
    calls: list[int] = []
    stand_in = ModuleType("liger_kernel.ops.fused_linear_cross_entropy")

    class Counting:
        @staticmethod
        def apply(*arguments: Any) -> Any:
            calls.append(len(arguments[0]))
            return LigerFusedLinearCrossEntropyFunction.apply(*arguments)

    stand_in.LigerFusedLinearCrossEntropyFunction = Counting  # type: ignore[attr-defined]
    for name in ("liger_kernel", "liger_kernel.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "liger_kernel" else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loss, "_on_gpu", lambda tensor: True)
    loss._liger.cache_clear()
    yield calls
    loss._liger.cache_clear()


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize("ignored", [0.0, 0.4, 1.0])
def test_liger_gives_the_same_results(liger: list[int], z_loss: float, ignored: float) -> None:
    hidden, weight, labels = inputs((2, 30), ignored=ignored)
    assert_equal_to_plain(hidden, weight, labels, 1 / max(1, num_targets(labels)), z_loss)
    assert liger == [60]


def test_liger_in_bf16_returns_fp32_sums(liger: list[int]) -> None:
    hidden, weight, labels = inputs((2, 30), torch.bfloat16)
    total, nll = next_token_loss(hidden, weight, labels, 0.01)
    total.backward()
    assert total.dtype == nll.dtype == torch.float32 and not nll.requires_grad and liger == [60]
    torch.testing.assert_close(nll, plain(hidden, weight, labels)[1], rtol=1e-3, atol=0)
    with torch.no_grad():
        assert not next_token_loss(hidden, weight, labels)[0].requires_grad


def test_liger_is_passed_over_where_it_would_be_wrong(liger: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A head alone that learns, autocast, no tokens."""
    monkeypatch.setattr(loss, "chunk_sizes", lambda *_: (CHUNK, 5))
    hidden, weight, labels = inputs((2, 9))
    next_token_loss(hidden.detach(), weight, labels)[0].backward()
    torch.testing.assert_close(weight.grad, plain(hidden, weight, labels)[3], rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        next_token_loss(hidden, weight, labels)
    next_token_loss(*inputs((2, 0)))
    assert not liger


def test_describe_says_which_one(liger: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert loss.describe().startswith("liger-kernel")
    loss._liger.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "reduced" in loss.describe() and "liger" in loss.describe()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loss.describe() == "chunked head and cross-entropy in torch"


def test_a_gpu_adds_products_of_bf16_to_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its call is torch.addmm(fp32, bf16, bf16, out_dtype=fp32, out=the first), which no CPU has."""
    hidden, weight, labels = inputs((2, 30), torch.bfloat16)
    plain_addmm = torch.addmm

    def addmm(to: Tensor, a: Tensor, b: Tensor, *, out_dtype: torch.dtype, out: Tensor) -> Tensor:
        assert to is out and to.dtype == out_dtype == torch.float32 and a.dtype == b.dtype == torch.bfloat16
        return out.copy_(plain_addmm(to, a.float(), b.float()))

    monkeypatch.setattr(loss, "_sums_in_fp32", lambda part: True)
    monkeypatch.setattr(torch, "addmm", addmm)
    next_token_loss(hidden, weight, labels)[0].backward()
    assert distance(weight.grad, plain(hidden, weight, labels)[3]) < 0.01


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_liger", [False, True])
def test_on_a_gpu(dtype: torch.dtype, with_liger: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if with_liger and loss._liger() is None:
        pytest.skip("needs liger-kernel")
    if not with_liger:
        monkeypatch.setattr(loss, "_liger", lambda: None)
    hidden, weight, labels = (x.detach().cuda() for x in inputs((2, 600), dtype, ignored=0.1))
    hidden.requires_grad_(), weight.requires_grad_()
    expected = plain(hidden, weight, labels, 1 / 1080, 0.01)
    torch.cuda.set_sync_debug_mode("default" if with_liger else "error")  # liger asks for the number of targets
    try:
        total, nll = next_token_loss(hidden, weight, labels, 0.01)
        (total / 1080).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for found, right in zip((total.detach(), nll, hidden.grad, weight.grad), expected, strict=True):
        assert distance(found, right) < (1e-3 if dtype == torch.float32 else 0.02)


def test_targets_are_counted_on_the_host() -> None:
    assert num_targets(torch.tensor([[3, IGNORED], [0, IGNORED]])) == 2
    assert num_targets(torch.full((2, 2), IGNORED)) == 0
    with pytest.raises(AssertionError, match="before"):
        num_targets(torch.empty(2, 2, dtype=torch.long, device="meta"))
