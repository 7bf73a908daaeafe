"""Repeats: lines of a site, lines and phrases in a row, what must stay, hostile input."""

import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.cleaners.repetition import Repetition, cut_lines, cut_phrases, frequent_lines, line_hash
from data_pipeline.document import Document, Drop
from data_pipeline.sites import SCHEMA
from mindllm.config import UserError

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


def site_file(path: Path, rows: list[tuple[str, str, int, int]]) -> str:
    columns = list(zip(*((site, line_hash(line), n, of) for site, line, n, of in rows), strict=True))
    pq.write_table(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA), path)
    return str(path)


def test_lines_of_a_site(tmp_path: Path) -> None:
    boiler = [
        "关注公众号，每天一个词条。",
        "訂閱電子報，前三十天免費。",
        "Subscribe to our newsletter today",
        "Page 3 of 12",
    ]
    rare = ["只有三页有的一行文字", "Below the share of pages"]
    rows = [("a", boiler[0], 4, 10), ("a", boiler[1], 3, 10), ("a", boiler[2], 9, 9), ("a", boiler[3], 5, 10)]
    rows += [("a", rare[0], 3, 4), ("a", rare[1], 5, 17), ("b", rare[0], 9, 9)]
    cleaner = Repetition(site_phrases=site_file(tmp_path / "sites.parquet", rows), min_left=0)
    text = "\n".join([boiler[0], BODY, "Page 7 of 300", boiler[2], boiler[1], *rare])
    result = cleaner(Document(text, "1", site="a"))
    assert isinstance(result, Document)
    assert result.text == "\n".join([BODY, boiler[1], *rare])
    assert result.meta["removed_chars"] == len(text) - len(result.text)
    elsewhere = cleaner(Document(text, "2", site="c"))
    assert isinstance(elsewhere, Document) and elsewhere.text == text and elsewhere.meta["removed_chars"] == 0
    assert set(frequent_lines(tmp_path / "sites.parquet", 4, 0.3)) == {"a", "b"}


def test_title_and_code_lines_stay(tmp_path: Path) -> None:
    """A page whose title is in the side bars of other pages keeps its own heading; indented lines are code."""
    rows = [("a", "喊鱼的人和他的船", 9, 9), ("a", "import numpy as np", 9, 9)]
    cleaner = Repetition(site_phrases=site_file(tmp_path / "sites.parquet", rows))
    text = f"喊鱼的人和他的船\n{BODY}\n    import numpy as np"
    kept = cleaner(Document(text, "1", site="a", meta={"title": "喊鱼的人和他的船 - 海湾日报"}))
    assert isinstance(kept, Document) and kept.text == text
    other = cleaner(Document(text, "1", site="a", meta={"title": "别的"}))
    assert isinstance(other, Document) and other.text == f"{BODY}\n    import numpy as np"


def test_blank_lines_are_joined(tmp_path: Path) -> None:
    path = site_file(tmp_path / "sites.parquet", [("a", "延伸閱讀與更多文章", 9, 9)])
    result = Repetition(site_phrases=path)(Document(f"{BODY}\n\n延伸閱讀與更多文章\n\n{BODY}", "1", site="a"))
    assert isinstance(result, Document) and result.text == f"{BODY}\n\n{BODY}"


@pytest.mark.parametrize("phrase", ["加微信领红包！", "Click here to win. ", "加微信領紅包！"])
def test_little_left(phrase: str) -> None:
    document = Document(phrase * 60, "1")
    assert Repetition()(document) == Drop("repetition:low_information")
    assert document.text == phrase * 60 and document.meta == {}
    kept = Repetition(min_left=0)(Document(phrase * 60, "1"))
    assert isinstance(kept, Document) and kept.text == phrase and kept.meta["removed_chars"] == 59 * len(phrase)
    some = Repetition()(Document(BODY + "\n" + phrase * 3, "1"))
    assert isinstance(some, Document) and some.text == f"{BODY}\n{phrase}"


def test_line_hash() -> None:
    assert line_hash("Page 3 of 10") == line_hash("  Page  12 of 9 ".strip()) == line_hash("Page ３ of 10")
    assert line_hash("上一篇：第３章") == line_hash("上一篇：第12章") != line_hash("下一篇：第12章")
    assert line_hash("相关主题") is not None and line_hash("相關主") is None
    assert line_hash("Related") is None and line_hash("Related!") is not None
    assert line_hash("x" * 300) is not None and line_hash("x" * 301) is None
    assert line_hash("    indented code") is None and line_hash("\tindented code") is None and line_hash("") is None


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


def test_settings() -> None:
    assert not list(Repetition().problems())
    wrong = Repetition(min_repeats=1, min_site_documents=1, min_site_share=0, min_left=2)
    names = ["min_repeats", "min_site_documents", "min_site_share", "min_left"]
    assert [p.partition(":")[0] for p in wrong.problems()] == names
