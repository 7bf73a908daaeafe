"""How a training step is computed, for both families: recomputed or compiled layers change no number, nothing waits."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partialmethod
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from mindllm.attention import Mask
from mindllm.models import MODELS, GPTNeoConfig, LanguageModel, MindLLMConfig
from mindllm.train import NextToken

V, T = 61, 130  # longer than a block of the CPU's attention
NEO: dict[str, Any] = {"vocab_size": V, "hidden_size": 16, "num_layers": 4, "num_heads": 2, "window_size": 5,
                       "max_position_embeddings": T, "initializer_range": 0.2}  # fmt: skip
MIND: dict[str, Any] = {"vocab_size": V, "hidden_size": 16, "intermediate_size": 48, "num_hidden_layers": 4,
                        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": T,
                        "initializer_range": 0.2}  # fmt: skip
FAMILIES: dict[str, MindLLMConfig | GPTNeoConfig] = {
    "gpt_neo": GPTNeoConfig(**NEO),
    "gpt_neo-untied": GPTNeoConfig(**NEO, tie_word_embeddings=False),
    "deepnorm": MindLLMConfig(**MIND),
    "prenorm": MindLLMConfig(**MIND, residual="prenorm", hidden_act="silu", qkv_bias=True, tie_word_embeddings=True),
}
# Two families are enough where a case takes a second or more.
BOTH = ["gpt_neo", "deepnorm"]


def build(family: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> LanguageModel:
    """A tiny model in training mode, always with the same weights."""
    torch.manual_seed(1)
    config = FAMILIES[family]
    with torch.device(device):
        model: LanguageModel = MODELS[config.model_type](config)
    return (model if dtype == torch.float32 else model.to(dtype)).train()  # a fake weight cannot be moved


def batch(packed: bool, device: str = "cpu", seed: int = 2) -> dict[str, Any]:
    """Three rows as the training loop hands them to a model; documents of sixteen tokens on average where packed."""
    random = np.random.default_rng(seed)
    tokens = torch.from_numpy(random.integers(0, V, (3, T + 1))).to(device)
    made: dict[str, Any] = {"input_ids": tokens[:, :-1].contiguous(), "labels": tokens[:, 1:].contiguous()}
    if packed:
        made["mask"] = Mask.packed(random.random((3, T)) < 1 / 16, device)
    return made


def step(model: LanguageModel, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients by name."""
    model.zero_grad()
    loss, _ = model(**inputs)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(left: tuple[Tensor, dict[str, Tensor]], right: tuple[Tensor, dict[str, Tensor]]) -> None:
    """To the last bit, and every parameter has a gradient."""
    assert torch.equal(left[0], right[0]) and left[1].keys() == right[1].keys()
    assert all(torch.equal(left[1][name], right[1][name]) for name in left[1])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "autocast", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_recomputing_layers_changes_no_bit(family: str, precision: str, packed: bool) -> None:
    model = build(family, torch.bfloat16 if precision == "bf16" else torch.float32)
    inputs = batch(packed)
    with torch.autocast("cpu", torch.bfloat16) if precision == "autocast" else nullcontext():
        kept = step(model, inputs)
        assert len(kept[1]) == len(list(model.parameters())) and all(g.any() for g in kept[1].values())
        for layers in (1, 4):
            model.recompute_layers = layers
            assert_same(step(model, inputs), kept)
        model.z_loss = 0.01
        again = step(model, inputs)
        model.recompute_layers = 0
        assert_same(step(model, inputs), again)


def kept_bytes(model: LanguageModel, inputs: dict[str, Any]) -> int:
    """What the graph of one forward pass holds for the backward pass, besides weights; memory in two views counts once.

    What a recomputed layer would have kept never gets here: its own hooks hide it.
    """
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor  # kept alive, so that no address is used twice
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = model(**inputs)
    assert loss.requires_grad
    return sum(t.untyped_storage().nbytes() for where, t in held.items() if where not in weights)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_layers_keep_their_input_alone(family: str, packed: bool) -> None:
    model, inputs, found = build(family), batch(packed), []
    for layers in range(5):
        model.recompute_layers = layers
        found.append(kept_bytes(model, inputs))
    saved = [before - after for before, after in zip(found, found[1:], strict=False)]
    hidden = 3 * T * 16 * 4  # bytes of one layer's input, (B, T, C) in fp32
    assert min(saved) > 4 * hidden and found[4] < found[0] / 3, found
    model.eval()
    assert kept_bytes(model, inputs) == found[0]  # recomputing is for training alone


def test_recomputing_runs_each_layer_twice_and_only_in_training() -> None:
    model, inputs, calls = build("gpt_neo"), batch(packed=False), [0] * 4
    for index, layer in enumerate(model.decoder_layers()):
        layer.register_forward_pre_hook(lambda *_, i=index: calls.__setitem__(i, calls[i] + 1))
    model.recompute_layers = 2
    step(model, inputs)
    assert calls == [2, 2, 1, 1]
    with torch.no_grad():
        model(**inputs)
    model.eval()
    step(model, inputs)
    assert calls == [4, 4, 3, 3]


def assert_compiled_is_equal(family: str) -> None:
    """Numbers within 1e-5, names of weights unchanged; one kind of layer is compiled once, another packing needs no
    other graph."""
    torch.compiler.reset()
    model, plain = build(family), build(family)
    names, batches = list(model.state_dict()), [batch(packed, seed=s) for packed, s in ((False, 2), (True, 2))]
    model.compile_layers()
    assert list(model.state_dict()) == names == [*dict(plain.named_parameters(remove_duplicate=False))]
    for recomputed in (0, 2):
        model.recompute_layers = recomputed
        for inputs in batches:
            (loss, gradients), (right, rights) = step(model, inputs), step(plain, inputs)
            torch.testing.assert_close(loss, right, rtol=1e-5, atol=1e-5)
            for name, gradient in gradients.items():
                assert float((gradient - rights[name]).norm()) < 1e-6 + 1e-5 * float(rights[name].norm()), name
    with torch.compiler.set_stance("fail_on_recompile"):  # a graph that does not fit raises
        for seed in (3, 4, 5):
            (loss, _), (right, _) = step(model, batch(True, seed=seed)), step(plain, batch(True, seed=seed))
            torch.testing.assert_close(loss, right, rtol=1e-5, atol=1e-5)
    model.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("family", BOTH)
def test_traced_layers_are_equal(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of torch.compile but the making of machine code, which takes a minute (see the slow test)."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    assert_compiled_is_equal(family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_layers_are_equal(family: str) -> None:
    assert_compiled_is_equal(family)


def fake_step(family: str, packed: bool, device: str) -> dict[str, Tensor]:
    """Loss terms of a training step, with its backward pass, on tensors that have shapes and no values."""
    model = build(family, device=device)
    model.recompute_layers, model.z_loss = 2, 1e-4
    terms = NextToken()(model, batch(packed, device))
    torch.stack([*terms.values()]).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
    return terms


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_never_asks_for_a_value(family: str, device: str, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor without values cannot answer, so no host ever waits for a device that is still busy.

    `cpu` is the way through the kernels of a CPU, `meta` the one that any other device takes.
    """
    if device == "meta":  # autocast knows no such device
        monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    with FakeTensorMode(allow_non_fake_inputs=True):
        terms = fake_step(family, packed, device)
        with pytest.raises(DataDependentOutputException):
            terms["loss"].item()  # the proof is one: asking is noticed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_on_a_gpu_never_synchronises(family: str, packed: bool) -> None:
    model, inputs = build(family, torch.bfloat16, "cuda"), batch(packed, "cuda")
    model.recompute_layers, model.z_loss = 2, 1e-4
    step(model, inputs)  # kernels that are compiled or tuned at first use may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, _ = step(model, inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)
