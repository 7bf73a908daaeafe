"""Word lists: our layout and its mistakes, plain lists in many layouts and encodings, the folded form."""

import gzip
from pathlib import Path

import opencc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.cleaners.lexicon import Term, fold, merge, read_lexicon, read_list
from mindllm.config import UserError


def test_comments_case_scripts_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_bytes(
        "# a comment\r\n\r\ncat\t1.5\ten\tBig Word\r\ncat\t.5\tzh-Hans\t红鱼\ncat\t1\tzh-Hant\t紅魚\n".encode()
    )
    assert read_lexicon(path) == [Term("cat", 1.5, "en", "big word"), Term("cat", 1.0, "zh-Hant", "红鱼")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cat\t1\ten", "separated by tabs"),
        ("cat\t1\ten\t", "separated by tabs"),
        ("cat 1 en word", "separated by tabs"),
        ("Cat\t1\ten\tword", "category 'Cat'"),
        ("cat\t-1\ten\tword", "weight '-1'"),
        ("cat\tnan\ten\tword", "weight 'nan'"),
        ("cat\t0\ten\tword", "weight '0'"),
        ("cat\t1\tfr\tmot", "language 'fr'"),
        ("cat\t1\tzh\t字", "single character"),
        ("cat\t1\ten\tFirst", "given twice"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(f"cat\t1\ten\tfirst\n\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match="mine.tsv:3: ") as error:
        read_lexicon(path)
    assert said in str(error.value)


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").write_text("# nothing\n")
    (tmp_path / "latin.tsv").write_bytes(b"cat\t1\ten\tcaf\xe9\n")
    for name, said in (("none.tsv", "cannot be read"), ("empty.tsv", "no terms"), ("latin.tsv", "UTF-8")):
        with pytest.raises(UserError, match=said):
            read_lexicon(tmp_path / name)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\x00\xff")
    (tmp_path / "clipped.txt.gz").write_bytes(gzip.compress("词语".encode() * 99)[:-9])
    said_of = {"none.txt": "cannot be read", "empty.tsv": "no terms", "bytes.txt": "GB18030", "clipped.txt.gz": "read"}
    for name, said in said_of.items():
        with pytest.raises(UserError, match=said):
            read_list(tmp_path / name, "cat", 1)


LIST = """# comment
简单词语
繁體詞語,
甲词语,乙词语，丙词语、丁词语
出售手枪=货到付款
高压气枪|电狗专卖
赌*博*网*站
某词语\t2
bad word
www.example.com/a,b?c=d
http://example.org
政府+做出+测序
单
12345
40=
简单词语
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_plain_lists(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(LIST.replace("\n", "\r\n").encode(encoding))
    terms = read_list(path, "cat", 0.5)
    assert [t.text for t in terms] == [
        "简单词语", "繁体词语", "甲词语", "乙词语", "丙词语", "丁词语", "出售手枪", "货到付款", "高压气枪", "电狗专卖",
        "赌博网站", "某词语", "bad word", "www.example.com/a,b?c=d", "http://example.org",
    ]  # fmt: skip
    assert {t.category for t in terms} == {"cat"}
    weights = {t.text: (t.weight, t.language) for t in terms}
    assert (
        weights["简单词语"] == (0.5, "zh") and weights["甲词语"] == (0.25, "zh") and weights["bad word"] == (0.5, "en")
    )


def test_compressed_and_short(tmp_path: Path) -> None:
    (tmp_path / "list.txt.gz").write_bytes(gzip.compress("毒品\nanal\n".encode()))
    assert [(t.text, t.weight) for t in read_list(tmp_path / "list.txt.gz", "cat", 1)] == [
        ("毒品", 0.25),
        ("anal", 0.25),
    ]


def test_the_highest_weight_counts() -> None:
    a, b, c = Term("a", 1, "zh", "词语"), Term("b", 2, "zh", "词语"), Term("c", 2, "zh", "词语")
    assert merge([a, b, c]) == [b]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("", ""),
        ("*", "*"),
        ("赌*博", "赌博"),
        ("賭 博", "赌博"),
        ("加 微 信", "加微信"),
        ("赌**博", "赌博"),
        ("赌***博", "赌***博"),
        ("a*b 加 c", "a*b 加 c"),
        ("ＶＩＡＧＲＡ１", "viagra1"),
        ("线上 | 赌场", "线上 | 赌场"),
        ("一，二。三\n四", "一,二。三\n四"),
        ("C++ 语言", "c++ 语言"),
    ],
)
def test_fold(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text("赌博賭臺台Ａa*· .，\n\ud800", max_size=30))
def test_fold_is_stable(text: str) -> None:
    once = fold(text)
    assert len(once) <= len(text)
    assert [c for c in once if c not in " *."] == [c for c in fold(text.replace("Ａ", "a")) if c not in " *."]


def test_every_traditional_character_is_folded_as_opencc_does() -> None:
    to_hans = opencc.OpenCC("t2s")
    for character in "體國學爲裡臺灣網賭場藥買賣龍龜鬱":
        assert fold(character) == to_hans.convert(character)
