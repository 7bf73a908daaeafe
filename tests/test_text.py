"""mindllm.text in six languages: units and their hashes, the normal form."""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentences import ENGLISH, FRENCH, JAPANESE, KOREAN, SIMPLIFIED, TRADITIONAL

from mindllm import hashing
from mindllm.text import (
    PII_MASKS,
    normalise,
    unit_hashes,
    unit_hashes_many,
    units,
)

# Any characters, with those of our languages, blanks and odd ones (lone surrogates, controls) drawn more often.
MIXED = st.text(
    st.one_of(
        st.sampled_from("中國国人，。「」 \n\t\u3000\r\u2028\u200b\ufeff\ud800a1Zé_-’．１ＡかナーŸßΣ한ж\u0307İ😀🇨🇳"),
        st.characters(),
    )
)
ANY = st.text(st.characters())
NO_LETTERS = ("P", "S", "Z", "Cc", "Cf", "Cs", "Co")  # not Cn: Python's tables lack the newest Han characters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天，天气很好。", ["今", "天", "天", "气", "很", "好"]),
        ("「今天」天氣很好！", ["今", "天", "天", "氣", "很", "好"]),
        ("It's a fine-looking day.", ["It", "s", "a", "fine", "looking", "day"]),
        ("今日はGoodな1日", ["今", "日", "は", "Good", "な", "1", "日"]),
        ("ナポレオン・ボナパルト゛", list("ナポレオンボナパルト")),
        ("봄이 왔고, 강가", ["봄", "이", "왔", "고", "강", "가"]),
        ("L’été à Orléans", ["L", "été", "à", "Orléans"]),
        ("iPhone15手机2023年", ["iPhone15", "手", "机", "2023", "年"]),
        ("snake_case　ＡＢＣ１２", ["snake", "case", "ＡＢＣ１２"]),
        ("二〇二六年𠀀𲎯", ["二", "〇", "二", "六", "年", "𠀀", "𲎯"]),
        ("Привет, мир", ["Привет", "мир"]),
        ("……！？ \n\t—", []),
        ("", []),
    ],
)
def test_units(text: str, expected: list[str]) -> None:
    assert units(text) == expected


@given(MIXED, MIXED)
def test_units_are_words_or_single_characters_and_parts_do_not_join(a: str, b: str) -> None:
    for unit in units(a):
        assert not any(c.isspace() or c == "_" or unicodedata.category(c).startswith(NO_LETTERS) for c in unit)
    assert units(f"{a}。{b}") == units(a) + units(b) == units(f"{a}\n{b}")
    assert "".join(units(a)) == "".join(u for c in a for u in units(c))


def plain_hash(unit: str) -> int:
    """The formula of unit_hashes_many on one unit, with Python's integers."""

    def code(point: int) -> int:
        value = point + 0x9E3779B97F4A7C15
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    value = sum(code(ord(c)) * pow(0x9E3779B97F4A7C15, i, 2**64) for i, c in enumerate(unit)) % 2**64
    return value ^ value >> 32


@settings(deadline=None)  # the first call makes tables
@given(MIXED)
@example(SIMPLIFIED + ENGLISH)
@example(TRADITIONAL + JAPANESE + KOREAN + FRENCH)
def test_a_unit_hash_is_a_function_of_its_unit(text: str) -> None:
    assert unit_hashes(text).tolist() == [plain_hash(u) for u in units(text.lower())]
    assert unit_hashes(text).dtype == np.uint64


def test_unit_hashes_stay_what_they_are() -> None:
    """Hashes are written to disk by one process and compared by another: these values must never change."""
    expected = {
        "天": 0xC5F44ACF532CD106,
        "气": 0xF618847B09BFDC2A,
        "氣": 0xA546B82BDEA1D838,
        "The": 0x5B547D89C5689017,
        "CAT": 0xAF47B27097844B61,
    }
    for unit, value in expected.items():
        assert unit_hashes(unit).tolist() == [value] == unit_hashes(f"，{unit.lower()}.").tolist()


@given(st.lists(MIXED, max_size=5))
def test_many_texts_hash_as_one_by_one(texts: list[str]) -> None:
    hashes, offsets = unit_hashes_many(texts)
    assert len(offsets) == len(texts) + 1 and offsets[-1] == len(hashes)
    for text, begin, end in zip(texts, offsets[:-1], offsets[1:], strict=True):
        assert np.array_equal(hashes[begin:end], unit_hashes(text))


def test_long_texts_and_long_words_hash_as_short_ones() -> None:
    """Beyond the size of the tables that are kept."""
    count = hashing._MAX_KEPT // 10
    text = f"{SIMPLIFIED} {TRADITIONAL} {ENGLISH}"
    assert np.array_equal(unit_hashes(f"{text}\n" * (count // 10)), np.tile(unit_hashes(text), count // 10))
    word = "pneumono" * count
    assert unit_hashes(f"a {word} 中").tolist() == [plain_hash("a"), plain_hash(word), plain_hash("中")]


def test_different_units_have_different_hashes() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789éжß"
    words = ["".join(p) for n in (1, 2, 3) for p in itertools.product(letters, repeat=n)]
    characters = [chr(p) for p in (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0xAC00, 0xD7A4))]
    found = unit_hashes(" ".join(words + characters))
    assert len(found) == len(words) + len(characters) == len(np.unique(found))
    assert len(np.unique(found >> np.uint64(32))) > 0.9999 * len(found)  # high and low halves are spread, too
    assert len(np.unique(found & np.uint64(2**32 - 1))) > 0.9999 * len(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("第一行\r\n第二行\r第三行\u2028第四行\x85", "第一行\n第二行\n第三行\n第四行"),
        ("「春天」，來了！　ＡＢＣ１２；…", "「春天」，來了！　ＡＢＣ１２；…"),  # as it is: nothing becomes ASCII
        ("one\u200b two\u00a0three\ufeff four\u00ad", "one two three four"),
        ("好的😀👍🏽！ 🇨🇳1️⃣", "好的！ 1"),
        ("a \t\nb　\n\n\n\n\nc", "a\nb\n\nc"),
        ("\n\n  if x:\n\treturn 1 \n", "  if x:\n\treturn 1"),  # indentation stays
        ("a\ud800b\udfff", "ab"),
        ("\x00\x07控\x1b制\x7f", "控制"),
        ("   \n \t　", ""),
        ("葛\U000e0100城市 葛\ufe00", "葛城市 葛"),  # variation selectors
        ("家庭👨‍👩‍👧‍👦和🏴\U000e0067\U000e0062\U000e007f旗🫪🛘🪊🫯", "家庭和旗"),  # joined, flags, Unicode 17
        ("❤️ I ♥ 北京☀️⚡⭐✅", " I ♥ 北京"),
        ("\uf02d图标\ue000\U000f0001\U0010fffd icon\uf8ff", "图标 icon"),  # icon fonts
        ("\ue5e5\ue5e5段落", "\u3000\u3000段落"),  # the wide space of GB18030
        ("a\u2066b\u2069\ufffc\ufff9c", "abc"),
        (" ".join(PII_MASKS), " ".join(PII_MASKS)),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


SYMBOLS = (
    "← → ↔ ⬅ ∑ ≤ ≠ √ ─│┌ █ © ® ™ ° ± × ÷ ①② ⑴ Ⅷ ★☆ ○● ◎ ◇◆ □■ △▲ ▶ ♀♂ ♠♣♥♦ "
    "♪♫ ✓✔✗ ☎ ☐☑ ㊗㊣㎡ ☰☷䷀ ❶➊ 〇々〆 ￥€ ‰ ※ §"
)


@pytest.mark.parametrize("text", [SIMPLIFIED, TRADITIONAL, ENGLISH, JAPANESE, KOREAN, FRENCH, SYMBOLS])
def test_normalise_leaves_plain_text_alone(text: str) -> None:
    assert normalise(text) == text


@given(MIXED)
def test_the_normal_form_is_normal(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    once.encode("utf-8")
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in once)
    assert "\n\n\n" not in once and not any(line.endswith((" ", "\t", "\u3000")) for line in once.split("\n"))


def test_normalise_takes_long_runs_of_blanks() -> None:
    """A regular expression that tries every blank of a run anew would need hours for these."""
    for blank in (" ", "\u3000", "\t", "\n", "\u00a0"):
        assert len(normalise(f"春{blank * 1_000_000}天")) in (4, 1_000_002)
