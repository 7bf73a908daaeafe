"""The diff: nothing is lost or made up, units of both languages are marked, folds, texts that would take minutes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import diff as module
from data_pipeline.diff import GONE, NEW, NOTE, SAME, Piece, diff, shorten


def rows(before: str, after: str) -> list[list[tuple[str, str]]]:
    return [[tuple(piece) for piece in row] for row in diff(before, after)]  # type: ignore[misc]


def test_equal_texts_have_no_diff() -> None:
    assert rows("一\ntwo", "一\ntwo") == [] == rows("", "")


def test_lines() -> None:
    assert rows("一\n二\n三", "一\n三") == [[(SAME, "一")], [(GONE, "二")], [(SAME, "三")]]
    assert rows("one\ntwo", "one\nnew\ntwo") == [[(SAME, "one")], [(NEW, "new")], [(SAME, "two")]]


def test_units_inside_a_line() -> None:
    mask = rows("请拨打13812345678联系王先生", "请拨打<|phone|>联系王先生")
    assert mask == [[(SAME, "请拨打"), (GONE, "13812345678"), (NEW, "<|phone|>"), (SAME, "联系王先生")]]
    words = rows("the old man and the sea, again", "the young man and the lake, again")
    assert [piece for piece in words[0] if piece[0] != SAME] == [
        (GONE, "old "), (NEW, "young "), (GONE, "sea"), (NEW, "lake"),
    ]  # fmt: skip


def test_what_has_little_in_common_is_shown_as_a_whole() -> None:
    assert rows("完全不同的一行", "Another line altogether") == [
        [(GONE, "完全不同的一行"), (NEW, "Another line altogether")]
    ]


def test_unchanged_stretches_are_folded() -> None:
    lines = [f"第{n}行" for n in range(100)]
    found = rows("\n".join(lines), "\n".join(lines[:50] + lines[51:]))
    assert found == [
        [(NOTE, "… 49 lines unchanged …")], [(SAME, "第49行")], [(GONE, "第50行")], [(SAME, "第51行")],
        [(NOTE, "… 48 lines unchanged …")],
    ]  # fmt: skip
    (row,) = rows("a" * 1000 + "某" + "b" * 1000, "a" * 1000 + "b" * 1000)
    assert row[0] == (NOTE, "…(940 characters)…") and row[2] == (GONE, "某") and row[-1] == (NOTE, "…(940 characters)…")


def test_shorten() -> None:
    assert shorten("字" * 400) == "字" * 400
    assert shorten("字" * 1400) == "字" * 200 + " …(1,000 characters)… " + "字" * 200


@settings(max_examples=300, deadline=None)
@given(st.text("一二 ab,\n", max_size=40), st.text("一二 ab,\n", max_size=40))
def test_both_texts_can_be_read_from_it(before: str, after: str) -> None:
    """Short texts have no folds: leaving out what is new gives the old, and the other way round."""
    pieces = list(module._inside(before, after, 1000))
    if not any(piece.kind == NOTE for piece in pieces):
        assert "".join(p.text for p in pieces if p.kind != NEW) == before
        assert "".join(p.text for p in pieces if p.kind != GONE) == after
    gone = [p.text for row in diff(before, after) for p in row if p.kind == GONE and p.text != "⏎"]
    new = [p.text for row in diff(before, after) for p in row if p.kind == NEW and p.text != "⏎"]
    assert all(text in before for text in gone) and all(text in after for text in new)
    assert (before == after) == (not list(diff(before, after)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("字" * 3_000_000, "字" * 2_999_000),
        ("的 " * 1_000_000, "的x " * 900_000),
        ("line\n" * 500_000, "line\nother\n" * 200_000),
        ("\n".join("abcdefgh"[n % 8] for n in range(1900)), "\n".join("hgfedcba"[n % 7] for n in range(1900))),
        ("\n".join(f"{n} a b c d e f" for n in range(1500)), "\n".join(f"{n} a b x d e f" for n in range(1500))),
        ("", "字\n" * 500_000),
    ],
)
def test_large_texts_end_soon(before: str, after: str) -> None:
    found = list(diff(before, after))
    assert found and all(len(piece.text) < 1000 for row in found[:1000] for piece in row)


def test_too_many_lines_are_listed_without_order() -> None:
    lines = [f"第{n}行" for n in range(5000)]
    random.Random(1).shuffle(lines)
    found = rows("\n".join([*lines, "只在前面"]), "\n".join(["only here", *lines[::-1]]))
    assert found[0][0][0] == NOTE and "too many" in found[0][0][1]
    assert [row[0] for row in found[1:]] == [(GONE, "只在前面"), (NEW, "only here")]


def test_pieces_become_rows() -> None:
    got = module._rows([Piece(SAME, "a\nb"), Piece(GONE, "c\nd"), Piece(SAME, "\n"), Piece(NEW, "e")])
    assert [[(p.kind, p.text) for p in row] for row in got] == [
        [(SAME, "a")], [(SAME, "b"), (GONE, "c"), (GONE, "⏎")], [(GONE, "d")], [(NEW, "e")],
    ]  # fmt: skip
