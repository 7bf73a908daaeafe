"""Text density and length: the definition, the thresholds in both languages."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.cleaners.density import Density, density, num_text_chars, num_visible_chars
from data_pipeline.document import Document, Drop
from mindllm.config import parse


def document(text: str, lang: str, link_chars: int = 0, source: str = "web") -> Document:
    return Document(text, "1", lang=lang, source=source, meta={"link_chars": link_chars})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        (" \n\t　", 0),
        ("中文，标点。「繁體」", 10),
        ("Plain words, 12!", 14),
        ("ｆｕｌｌ１２", 6),
        ("かな 한글 αβ Привет", 2 + 2 + 2 + 6),
        ("★→│▲", 0),
        ("a+b=c", 3),
        ("\ue000x", 1),
    ],
)
def test_text_characters(text: str, expected: int) -> None:
    assert num_text_chars(text) == expected


def test_density_by_hand() -> None:
    assert density("中文★★") == 0.5
    assert density("ab cd → ★", 1) == pytest.approx(3 / 6)
    assert density("首页 新闻 正文五个字。", 4) == pytest.approx(6 / 10)
    assert density("ab", 5) == 0 and density("", 0) == 0


@pytest.mark.parametrize(
    ("lang", "one", "key"),
    [
        ("zh-Hans", "这", "min_han"),
        ("zh-Hant", "這", "min_han"),
        ("en", "word ", "min_words"),
        ("other", "mot ", "min_words"),
    ],
)
def test_length(lang: str, one: str, key: str) -> None:
    assert Density()(document(one * 99, lang)) == Drop("density:too_short")
    assert isinstance(Density()(document(one * 100, lang)), Document)
    few = Density(min_han=5) if key == "min_han" else Density(min_words=5)
    assert isinstance(few(document(one * 5, lang)), Document)
    assert few(document(one * 4, lang)) == Drop("density:too_short")


@pytest.mark.parametrize(("lang", "text"), [("zh-Hans", "汉" * 300), ("zh-Hant", "漢" * 300), ("en", "abc " * 100)])
def test_threshold(lang: str, text: str) -> None:
    kept = Density()(document(text, lang, link_chars=75))
    assert isinstance(kept, Document) and kept.meta["density"] == 0.75
    dropped = document(text, lang, link_chars=76)
    assert Density()(dropped) == Drop("density:low_density") and dropped.meta["density"] == 0.747
    assert isinstance(Density(min_density=0.74)(document(text, lang, link_chars=76)), Document)


def test_symbols_lower_the_density() -> None:
    assert Density()(document("汉★" * 200, "zh-Hans")) == Drop("density:low_density")
    assert Density()(document("word | ★ → " * 200, "en")) == Drop("density:low_density")


def test_without_link_count() -> None:
    result = Density()(Document("汉" * 100, "1", lang="zh-Hans"))
    assert isinstance(result, Document) and result.meta == {"density": 1.0}


@given(st.text(max_size=50), st.integers(0, 60))
def test_density_is_a_share(text: str, link_chars: int) -> None:
    assert 0 <= density(text, link_chars) <= 1


def test_visible_characters() -> None:
    assert num_visible_chars("中文 ★\n\tab，　→") == 7 and num_visible_chars(" \n") == 0


def test_density_over_the_page() -> None:
    """The rest of the page counts below the line; a page cannot hold less than the text taken from it."""
    assert density("正文" * 30, 0, 80) == 0.75 and density("正文" * 30, 20, 80) == 0.5
    assert density("word" * 15, 0, 80) == 0.75 and density("word" * 15, 0, 10) == 1
    text = document("正文" * 60, "zh-Hans")
    text.meta["page_chars"] = 161
    assert isinstance(Density()(text), Document) and text.meta["density"] == 1
    assert Density(over="page")(text) == Drop("density:low_density") and text.meta["density"] == 0.745
    assert isinstance(Density(over="page")(document("正文" * 60, "zh-Hans")), Document)  # was no page


LANGUAGES = {
    "zh-Hant": {"min_density": 0.5, "min_han": 8},
    "en": {"min_words": 3},
    "other": {"min_density": 0.0},
}


def with_languages() -> Density:
    problems: list[str] = []
    cleaner = parse(Density, {"min_han": 20, "min_words": 6, "languages": LANGUAGES}, problems)
    assert cleaner is not None and not problems
    return cleaner


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("漢" * 8, "zh-Hant", ""),
        ("漢" * 7, "zh-Hant", "density:too_short"),
        ("汉" * 19, "zh-Hans", "density:too_short"),  # the general limit
        ("汉" * 20, "zh-Hans", ""),
        ("漢★" * 8, "zh-Hant", ""),
        ("漢★★" * 8, "zh-Hant", "density:low_density"),
        ("汉★" * 20, "zh-Hans", "density:low_density"),
        ("one two three", "en", ""),
        ("one two", "en", "density:too_short"),
        ("a ★ b ★ c ★", "en", "density:low_density"),  # its density is the general one
        ("un ★ ★ ★ ★ ★ ★ deux trois quatre cinq six", "other", ""),
        ("un deux trois quatre cinq", "other", "density:too_short"),
    ],
)
def test_limits_of_one_language(text: str, lang: str, expected: str) -> None:
    result = with_languages()(document(text, lang))
    assert (result.reason if isinstance(result, Drop) else "") == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"zh": {"min_han": 1}}, "languages.zh: unknown language"),
        ({"en": {"min_han": 1}}, "languages.en.min_han: en is counted in words"),
        ({"zh-Hans": {"min_words": 1}}, "languages.zh-Hans.min_words: zh-Hans is counted in Chinese characters"),
        ({"zh-Hant": {"min_density": 75}}, "languages.zh-Hant.min_density: 75"),
        ({"other": {"min_words": -1}}, "languages.other.min_words: must be 0 or more"),
        ({"en": {"min_word": 1}}, "languages.en.min_word: unknown key; did you mean 'min_words'?"),
        ({"en": 3}, "languages.en: expected keys and values"),
    ],
)
def test_wrong_languages(settings: dict[str, Any], expected: str) -> None:
    problems: list[str] = []
    assert parse(Density, {"languages": settings}, problems) is None
    assert problems[0].startswith(expected) and len(problems) == 1


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("汉★" * 60, "zh-Hans", [("Chinese characters", 60, False), ("density over the text", 0.5, False)]),
        ("漢" * 100, "zh-Hant", [("Chinese characters", 100, True), ("density over the text", 1.0, True)]),
        ("word " * 99, "en", [("density over the text", 1.0, True), ("words", 99, False)]),
    ],
)
def test_measures(text: str, lang: str, expected: list[tuple[str, float, bool]]) -> None:
    found = list(Density().measures(document(text, lang)))
    assert sorted((m.name, m.value, m.passes) for m in found) == expected
    assert [m.limit for m in found] == ["at least 0.75", "at least 100"]


@given(st.text(alphabet="汉漢ab 1。.★\n", max_size=40), st.sampled_from(["zh-Hans", "zh-Hant", "en", "other"]))
def test_measures_agree_with_the_verdict(text: str, lang: str) -> None:
    cleaner = Density(min_density=0.6, min_han=5, min_words=4)
    passes = all(measure.passes for measure in cleaner.measures(document(text, lang)))
    assert passes == isinstance(cleaner(document(text, lang)), Document)


def test_long_words_are_counted_to_the_end() -> None:
    """Words longer than the rule's short look expects: the rest of the text is looked at as well."""
    assert isinstance(Density(min_words=10)(document("pneumonoultramicroscopic" * 2 + " " + "x " * 9, "en")), Document)


def test_settings() -> None:
    assert not list(Density().problems())
    assert [p.partition(":")[0] for p in Density(min_density=2, min_han=-1, min_words=-2).problems()] == [
        "min_density",
        "min_han",
        "min_words",
    ]
