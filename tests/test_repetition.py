"""Repeats: phrases of a site, lines and phrases in a row, what must stay, what is too little, hostile input."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.cleaners import repetition
from data_pipeline.cleaners.repetition import Repetition, cut_lines, cut_phrases
from data_pipeline.document import Document, Drop
from data_pipeline.parquet import SCHEMA, write_rows
from data_pipeline.sites import collect_phrases
from data_pipeline.workers import WorkersConfig
from mindllm.config import UserError

ONE = WorkersConfig(num_workers=1)
BODY = (
    "河水绕过旧城的北门，在码头边分成两股。\nThe river divides in two beside the landing.\n"
    "河水繞過舊城的北門，在碼頭邊分成兩股。"
)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("点击下载点击下载点击下载", "点击下载"),
        ("请看：點擊下載，點擊下載，點擊下載。以上", "请看：點擊下載。以上"),
        ("Buy now! Buy now! Buy now! Then leave.", "Buy now! Then leave."),
        ("Buy now Buy now Buy now", "Buy now"),
        ("abc def ghi, abc def ghi, abc def ghi.", "abc def ghi."),
        ("加微信加微信加微信加微信", "加微信"),
        ("哈" * 10, "哈哈"),
        ("前哈哈哈哈哈哈哈哈哈哈哈后", "前哈哈哈后"),
        ("买它！买它！买它！买它！买它！买它！买它！", "买它！"),
        ("首页 新闻\n体育 财经\n" * 4 + "正文", "首页 新闻\n体育 财经\n正文"),
        ("x" * 5 + "限时优惠抢购" * 7, "x" * 5 + "限时优惠抢购"),
        ("甲" * 20 + "文" + "乙乙丙丙" * 5, "甲甲文乙乙丙丙"),
    ],
)
def test_phrases_in_a_row_are_cut(text: str, cut: str) -> None:
    assert cut_phrases(text, 3) == cut


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        BODY,
        "----------------------------------------",
        "= = = = = = = = = = = = = = = = =",
        "。。。。。。。。。。。。。。。。……………………",
        "｜｜｜｜｜｜｜｜｜｜｜｜",
        "|---|---|---|---|---|---|",
        "+----+----+----+----+----+",
        "哈哈哈哈哈哈哈哈哈",
        "哈哈哈，你来啦",
        "ha ha ha ha",
        "No, no, no, no!",
        "快点快点快点",
        "走走停停，看看花，看看樹",
        "3.14141414141414141414141414141414",
        "10000000000000000000000000",
        "0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
        "１２１２１２１２１２１２１２１２",
        "Array(), Array(), Array(), Array()",
        "=AND(TRUE;TRUE;TRUE;TRUE;TRUE)",
        "yes yes\tyes yes\tyes yes\tyes yes",
        "x = nan | nan | nan | nan | nan | nan",
        "    push eax push eax push eax push eax",
        "点击下载点击下载",
        "Tomorrow, and tomorrow, and tomorrow, creeps in this petty pace",
    ],
)
def test_what_must_stay(text: str) -> None:
    assert cut_phrases(text, 3) == text


def test_number_of_repeats() -> None:
    text = "一二三四五六七八九十" * 4
    assert [len(cut_phrases(text, n)) for n in (2, 3, 4, 5)] == [10, 10, 10, 40]


@pytest.mark.parametrize("period", [4, 17, 59, 60])
def test_every_period_up_to_sixty(period: int) -> None:
    phrase = "".join(chr(0x4E00 + 7 * n) for n in range(period))
    assert cut_phrases(f"前文。{phrase * 3}后文。", 3) == f"前文。{phrase}后文。"


def test_lines_in_a_row() -> None:
    line, other = (
        "本文由网友投稿，转载请注明出处。" * 5,
        "A line that is quite long, so that no phrase rule can reach it. " * 2,
    )
    text = f"{line}\n{line}\n\n{line}\n{other}\n{other}\n{BODY}"
    assert cut_lines(text, 3) == f"{line}\n{other}\n{other}\n{BODY}"
    assert cut_lines(text, 2) == f"{line}\n{other}\n{BODY}"
    assert cut_lines(text, 4) == text


@pytest.mark.parametrize(
    "line",
    ["}", "----------------------", "0.5, 0.5, 0.5, 0.5, 0.5", "* * * * * * * * * * *", "好", "    return value_of_it"],
)
def test_lines_that_stay(line: str) -> None:
    text = "\n".join([line] * 6)
    assert cut_lines(text, 3) == text


BOILER = {
    "zh": "关注我们的微信公众号获取更多精彩内容。",
    "zh-Hant": "訂閱電子報，前三十天免費閱讀。",
    "en": "Sign up for our newsletter and never miss a story.",
}


def pages(lang: str, num: int = 8) -> list[str]:
    """Pages of a site: own paragraphs, the boiler plate inside one of them, a footer of two lines."""
    first = {"zh": "第{}天的记事：{}。", "zh-Hant": "第{}天的記事：{}。", "en": "Notes of day {}: {}. "}[lang]
    texts = []
    for n in range(num):
        own = [
            chr(0x4E00 + 97 * n + i) * 5 if lang != "en" else f"w{chr(97 + n)}{chr(97 + i)} of one " for i in range(9)
        ]
        body = first.format(n, "".join(own[:5])) + BOILER[lang] + (" " if lang == "en" else "") + "".join(own[5:])
        texts.append(f"{body}\n\n{''.join(own)}\nHome\n| © 19{n} 版权所有")
    return texts


def site(folder: Path, texts: list[str], name: str = "a") -> str:
    with write_rows(folder / f"{name}.parquet", SCHEMA) as rows:
        for n, text in enumerate(texts):
            rows.add_document(Document(text, f"{name}/{n}", site=name))
    return str(collect_phrases([folder / f"{name}.parquet"], folder / "out" / f"{name}-sites.parquet", ONE))


@pytest.mark.parametrize("lang", BOILER)
def test_phrases_of_a_site_inside_paragraphs(tmp_path: Path, lang: str) -> None:
    texts = pages(lang)
    cleaner = Repetition(site_phrases=site(tmp_path, texts))
    for text in texts:
        result = cleaner(Document(text, "1", site="a"))
        assert isinstance(result, Document) and BOILER[lang] not in result.text
        assert result.text == text.replace(BOILER[lang] + (" " if lang == "en" else ""), "")
        assert result.meta["removed_chars"] == len(text) - len(result.text) > 0
    elsewhere = cleaner(Document(texts[0], "2", site="c"))
    assert isinstance(elsewhere, Document) and elsewhere.text == texts[0] and elsewhere.meta["removed_chars"] == 0


def test_measures(tmp_path: Path) -> None:
    texts = pages("zh")
    cleaner = Repetition(site_phrases=site(tmp_path, texts))
    found = {m.name: m.value for m in cleaner.measures(Document(texts[0], "1", site="a"))}
    assert found["documents of a with phrases in common"] == 8 and found["phrases frequent there"] == 1
    assert (
        found["characters cut as the site's"] == len(BOILER["zh"]) and found["characters cut as repeats in a row"] == 0
    )
    bad = {m.name: m for m in Repetition().measures(Document("加微信领红包！" * 60, "1"))}
    assert not bad["share left"].passes and not bad["units left"].passes


@pytest.mark.parametrize("phrase", ["加微信领红包！", "Click here to win. ", "加微信領紅包！"])
def test_little_left(phrase: str) -> None:
    document = Document(phrase * 60, "1")
    assert Repetition()(document) == Drop("repetition:low_information")
    assert document.text == phrase * 60 and document.meta == {}
    kept = Repetition(min_left=0, min_left_units=0)(Document(phrase * 60, "1"))
    assert isinstance(kept, Document) and kept.text == phrase and kept.meta["removed_chars"] == 59 * len(phrase)
    some = Repetition()(Document(BODY + "\n" + phrase * 3, "1"))
    assert isinstance(some, Document) and some.text == f"{BODY}\n{phrase}"


def test_too_few_units_left() -> None:
    """Nothing is too short on its own; a document that was cut to little is."""
    short = "只有一句短短的话。A short one."
    assert isinstance(Repetition()(Document(short, "1")), Document)
    cut = short + "\n" + "好好好学习天天" * 3
    assert Repetition()(Document(cut, "1")) == Drop("repetition:too_short")
    assert isinstance(Repetition(min_left_units=18)(Document(cut, "1")), Document)


def test_missing_site_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Repetition(site_phrases=str(tmp_path / "no.parquet"))(Document("x", "1"))


def test_empty_document() -> None:
    result = Repetition()(Document("", "1"))
    assert isinstance(result, Document) and result.meta["removed_chars"] == 0


@settings(max_examples=200, deadline=None)
@given(st.text("哈买它，! ab1-\n", max_size=80), st.integers(2, 4))
def test_only_repeats_go(text: str, repeats: int) -> None:
    """What is left is a subsequence with every character that was there; nothing goes from text without repeats."""
    cut = cut_phrases(text, repeats)
    rest = iter(text)
    assert all(c in rest for c in cut)
    if not re.search(rf"(.{{2,60}}?)(?:\1){{{repeats - 2}}}", text, re.DOTALL) or len(text) < 10:
        assert cut == text
    assert set(cut) == set(text)


@settings(max_examples=100, deadline=None)
@given(st.text("哈买它点击下载，。", min_size=4, max_size=20), st.integers(4, 8))
def test_a_repeated_phrase_never_stays(phrase: str, repeats: int) -> None:
    """Against the definition by a regular expression: no phrase of four Han characters stays five times in a row."""
    cut = cut_phrases(phrase * repeats, 3)
    assert not [m for m in re.finditer(r"([哈买它点击下载]{4,20}?)\1{4,}", cut)]


@pytest.mark.parametrize("piece", ["ab", "a", "哈", "- ", "ab" * 30 + "c", "line of text\n", "\n", "x" * 61, "0"])
def test_hostile_repeats_are_linear(piece: str) -> None:
    text = piece * ((1_000_000 if piece == "ab" else 200_000) // len(piece))
    assert len(cut_phrases(text, 3)) <= len(text)
    Repetition()(Document(text[:100_000], "1"))


def test_hostile_random_text_is_linear() -> None:
    text = "".join(random.Random(1).choices("ab哈，\n", k=1_000_000))
    assert 0 < len(cut_phrases(text, 3)) <= len(text)


@settings(max_examples=300, deadline=None)
@given(
    st.text("abc哈好，\n ", max_size=30),
    st.text("abcdefg哈好买它", min_size=1, max_size=61),
    st.integers(1, 5),
    st.text("abc哈好，\n ", max_size=9000 // 30),
)
def test_no_period_is_passed_over(before: str, phrase: str, repeats: int, after: str) -> None:
    """The quick look at every few places finds all periods that a look at every place finds."""
    text = before + phrase * repeats + after
    for padding in ("", "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))):  # short texts are looked at in another way
        points = np.array([ord(c) for c in text + padding], dtype=np.uint32)
        for least in (2, 3, 4):
            whole = range(2, min(60, len(points) // 2) + 1)
            found = {p for p in whole if list(repetition._runs(points, p, repetition._min_equal(least, p)))}
            assert found <= set(repetition._periods(points, least))


def test_settings() -> None:
    assert not list(Repetition().problems())
    wrong = Repetition(min_repeats=1, min_site_documents=1, min_site_share=0, min_left=2, min_left_units=-1)
    names = ["min_repeats", "min_site_documents", "min_site_share", "min_left", "min_left_units"]
    assert [p.partition(":")[0] for p in wrong.problems()] == names
