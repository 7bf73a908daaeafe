"""SentencePiece models: what blanks, unknown characters and single bytes become, and models of others."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import sentencepiece as spm
from small_tokenizer import CONTROL, ENGLISH, SIMPLIFIED, TRADITIONAL, VOCAB_SIZE, write_tokenizer

from mindllm.text import PII_MASKS
from mindllm.tokenizer.pieces import MODEL_FILE, Pieces
from mindllm.tokenizer.special import UNK


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Pieces:
    return Pieces(write_tokenizer(tmp_path_factory.mktemp("pieces")))


def others(folder: Path, **settings: object) -> Pieces:
    """A model with SentencePiece's own settings."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(ENGLISH + SIMPLIFIED + TRADITIONAL), model_writer=model, vocab_size=600,
        model_type="bpe", hard_vocab_limit=False, minloglevel=2, **settings,
    )  # fmt: skip
    (folder / MODEL_FILE).write_bytes(model.getvalue())
    return Pieces(folder)


def test_every_token_has_its_bytes(pieces: Pieces) -> None:
    tokens, names, single = pieces.token_bytes(), pieces.names(), pieces.byte_ids()
    assert len(tokens) == len(names) == len(set(names)) == VOCAB_SIZE == pieces.vocab_size
    assert [tokens[i] for i in single] == [bytes([b]) for b in range(256)]
    assert {name for name, token in zip(names, tokens, strict=True) if not token} == set(CONTROL)
    rest = [(n, t) for i, (n, t) in enumerate(zip(names, tokens, strict=True)) if t and i not in single]
    assert all(token.decode() == name.replace("▁", " ") for name, token in rest)
    assert set(pieces.learned()) == {name for name, _ in rest} - {*PII_MASKS, "\n"}


def test_no_piece_spans_a_cut(pieces: Pieces) -> None:
    texts = [token.decode() for token in pieces.token_bytes() if len(token) > 1]
    assert all(pieces.boundary.findall(text) == [text] for text in texts)


def test_blanks_and_the_character_that_stands_for_them(pieces: Pieces) -> None:
    blank, single = pieces.token_id("▁"), pieces.byte_ids()
    assert pieces.encode(" ") == [blank] and pieces.encode("\u2581") == [single[b] for b in "\u2581".encode()]
    for text in ("a\u2581b", "\u2581\u2581", "天 \u2581 地", "\u2581" + "渡船" * 300, "渡船" * 300 + "\u2581 the"):
        ids = pieces.encode(text)
        assert isinstance(ids, list) and pieces.decode(ids) == text


def test_long_texts_come_as_arrays_with_the_same_ids(pieces: Pieces) -> None:
    texts = ["\n".join(ENGLISH * 9), "".join(SIMPLIFIED * 9), "".join(TRADITIONAL * 9), "\u2581渡" * 200]
    for text, ids in zip(texts, pieces.encode_all(texts), strict=True):
        assert isinstance(ids, np.ndarray) == ("\u2581" not in text) and [*ids] == pieces.encode(text)
        assert "\u2581" in text or [*ids] == spm_ids(pieces, text)
    assert pieces.encode_all([]) == []


def spm_ids(pieces: Pieces, text: str) -> list[int]:
    """The ids of the library's plain call."""
    found: list[int] = pieces._model.encode(text)
    return found


def test_characters_without_a_piece_are_bytes_and_nothing_is_unknown(pieces: Pieces) -> None:
    single, unknown = set(pieces.byte_ids()), pieces.token_id(UNK)
    for text in ("𠮷", "龘靐", "\x00", "é", "\U0001f600", UNK, "<unk>", "<0x0A>"):
        ids = pieces.encode(text)
        assert unknown not in ids and pieces.decode(ids) == text
    assert set(pieces.encode("𠮷龘\x00")) <= single
    assert pieces.token_id("<0x0A>") in single - set(pieces.encode("<0x0A>"))
    assert pieces.token_id("no such piece") is None and pieces.decode([unknown, *pieces.encode("天")]) == "天"


def test_models_of_others_open(tmp_path: Path) -> None:
    plain = others(tmp_path)  # no byte fallback, a blank put before every text
    tokens = plain.token_bytes()
    assert [i for i, token in enumerate(tokens) if not token] == [0, 1, 2] and b"\xff" not in tokens
    assert plain.decode(plain.encode("the ferry 渡船")) == "the ferry 渡船"
    with_bytes = others(tmp_path, byte_fallback=True)
    assert [with_bytes.token_bytes()[i] for i in with_bytes.byte_ids()] == [bytes([b]) for b in range(256)]


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / MODEL_FILE
    for content in (b"", b"no model", b"\x0a\xff\xff"):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match="tokenizer.model: cannot be read as a SentencePiece model"):
            Pieces(tmp_path)
    path.unlink()
    with pytest.raises(RuntimeError, match="tokenizer.model: cannot be read"):
        Pieces(tmp_path)
