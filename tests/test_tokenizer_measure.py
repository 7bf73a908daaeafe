"""mindllm.tokenizer.measure: the numbers of a tokenizer that is so simple that they are counted by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm.tokenizer.measure import Counts, Meter, Text, difference, measure, ratios
from mindllm.tokenizer.others import Opened
from mindllm.tokenizer.unseen import Cell

EN, HANS, HANT = Cell("en", "web"), Cell("zh-Hans", "web"), Cell("zh-Hant", "书籍")
BYTES = [bytes([byte]) for byte in range(256)]


def single_bytes(lost: str = "") -> Opened:
    """A token a byte, one control token, one word that no text has; decoding loses the characters in `lost`."""

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32) for text in texts]

    def decode(ids: np.ndarray) -> str:
        text = bytes(ids.astype(np.uint8)).decode()
        return text.translate(dict.fromkeys(map(ord, lost)))

    return Opened("bytes", [*BYTES, b"", "渡船".encode()], frozenset({256}), frozenset(), encode, decode, "0")


def characters() -> Opened:
    """A token a character of the ones below, nothing for others."""
    known = "the fry渡船，。開开龘"

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array([known.index(c) for c in text if c in known], dtype=np.uint32) for text in texts]

    def decode(ids: np.ndarray) -> str:
        return "".join(known[i] for i in ids)

    return Opened("characters", [c.encode() for c in known], frozenset(), frozenset(), encode, decode, "0")


BATCHES = [
    (EN, ["the ferry"]), (HANS, ["渡船，开。", ""]), (HANT, ["渡船", "開。渡"]), (EN, [" the", "t"]), (EN, [""]),
]  # fmt: skip


def test_numbers_by_hand() -> None:
    measured = measure({"bytes": single_bytes(), "characters": characters()}, BATCHES)
    assert measured.texts == {
        EN: Text(3, 14, 14, 4), HANS: Text(1, 15, 5, 3), HANT: Text(2, 15, 5, 4),
    }  # fmt: skip
    row = measured.row("bytes", "zh-Hans")
    assert (row["tokens"], row["bytes_per_token"], row["characters_per_token"]) == (15, 1.0, 5 / 15)
    assert (row["tokens_per_unit"], row["partial_share"], row["round_trip"]) == (5.0, 1.0, 1.0)
    row = measured.row("bytes", "en", "web")
    assert row["partial_share"] == 0.0 and "vocabulary_share" not in row and row["mb_per_second"] > 0
    assert measured.row("bytes", source="web")["partial_share"] == 15 / 29
    row = measured.row("characters")
    assert (row["tokens"], row["bytes_per_token"], row["partial_share"]) == (24, 44 / 24, 0.0)
    assert row["vocabulary_share"] == 13 / 14  # all but the last
    assert measured.row("characters", "zh-Hant")["vocabulary_share"] == 4 / 14
    both = measured.row("characters", "zh-Hant", "书籍")
    assert measured.row("characters", source="书籍") == {**both, "vocabulary_share": 4 / 14}
    unused = measured.meters["bytes"].unused()
    used = {byte for _, texts in BATCHES for text in texts for byte in text.encode()}
    assert unused["tokens"] == 257 - len(used)  # without the control token
    assert len(unused["examples"]) == 20 and {"id": 256, "token": ""} not in unused["examples"]


def test_text_that_does_not_come_back_is_counted_and_shown() -> None:
    meter = Meter(single_bytes(lost="，\n"))
    meter.add(HANS, ["渡船，早上开。", "渡船"])
    meter.add(EN, ["a ferry\nleaves"])
    assert [counts.exact for counts in meter.cells.values()] == [1, 0]
    assert meter.failures == [
        {"language": "zh-Hans", "source": "web", "wanted": "渡船，早上开。", "got": "渡船早上开。"},
        {"language": "en", "source": "web", "wanted": "a␣ferry⏎leaves", "got": "a␣ferryleaves"},
    ]
    meter.add(EN, ["\n"] * 10)
    assert len(meter.failures) == 3


def test_a_tokenizer_that_makes_nothing_of_a_text_has_numbers() -> None:
    found = ratios(Text(1, 3, 1, 0), Counts(), None)
    assert found["bytes_per_token"] == 3.0 and found["tokens_per_unit"] == 0.0 and found["round_trip"] == 0.0


@given(st.text(max_size=80), st.text(max_size=80))
def test_the_first_difference_is_shown(text: str, back: str) -> None:
    found = difference(text, back)
    assert set(found) == {"wanted", "got"} and all(value.isprintable() for value in found.values())
    same = text.encode(errors="replace") == back.encode(errors="replace")
    assert not same or found["wanted"] == found["got"]


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=3), min_size=1, max_size=5
    )
)
def test_sums_do_not_depend_on_how_texts_are_batched(batches: list[list[str]]) -> None:
    together = [text for batch in batches for text in batch]
    one = measure({"bytes": single_bytes()}, [(HANT, together)])
    many = measure({"bytes": single_bytes()}, [(HANT, batch) for batch in batches])
    speed = {"mb_per_second": pytest.approx(0, abs=1e99)}
    assert one.texts == many.texts and one.row("bytes") | speed == many.row("bytes")
