"""A model that starts from a folder's weights: rows by token, with an enlarged tokenizer too, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from byte_bases import NUM_BASE, prose_lines, write_base
from hf_folders import NEO, SHAPE, change_config, logits, write_model
from safetensors.torch import load_file, save_file
from tiny_export import write_tokenizer

from mindllm.config import UserError, load
from mindllm.hf import load_model, read_config, start_from
from mindllm.hf.start import model_block, token_names
from mindllm.models import GPTNeo, GPTNeoConfig, MindLLM, MindLLMConfig
from mindllm.models.vocabulary import grown_rows, load_replaced
from mindllm.pretrain import PretrainConfig
from mindllm.tokenizer import load_tokenizer
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.enlarge import train_enlarged

NEO_SHAPE = {
    key: value for key, value in NEO.items() if key not in ("attention_types", "vocab_size") and "token" not in key
}
OWN = {key: value for key, value in SHAPE.items() if "token" not in key} | {
    "residual": "prenorm",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
}
TEXTS = ("The ferry leaves at seven.", "渡船早上七点开。", "渡船早上七點開。")


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/: a GPT-Neo with its tokenizer; tokenizer/: that one enlarged."""
    root = tmp_path_factory.mktemp("enlarged")
    base = write_base(root / "base")
    (root / "tokenizer").mkdir()
    settings = {"base": str(base), "new_tokens": 2600, "character_coverage": 0.98}
    train_enlarged(root / "tokenizer", iter(prose_lines()), TokenizerConfig(kind="enlarged", vocab_size=0, **settings))  # type: ignore[arg-type]
    write_model(base, "gpt_neo", vocab_size=NUM_BASE)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """weights/: a Llama with more rows than tokens, and its tokenizer."""
    root = tmp_path_factory.mktemp("small")
    size = write_tokenizer(root / "weights").vocab_size
    write_model(root / "weights", "llama", vocab_size=-(-size // 64) * 64, head_dim=6)
    return root


def copy(folder: Path, out: Path) -> Path:
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


@pytest.mark.parametrize("tied", [True, False])
def test_an_enlarged_vocabulary_from_end_to_end(enlarged: Path, tied: bool, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer, replaced = load_tokenizer(enlarged / "tokenizer"), load_replaced(enlarged / "tokenizer")
    size = tokenizer.vocab_size
    torch.manual_seed(2)
    ours = GPTNeo(GPTNeoConfig(vocab_size=size + 30, tie_word_embeddings=tied, **NEO_SHAPE)).eval()  # type: ignore[arg-type]
    before = {name: weight.clone() for name, weight in ours.state_dict().items()}
    start_from(ours, enlarged / "base", enlarged / "tokenizer")
    said = capsys.readouterr().out
    assert f"{NUM_BASE} tokens of" in said and f"{size - NUM_BASE} new ones" in said and "WARNING" not in said
    theirs = load_model(enlarged / "base")
    old, new = theirs.state_dict(), ours.state_dict()
    for name in ("transformer.wte.weight", "lm_head.weight"):
        assert torch.equal(new[name][:NUM_BASE], old["transformer.wte.weight"])
        assert torch.equal(new[name][:size], grown_rows(old["transformer.wte.weight"], replaced))
        assert torch.equal(new[name][size:], before[name][size:])  # rows that only pad
    assert (ours.lm_head.weight is ours.transformer.wte.weight) == tied
    assert all(torch.equal(new[n], old[n]) for n in old if n not in ("transformer.wte.weight", "lm_head.weight"))
    ids = torch.tensor([tokenizer.encode_batch(TEXTS[:1])[0].tolist()])
    torch.testing.assert_close(logits(ours, ids)[..., :NUM_BASE], logits(theirs, ids), rtol=1e-5, atol=1e-5)
    chinese = tokenizer.encode_batch(TEXTS[1:])
    assert all((array >= NUM_BASE).any() for array in chinese)
    assert all(torch.isfinite(logits(ours, torch.tensor([array.tolist()]))).all() for array in chinese)


def test_weights_that_were_enlarged_before_are_taken_as_they_are(enlarged: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(enlarged / "tokenizer")
    folder = tmp_path / "weights"
    write_model(folder, "gpt_neo", vocab_size=tokenizer.vocab_size)
    ours = GPTNeo(GPTNeoConfig(vocab_size=tokenizer.vocab_size, **NEO_SHAPE))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nobody can tell whether they are of the enlarged tokenizer"):
        start_from(ours, folder, tokenizer.folder)
    (folder / "tokenizer.json").write_bytes((tokenizer.folder / "tokenizer.json").read_bytes())
    start_from(ours, folder, tokenizer.folder)
    same = load_model(folder).state_dict()
    assert all(torch.equal(weight, same[name]) for name, weight in ours.state_dict().items())


def test_rows_of_padding(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many rows as tokens, some more of our own, or the folder's padding where ours is as long."""
    size = load_tokenizer(small / "weights").vocab_size
    table = load_file(small / "weights" / "model.safetensors")["model.embed_tokens.weight"]
    for rows in (size, size + 5, len(table), len(table) + 7):
        torch.manual_seed(2)
        ours = MindLLM(MindLLMConfig(**{**OWN, "vocab_size": rows, "max_position_embeddings": 512}))  # type: ignore[arg-type]
        before = ours.model.embed_tokens.weight.detach().clone()
        start_from(ours, small / "weights", small / "weights")
        found = ours.model.embed_tokens.weight.detach()
        assert torch.equal(found[: len(table)], table[:rows]) and torch.equal(found[len(table) :], before[len(table) :])
    assert f"{len(table) - size} rows of padding" in capsys.readouterr().out


def test_another_shape_is_shown_with_all_differences_and_what_to_write(small: Path, tmp_path: Path) -> None:
    changes = {"hidden_size": 48, "num_key_value_heads": 4, "rope_theta": 5e5, "residual": "deepnorm",
               "tie_word_embeddings": True, "vocab_size": 400}  # fmt: skip
    ours = MindLLM(MindLLMConfig(**{**OWN, **changes}))  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        start_from(ours, small / "weights", small / "weights")
    message = str(caught.value)
    for line in ("hidden_size: 24 -> 48", "num_key_value_heads: 2 -> 4", "rope_theta: 10000.0 -> 500000.0",
                 'residual: "prenorm" -> "deepnorm"', "head_dim: 6 -> 12",
                 "tie_word_embeddings: false -> true"):  # fmt: skip
        assert line in message
    block = message[message.index("model:") :]
    (tmp_path / "config.yaml").write_text(block + "\nseq_len: 8\n")
    settings = load(PretrainConfig, tmp_path / "config.yaml")
    read: Any = read_config(small / "weights")
    read.vocab_size = 0
    assert settings.model == read


def test_the_block_of_a_gpt_neo_is_one_too(enlarged: Path, tmp_path: Path) -> None:
    config: Any = read_config(enlarged / "base")
    (tmp_path / "config.yaml").write_text(model_block(config) + "\nseq_len: 8\n")
    config.vocab_size = 0
    assert load(PretrainConfig, tmp_path / "config.yaml").model == config
    longer = {**NEO_SHAPE, "vocab_size": NUM_BASE, "max_position_embeddings": 128, "attention_types": ["local"]}
    with pytest.raises(UserError, match="max_position_embeddings: 64 -> 128"):
        start_from(GPTNeo(GPTNeoConfig(**longer)), enlarged / "base", enlarged / "tokenizer")  # type: ignore[arg-type]
    with pytest.raises(UserError, match='model_type: "gpt_neo" -> "mindllm"'):
        start_from(MindLLM(MindLLMConfig(vocab_size=9)), enlarged / "base", enlarged / "tokenizer")


def test_another_tokenizer_is_refused(small: Path, tmp_path: Path) -> None:
    size = load_tokenizer(small / "weights").vocab_size
    ours = MindLLM(MindLLMConfig(**{**OWN, "vocab_size": size}))  # type: ignore[arg-type]
    other = copy(small / "weights", tmp_path / "other")
    state = json.loads((other / "tokenizer.json").read_text())
    vocab = state["model"]["vocab"]
    first, second = (next(t for t, i in vocab.items() if i == number) for number in (300, 301))
    vocab[first], vocab[second] = 301, 300
    (other / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(
        UserError, match=f"2 ids stand for other tokens .* the first, 300, for {second!r} there and {first!r}"
    ):
        start_from(ours, other, small / "weights")
    state["model"]["vocab"] = {**vocab, first: 300, second: 301, "more": size}
    (other / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=rf"1 ids stand for other tokens .* {size}, for 'more' there and None here"):
        start_from(ours, other, small / "weights")
    (other / "tokenizer.json").write_text('{"model": {"vocab": 3}}')
    with pytest.raises(UserError, match="tokenizer.json: damaged"):
        start_from(ours, other, small / "weights")


def test_without_a_tokenizer_beside_the_weights(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = load_tokenizer(small / "weights").vocab_size
    bare = copy(small / "weights", tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    ours = MindLLM(MindLLMConfig(**{**OWN, "vocab_size": size}))  # type: ignore[arg-type]
    start_from(ours, bare, small / "weights")
    assert f"WARNING: {bare} holds no tokenizer.json or vocab.json" in capsys.readouterr().out
    for rows in (size - 1, size + 1024):
        state = load_file(small / "weights" / "model.safetensors")
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            state[name] = torch.zeros(rows, 24)
        save_file(state, bare / "model.safetensors")
        change_config(bare, vocab_size=rows)
        with pytest.raises(UserError, match=f"has rows for {rows} tokens, but .* has {size}: .* another tokenizer"):
            start_from(ours, bare, small / "weights")


def test_tokens_of_each_kind_of_file(tmp_path: Path) -> None:
    assert token_names(tmp_path) is None
    (tmp_path / "vocab.json").write_text('{"a": 0, "中": 1}', encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text('{"<|end|>": 2}')
    assert token_names(tmp_path) == {0: "a", 1: "中", 2: "<|end|>"}
    fast = {"model": {"vocab": [["國", -1.0], ["b", -2.0]]}, "added_tokens": [{"id": 2, "content": "<s>"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(fast))
    assert token_names(tmp_path) == {0: "國", 1: "b", 2: "<s>"}


def test_bfloat16_weights_give_the_same_old_rows(enlarged: Path, tmp_path: Path) -> None:
    folder = copy(enlarged / "base", tmp_path / "half")
    state = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors")
    size = load_tokenizer(enlarged / "tokenizer").vocab_size
    ours = GPTNeo(GPTNeoConfig(vocab_size=size, **NEO_SHAPE))  # type: ignore[arg-type]
    start_from(ours, folder, enlarged / "tokenizer")
    found = ours.transformer.wte.weight.detach()
    assert torch.equal(found[:NUM_BASE], state["transformer.wte.weight"].float())
    assert np.isfinite(found.numpy()).all()
