"""The decoder under masks and with a cache: packed documents, prefixes, token by token, recomputed, compiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mindllm.attention import CAUSAL, Mask
from mindllm.models.cache import Cache
from mindllm.models.mindllm import MindLLM, MindLLMConfig

TINY = MindLLMConfig(
    vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rope_theta=500.0, initializer_range=0.1,
)  # fmt: skip
FORMS = {
    "deepnorm": replace(TINY),
    "prenorm": replace(TINY, residual="prenorm", hidden_act="silu", qkv_bias=True, head_dim=12),
}
each = pytest.mark.parametrize("form", FORMS)


def build(form: str) -> MindLLM:
    torch.manual_seed(1)
    return MindLLM(FORMS[form])


def tokens(B: int, T: int, seed: int = 2) -> torch.Tensor:
    return torch.randint(97, (B, T), generator=torch.Generator().manual_seed(seed))


def close(ours: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-5)


@each
def test_the_past_does_not_know_the_future(form: str) -> None:
    model, ids = build(form), tokens(1, 20)
    other = ids.clone()
    other[:, 12:] = (other[:, 12:] + 1) % 97
    before, after = model(ids), model(other)
    assert torch.equal(before[:, :12], after[:, :12]) and not torch.equal(before[:, 12:], after[:, 12:])


@each
def test_packed_documents_equal_each_alone(form: str) -> None:
    """Logits, and the gradients of the whole packed batch as a sum over documents."""
    model, ids = build(form), tokens(2, 30)
    first = np.zeros((2, 30), dtype=bool)
    first[0, [0, 4, 5, 19]] = first[1, [0, 29]] = True
    total, _ = model(ids, labels=ids.roll(-1, 1), mask=Mask.packed(first))
    logits = model(ids, mask=Mask.packed(first))
    total.backward()
    packed = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row in range(2):
        begins = [*np.flatnonzero(first[row]).tolist(), 30]
        for begin, end in zip(begins[:-1], begins[1:], strict=True):
            part, labels = ids[row : row + 1, begin:end], ids.roll(-1, 1)[row : row + 1, begin:end]
            close(logits[row : row + 1, begin:end], model(part))
            model(part, labels=labels)[0].backward()
    assert len(packed) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert float((packed[name] - parameter.grad).norm()) < 1e-5 * float(parameter.grad.norm()) + 1e-6, name


@each
@pytest.mark.parametrize("pieces", [[1] * 16, [9, 1, 1, 5], [15, 1], [4, 12]])
def test_reading_with_a_cache_equals_reading_at_once(form: str, pieces: list[int]) -> None:
    model, ids, cache = build(form).eval(), tokens(3, 16), Cache(20)
    with torch.no_grad():
        right = model(ids)
        for part in ids.split(pieces, dim=1):
            start = cache.length
            close(model(part, cache=cache), right[:, start : start + part.shape[1]])
    assert cache.length == 16


@each
def test_a_cache_with_left_padding(form: str) -> None:
    model, ids, padding = build(form).eval(), tokens(3, 14), torch.tensor([0, 6, 2])
    mask, positions = Mask(padding=padding), (torch.arange(14) - padding[:, None]).clamp(min=0)
    cache = Cache(14)
    with torch.no_grad():
        parts = [model(ids[:, a:b], mask=mask, position_ids=positions[:, a:b], cache=cache)
                 for a, b in ((0, 8), (8, 9), (9, 14))]  # fmt: skip
        found = torch.cat(parts, dim=1)
        for row, pad in enumerate(padding.tolist()):
            close(found[row, pad:], model(ids[row : row + 1, pad:])[0])


@each
def test_a_prefix_sees_itself_both_ways(form: str) -> None:
    model, ids = build(form), tokens(2, 12)
    other = ids.clone()
    other[:, 4] = (other[:, 4] + 1) % 97
    mask = Mask(prefix=torch.tensor([5, 2]))
    changed = (model(ids, mask=mask) != model(other, mask=mask)).any(-1)
    assert changed[0].all() and changed[1, 4:].all() and not changed[1, :4].any()
    both_ways = (model(ids, mask=Mask(causal=False)) != model(other, mask=Mask(causal=False))).any(-1)
    assert both_ways.all()


@each
def test_recomputed_layers_give_the_same_gradients(form: str) -> None:
    model, ids = build(form).train(), tokens(2, 20)
    found = []
    for model.recompute_layers in (0, 2, 3):
        model.zero_grad()
        total, _ = model(ids, labels=ids.roll(-1, 1))
        total.backward()
        found.append([total.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@each
@pytest.mark.parametrize("bf16", [False, True])
def test_compiled_layers_give_the_same(form: str, bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph a layer, shared by all layers; another mask of the same kind compiles nothing again."""
    torch.compiler.reset()
    model, ids = build(form), tokens(2, 20)
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", compile_with(count))
    masks = [CAUSAL, *(Mask.packed(np.eye(2, 20, k, dtype=bool)) for k in (3, 7, 8))]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        right = [step(model, ids, mask) for mask in masks]
        model.compile_layers()
        for index, mask in enumerate(masks):
            for found, expected in zip(step(model, ids, mask), right[index], strict=True):
                assert float((found - expected).norm()) < (0.03 if bf16 else 1e-5) * float(expected.norm()) + 1e-6
            assert len(graphs) <= (1 if index == 0 else 2), f"{len(graphs)} graphs after mask {index}"
    torch.compiler.reset()


def compile_with(backend: object) -> object:
    """nn.Module.compile for a backend that shows what was compiled, in one graph or not at all."""

    def compile(module: torch.nn.Module) -> None:
        module._compiled_call_impl = torch.compile(module._call_impl, backend=backend, fullgraph=True)  # type: ignore[assignment,arg-type]

    return compile


def step(model: MindLLM, ids: torch.Tensor, mask: Mask) -> list[torch.Tensor]:
    """Loss and gradients."""
    model.zero_grad()
    total, _ = model(ids, labels=ids.roll(-1, 1), mask=mask)
    total.backward()
    return [total.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
