"""duplicates.paragraphs against a plain dictionary of paragraphs, and what may be cut from a text at all."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mindllm.stage
from data_pipeline.config import DedupConfig
from data_pipeline.document import Document
from data_pipeline.duplicates import minhash
from data_pipeline.duplicates import paragraphs as module
from data_pipeline.duplicates.arrays import save
from data_pipeline.duplicates.paragraphs import (
    CUT,
    ENTRY,
    TOO_LITTLE,
    collect,
    cut,
    cut_document,
    find_places,
    find_repeats,
    load_cuts,
    num_ranges,
)
from data_pipeline.parquet import SCHEMA, write_rows
from data_pipeline.phrases import LINE, MIN_LINE, find_phrases
from mindllm.text import units
from tests.sentences import ENGLISH, SIMPLIFIED, TRADITIONAL

RULE = DedupConfig(min_paragraph_units=8, min_paragraph_documents=3, min_left_units=10)
NOTICES = (
    "版权所有，未经许可不得转载本站的任何文章。",
    "版權所有，未經許可不得轉載本站的任何文章。",
    "No part of this page may be copied without our written consent.",
)


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small files are written here; waiting for the disk would take most of the time."""
    monkeypatch.setattr(mindllm.stage.os, "fsync", lambda _: None)


def repeats(
    folder: Path, shards: Sequence[Sequence[str]], kept: Sequence[bool] | None = None, ranges: int = 3
) -> tuple[list[dict[int, int]], list[Path]]:
    """What is to be cut from each document (place -> number of documents), through the files; and these."""
    total = sum(map(len, shards))
    mask = np.ones(total, dtype=bool) if kept is None else np.array(kept, dtype=bool)
    collected: list[tuple[Path, int]] = []
    first = 0
    for number, texts in enumerate(shards):
        path = folder / f"{number}.parquet"
        with write_rows(path, SCHEMA) as file:
            for row, text in enumerate(texts):
                file.add_document(Document(text, f"{number}/{row}"))
        out = collect(path, mask[first : first + len(texts)], folder / "collected" / f"{number}.npy", RULE)
        collected.append((out, first))
        first += len(texts)
    files = [find_repeats(n, ranges, collected, folder / "cuts", RULE) for n in range(ranges)]
    found: list[dict[int, int]] = []
    for texts, (_, first) in zip(shards, collected, strict=True):
        rows = load_cuts(files, first, len(texts))
        assert set(rows) <= set(range(len(texts)))
        found += [rows.get(row, {}) for row in range(len(texts))]
    return found, [path for path, _ in collected] + files


def by_dictionary(texts: Sequence[str], kept: Sequence[bool]) -> list[dict[int, int]]:
    """The same, from a dictionary: the units of a paragraph -> the documents that have it."""
    having: dict[tuple[str, ...], set[int]] = {}
    places: list[dict[int, tuple[str, ...]]] = []
    for number, (text, keep) in enumerate(zip(texts, kept, strict=True)):
        found = {p: tuple(units(line.lower())) for p, line in find_places(text, RULE.min_paragraph_units) if keep}
        places.append({p: key for p, key in found.items() if len(key) >= RULE.min_paragraph_units})
        for key in places[-1].values():
            having.setdefault(key, set()).add(number)
    return [
        {
            p: len(having[key])
            for p, key in own.items()
            if len(having[key]) >= RULE.min_paragraph_documents and number != min(having[key])
        }
        for number, own in enumerate(places)
    ]


@pytest.mark.parametrize("notice", NOTICES)
def test_a_paragraph_of_three_documents_stays_in_the_first(tmp_path: Path, notice: str) -> None:
    texts = [f"{own}\n\n{notice}\n\n{own[::-1]}" for own in (SIMPLIFIED, TRADITIONAL, ENGLISH)]
    found, _ = repeats(tmp_path, [texts[:1], [], texts[1:]])
    assert found == [{}, {2: 3}, {2: 3}]
    assert [cut(t, c)[0] for t, c in zip(texts, found, strict=True)] == [
        texts[0],
        f"{TRADITIONAL}\n\n{TRADITIONAL[::-1]}",
        f"{ENGLISH}\n\n{ENGLISH[::-1]}",
    ]


@pytest.mark.parametrize("notice", NOTICES)
def test_two_documents_are_too_few_and_twice_in_one_is_once(tmp_path: Path, notice: str) -> None:
    assert repeats(tmp_path, [[notice, f"{notice}\n{SIMPLIFIED}\n{notice}", ENGLISH]])[0] == [{}, {}, {}]


@pytest.mark.parametrize("notice", NOTICES)
def test_every_place_in_the_other_documents_goes(tmp_path: Path, notice: str) -> None:
    twice = f"{notice}\n{SIMPLIFIED}\n{notice}"
    assert repeats(tmp_path, [[twice, notice, twice]])[0] == [{}, {0: 3}, {0: 3, 2: 3}]


def test_spaces_case_and_punctuation_do_not_count_but_the_script_does(tmp_path: Path) -> None:
    changed = ["版权所有 未经许可 不得转载本站的任何文章！", "　　版权所有——未经许可，不得转载本站的任何文章"]
    english = [NOTICES[2].upper(), f"  {NOTICES[2]}".replace(" ", "  ").replace(".", " ...")]
    texts = [NOTICES[0], NOTICES[1], changed[0], changed[1], NOTICES[2], *english]
    english[1] = english[1].lstrip()
    texts[-1] = english[1]
    assert repeats(tmp_path, [texts])[0] == [{}, {}, {0: 3}, {0: 3}, {}, {0: 3}, {0: 3}]


def test_documents_that_do_not_stay_are_not_looked_at(tmp_path: Path) -> None:
    texts = [NOTICES[0]] * 5
    assert repeats(tmp_path, [texts[:3], texts[3:]], [False, True, False, True, True])[0] == [
        {},
        {},
        {},
        {0: 3},
        {0: 3},
    ]


def test_the_hash_is_that_of_whole_documents(tmp_path: Path) -> None:
    _, files = repeats(tmp_path, [list(NOTICES)])
    entries = np.load(files[0])
    exact = minhash.sketch(NOTICES, 8, 2, 1).exact
    assert entries.dtype == ENTRY
    assert [tuple(exact[row]) for row in entries["row"].tolist()] == [tuple(h) for h in entries["hash"]]
    assert entries["hash"].tolist() == sorted(entries["hash"].tolist())


@pytest.mark.parametrize(
    "line",
    [SIMPLIFIED, TRADITIONAL, ENGLISH, f"　　{SIMPLIFIED}", f"    {TRADITIONAL}", f"\t{ENGLISH}"]
    + [f"    {SIMPLIFIED}", f"- {ENGLISH}", f"1. {TRADITIONAL}"],
)
def test_paragraphs_and_items_may_be_cut(line: str) -> None:
    assert list(find_places(f"标题\n\n{line}", 8)) == [(2, line)]


@pytest.mark.parametrize("text", [SIMPLIFIED, TRADITIONAL, ENGLISH])
@pytest.mark.parametrize(
    "form",
    [
        "# {}", "###### {}", "    # {}", "    {}，", "\t{} and", "    return {}", "| {} | 1 |",
        "{}\t12\t7", "x = {}", "print() {}", "{};", "> {}", "// {}", "std::sort {}", "a -> b {}", "<p>{}</p>",
        "$O(n)$ {} $n$", "\\section {}", "```\n{}\n```", "a\n\n```py\n\n{}",
    ],
)  # fmt: skip
def test_headings_code_formulas_and_tables_stay(form: str, text: str) -> None:
    assert list(find_places(form.replace("{}", text), 8)) == []


def test_a_price_is_no_formula_and_after_a_fence_there_is_text_again() -> None:
    english, chinese = (
        "It costs $20 a month, and the first month is free for all.",
        "每月二十元，首月免费，随时可以退订。",
    )
    assert [line for _, line in find_places(f"```\n{chinese}\n```\n{english}\n{chinese}", 8)] == [english, chinese]


def test_lines_that_cannot_have_the_units_are_left_out() -> None:
    assert list(find_places("短的一行\n\na b c d e f g h\n\na b c d e f g", 8)) == [(2, "a b c d e f g h")]


@given(
    st.lists(st.sampled_from([*"春天来了 =;(){}\\:->|$/", "word ", "import ", "    ", "\t"]), min_size=1, max_size=30)
)
def test_what_phrases_take_for_code_stays(parts: list[str]) -> None:
    line = "".join(parts) + "柳树发芽 willows"
    found = find_phrases(line)
    if LINE not in found.kinds.tolist():  # wide enough, with letters, without a date: it is code
        assert len(line) >= MIN_LINE and list(find_places(line, 1)) == []


@pytest.mark.parametrize("gone", NOTICES)
def test_a_cut_leaves_no_gap(gone: str) -> None:
    assert cut(f"{gone}\n\n甲\n\n乙", [0]) == ("甲\n\n乙", [0])
    assert cut(f"甲\n\n{gone}\n\n乙", [2]) == ("甲\n\n乙", [2])
    assert cut(f"甲\n{gone}\n乙", [1]) == ("甲\n乙", [1])
    assert cut(f"甲\n{gone}\n\n乙", [1]) == ("甲\n\n乙", [1])
    assert cut(f"甲\n\n{gone}\n\n{gone}\n\n\n乙\n\n\n丙", [2, 4]) == ("甲\n\n乙\n\n\n丙", [2, 4])
    assert cut(f"# 甲\n\n{gone}", [2]) == ("# 甲", [2])
    assert cut(gone, [0]) == ("", [0])


@given(st.text("甲a \n-1.:："))
def test_without_cuts_nothing_changes(text: str) -> None:
    assert cut(text, []) == (text, [])


@given(st.text("甲a \n-1.:：", max_size=60), st.data())
def test_what_stays_stays_as_it_was_and_in_order(text: str, data: st.DataObject) -> None:
    lines = text.split("\n")
    filled = [p for p, line in enumerate(lines) if line.strip()]
    places = data.draw(st.sets(st.sampled_from(filled))) if filled else set()
    left, gone = cut(text, places)
    assert set(gone) <= places
    assert [x for x in left.split("\n") if x.strip()] == [lines[p] for p in filled if p not in gone]


@pytest.mark.parametrize("item", ["- {}", "* {}", "{n}. {}", "{n}) {}", "（{n}）{}", "{n}、{}", "　　{n}．{}"])
@pytest.mark.parametrize("text", NOTICES)
def test_a_list_goes_as_a_whole_or_not_at_all(item: str, text: str) -> None:
    items = [item.replace("{n}", str(n)).replace("{}", text) for n in (1, 2, 3)]
    tight, loose = "\n".join(["甲", "", *items, "", "乙"]), "\n\n".join(["甲", *items, "乙"])
    inner = "\n".join(["甲", items[0], "说明 note", *items[1:], "乙"])
    assert cut(tight, [2, 4]) == (tight, [])
    assert cut(tight, [2, 3, 4]) == ("甲\n\n乙", [2, 3, 4])
    assert cut(loose, [2, 4]) == (loose, [])
    assert cut(loose, [2, 4, 6]) == ("甲\n\n乙", [2, 4, 6])
    assert cut(inner, [1, 3, 4]) == (inner, [])
    assert cut(inner, [1, 2, 3, 4]) == ("甲\n乙", [1, 2, 3, 4])


def test_lists_with_paragraphs_between_them_are_two() -> None:
    assert cut("- 甲\n- 乙\n\n段落 paragraph\n\n- a\n- b", [0, 1, 5]) == ("段落 paragraph\n\n- a\n- b", [0, 1])


@pytest.mark.parametrize("intro", ["需要下列材料：", "需要下列材料:", "You need the following:"])
def test_what_introduces_a_line_goes_only_with_it(intro: str) -> None:
    text = f"甲\n\n{intro}\n\n乙\n\n丙"
    assert cut(text, [2]) == (text, [])
    assert cut(text, [2, 4]) == ("甲\n\n丙", [2, 4])
    assert cut(text, [4]) == (f"甲\n\n{intro}\n\n丙", [4])
    assert cut(f"甲\n{intro}\n{intro}\n乙", [1, 2]) == (f"甲\n{intro}\n{intro}\n乙", [])
    assert cut(f"甲\n{intro}", [1]) == (f"甲\n{intro}", [])  # what it introduces may be no text


@pytest.mark.parametrize("notice", NOTICES)
def test_a_document_says_what_it_lost(notice: str) -> None:
    document = Document(f"{SIMPLIFIED}\n\n{notice}\n\n{TRADITIONAL}", "web/1", meta={"title": "题"})
    reason, rows = cut_document(document, {2: 7}, 10)
    assert (reason, document.text) == ("", f"{SIMPLIFIED}\n\n{TRADITIONAL}")
    assert document.meta == {"title": "题", "removed_paragraphs": 1}
    assert rows == [{"id": "web/1", "text": notice, "num_documents": 7}]


@pytest.mark.parametrize("notice", NOTICES)
def test_a_document_with_too_little_left_goes_as_it_was(notice: str) -> None:
    text = f"标题\n\n{notice}"
    document = Document(text, "web/1")
    assert cut_document(document, {2: 3}, 3) == (TOO_LITTLE, [])
    assert document == Document(text, "web/1")
    assert cut_document(document, {2: 3}, 2)[0] == "" and document.text == "标题"


def test_a_short_document_that_loses_nothing_stays() -> None:
    document = Document("短 short", "web/1")
    assert cut_document(document, {}, 30) == ("", [])
    assert document == Document("短 short", "web/1", meta={"removed_paragraphs": 0})


LINES = [
    *NOTICES,
    SIMPLIFIED,
    TRADITIONAL,
    ENGLISH,
    NOTICES[0] + "！",
    NOTICES[2].upper(),
    "短行",
    "short line",
    "",
    "",
]
LINES += [
    f"- {NOTICES[0]}",
    f"2. {ENGLISH}",
    "# " + ENGLISH,
    f"    {ENGLISH}",
    "需要下列材料和工具：",
    "```",
    f"x = {SIMPLIFIED}",
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.lists(st.sampled_from(LINES), max_size=8), st.booleans()), max_size=6), max_size=4),
    st.sampled_from([1, 2, 7]),
)
def test_as_a_plain_dictionary_finds_them(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[list[tuple[list[str], bool]]], ranges: int
) -> None:
    shards = [["\n".join(lines) for lines, _ in shard] for shard in drawn]
    kept = [keep for shard in drawn for _, keep in shard]
    check_texts(tmp_path_factory.mktemp("run"), shards, kept, ranges)


def check_texts(folder: Path, shards: Sequence[Sequence[str]], kept: Sequence[bool], ranges: int) -> int:
    """The texts after the cuts are those of the dictionary; how many were cut."""
    texts = [text for shard in shards for text in shard]
    found, _ = repeats(folder, shards, kept, ranges)
    expected = by_dictionary(texts, kept)
    assert found == expected
    assert after(texts, found) == after(texts, expected)
    return sum(map(len, found))


def after(texts: Iterable[str], cuts: Iterable[dict[int, int]]) -> list[str]:
    return [cut(text, places)[0] for text, places in zip(texts, cuts, strict=True)]


def test_as_a_plain_dictionary_finds_them_in_hundreds_of_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHARACTERS_PER_BATCH", 500)
    order = random.Random(4)
    words = {"zh": [chr(0x4E00 + 7 * i) for i in range(40)], "en": [f"{a}{b} " for a in "bdfgl" for b in "aeiou"]}
    pool = ["".join(order.choices(words[order.choice(["zh", "en"])], k=order.randint(6, 14))) for _ in range(150)]
    shards = [["\n\n".join(order.choices(pool, k=order.randint(0, 9))) for _ in range(60)] for _ in range(5)]
    assert check_texts(tmp_path, shards, [order.random() < 0.9 for _ in range(300)], 5) > 300


def test_ranges_change_nothing_and_files_are_the_same_twice(tmp_path: Path) -> None:
    shards = [[f"{a}\n{b}" for a in NOTICES] for b in (SIMPLIFIED, TRADITIONAL, ENGLISH)]
    one, files = repeats(tmp_path / "a", shards, ranges=1)
    again, same = repeats(tmp_path / "b", shards, ranges=1)
    many, parts = repeats(tmp_path / "c", shards, ranges=11)
    assert one == again == many
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in same]
    assert sum(len(np.load(p)) for p in parts[3:]) == len(np.load(files[3])) == sum(map(len, one))
    cuts = np.load(files[3])
    assert cuts.dtype == CUT and cuts[["ordinal", "place"]].tolist() == sorted(cuts[["ordinal", "place"]].tolist())


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    _, files = repeats(tmp_path, [[NOTICES[0]] * 3])
    for file in files:
        np.save(file, np.load(file)[:0])
    assert repeats(tmp_path, [[NOTICES[0]] * 3]) == ([{}, {}, {}], files)


def test_killed_while_it_writes_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    def save_half(path: Path, array: np.ndarray) -> None:
        monkeypatch.setattr(mindllm.stage.os, "replace", kill)
        save(path, array)

    with pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(module, "save", save_half)
        repeats(tmp_path, [[NOTICES[0]] * 3])
    monkeypatch.undo()
    assert list((tmp_path / "collected").iterdir()) == []
    assert repeats(tmp_path, [[NOTICES[0]] * 3])[0] == [{}, {0: 3}, {0: 3}]


def test_no_documents_no_shards(tmp_path: Path) -> None:
    assert repeats(tmp_path / "a", [[], []])[0] == []
    assert repeats(tmp_path / "b", [])[0] == []


def test_ranges_are_as_many_as_the_paragraphs_need(tmp_path: Path) -> None:
    _, files = repeats(tmp_path, [list(NOTICES), list(NOTICES[:2])])
    assert [num_ranges(files[:2], n) for n in (1, 2, 4, 5, 100)] == [5, 3, 2, 1, 1]
    assert num_ranges([], 5) == 1
