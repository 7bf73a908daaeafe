"""Chunks: the cuts, what is remembered and texts encoded as one change no id; the memory has an end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import ENGLISH, SIMPLIFIED, TEXT, TRADITIONAL, TRICKY, WORDS, write_tokenizer

from mindllm.text import PII_MASKS
from mindllm.tokenizer import chunks
from mindllm.tokenizer.chunks import Chunks
from mindllm.tokenizer.pieces import Pieces

BLANKS = st.lists(
    st.sampled_from([" ", "  ", "   ", "\n", "\t", "\r", "\u3000", "\xa0", "\u2581", "\x0b", "\u2028", "a", "the", "門",
                     "门", "。", *PII_MASKS[:3], "<|", "|>", "<|phone"]),
    max_size=50,
).map("".join)  # fmt: skip


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Pieces:
    return Pieces(write_tokenizer(tmp_path_factory.mktemp("chunks")))


@pytest.fixture
def always_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """No text is encoded as one."""
    monkeypatch.setattr(chunks, "LONG_BYTES", 10**9)


@settings(max_examples=400, deadline=None)
@given(text=TEXT | WORDS | BLANKS)
def test_cutting_changes_no_id(pieces: Pieces, text: str) -> None:
    parts = pieces.boundary.findall(text)
    assert "".join(parts) == text
    assert [i for part in parts for i in pieces.encode(part)] == pieces.encode(text)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXT | WORDS | BLANKS, min_size=1, max_size=5), repeats=st.integers(1, 3))
def test_remembering_changes_no_id(pieces: Pieces, texts: list[str], repeats: int) -> None:
    known = Chunks(pieces.boundary, pieces.encode_all)
    for text in texts * repeats:
        ids = known.encode([text])[0]
        assert ids.dtype == np.uint32 and ids.tolist() == pieces.encode(text)


def test_both_ways_give_the_same(pieces: Pieces, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*TRICKY, *ENGLISH, "\n".join(SIMPLIFIED * 40), "\n ".join(TRADITIONAL * 40), " ".join(ENGLISH * 40)]
    expected = [pieces.encode(text) for text in texts]
    for limit in (0, 16, 10**9):  # as one, as it is, by chunks
        monkeypatch.setattr(chunks, "LONG_BYTES", limit)
        known = Chunks(pieces.boundary, pieces.encode_all)
        assert [ids.tolist() for ids in known.encode(texts)] == expected
        assert bool(known) == (limit > 0)


def test_long_chinese_is_encoded_as_one_and_english_is_remembered(pieces: Pieces) -> None:
    seen: list[str] = []

    def encode_all(texts: list[str]) -> list[list[int]]:
        seen.extend(texts)
        return [pieces.encode(text) for text in texts]

    known = Chunks(pieces.boundary, encode_all)
    for text in ("\n".join(SIMPLIFIED), "\n".join(TRADITIONAL)):
        known.encode([text])[0]
        known.encode([text])[0]
        assert seen == [text, text] and not known
        seen.clear()
    known.encode([ENGLISH[0]])[0]
    known.encode([ENGLISH[0]])[0]
    assert sorted(seen) == sorted({*pieces.boundary.findall(ENGLISH[0])}) and len(known) == len(seen)


def test_the_memory_has_an_end(pieces: Pieces, monkeypatch: pytest.MonkeyPatch, always_cut: None) -> None:
    monkeypatch.setattr(chunks, "MAX_CHUNKS", 10)
    known = Chunks(pieces.boundary, pieces.encode_all)
    for text in (" ".join(ENGLISH), "\n".join(SIMPLIFIED), "\n".join(TRADITIONAL)) * 2:
        assert known.encode([text])[0].tolist() == pieces.encode(text)
        assert 0 < len(known) <= 10 + len(set(pieces.boundary.findall(text)))
    known.encode(["the " + "x" * chunks.MAX_LENGTH + "y " + "渡" * 100])[0]
    assert max(map(len, known)) <= chunks.MAX_LENGTH


def test_a_very_long_text_is_cut(pieces: Pieces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_WHOLE", 100)
    known = Chunks(pieces.boundary, pieces.encode_all)
    text = "\n".join(SIMPLIFIED * 10)
    assert known.encode([text])[0].tolist() == pieces.encode(text)
    assert set(known) == {"\n", *SIMPLIFIED}


def test_anything_that_cuts_will_do() -> None:
    class Characters:
        def findall(self, text: str) -> list[str]:
            return list(text)

    known = Chunks(Characters(), lambda chunks: [[ord(c) for c in chunk] for chunk in chunks])
    assert known.encode(["天a門"])[0].tolist() == [ord("天"), ord("a"), ord("門")]
    assert known.encode([""])[0].tolist() == []


def test_half_a_surrogate_pair_raises_and_is_not_remembered(pieces: Pieces) -> None:
    known = Chunks(pieces.boundary, pieces.encode_all)
    for text in ("\ud800", "good \udfff bad", "渡船" * 100 + "\ud800"):
        with pytest.raises(UnicodeEncodeError):
            known.encode([text])[0]
    assert not known
