"""RMSNorm: values and gradients against the formula in double precision, every precision, compiled, autocast."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mindllm.models.norm import RMSNorm

EPS = 1e-5


def build(size: int = 33, dtype: torch.dtype = torch.float32) -> RMSNorm:
    norm = RMSNorm(size, EPS)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    return norm.to(dtype)


def formula(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight


def gradients(x: Tensor, norm: RMSNorm, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient of x, gradient of the weight."""
    x = x.clone().requires_grad_()
    norm.weight.grad = None
    out = norm(x)
    out.backward(upstream)
    assert x.grad is not None and norm.weight.grad is not None
    return out.detach(), x.grad, norm.weight.grad


@pytest.mark.parametrize("shape", [(33,), (7, 33), (2, 5, 33), (0, 33)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_values_and_gradients_are_those_of_the_formula(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float):
    norm, generator = build(dtype=dtype), torch.Generator().manual_seed(2)
    x, upstream = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    found = gradients(x * 3, norm, upstream)
    wide, weight = (x * 3).double().requires_grad_(), norm.weight.detach().double().requires_grad_()
    out = formula(wide, weight)
    out.backward(upstream.double())
    for ours, right in zip(found, (out.detach(), wide.grad, weight.grad), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), right, rtol=tolerance, atol=tolerance)


def test_gradients_by_finite_differences() -> None:
    norm = build(9, torch.float64)
    x = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, weight: torch.func.functional_call(norm, {"weight": weight}, x),
                                    (x, norm.weight))  # fmt: skip


def test_a_bf16_input_is_rounded_once() -> None:
    norm = build(64, torch.bfloat16)
    draw = torch.Generator().manual_seed(1)  # of other draws one in some ten thousand lies too near a tie for fp32
    x = torch.randn(100, 64, generator=draw).to(torch.bfloat16)
    right = formula(x.double(), norm.weight.double())
    assert torch.equal(norm(x).double(), right.to(torch.bfloat16).double())


def test_tiny_and_huge_rows_stay_finite() -> None:
    norm = build(8)
    x = torch.tensor([[0.0] * 8, [1e-20] * 8, [1e18] * 8])
    out, dx, _ = gradients(x, norm, torch.ones(3, 8))
    assert out.isfinite().all() and dx.isfinite().all() and torch.equal(out[0], torch.zeros(8))
    torch.testing.assert_close(out[2], norm.weight.detach())


@pytest.mark.parametrize("inside", [False, True])
def test_autocast_changes_nothing(inside: bool) -> None:
    """The residual stream stays fp32, and so do the norm's two products, wherever backward is called."""
    norm, x, upstream = build(), torch.randn(40, 33), torch.randn(40, 33)
    right = gradients(x, norm, upstream)
    x = x.requires_grad_()
    norm.weight.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x)
        if inside:
            out.backward(upstream)
    if not inside:
        out.backward(upstream)
    assert x.grad is not None and norm.weight.grad is not None
    for ours, expected in zip((out, x.grad, norm.weight.grad), right, strict=True):
        assert torch.equal(ours, expected)


def test_a_view_that_is_not_contiguous() -> None:
    norm, x, upstream = build(), torch.randn(33, 6, 2), torch.randn(33, 6, 2)
    found = gradients(x.transpose(0, 2), norm, upstream.transpose(0, 2))
    right = gradients(x.transpose(0, 2).contiguous(), norm, upstream.transpose(0, 2).contiguous())
    for ours, expected in zip(found, right, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_is_the_plain_formula(dtype: torch.dtype) -> None:
    """One graph, without an operation that the compiler cannot see into; the same numbers."""
    norm, x, upstream = build(dtype=dtype), torch.randn(5, 33).to(dtype), torch.randn(5, 33).to(dtype)
    right = gradients(x, norm, upstream)
    norm.compile(backend="aot_eager", fullgraph=True)
    for ours, expected in zip(gradients(x, norm, upstream), right, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_gpu_gives_the_same(dtype: torch.dtype, tolerance: float) -> None:
    norm, x, upstream = build(256, dtype), torch.randn(70, 256).to(dtype), torch.randn(70, 256).to(dtype)
    right = gradients(x, norm, upstream)
    found = gradients(x.cuda(), norm.cuda(), upstream.cuda())
    for ours, expected in zip(found, right, strict=True):
        torch.testing.assert_close(ours.cpu(), expected, rtol=tolerance, atol=tolerance * 10)
