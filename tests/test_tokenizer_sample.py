"""The sample: every document under its most exact key, so many bytes and no more, no line too long, none lost."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from clean_documents import Row, write_stage
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import RunFailed, UserError, load
from mindllm.text import language_group
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.pieces import MAX_LINE_BYTES
from mindllm.tokenizer.sample import Sample, count, cut, draw, is_drawn, key_of

LANGUAGES = ("zh-Hans", "zh-Hant", "en", "other")
SOURCES = ("web", "books", "wiki/2024")
TEXTS = (
    "The ferry leaves at seven.",
    "渡船早上七点开。\n风小的时候中午回来。",
    "渡船早上七點開，風小的時候中午回來。",
    "12 + 30 = 42\n\n",
)


def config_for(folder: Path, sample_bytes: dict[str, int], **changes: object) -> TokenizerConfig:
    config = load(TokenizerConfig, None, [f"documents={folder}", *(f"{k}={v}" for k, v in changes.items())])
    config.sample_bytes = sample_bytes
    assert list(config.problems()) == []
    return config


def rows(number: int) -> list[Row]:
    """Documents of every language and source in turn."""
    langs, sources = LANGUAGES * number, [source for source in SOURCES for _ in LANGUAGES] * number
    return [Row(langs[i], sources[i], f"{i}", f"{TEXTS[i % 4]} {i}") for i in range(number)]


def size(text: str) -> int:
    return len(text.encode())


@pytest.mark.parametrize(
    ("lang", "source", "keys", "expected"),
    [
        ("zh-Hant", "web", ["zh", "zh-Hant", "zh/web", "zh-Hant/web", "en"], "zh-Hant/web"),
        ("zh-Hant", "web", ["zh", "zh-Hant", "zh/web"], "zh/web"),
        ("zh-Hans", "web", ["zh", "zh-Hant", "zh/books"], "zh"),
        ("zh-Hant", "web", ["zh", "zh-Hant"], "zh-Hant"),
        ("zh-Hans", "web", ["zh-Hant", "en/web", "other"], None),
        ("en", "wiki/2024", ["en", "en/wiki/2024", "en/wiki"], "en/wiki/2024"),
        ("fr", "web", ["other", "en"], "other"),
        ("", "", ["other", "zh"], "other"),
    ],
)
def test_the_most_exact_key_counts(lang: str, source: str, keys: list[str], expected: str | None) -> None:
    assert key_of(lang, source, keys) == expected == key_of(lang, source, keys[::-1])


DOCUMENTS = st.lists(
    st.tuples(
        st.sampled_from(LANGUAGES), st.sampled_from(SOURCES), st.text(st.sampled_from("ab 河橋\n。"), max_size=40)
    ),
    max_size=40,
)
KEYS = st.dictionaries(
    st.sampled_from(["zh", "en", "other", "zh-Hans", "zh-Hant", "zh/web", "zh-Hant/web", "en/books", "en/wiki/2024"]),
    st.integers(0, 400),
    min_size=1,
)


@settings(max_examples=60, deadline=None)
@given(found=DOCUMENTS, keys=KEYS, num_shards=st.integers(1, 4), seed=st.integers(0, 5))
def test_every_document_is_counted_once_and_no_key_takes_more(
    found: list[tuple[str, str, str]], keys: dict[str, int], num_shards: int, seed: int
) -> None:
    documents = [Row(lang, source, f"{i}", text) for i, (lang, source, text) in enumerate(found)]
    plain = Counter[tuple[str, str]]()
    for row in documents:
        plain[row.lang, row.source] += size(row.text)
    with tempfile.TemporaryDirectory() as name:
        folder = write_stage(Path(name) / "refine", documents, num_shards)
        totals = count(sorted(folder.glob("*.parquet")))
        assert {group: total for group, (_, total) in totals.items()} == dict(plain)
        try:
            sample = draw(config_for(folder, keys, seed=seed))
            lines = list(sample)
        except UserError:  # no text, a source that is not there, nothing drawn: what the messages say is tested below
            return
    for key, part in sample.parts.items():
        mine = [row for row in documents if key_of(row.lang, row.source, keys) == key]
        assert (part.documents, part.bytes) == (len(mine), sum(size(row.text) for row in mine))
        assert part.taken_bytes <= part.limit and part.taken_documents <= part.documents
        if part.limit >= part.bytes:
            assert part.taken_bytes == part.bytes
    known = {line for row in documents for line in row.text.split("\n")}
    assert all(line and "\n" not in line for line in lines)
    assert sum(line not in known for line in lines) <= len(keys)  # each key cuts off one document at most


def test_text_without_a_key_is_not_learned_from(tmp_path: Path) -> None:
    folder = write_stage(tmp_path / "refine", rows(96))
    sample = draw(config_for(folder, {"zh": 10**6, "en/books": 10**6}))
    assert set(sample) == {
        line
        for row in rows(96)
        if language_group(row.lang) == "zh" or (row.lang, row.source) == ("en", "books")
        for line in row.text.split("\n")
    }
    assert {key: part.documents for key, part in sample.parts.items()} == {"zh": 48, "en/books": 8}
    assert sample.counts()["zh"] | {"bytes": 0, "taken_bytes": 0} == {
        "limit": 10**6, "documents": 48, "bytes": 0, "taken_documents": 48, "taken_bytes": 0, "share": 1.0,
    }  # fmt: skip


def test_the_draw_is_the_same_in_any_shards_and_near_the_limit(tmp_path: Path) -> None:
    documents = rows(6000)
    one = draw(config_for(write_stage(tmp_path / "one", documents, 1), {"zh": 20_000, "en": 15_000}))
    many = draw(config_for(write_stage(tmp_path / "many", documents, 7), {"en": 15_000, "zh": 20_000}))
    assert list(one) == list(many) == list(one)
    assert one.taken_bytes == many.taken_bytes and one.parts["zh"].taken_bytes <= 20_000
    assert all(part.taken_bytes > 0.9 * part.limit for part in one.parts.values())
    other = draw(config_for(tmp_path / "one", {"zh": 20_000, "en": 15_000}, seed=2))
    assert 0 < len(set(other) & set(one)) < 0.5 * len(set(one))


def test_a_key_is_cut_off_at_its_bytes(tmp_path: Path) -> None:
    text = "河边的树长得很快。" * 10
    documents = [Row("zh-Hans", "web", f"{i}", text) for i in range(200)]
    folder = write_stage(tmp_path / "refine", documents)
    reached = []
    for seed in range(20):
        sample = draw(config_for(folder, {"zh": 5000 + seed}, seed=seed))
        lines = list(sample)
        assert sample.taken_bytes <= 5000 + seed
        assert 0 <= sample.taken_bytes - sum(map(size, lines)) < 3  # the half of a character counts, but is no text
        assert all(line == text for line in lines[:-1]) and text.startswith(lines[-1])
        reached.append(sample.taken_bytes == 5000 + seed)
    assert any(reached) and not all(reached)


def test_the_draw_is_by_share_and_has_nothing_to_do_with_other_hashes() -> None:
    ids = [f"web:{i}" for i in range(4000)]
    few, many = ({id for id in ids if is_drawn(id, share, 1)} for share in (0.1, 0.5))
    assert few < many and abs(len(few) - 400) < 80 and abs(len(many) - 2000) < 150
    assert all(is_drawn(id, 1.0, 1) and not is_drawn(id, 0.0, 1) for id in ids)
    import xxhash  # what data_pipeline.shard holds out by the same seed is not what is drawn first

    held_out = {id for id in ids if xxhash.xxh3_64_intdigest(id.encode(), seed=1) < 0.1 * 2.0**64}
    assert abs(len(held_out & many) - len(held_out) / 2) < 60


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = write_stage(tmp_path / "refine", rows(24))
    with pytest.raises(UserError, match=r"sample_bytes\.zh/wbe: no such text; sources of zh: books, web, wiki/2024"):
        draw(config_for(folder, {"zh/wbe": 100, "en": 100}))
    with pytest.raises(UserError, match=r"sample_bytes\.zh/web: more exact keys take all of its text"):
        draw(config_for(folder, {"zh/web": 100, "zh-Hans/web": 100, "zh-Hant/web": 100}))
    only = write_stage(tmp_path / "only", [row for row in rows(24) if row.lang == "en"])
    with pytest.raises(UserError, match=r"sample_bytes\.zh-Hant/web: no such text; sources of zh-Hant: none"):
        draw(config_for(only, {"zh-Hant/web": 100, "en": 100}))
    assert draw(config_for(only, {"zh": 100, "en": 100})).parts["zh"].documents == 0  # a line of zeros in the table
    with pytest.raises(UserError, match="no text to learn a tokenizer from; bytes by language there: en: [0-9]+"):
        draw(config_for(only, {"zh": 100}))


def test_too_few_bytes_for_any_document(tmp_path: Path) -> None:
    folder = write_stage(tmp_path / "refine", [Row("en", "books", "1", "A long book. " * 1000)])
    with pytest.raises(UserError, match="10 bytes are so few beside these documents that none was drawn"):
        list(draw(config_for(folder, {"en": 10})))


def test_the_table_names_every_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = draw(config_for(write_stage(tmp_path / "refine", rows(24)), {"zh/wiki/2024": 70, "en": 10**6, "other": 5}))
    sample.print_table()
    out = capsys.readouterr().out
    assert all(key in out for key in ("zh/wiki/2024", "en", "other", "bytes to take", "100.0%"))


def test_long_lines_are_cut_and_never_dropped(tmp_path: Path) -> None:
    english, chinese, code = "The ferry leaves at seven, " * 6000, "渡船早上七点开，" * 6000, "x" * 150_000
    texts = {"en": [f"{english}\nshort"], "zh-Hans": [chinese], "other": [code, "y" * MAX_LINE_BYTES]}
    documents = [Row(lang, "web", f"{lang}{i}", text) for lang, some in texts.items() for i, text in enumerate(some)]
    sample = draw(config_for(write_stage(tmp_path / "refine", documents), dict.fromkeys(("en", "zh", "other"), 10**9)))
    lines = list(sample)
    assert sample.cut_lines == 3 and max(map(size, lines)) == MAX_LINE_BYTES
    assert "".join(lines) == english + "short" + chinese + code + "y" * MAX_LINE_BYTES
    assert [lines[i].startswith(" leaves") or lines[i].startswith(" ") for i in (1, 2)] == [True, True]
    assert sum(line.endswith("，") for line in lines) >= 3


@given(line=st.text(max_size=80) | st.text(st.sampled_from("ab 河，。𠮷"), max_size=200), most=st.integers(4, 40))
def test_parts_of_a_line(line: str, most: int) -> None:
    parts = list(cut(line, most))
    assert "".join(parts) == line and all(size(part) <= most for part in parts)
    assert all(parts) or parts == [""]


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    folder = write_stage(tmp_path / "refine", rows(24))
    broken = folder / "00001.parquet"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunFailed, match="00001.parquet: damaged"):
        draw(config_for(folder, {"zh": 100}))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"words": ["a"]}), broken)
    with pytest.raises(RunFailed, match="00001.parquet: holds no clean documents .no column lang, text"):
        draw(config_for(folder, {"zh": 100}))


def test_long_work_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mindllm.tokenizer import sample as module

    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    found: Sample = draw(config_for(write_stage(tmp_path / "refine", rows(24), 3), {"zh": 10**6}))
    list(found)
    news = capsys.readouterr().err
    assert "counting the text: 1 of 3 shards" in news and "reading the sample: 2 of 3 shards" in news
