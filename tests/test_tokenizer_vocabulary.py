"""mindllm.tokenizer.vocabulary: tokens of both languages by kind, the longest, junk; nothing invisible is shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm.tokenizer.vocabulary import (
    JUNK,
    KINDS,
    MAX_SHOWN,
    NUM_EXAMPLES,
    NUM_LONGEST,
    SCRIPTS,
    count_kinds,
    examples,
    junk,
    kind_of,
    longest,
    script_of,
    show,
    text_of,
)

BY_KIND = {
    "bytes": [b"\xe4", b"\xe4\xb8", b"a\xff", "渡".encode()[1:]],
    "Latin words": ["ferry", " the", "don't", "État", "well-known", "a"],
    "Han, 1 character": ["船", " 渡", "𠮷", "〇"],
    "Han, 2 characters": ["渡船", "臺灣"],
    "Han, 3 characters": ["奶奶把"],
    "Han, 4 and more": ["渡船早上", "中華人民共和國"],
    "other scripts": ["ベン", "река", "버들", "हिन्दी"],
    "digits, punctuation, blanks": [" ", "\n\n", "。", "12", " ==", "１２", "\t", "……", "\U0001f600", "\x00"],
    "mixed": ["B站", "word.", "好。", "x1", "食べ", "。我"],
}


@pytest.mark.parametrize(
    ("token", "kind"), [(token, kind) for kind, tokens in BY_KIND.items() for token in tokens], ids=repr
)
def test_kinds(token: str | bytes, kind: str) -> None:
    assert kind_of(token if isinstance(token, bytes) else token.encode()) == kind


@given(st.binary(max_size=12))
def test_every_token_is_of_one_kind_and_can_be_shown(token: bytes) -> None:
    assert kind_of(token) in KINDS
    shown = show(token)
    assert shown.isprintable() and len(shown) <= 12 * 6
    assert (text_of(token) is None) == ("<0x" in shown and kind_of(token) == "bytes")


@given(st.text(max_size=200))
def test_shown_text_has_no_character_that_hides_or_reorders(text: str) -> None:
    shown = show(text.encode("utf-8", "replace"))
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}


def test_what_cannot_be_seen_is_written_out() -> None:
    assert show(" a\n\t\r\u3000".encode()) == "␣a⏎⇥␍□"
    assert show("\u200b\u202e\x00\u00a0".encode()) == "\\u200b\\u202e\\u0000\\u00a0"
    assert show("\u0301".encode()) == "◌\u0301"
    assert show("渡船".encode()[:4]) == "渡<0xE8>"
    assert show(b"-" * 500) == "-" * (MAX_SHOWN - 1) + "…"


def test_scripts_of_texts() -> None:
    found = {text: script_of(text) for text in ("ferry 12", "渡船，", "B站", "食べ", "12。", "река", "")}
    assert list(found.values()) == ["Latin", "Han", "other", "other", "other", "other", "other"]


def test_counts_name_every_kind_and_leave_out_what_nothing_has() -> None:
    tokens = [b"", b"<|phone|>", b"", b"A", b"A", "渡船".encode(), b"\xe8"]
    counts = count_kinds(tokens, special={0, 1}, single_bytes={3})
    assert list(counts) == list(KINDS) and sum(counts.values()) == 6  # id 2 has neither text nor meaning
    assert {kind: n for kind, n in counts.items() if n} == {
        "special": 2, "bytes": 2, "Latin words": 1, "Han, 2 characters": 1,
    }  # fmt: skip


def test_the_longest_of_each_script_ties_by_id() -> None:
    tokens = [
        b"<|assistant|>",
        b"ferry",
        b"willow",
        "渡船早上".encode(),
        b"----",
        b"abcdef",
        b"\xe8\xe8\xe8\xe8\xe8\xe8\xe8",
    ]
    found = longest(tokens, special={0})
    assert list(found) == list(SCRIPTS)
    assert [row["token"] for row in found["Latin"]] == ["willow", "abcdef", "ferry"]
    assert found["Han"] == [{"id": 3, "characters": 4, "token": "渡船早上"}]
    assert [row["id"] for row in found["other"]] == [4]
    many = [bytes([97 + n % 26]) * (1 + n % 7) for n in range(100)]
    assert len(longest(many, ())["Latin"]) == NUM_LONGEST


def test_junk_of_both_languages() -> None:
    tokens = [
        "\u200b的".encode(), b"\x00", b"https", "网址www.".encode(), b".com", b".community", b"=" * 8, b" " * 16,
        "哈哈哈哈哈哈哈哈".encode(), "渡船".encode(), b"\n\n", b"--------<|phone|>",
    ]  # fmt: skip
    found = junk(tokens, special={11})
    assert {kind: [row["id"] for row in rows["examples"]] for kind, rows in found.items()} == {
        JUNK[0]: [0], JUNK[1]: [2, 3, 4], JUNK[2]: [6, 8],
    }  # fmt: skip


@given(st.integers(0, 500))
def test_examples_are_spread_over_all_ids(count: int) -> None:
    ids = [row["id"] for row in examples([b"x"] * count, range(count))]
    assert len(ids) == min(count, NUM_EXAMPLES) and ids == sorted(set(ids))
    assert not ids or (ids[0] == 0 and ids[-1] >= count * (1 - 1.5 / len(ids)) - 1)
