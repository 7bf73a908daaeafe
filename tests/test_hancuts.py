"""Cuts inside of Han runs: no id changes, for vocabularies of any tokens, those with parts of characters too."""

from __future__ import annotations

import re

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.text import HAN
from mindllm.tokenizer.bytelevel import _SPACE, HAN_RUNS, Splitting, _boundary, byte_names, bytes_of, make, name_of
from mindllm.tokenizer.hancuts import MAX_PARTIAL, HanCuts

CHARACTERS = "中国國门門们們开開的一丁龘㐀豈𠮷𪚥"  # some share their first bytes, some their last
HAN_TEXT = st.text(st.sampled_from(CHARACTERS), min_size=1, max_size=8)


def vocabulary(words: list[str], cuts: list[int]) -> tokenizers.Tokenizer:
    """A BPE that puts the bytes of words together in an order given by `cuts`, with parts of characters on the way."""
    vocab, merges = {name: i for i, name in enumerate(byte_names())}, []
    for number, word in enumerate(words):
        parts = list(name_of(word))
        while len(parts) > 1:
            at = cuts[number % len(cuts)] % (len(parts) - 1)
            merges.append((parts[at], parts[at + 1]))
            parts[at : at + 2] = ["".join(parts[at : at + 2])]
            vocab.setdefault(parts[at], len(vocab))
    return make(vocab, list(dict.fromkeys(merges)), Splitting())


def cutter(fast: tokenizers.Tokenizer) -> HanCuts:
    """The cuts for a BPE."""
    return HanCuts(_boundary(HAN_RUNS), HAN, _SPACE, lambda: [bytes_of(name) for name in fast.get_vocab()])


@settings(max_examples=80, deadline=None)
@given(
    words=st.lists(HAN_TEXT, min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    text=st.lists(HAN_TEXT | st.sampled_from([" ", "\n", "a", "，", "  b", "é", "\x1c"]), max_size=20).map("".join),
)
def test_parts_encoded_alone_give_the_same_ids(words: list[str], cuts: list[int], text: str) -> None:
    fast = vocabulary(words, cuts)
    found = cutter(fast)
    for whole in (text, text * 20):
        parts = found.findall(whole)
        assert "".join(parts) == whole
        assert [i for part in parts for i in fast.encode(part).ids] == fast.encode(whole).ids


def test_runs_are_cut_where_no_token_spans_and_only_there() -> None:
    found = cutter(vocabulary(["中国", "中國", "开门"], [0]))
    assert found.findall("中国开门的一，中國 门开" * 9)[:9] == [
        "中国",
        "开门",
        "的",
        "一",
        "，",
        "中國",
        " ",
        "门",
        "开",
    ]
    short = "中国开门的一，中國 门开"
    assert found.findall(short) == ["中国开门的一", "，", "中國", " ", "门开"]
    assert found.findall("") == [] and found.findall("a b " * 50)[:2] == ["a", " b"]
    rare = "𠮷野" * 60
    assert found.findall(rare) == [rare]  # of four bytes: not cut from its neighbours


def test_tokens_with_parts_of_characters_join_all_that_they_could_span() -> None:
    fast = make({**{name: i for i, name in enumerate(byte_names())}, "¸Ńå": 256, "Ńå": 257}, [("Ń", "å")], Splitting())
    parts = cutter(fast).findall("中国一中開中中人" * 20)  # 国 begins with E5, 開 does not, 中 ends with AD
    assert parts[:6] == ["中国", "一", "中", "開", "中", "中"]


def test_too_many_kinds_of_partial_tokens_leave_runs_whole() -> None:
    second = [bytes([0x80 + i, first]) for first in (0xE5, 0xE6) for i in range(MAX_PARTIAL // 2 + 1)]
    found = HanCuts(re.compile(f"{HAN_RUNS}|[^{HAN}]+"), HAN, _SPACE, lambda: second)
    assert found.findall("中国" * 60) == ["中国" * 60]
    few = HanCuts(re.compile(f"{HAN_RUNS}|[^{HAN}]+"), HAN, _SPACE, lambda: second[:1])
    assert few.findall("中国" * 60) == list("中国" * 60)


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        cutter(vocabulary(["中国"], [0])).findall("中" * 200 + "\ud800")
