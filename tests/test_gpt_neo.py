"""GPT-Neo against stock transformers: logits, gradients, windows, bf16; packed and padded rows, cache, limits, init."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mindllm.attention import Mask
from mindllm.config import UserError, load
from mindllm.models import MODELS
from mindllm.models.cache import Cache
from mindllm.models.gpt_neo import GPTNeo, GPTNeoConfig
from mindllm.models.vocabulary import Replaced, grown_rows

TINY = GPTNeoConfig(
    vocab_size=97, hidden_size=32, num_layers=3, num_heads=4, window_size=8, max_position_embeddings=40,
    initializer_range=0.1,
)  # fmt: skip


def build(seed: int = 1, **changes: Any) -> GPTNeo:
    """A tiny model with weights that hide no mistake: norms far from 1, biases far from 0."""
    torch.manual_seed(seed)
    model = GPTNeo(replace(TINY, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".ln_" in name and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
    return model


def stock(ours: GPTNeo) -> Any:
    """GPTNeoForCausalLM with the same weights; its state dict must have the same names."""
    c = ours.config
    theirs = transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(
        vocab_size=c.vocab_size, hidden_size=c.hidden_size, num_layers=c.num_layers, num_heads=c.num_heads,
        attention_types=[[[kind], 1] for kind in c.attention_layers], intermediate_size=c.intermediate_size or None,
        window_size=c.window_size, max_position_embeddings=c.max_position_embeddings,
        layer_norm_epsilon=c.layer_norm_epsilon, tie_word_embeddings=c.tie_word_embeddings,
        bos_token_id=0, eos_token_id=0,
    ))  # fmt: skip
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return theirs.eval()


CASES: dict[str, dict[str, Any]] = {
    "alternating": {},
    "local-first": {"attention_types": ["local", "global"], "num_layers": 4},
    "local-only": {"attention_types": ["local"], "window_size": 3},
    "sees-itself-only": {"attention_types": ["global", "local"], "window_size": 1},
    "window-of-its-length": {"attention_types": ["local"], "window_size": 30},
    "window-beyond": {"attention_types": ["global", "local", "local"], "window_size": 256},
    "published-window": {"window_size": 256, "max_position_embeddings": 300, "num_layers": 2},
    "narrow": {"intermediate_size": 20, "num_heads": 1, "layer_norm_epsilon": 1e-2},
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_logits_and_gradients_equal_stock_transformers(case: str, tied: bool) -> None:
    ours = build(tie_word_embeddings=tied, **CASES[case])
    theirs = stock(ours)
    tokens = torch.randint(97, (2, ours.config.max_position_embeddings - 9))
    ids, labels = tokens[:, :-1], tokens[:, 1:]
    logits = theirs(ids).logits
    torch.testing.assert_close(ours(ids), logits, rtol=1e-5, atol=1e-5)
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    loss, nll = ours(ids, labels=labels)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(loss, nll) and not nll.requires_grad
    (loss / labels.numel()).backward()
    (expected / labels.numel()).backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert set(gradients) == {name for name, _ in ours.named_parameters()}
    for name, parameter in ours.named_parameters():
        right = gradients[name]
        assert parameter.grad is not None and right is not None
        assert float((parameter.grad - right).norm()) <= 1e-7 + 1e-5 * float(right.norm()), name


@pytest.mark.parametrize("length", [60, 300])
@pytest.mark.parametrize("spread", [0.05, 0.2])
@pytest.mark.parametrize("cast", ["weights", "autocast"])
def test_bf16_is_as_near_to_fp32_as_stock_transformers(cast: str, spread: float, length: int) -> None:
    """Unscaled scores reach far; transformers computes them in fp32, and rounding them must stay a small part."""
    ours = build(hidden_size=64, num_layers=4, initializer_range=spread, max_position_embeddings=length)
    theirs, ids = stock(ours), torch.randint(97, (3, length))
    exact = ours(ids)
    if cast == "weights":
        low, reference = ours.to(torch.bfloat16)(ids), theirs.to(torch.bfloat16)(ids).logits
    else:
        with torch.autocast("cpu", torch.bfloat16):
            low, reference = ours(ids), theirs(ids).logits
    assert low.dtype == reference.dtype == torch.bfloat16

    def apart(x: Tensor, y: Tensor) -> float:
        return ((x - y).float().pow(2).mean().sqrt() / exact.std()).item()

    assert apart(low, exact) < 1.3 * apart(reference, exact) and apart(low, reference) < 0.08


def test_a_local_layer_sees_the_window_and_no_more() -> None:
    """What leaves a one-layer model at position t depends on tokens t - window + 1 to t."""
    model = build(num_layers=1, attention_types=["local"])
    ids = torch.randint(97, (1, 30))
    for changed, first, last in ((0, 0, 7), (10, 10, 17), (25, 25, 29)):
        other = ids.clone()
        other[:, changed] = (other[:, changed] + 1) % 97
        differs = (model(ids) != model(other)).any(-1)[0].nonzero().flatten().tolist()
        assert differs == list(range(first, last + 1))


@pytest.mark.parametrize("tied", [True, False])
def test_cached_decoding_equals_the_full_pass(tied: bool) -> None:
    """Past the window, in pieces of several lengths, and after the rows of the batch were put in another order."""
    model, ids = build(tie_word_embeddings=tied).eval(), torch.randint(97, (2, 30))
    full, cache = model(ids), Cache(30)
    for start, end in ((0, 5), (5, 6), (6, 7), (7, 20), (20, 21)):
        torch.testing.assert_close(model(ids[:, start:end], cache=cache), full[:, start:end], rtol=1e-5, atol=1e-5)
        assert cache.length == end
    cache.reorder(torch.tensor([1, 0]))
    swapped = model(ids.flip(0)[:, 21:], cache=cache)
    torch.testing.assert_close(swapped, full.flip(0)[:, 21:], rtol=1e-5, atol=1e-5)


def test_left_padding_changes_nothing() -> None:
    """Rows of 20, 13 and 3 tokens in one batch, whole and continued from a cache, equal each row alone."""
    model, texts = build().eval(), [torch.randint(97, (1, n)) for n in (20, 13, 3)]
    padding = torch.tensor([20 - text.shape[1] for text in texts])
    ids = torch.cat([F.pad(text, (20 - text.shape[1], 0)) for text in texts])
    positions = (torch.arange(20) - padding[:, None]).clamp(min=0)
    mask, cache = Mask(padding=padding), Cache(20)
    whole = model(ids, mask=mask, position_ids=positions)
    parts = [model(ids[:, a:b], mask=mask, position_ids=positions[:, a:b], cache=cache) for a, b in ((0, 17), (17, 20))]
    for row, text in enumerate(texts):
        alone = model(text)[0]
        torch.testing.assert_close(whole[row, padding[row] :], alone, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(torch.cat(parts, 1)[row, padding[row] :], alone, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 2**31), often=st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=10, deadline=None)
def test_packed_documents_equal_each_alone(seed: int, often: float) -> None:
    model, random = build().eval(), np.random.default_rng(seed)
    ids = torch.from_numpy(random.integers(0, 97, (2, 30)))
    first = random.random((2, 30)) < often
    packed = model(ids, mask=Mask.packed(first))
    first[:, 0] = True
    for row in range(2):
        begins = [*np.flatnonzero(first[row]), 30]
        for begin, end in zip(begins, begins[1:], strict=False):
            alone = model(ids[row : row + 1, begin:end])[0]
            torch.testing.assert_close(packed[row, begin:end], alone, rtol=1e-5, atol=1e-5)


def test_a_text_must_fit_the_positions() -> None:
    """Learned positions end; a row of packed documents may be longer than the longest of them."""
    model, ids = build(max_position_embeddings=12), torch.randint(97, (1, 20))
    cache, first = Cache(20), np.zeros((1, 20), dtype=bool)
    assert model(ids[:, :12]).shape == (1, 12, 97)
    with pytest.raises(UserError, match="a text of 13 tokens is longer than the model's 12 positions"):
        model(ids[:, :13])
    model(ids[:, :11], cache=cache)
    model(ids[:, 11:12], cache=cache)
    with pytest.raises(UserError, match="13 tokens"):
        model(ids[:, 12:13], cache=cache)
    first[0, 11] = True
    assert model(ids, mask=Mask.packed(first)).shape == (1, 20, 97)
    with pytest.raises(UserError, match="20 tokens"):
        model(ids, mask=Mask.packed(np.zeros((1, 20), dtype=bool)))


@pytest.mark.parametrize("tied", [True, False])
def test_an_enlarged_vocabulary_keeps_what_old_tokens_get(tied: bool) -> None:
    old = build(tie_word_embeddings=tied).eval()
    replaced = Replaced(97, np.array([0, 2, 5, 6]), np.array([3, 4, 10, 11, 12, 96], dtype=np.int32))
    new = GPTNeo(replace(old.config, vocab_size=100)).eval()
    state = old.state_dict()
    for name in ("transformer.wte.weight", "lm_head.weight"):
        state[name] = grown_rows(state[name], replaced)
    new.load_state_dict(state)
    assert (new.lm_head.weight is new.transformer.wte.weight) == tied
    ids = torch.randint(97, (2, 30))
    torch.testing.assert_close(new(ids)[..., :97], old(ids), rtol=0, atol=1e-6)
    assert new.num_parameters() == old.num_parameters() + (3 if tied else 6) * 32


def test_size_of_the_published_model() -> None:
    """EleutherAI/gpt-neo-1.3B; an untied head adds its own weights. The meta device takes no memory."""
    with torch.device("meta"):
        model = MODELS["gpt_neo"](GPTNeoConfig(vocab_size=50257))
        untied = GPTNeo(GPTNeoConfig(vocab_size=50257, tie_word_embeddings=False))
    assert model.num_parameters() == 1_315_575_808
    assert untied.num_parameters() == 1_315_575_808 + 50257 * 2048
    assert all(p.device.type == "meta" for p in model.parameters())
    assert model.config.head_size == 128 and model.config.attention_layers[:3] == ["global", "local", "global"]
    assert len(model.decoder_layers()) == model.config.num_hidden_layers == 24


def test_starts_as_stock_transformers_does() -> None:
    """One spread for all matrices (residual projections are not scaled), 0 for biases, 1 and 0 for norms."""
    torch.manual_seed(3)
    ours = GPTNeo(replace(TINY, hidden_size=128, vocab_size=500, max_position_embeddings=200, initializer_range=0.07))
    fresh = transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(
        vocab_size=500, hidden_size=128, num_layers=4, num_heads=4, max_position_embeddings=200,
        attention_types=[[["global", "local"], 2]], initializer_range=0.07, bos_token_id=0, eos_token_id=0,
    ))  # fmt: skip
    for model in (ours, fresh):
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                assert float(weight.detach().std()) == pytest.approx(0.07, rel=0.03), name
            else:
                constant = float(".ln_" in name and name.endswith("weight"))
                assert torch.equal(weight, torch.full_like(weight, constant)), name


def test_all_problems_of_a_config_at_once() -> None:
    wrong = ["hidden_size=30", "num_heads=4", "num_layers=0", "window_size=0", "attention_types=[]", "vocab_multiple=0",
             "max_position_embeddings=0", "layer_norm_epsilon=0", "vocab_size=-1", "intermediate_size=-1",
             "initializer_range=0"]  # fmt: skip
    with pytest.raises(UserError, match="10 problem") as error:
        load(GPTNeoConfig, None, wrong)
    for start in ("hidden_size: 30 does not divide by num_heads 4", "num_layers:", "window_size: must be at least 1",
                  "attention_types: must be a list of global and local", "vocab_multiple:", "vocab_size:",
                  "max_position_embeddings:", "layer_norm_epsilon:", "intermediate_size:",
                  "initializer_range:"):  # fmt: skip
        assert f"\n  {start}" in str(error.value), start
    with pytest.raises(UserError, match="attention_types"):
        load(GPTNeoConfig, None, ["attention_types=[global, sliding]"])
    unknown = GPTNeoConfig(attention_types=["sliding"], num_heads=0)  # type: ignore[list-item]
    assert [problem.split(":")[0] for problem in unknown.problems()] == ["num_heads", "attention_types"]
    assert not list(GPTNeoConfig().problems())
