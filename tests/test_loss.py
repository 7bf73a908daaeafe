"""The chunked next-token loss against plain logits and torch's cross-entropy: value, gradients, ignored labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mindllm import loss
from mindllm.loss import CHUNK_TOKENS, IGNORED, next_token_loss, num_targets

VOCAB, WIDTH = 70, 24


def inputs(
    shape: tuple[int, int], dtype: torch.dtype = torch.float32, ignored: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden (B, T, C), weight (V, C) and labels (B, T) with a share of them ignored."""
    generator = torch.Generator().manual_seed(shape[0] * 1000 + shape[1])
    hidden = torch.randn(*shape, WIDTH, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(VOCAB, WIDTH, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(VOCAB, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < ignored] = IGNORED
    return hidden, weight, labels


def plain(hidden: Tensor, weight: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and the gradients of scale * loss from full logits in fp32."""
    wide, head = (x.detach().float().requires_grad_() for x in (hidden, weight))
    total = F.cross_entropy((wide @ head.T).flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    d_hidden, d_weight = torch.autograd.grad(total * scale, (wide, head))
    return total.detach(), d_hidden, d_weight


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, CHUNK_TOKENS), (1, 2 * CHUNK_TOKENS + 1), (3, CHUNK_TOKENS - 1)])
@pytest.mark.parametrize("ignored", [0.0, 0.4, 1.0])
def test_value_and_gradients_equal_full_logits(shape: tuple[int, int], ignored: float) -> None:
    hidden, weight, labels = inputs(shape, ignored=ignored)
    scale = 1 / max(1, num_targets(labels))
    total, _ = next_token_loss(hidden, weight, labels)
    (total * scale).backward()
    expected = plain(hidden, weight, labels, scale)
    for found, right in zip((total.detach(), hidden.grad, weight.grad), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)
    assert total.dtype == torch.float32 and total.shape == ()
    assert hidden.grad is not None and not hidden.grad[labels == IGNORED].any()


def test_bf16_is_close_and_sums_in_fp32() -> None:
    hidden, weight, labels = inputs((2, 300), torch.bfloat16, ignored=0.1)
    scale = 1 / num_targets(labels)
    total, _ = next_token_loss(hidden, weight, labels)
    (total * scale).backward()
    value, d_hidden, d_weight = plain(hidden, weight, labels, scale)
    assert total.dtype == torch.float32 and hidden.grad is not None and weight.grad is not None
    torch.testing.assert_close(total.detach(), value, rtol=2e-3, atol=0)
    for found, right in ((hidden.grad, d_hidden), (weight.grad, d_weight)):
        assert found.dtype == torch.bfloat16
        assert float((found.float() - right).norm() / right.norm()) < 0.01


def test_two_uses_of_one_weight_add_up() -> None:
    """As with a tied head, or two micro-batches."""
    hidden, weight, labels = inputs((2, 7))
    (2 * next_token_loss(hidden, weight, labels)[0] + weight.sum()).backward()
    torch.testing.assert_close(weight.grad, plain(hidden, weight, labels, 2)[2] + 1, rtol=1e-5, atol=1e-5)


def test_without_gradients_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, labels = inputs((2, 300), ignored=0.2)
    expected, _ = next_token_loss(hidden, weight, labels)
    monkeypatch.setattr(loss, "_softmax_gradient", lambda *_: pytest.fail("made a gradient that nobody needs"))
    with torch.no_grad():
        assert next_token_loss(hidden, weight, labels)[0] == expected
    assert next_token_loss(hidden.detach(), weight.detach(), labels)[0] == expected


def test_targets_are_counted() -> None:
    assert num_targets(torch.tensor([[3, IGNORED], [0, IGNORED]])) == 2
    assert num_targets(torch.full((2, 2), IGNORED)) == 0
