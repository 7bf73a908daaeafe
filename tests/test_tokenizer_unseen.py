"""mindllm.tokenizer.unseen: the draw is one property of the documents, and leaves out what a tokenizer has seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm.config import RunFailed, UserError
from mindllm.tokenizer.sample import is_drawn
from mindllm.tokenizer.unseen import MAX_DOCUMENT_BYTES, Cell, Lowest, cut, draw, learned_from, read
from tests.clean_documents import Row, write_stage

TEXTS = {
    "en": "The ferry leaves at seven. ",
    "zh-Hans": "渡船早上七点开。",
    "zh-Hant": "渡船早上七點開。",
    "de": "Die Fähre. ",
}


def rows(num_documents: int = 40) -> list[Row]:
    """So many documents of each language in each of two sources; the texts say which they are."""
    return [
        Row(lang, source, f"{lang}-{source}-{n}", f"{lang}-{source}-{n} {text * 4}")
        for n in range(num_documents)
        for source in ("web", "书籍")
        for lang, text in TEXTS.items()
    ]


def ids_of(folder: Path, *args: object, **more: object) -> dict[Cell, list[str]]:
    """The ids of the documents drawn, by cell."""
    drawn = draw(folder, *args, **more)  # type: ignore[arg-type]
    found: dict[Cell, list[str]] = {}
    for cell, texts in read(folder, drawn, *args[2:]):  # type: ignore[arg-type]
        found.setdefault(cell, []).extend(text.split(" ")[0] for text in texts)
    return {cell: sorted(ids) for cell, ids in found.items()}


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=40, unique_by=lambda d: d[0]),
    st.integers(1, 80),
)
def test_lowest_keeps_the_fewest_of_lowest_hash_in_any_order(documents: list[tuple[int, int]], limit: int) -> None:
    wanted, total = [], 0
    for hash, size in sorted(documents):
        if total < limit:
            wanted.append(hash)
            total += size
    for order in (documents, documents[::-1], sorted(documents)):
        lowest = Lowest(limit)
        for hash, size in order:
            lowest.add(hash, size)
        assert (lowest.total, lowest.highest) == (total, max(wanted, default=-1))


def test_each_language_of_each_source_gives_its_bytes_whatever_the_shards(tmp_path: Path) -> None:
    first = write_stage(tmp_path / "a", rows())
    second = write_stage(tmp_path / "b", rows()[::-1], num_shards=5)
    found = ids_of(first, 1000, 1)
    assert found == ids_of(second, 1000, 1) and found != ids_of(first, 1000, 2)
    drawn = draw(first, 1000, 1)
    assert list(drawn.limits) == [
        Cell(lang, s) for lang in ("zh-Hans", "zh-Hant", "en", "other") for s in ("web", "书籍")
    ]
    assert all(8 <= len(ids) < 40 for ids in found.values()) and drawn.unseen == set(found)
    texts = {row.id: row.text for row in rows()}
    sizes = [sum(len(texts[id].encode()) for id in ids) for ids in found.values()]
    assert sum(sizes) == drawn.num_bytes and all(1000 <= size < 1200 for size in sizes)
    assert sum(map(len, ids_of(first, 10**9, 1).values())) == len(rows())


def test_seen_documents_are_left_out_where_others_are_left(tmp_path: Path) -> None:
    folder = write_stage(tmp_path / "a", rows())

    def seen(id: str, language: str, source: str) -> bool:
        return source == "web" or is_drawn(id, 0.5, 1)

    drawn = draw(folder, 1000, 1, [seen])
    assert {cell.source for cell in drawn.unseen} == {"书籍"}
    found = ids_of(folder, 1000, 1, [seen])
    assert not any(is_drawn(id, 0.5, 1) for cell, ids in found.items() for id in ids if cell.source == "书籍")
    everything = ids_of(folder, 1000, 1)
    assert all(found[cell] == everything[cell] for cell in found if cell.source == "web")
    assert any(found[cell] != everything[cell] for cell in found if cell.source == "书籍")


def test_little_unseen_text_is_not_enough(tmp_path: Path) -> None:
    folder = write_stage(tmp_path / "a", rows())

    def all_but_one(id: str, language: str, source: str) -> bool:
        return not id.endswith("-7")

    assert draw(folder, 3000, 1, [all_but_one]).unseen == frozenset()  # one of 120 to 160 bytes, 300 are needed
    assert len(draw(folder, 500, 1, [all_but_one]).unseen) == 8
    assert ids_of(folder, 3000, 1, [all_but_one]) == ids_of(folder, 3000, 1)


def test_long_documents_are_cut_at_whole_characters(tmp_path: Path) -> None:
    for text in ("a" * 400_000, "渡" * 200_000, "a渡" * 100_000, "ab" + "𠮷" * 80_000):
        short = cut(text)
        assert text.startswith(short) and MAX_DOCUMENT_BYTES - 4 < len(short.encode()) <= MAX_DOCUMENT_BYTES
    assert cut("渡船") == "渡船" and cut("é" * 100_000) == "é" * 100_000


def test_what_a_tokenizer_was_learned_from_is_read_from_its_folder(tmp_path: Path) -> None:
    def meta(documents: str, counts: dict[str, object]) -> str:
        value = {
            "stage": "tokenizer",
            "hash": "1",
            "config": {"seed": 3},
            "inputs": {"documents": documents},
            "counts": counts,
        }
        (tmp_path / "meta.json").write_text(json.dumps(value))
        return str(tmp_path)

    assert learned_from("tiktoken:gpt2", "abc") == ("not known", None)
    assert learned_from(str(tmp_path), "abc").words == "not known"
    assert learned_from(meta("other", {}), "abc").seen is None
    unknown = learned_from(meta("abc", {"in": 5}), "abc")
    assert unknown.seen is not None and unknown.seen("a", "en", "web") and "not recorded" in unknown.words
    shares = {"zh": {"share": 0.5}, "zh-Hant/书籍": {"share": 0.0}, "en/web": {"share": 1.0}}
    seen = learned_from(meta("abc", {"sample": shares}), "abc").seen
    assert seen is not None and seen("a", "en", "web") and not seen("a", "en", "书籍") and not seen("a", "other", "web")
    ids = [str(n) for n in range(200)]
    assert [seen(id, "zh-Hans", "web") for id in ids] == [is_drawn(id, 0.5, 3) for id in ids]
    assert not any(seen(id, "zh-Hant", "书籍") for id in ids)


def test_no_text_and_damaged_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text to measure"):
        draw(write_stage(tmp_path / "a", [Row("en", "web", "1", "")], 1), 1000, 1)
    folder = write_stage(tmp_path / "b", rows(2), 1)
    (folder / "00000.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(RunFailed, match="00000.parquet: damaged"):
        draw(folder, 1000, 1)
