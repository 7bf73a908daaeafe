"""Text density and length: the definition, the thresholds in both languages, exempt sources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.cleaners.density import Density, density, num_text_chars
from data_pipeline.document import Document, Drop


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


def test_exempt_sources_are_measured_only() -> None:
    result = Density(exempt=["poems"])(document("床前明月光★", "zh-Hans", source="poems"))
    assert isinstance(result, Document) and result.meta["density"] == 0.833
    assert isinstance(Density(exempt=["poems"])(document("床前明月光", "zh-Hans")), Drop)


def test_without_link_count() -> None:
    result = Density()(Document("汉" * 100, "1", lang="zh-Hans"))
    assert isinstance(result, Document) and result.meta == {"density": 1.0}


@given(st.text(max_size=50), st.integers(0, 60))
def test_density_is_a_share(text: str, link_chars: int) -> None:
    assert 0 <= density(text, link_chars) <= 1


def test_settings() -> None:
    assert not list(Density().problems())
    assert [p.partition(":")[0] for p in Density(min_density=2, min_han=-1).problems()] == [
        "min_density",
        "min_han, min_words",
    ]
