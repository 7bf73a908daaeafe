"""eval.bpb: windows score each token once, bits equal a token-by-token computation, text comes back from the shards."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_export
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from eval.bpb import _notes, _rows, bpb, encode, measure, read_texts
from eval.exported import hash_model
from eval.model_bits import context, find_head, list_windows, model_bits, open_model
from mindllm.config import UserError
from mindllm.language import language

EOS = 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    tiny_export.write_export(run / "export", num_positions=16)
    tokenizer = tiny_export.write_tokenizer(run / "tokenizer")
    texts = {
        "web-zh/train": tiny_export.TEXTS,
        "web-zh/valid": tiny_export.CHINESE,
        "web-en/valid": tiny_export.ENGLISH,
    }
    tiny_export.write_shards(run / "shards", tokenizer, texts)
    return run


@given(st.integers(1, 300), st.integers(1, 40))
def test_windows_score_every_position_once_with_half_a_window_of_context(num_inputs: int, size: int) -> None:
    windows = list(list_windows(3, num_inputs, size))
    scored = [p for w in windows for p in range(w.first, w.end)]
    assert scored == list(range(num_inputs))
    assert all(w.document == 3 and w.begin <= w.first and w.end - w.begin <= size for w in windows)
    assert all(w.first - w.begin >= size // 2 for w in windows[1:])


def token_by_token(model: torch.nn.Module, document: list[int], size: int) -> float:
    """Bits, one forward pass a token, each with the context that the windows give it."""
    sequence, bits = [EOS, *document, EOS], 0.0
    for window in list_windows(0, len(sequence) - 1, size):
        for place in range(window.first, window.end):
            with torch.no_grad():
                logits = model(torch.tensor([sequence[window.begin : place + 1]])).logits[0, -1]
            bits -= float(torch.log_softmax(logits.double(), 0)[sequence[place + 1]]) / np.log(2)
    return bits


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_bits_equal_a_token_by_token_computation(run: Path, batch_size: int) -> None:
    model, _ = open_model(run / "export")
    rng = np.random.default_rng(1)
    documents = [rng.integers(3, 300, n) for n in (0, 1, 5, 15, 16, 17, 40, 63)]
    expected = [token_by_token(model, d.tolist(), 16) for d in documents]
    assert model_bits(model, documents, EOS, batch_size) == pytest.approx(expected, rel=1e-5)


def test_bits_equal_the_loss_of_transformers(run: Path) -> None:
    """Where a document fits: the mean loss of the library times the number of predictions."""
    model, _ = open_model(run / "export")
    documents = [np.random.default_rng(2).integers(3, 300, n) for n in (1, 7, 15)]
    losses = []
    for document in documents:
        ids = torch.tensor([[2, *document, EOS]])
        losses.append(model(ids, labels=ids).loss.item() * (len(document) + 1) / np.log(2))
    assert model_bits(model, documents, EOS, 2, begin=2) == pytest.approx(losses, rel=1e-5)
    assert model_bits(model, documents, EOS, 2) != pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("positions", [1, 3, 16])
def test_the_head_in_parts_and_whole_logits_give_the_same_bits(
    run: Path, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = open_model(run / "export")
    documents = [np.random.default_rng(4).integers(3, 300, n) for n in (2, 16, 41)]
    whole = model_bits(model, documents, EOS, 3)
    monkeypatch.setattr("eval.model_bits._POSITIONS", positions)
    assert find_head(model) is model.get_output_embeddings()
    assert model_bits(model, documents, EOS, 3) == pytest.approx(whole, rel=1e-6)
    monkeypatch.setattr("eval.model_bits.find_head", lambda _: None)
    assert model_bits(model, documents, EOS, 3) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_logits_that_are_capped_afterwards_are_the_models_own(softcap: float | None) -> None:
    config = transformers.Gemma2Config(
        vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=16, final_logit_softcapping=softcap,
    )  # fmt: skip
    model = transformers.Gemma2ForCausalLM(config).eval()
    assert (find_head(model) is None) == (softcap is not None)
    documents = [np.random.default_rng(5).integers(3, 300, 9)]
    ids = torch.tensor([[EOS, *documents[0], EOS]])
    loss = model(ids, labels=ids).loss.item() * 10 / np.log(2)
    assert model_bits(model, documents, EOS, 1) == pytest.approx([loss], rel=1e-5)


def test_a_model_without_a_limit_is_read_in_windows() -> None:
    config = transformers.MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, state_size=4)
    assert context(transformers.MambaForCausalLM(config)) == 2_048


def test_a_begin_token_of_the_models_own_comes_first(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "export", tmp_path / "export")
    settings = json.loads((tmp_path / "export" / "config.json").read_text())
    (tmp_path / "export" / "config.json").write_text(json.dumps({**settings, "bos_token_id": 2}))
    found = measure(tiny_export.eval_config(run, model=str(tmp_path / "export")))["sources"]["web-zh"]
    model, tokenizer = open_model(run / "export")
    bits = model_bits(model, encode(tiny_export.CHINESE, tokenizer).documents, EOS, 8, begin=2).sum()
    assert found["bpb"]["model"] == pytest.approx(bits / found["bytes"], abs=1e-5)


def test_unknown_characters_are_said(run: Path) -> None:
    model, tokenizer = open_model(run / "export")
    rows = _rows(["春天来了", "spring"], model, tokenizer, None, 2)
    assert [row["unknown"] for row in rows] == [0, 0] and list(_notes(rows)) == []
    tokenizer.unk_token = tokenizer.convert_ids_to_tokens(int(encode(["spring"], tokenizer).documents[0][0]))
    rows = _rows(["春天来了", "spring"], model, tokenizer, None, 2)
    assert [row["unknown"] for row in rows] == [0, 1]
    (note,) = _notes(rows)
    assert note.startswith(f"{1 / sum(row['tokens'] for row in rows):.1%} of the tokens")


def test_no_document_has_no_bits(run: Path) -> None:
    model, tokenizer = open_model(run / "export")
    assert model_bits(model, [], EOS, 4).tolist() == []
    assert encode([], tokenizer) == ([], 0)


def test_text_comes_back_from_the_shards_up_to_the_limit(run: Path) -> None:
    tokenizer = tiny_export.Tokenizer(run / "tokenizer")
    folder = run / "shards" / "web-zh" / "valid"
    assert read_texts(folder, tokenizer, 10**6) == tiny_export.CHINESE
    sizes = np.cumsum([len(t.encode()) for t in tiny_export.CHINESE]).tolist()
    assert read_texts(folder, tokenizer, sizes[1]) == tiny_export.CHINESE[:2]
    assert read_texts(folder, tokenizer, sizes[1] - 1) == tiny_export.CHINESE[:1]
    assert read_texts(folder, tokenizer, 1) == tiny_export.CHINESE[:1]  # never nothing


def test_encoding_adds_nothing_and_counts_utf8(run: Path) -> None:
    _, tokenizer = open_model(run / "export")
    ours = tiny_export.Tokenizer(run / "tokenizer")
    texts = ["春天来了 spring", "葉子落了一地\nrain", "the end is<|endoftext|>not here", ""]
    held = encode(texts, tokenizer)
    assert [d.tolist() for d in held.documents] == [ids.tolist() for ids in ours.encode_batch(texts)]
    assert held.num_bytes == sum(len(t.encode("utf-8")) for t in texts)


def test_result_holds_every_source_and_the_total(run: Path) -> None:
    result = measure(tiny_export.eval_config(run))
    assert list(result["sources"]) == ["web-en", "web-zh"]
    assert result["train"]["documents"] == len(tiny_export.TEXTS)
    model, tokenizer = open_model(run / "export")
    for name, texts in (("web-en", tiny_export.ENGLISH), ("web-zh", tiny_export.CHINESE)):
        row, held = result["sources"][name], encode(texts, tokenizer)
        assert row["documents"] == len(texts) and row["bytes"] == held.num_bytes
        assert row["tokens"] == sum(len(d) + 1 for d in held.documents)
        bits = float(model_bits(model, held.documents, EOS, 8).sum())
        assert row["bpb"]["model"] == pytest.approx(bits / held.num_bytes, abs=1e-5)
        assert row["bpb"]["trigram"] < row["bpb"]["unigram"]  # the training text holds these lines
        gain = 1 - row["bpb"]["trigram"] / row["bpb"]["unigram"]
        assert row["gain"]["trigram"] == pytest.approx(gain, abs=1e-4) and row["gain"]["unigram"] == 0
    parts, total = result["sources"].values(), result["total"]
    assert total["bytes"] == sum(p["bytes"] for p in parts)
    weighted = sum(p["bpb"]["model"] * p["bytes"] for p in parts) / total["bytes"]
    assert total["bpb"]["model"] == pytest.approx(weighted, abs=1e-4)


def test_verb_writes_once_and_refuses_other_settings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bpb(tiny_export.eval_config(run)) == 0
    assert "web-zh" in capsys.readouterr().out
    first = (run / "bpb" / "bpb.json").read_bytes()
    meta = json.loads((run / "bpb" / "meta.json").read_text())
    assert meta["counts"]["in"] == 7 and meta["inputs"] == {
        "export": hash_model(run / "export"),
        "shards": "fedcba9876543210",
    }
    assert bpb(tiny_export.eval_config(run)) == 0
    assert "done before" in capsys.readouterr().out
    with pytest.raises(UserError, match="max_bytes: 1000000 -> 10"):
        bpb(tiny_export.eval_config(run, max_bytes=10))
    assert bpb(tiny_export.eval_config(run, max_bytes=10, force=True)) == 0
    assert bpb(tiny_export.eval_config(run, force=True)) == 0
    assert (run / "bpb" / "bpb.json").read_bytes() == first


def test_what_is_missing_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mindllm.export"):
        bpb(tiny_export.eval_config(tmp_path))
    shards = tmp_path / "shards"
    tiny_export.write_shards(shards, tiny_export.Tokenizer(run / "tokenizer"), {"web/train": ["a", "b"]})
    with pytest.raises(UserError, match="no source has a valid part"):
        measure(tiny_export.eval_config(run, shards=str(shards)))


def test_another_tokenizer_is_refused(run: Path, tmp_path: Path) -> None:
    tokenizer = tiny_export.write_tokenizer(tmp_path)
    tokenizer.fingerprint = "another"
    with pytest.raises(UserError, match="not written with the tokenizer"):
        read_texts(run / "shards" / "web-zh" / "valid", tokenizer, 100)


def test_languages_are_told_apart_by_document(run: Path) -> None:
    result = measure(tiny_export.eval_config(run))
    languages, total = result["languages"], result["total"]
    assert sum(row["documents"] for row in languages.values()) == total["documents"]
    assert sum(row["bytes"] for row in languages.values()) == total["bytes"]
    assert {language(text) for text in tiny_export.CHINESE + tiny_export.ENGLISH} == set(languages)


def test_any_text_is_measured_without_shards(run: Path, tmp_path: Path) -> None:
    """JSON lines and nothing else; there is nothing that an n-gram model could be compared on."""
    texts = {"一.jsonl": tiny_export.CHINESE, "two.jsonl": tiny_export.ENGLISH}
    for name, lines in texts.items():
        rows = "".join(json.dumps({"text": line}, ensure_ascii=False) + "\n" for line in lines)
        (tmp_path / name).write_text(rows, encoding="utf-8")
    config = replace(tiny_export.eval_config(run), texts=[str(tmp_path)], shards="nowhere", run=str(tmp_path / "run"))
    assert bpb(config) == 0
    result = json.loads((tmp_path / "run" / "bpb" / "bpb.json").read_text(encoding="utf-8"))
    held = measure(tiny_export.eval_config(run))
    assert result["train"] is None and result["total"]["bpb"]["trigram"] is None
    assert result["total"]["bpb"]["model"] == held["total"]["bpb"]["model"]
    assert result["sources"]["一.jsonl"]["bpb"]["model"] == held["sources"]["web-zh"]["bpb"]["model"]
    assert result["languages"].keys() == held["languages"].keys()
    (tmp_path / "more").mkdir()
    shutil.copy(tmp_path / "two.jsonl", tmp_path / "more" / "一.jsonl")  # another file of the same name
    result = measure(replace(config, texts=[str(tmp_path / "一.jsonl"), str(tmp_path / "more")]))
    assert list(result["sources"]) == [f"{tmp_path}/一.jsonl", f"{tmp_path}/more/一.jsonl"]
    assert result["total"]["bytes"] == held["total"]["bytes"]
    with pytest.raises(UserError, match="no text here"):
        bpb(replace(config, texts=[str(run / "export")]))
