"""Rows for an enlarged vocabulary: old ones bit by bit, new ones the mean of what they replace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from byte_bases import NUM_BASE, prose_lines
from test_enlarge import LINES, encode, enlarge

from mindllm.config import UserError
from mindllm.models.vocabulary import Replaced, grown_rows, load_replaced
from mindllm.tokenizer import Tokenizer

REPLACED = Replaced(5, np.array([0, 2, 3, 6]), np.array([0, 4, 2, 1, 1, 3], dtype=np.int32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_old_rows_stay_and_new_ones_are_means(dtype: torch.dtype) -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    grown = grown_rows(weight, REPLACED)
    assert grown.shape == (8, 7) and grown.dtype == dtype and torch.equal(grown[:5], weight)
    wide = weight.to(torch.float64)
    means = torch.stack([wide[[0, 4]].mean(0), wide[2], wide[[1, 1, 3]].mean(0)])
    torch.testing.assert_close(grown[5:], means.to(dtype))
    assert torch.equal(grown[6], weight[2]), "a token that replaces one other starts as its copy"


def test_a_parameter_may_be_given_and_is_left_alone() -> None:
    weight = torch.nn.Parameter(torch.ones(5, 2))
    assert not grown_rows(weight, REPLACED).requires_grad and weight.grad is None


def test_a_weight_of_another_tokenizer_is_refused() -> None:
    with pytest.raises(UserError, match=r"shape \(6, 2\), but the tokenizer was enlarged from 5"):
        grown_rows(torch.ones(6, 2), REPLACED)


@pytest.mark.parametrize("tied", [True, False])
def test_a_grown_model_gives_the_same_logits_for_text_without_chinese(tmp_path: Path, tied: bool) -> None:
    tokenizer = Tokenizer(enlarge(tmp_path, LINES * 3, 120))
    replaced = load_replaced(tmp_path / "out")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 64, "window_size": 8}
    config = transformers.GPTNeoConfig(
        vocab_size=NUM_BASE, attention_types=[[["global", "local"], 1]], tie_word_embeddings=tied, **shape
    )
    model = transformers.GPTNeoForCausalLM(config).eval()
    english = torch.tensor([encode(tokenizer, " ".join(line for line in prose_lines() if line.isascii()))[:60]])
    with torch.no_grad():
        before = model(english).logits
        rows = [grown_rows(layer.weight, replaced) for layer in (model.transformer.wte, model.lm_head)]
        model.resize_token_embeddings(tokenizer.vocab_size, mean_resizing=False)
        model.transformer.wte.weight.copy_(rows[0])
        model.lm_head.weight.copy_(rows[1])
        after = model(english).logits
        chinese = model(torch.tensor([encode(tokenizer, LINES[0])])).logits
    assert after.shape[-1] == tokenizer.vocab_size and torch.isfinite(chinese).all()
    torch.testing.assert_close(after[..., :NUM_BASE], before, rtol=0, atol=1e-6)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="replaced.npz: not there"):
        load_replaced(tmp_path)
    path = tmp_path / "replaced.npz"
    good = {"base_vocab_size": np.int64(5), "offsets": REPLACED.offsets, "ids": REPLACED.ids}
    np.savez(path, **good)
    assert load_replaced(tmp_path).base_vocab_size == 5
    wrong = [
        {"ids": REPLACED.ids + 2}, {"ids": REPLACED.ids - 1}, {"offsets": REPLACED.offsets[:-1]}, {"ids": np.zeros(6)},
        {"offsets": np.array([0, 2, 2, 6])}, {"ids": np.array([{}] * 6)},
    ]  # fmt: skip
    for change in wrong:
        np.savez(path, **{**good, **change})
        with pytest.raises(RuntimeError, match="replaced.npz: damaged"):
            load_replaced(tmp_path)
    np.savez(path, ids=REPLACED.ids)
    with pytest.raises(RuntimeError, match="replaced.npz: damaged"):
        load_replaced(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RuntimeError, match="replaced.npz: damaged"):
        load_replaced(tmp_path)
