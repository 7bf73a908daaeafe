"""Benchmark items in training text: found however they are written, not found where they are not, and removed."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import opencc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.clean import refine
from data_pipeline.cleaners.contamination import Contamination
from data_pipeline.config import DataConfig
from data_pipeline.document import Document, Drop
from data_pipeline.reading.files import read as read_input
from data_pipeline.reading.inputs import list_shards
from data_pipeline.sources import Source
from data_pipeline.workers import WorkersConfig
from eval.contamination import ContaminationConfig, contamination
from eval.contamination import scan as scan_module
from eval.contamination.grams import Units, fold
from eval.contamination.index import LINE, SEARCHED, TOO_SHORT, Index, build
from eval.contamination.scan import OVERLAP, PIECE
from eval.contamination.search import needed_share, search
from eval.items import item_texts
from mindllm.config import UserError
from mindllm.shards import ShardWriter
from mindllm.text import units
from mindllm.tokenizer import load_tokenizer
from tests.clean_documents import Row, write_stage
from tests.leaked_items import CHINESE, ENGLISH, SETS, TRANSLATION, write_lines, write_sets
from tests.small_tokenizer import write_tokenizer

ROOT = Path(__file__).resolve().parent.parent
BENCH = Path(os.environ.get("MINDLLM_DATA", ROOT.parent / "shared" / "data")) / "bench"
sys.path.insert(0, str(ROOT / "bench"))

import contamination as bench_contamination  # noqa: E402

ROWS = [*ENGLISH, *CHINESE, *TRANSLATION]
TO_SIMPLIFIED, TO_TRADITIONAL = opencc.OpenCC("t2s").convert, opencc.OpenCC("s2tw").convert
PROSE = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "samples" / "prose").rglob("*.md"))]
MIN_SHARE = ContaminationConfig().min_share


def pages() -> list[str]:
    """Each row as a page would have it; of the translation the English side."""
    rows = [{"question": row["en"], "answer": ""} if "en" in row else row for row in ROWS]
    return [bench_contamination.exam_page(row, random.Random(0)) for row in rows]


def index_of(folder: Path, texts: list[tuple[str, ...]], max_frequency: int = 10) -> Index:
    return build(folder, lambda: list(enumerate(texts)), max_frequency)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    texts = [(number, text) for number, row in enumerate(ROWS) for text in item_texts(row)]
    return build(tmp_path_factory.mktemp("index"), lambda: texts, 10)


def found_in(index: Index, texts: list[str]) -> list[set[int]]:
    """The items found in each text."""
    found: list[set[int]] = [set() for _ in texts]
    for hit in search(index, texts, MIN_SHARE):
        found[hit.document].add(int(index.entries["item"][hit.entry]))
    return found


def planted(page: str, number: int) -> str:
    """A page between two passages of prose."""
    return f"{PROSE[number % len(PROSE)][:600]}\n\n{page}\n\n{PROSE[-1 - number % len(PROSE)][:600]}"


def other_space(text: str) -> str:
    return re.sub(r"[ \n]+", " \n\t", text)


def other_marks(text: str) -> str:
    return re.sub(r"[，。？,.?]", " * ", text)


def wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


WAYS = [str, str.upper, other_space, other_marks, wide, TO_SIMPLIFIED, TO_TRADITIONAL]


@pytest.mark.parametrize("way", WAYS, ids=[getattr(w, "__name__", "convert") + str(n) for n, w in enumerate(WAYS)])
def test_copies_are_found_however_they_are_written(index: Index, way: Any) -> None:
    texts = [planted(way(page), number) for number, page in enumerate(pages())]
    assert found_in(index, texts) == [{number} for number in range(len(ROWS))]


@pytest.mark.parametrize("seed", range(5))
def test_copies_with_errors_are_found(index: Index, seed: int) -> None:
    """One character in twenty is another, missing, or followed by one that does not belong there."""
    rng = random.Random(seed)
    texts = [planted(bench_contamination.noisy(page, 0.05, rng), number) for number, page in enumerate(pages())]
    found = found_in(index, texts)
    missed = [number for number in range(len(ROWS)) if number not in found[number]]
    assert len(missed) <= 1 and all(len(each) <= 1 for each in found)


def test_traditional_items_are_found_in_simplified_text(tmp_path: Path) -> None:
    rows = [{"question": TO_TRADITIONAL(row["question"])} for row in CHINESE]
    index = index_of(tmp_path, [text for row in rows for text in item_texts(row)])
    assert found_in(index, [row["question"] for row in CHINESE]) == [{0}, {1}, {2}, {3}]


def test_unrelated_text_has_no_hit(index: Index) -> None:
    assert found_in(index, PROSE) == [set()] * len(PROSE)


def test_a_phrase_in_common_is_no_hit(index: Index) -> None:
    texts = ["The tray nearest the oven door is hot, said the baker.", "冬天早晨窗户玻璃上有雾。下列哪一种说法最好听？"]
    assert found_in(index, texts) == [set(), set()]


def test_an_item_spread_over_a_long_text_is_no_hit(index: Index) -> None:
    sentences = [re.split("[,.?，。？]", row["question"]) for row in (ENGLISH[2], CHINESE[2])]
    texts = [f"\n{PROSE[0] * 3}\n".join(parts) for parts in sentences]
    assert found_in(index, texts) == [set(), set()]


def test_templates_are_no_evidence(tmp_path: Path) -> None:
    """What many items share does not count: only the cities and rivers do."""
    english = "Which of the following statements about the history of {} is supported by the sources given above?"
    chinese = "根据以上材料，下列关于{}历史沿革的叙述中，正确的一项是哪一个？"
    names = [a + b for a in ("Kal", "Mor", "Tun", "Vex") for b in ("denburg", "wickshire", "astropol", "imbaro")]
    rivers = [a + b for a in "青白黑红" for b in ("石门河", "龙渡江", "柳湾溪", "沙坝渠")]
    texts = [english.format(name) for name in names] + [chinese.format(river) for river in rivers]
    index = index_of(tmp_path, [(text,) for text in texts])
    other = [english.format("the old salt road"), chinese.format("南城门")]
    assert found_in(index, other) == [set(), set()]
    assert found_in(index, texts) == [{number} for number in range(len(texts))]
    everything = index_of(tmp_path / "all", [(text,) for text in texts], 1000)
    assert all(found_in(everything, other)), "without the limit they would be hits"


def test_short_questions_are_found_as_whole_lines_with_their_answer(tmp_path: Path) -> None:
    short = [("谁写的？", "李白"), ("3 + 45 = ?", "48"), ("Who?", "me"), ("Concrete", "seals chimney", "seals soil")]
    index = index_of(tmp_path, [*short, (ENGLISH[0]["question"],), ("What is 9 + 8?", "√")])
    assert index.entries["state"].tolist() == [LINE, TOO_SHORT, TOO_SHORT, LINE, SEARCHED, LINE]
    pages = [
        "第一题\n谁写的\n李白",
        "誰寫的？\n甲. 杜甫\n乙. 李白",
        "誰寫的？\n不知道",
        "谁写的书\n李白",
        "李白\n谁写的",
    ]
    assert found_in(index, pages) == [{0}, {0}, set(), set(), set()]
    assert found_in(index, ["谁写的" + "\n不知道" * n + "\n李白" for n in (8, 9)]) == [{0}, set()]
    headings = [
        "Concrete\n\nIt is made of sand.",
        "Concrete\nIt seals soil",
        "concrete:\nA) seals chimney\nB) Seals soil.",
    ]
    assert found_in(index, headings) == [set(), {3}, {3}]
    assert found_in(index, ["What is 9 + 8?", "谁写的", "李白"]) == [{5}, set(), set()], "an answer without units"
    hits = search(index, ["前言两行\n\n谁写的\n李白", "x"], MIN_SHARE)
    assert [(hit.document, hit.begin, hit.end) for hit in hits] == [(0, 4, 7)]


def test_what_gives_no_n_gram_is_no_evidence(tmp_path: Path) -> None:
    """Choices of a few digits are letters of an item, but nothing that could be recognised."""
    short, digits = ("The complexity of the theory.", "1,2,3,4"), ("1,3,4", "1,2,3", "1,2,4")
    index = index_of(tmp_path, [short, (*short, *digits)])
    assert index.entries["size"].tolist() == [20, 20]
    assert found_in(index, ["We study the complexity of the algorithm in one, two and three dimensions."]) == [set()]
    assert found_in(index, ["7. The complexity of the theory. A 1,2,3,4 B 1,3,4 C 1,2,3 D 1,2,4"]) == [{0, 1}]
    repeated = index_of(tmp_path / "repeated", [("the same words again " * 5,), ("他说了又说，" * 5,)])
    assert repeated.entries["size"].tolist() == [17, 10], "of many copies one"


def test_shorter_texts_need_more() -> None:
    assert needed_share(0, 0.6) == 1 and needed_share(10_000, 0.6) == 0.6
    assert needed_share(20, 0.6) > needed_share(40, 0.6) > 0.6


PIECES = st.sampled_from(["the", "a", "Ab", "é", "x2", "门", "門", "開", "。", ",", " ", "\n", "가", "カ", "ｗ", "İ"])
TEXTS = st.lists(st.one_of(st.lists(PIECES, max_size=30).map("".join), st.text(max_size=20)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 20))
def test_grams_are_those_of_a_plain_loop(texts: list[str], size: int) -> None:
    """As many units as hold `size` bytes from each unit on, in one text; equal hashes where the units are equal."""
    expected = []
    for text in texts:
        found = units(fold(text))
        for begin in range(len(found)):
            ends = [e for e in range(begin + 1, len(found) + 1)
                    if len("".join(found[begin:e]).encode("utf-8", "surrogatepass")) >= size]  # fmt: skip
            expected += [tuple(found[begin : ends[0]])] if ends else []
    grams = Units(texts).grams(size)
    assert len(grams.hashes) == len(expected)
    by_hash = dict(zip(grams.hashes.tolist(), expected, strict=True))
    assert [by_hash[value] for value in grams.hashes.tolist()] == expected and len(by_hash) == len(set(expected))
    alone = [Units([" ".join(gram)]) for gram in expected]
    assert [int(u.stretches(np.array([0]), np.array([len(u)]))[0]) for u in alone] == grams.hashes.tolist()


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 9))
def test_letters_are_those_of_the_units(texts: list[str], size: int) -> None:
    joined = ["".join(units(fold(text))) for text in texts]
    whole = Units(texts)
    assert len(whole.letters) == sum(map(len, joined))
    expected = []
    for letters in joined:
        sizes = [2 if ord(letter) >= 0x1100 else 1 for letter in letters]
        for begin in range(len(letters)):
            ends = [end for end in range(begin + 1, len(letters) + 1) if sum(sizes[begin:end]) >= size]
            expected += [letters[begin : ends[0]]] if ends else []
    hashes = whole.letters.grams(size).hashes.tolist()
    by_hash = dict(zip(hashes, expected, strict=True))
    assert [by_hash[value] for value in hashes] == expected and len(by_hash) == len(set(expected))


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing_more(text: str) -> None:
    once = fold(text)
    assert units(fold(once)) == units(once)


def make_config(tmp_path: Path, **changes: Any) -> ContaminationConfig:
    """Items in items/, documents of all kinds in texts/."""
    if not (tmp_path / "items").exists():
        write_sets(tmp_path / "items", SETS)
        (tmp_path / "texts").mkdir()
        documents = [planted(page, number) for number, page in enumerate(pages())]
        write_lines(tmp_path / "texts" / "a.jsonl", [{"id": f"a/{n}", "text": t} for n, t in enumerate(documents[:4])])
        write_lines(tmp_path / "texts" / "b.jsonl", [{"text": text} for text in [*PROSE, *documents[4:]]])
    values: dict[str, Any] = {"items": [str(tmp_path / "items")], "texts": [str(tmp_path / "texts")]}
    return ContaminationConfig(**{**values, "out": str(tmp_path / "out"), "num_workers": 1, **changes})


def read_list(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outputs(folder: Path) -> dict[str, str]:
    """Everything that depends on the input alone."""
    names = [*(p.relative_to(folder).as_posix() for p in folder.glob("found/*")), "documents.jsonl", "report.json"]
    return {name: (folder / name).read_text(encoding="utf-8") for name in [*names, "contaminated.jsonl"]}


def test_lists_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert contamination(make_config(tmp_path)) == 0
    rows = read_list(tmp_path / "out" / "contaminated.jsonl")
    assert [(r["task"], r["doc_id"]) for r in rows] == [(n, i) for n in sorted(SETS) for i in range(len(SETS[n]))]
    assert [r["documents"] for r in rows[4:8]] == [[f"a/{number}"] for number in range(4)]
    assert rows[0]["documents"] == [f"b.jsonl#{len(PROSE)}"] and all(0.9 <= r["share"] <= 1 for r in rows)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["text"]["num_documents"] == len(PROSE) + 9 and report["text"]["num_contaminated"] == 9
    english = report["benchmarks"]["english"]
    assert (english["num_items"], english["num_contaminated"], english["share"]) == (4, 4, 1.0)
    assert "seven trays with rolls" in english["examples"][0]["item"]
    assert "seven trays with rolls" in english["examples"][0]["passage"]
    assert "english" in capsys.readouterr().out
    assert contamination(make_config(tmp_path)) == 0  # done before
    assert "nothing to do" in capsys.readouterr().out


def test_workers_and_kills_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contamination(make_config(tmp_path, out=str(tmp_path / "whole"), num_workers=2))

    def killed(file: Any, out: Path, task: Any) -> None:
        if out.name == "00000.json":  # the smaller file, so the second one
            raise KeyboardInterrupt
        real(file, out, task)

    real = scan_module.scan
    monkeypatch.setattr(scan_module, "scan", killed)
    with pytest.raises(KeyboardInterrupt):
        contamination(make_config(tmp_path))
    assert not (tmp_path / "out" / "meta.json").exists()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/*.json")}
    assert {path.name for path in done} == {"index.json", "00001.json"}
    monkeypatch.setattr(scan_module, "scan", real)
    contamination(make_config(tmp_path))
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what was done was done again"


def test_other_text_is_refused_until_forced(tmp_path: Path) -> None:
    contamination(make_config(tmp_path))
    with (tmp_path / "texts" / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "more"}\n')
    with pytest.raises(UserError, match="force=true"):
        contamination(make_config(tmp_path))
    contamination(make_config(tmp_path, force=True))


def test_a_solution_that_repeats_the_question_does_not_hide_it(tmp_path: Path) -> None:
    question = "Find the value of (52 + 6 sqrt 43)^(3/2) - (52 - 6 sqrt 43)^(3/2)."
    solution = (
        "We hope to write 52 + 6 sqrt 43 as a square of what has a sqrt 43, so 52 + 6 sqrt 43 = (a + sqrt 43)^2. "
    )
    index = index_of(tmp_path, [(question,)])
    assert found_in(index, [f"{question}\n{PROSE[0][:300]}\n{solution * 5}", solution * 5]) == [{0}, set()]


def test_a_set_is_not_looked_for_in_itself(tmp_path: Path) -> None:
    write_sets(tmp_path / "items" / "other" / "..", {"copy": ENGLISH[1:3]}, "validation")
    write_sets(tmp_path / "items", {"english": [*ENGLISH, ENGLISH[0]]})
    folder = str(tmp_path / "items")
    config = ContaminationConfig(items=[folder], texts=[folder], out=str(tmp_path / "out"), num_workers=1)
    contamination(config)
    rows = read_list(tmp_path / "out" / "contaminated.jsonl")
    assert [(r["task"], r["doc_id"], r["documents"]) for r in rows] == [
        ("copy", 0, ["english/test#1"]),
        ("copy", 1, ["english/test#2"]),
        ("english", 1, ["copy/validation#0"]),
        ("english", 2, ["copy/validation#1"]),
    ]


def test_all_kinds_of_text_are_read(tmp_path: Path) -> None:
    page = pages()[0]
    (tmp_path / "loose").mkdir()
    rows = [Row("en", "web", "web/1.html", page), Row("zh-Hans", "web", "web/2.html", PROSE[0])]
    write_stage(tmp_path / "stage", rows)
    (tmp_path / "loose" / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": page}).encode()))
    with pa.output_stream(str(tmp_path / "loose" / "b.jsonl.zst"), compression="zstd") as file:
        file.write(json.dumps({"text": page, "id": 7}).encode() + b"\n")
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "tokenizer"))
    writer = ShardWriter(tmp_path / "shards" / "web" / "train", tokenizer.vocab_size, tokenizer.eos_id,
                         tokenizer.fingerprint, max_tokens_per_file=400)  # fmt: skip
    for text in (PROSE[0][:500], PROSE[1][:500], page):
        writer.add(tokenizer.encode_batch([text])[0], len(text.encode()))
    writer.finish()
    texts = [str(tmp_path / name) for name in ("stage", "shards", "loose")]
    contamination(make_config(tmp_path, texts=texts, tokenizer=str(tmp_path / "tokenizer")))
    (row,) = read_list(tmp_path / "out" / "contaminated.jsonl")
    assert row["documents"] == ["web/1.html", "web/train#2", "a.jsonl.gz#0", "7"]
    listed = read_list(tmp_path / "out" / "documents.jsonl")
    assert len({each["hash"] for each in listed}) == 1, "token shards hold the same text"


def test_items_in_long_documents_are_found_wherever_they_stand(tmp_path: Path) -> None:
    filler = "\n".join(PROSE) * 3
    text = filler[: PIECE - OVERLAP // 2] + pages()[4] + filler[:1000] + pages()[0]
    folder = tmp_path / "long"
    folder.mkdir()
    write_lines(folder / "long.jsonl", [{"text": text}])
    contamination(make_config(tmp_path, texts=[str(folder)]))
    rows = read_list(tmp_path / "out" / "contaminated.jsonl")
    assert [(r["task"], r["doc_id"], r["num_documents"]) for r in rows] == [("chinese", 0, 1), ("english", 0, 1)]


def test_the_cleaner_drops_what_is_listed(tmp_path: Path) -> None:
    contamination(make_config(tmp_path))
    cleaner = Contamination(lists=[str(tmp_path / "out" / "documents.jsonl")])
    assert list(cleaner.problems()) == []
    rows = read_list(tmp_path / "texts" / "a.jsonl")
    for row in rows:
        assert cleaner(Document(row["text"], row["id"])) == Drop("contamination:benchmark_item")
        assert cleaner(Document(row["text"], "another id")) == Drop("contamination:benchmark_item")
        assert cleaner(Document("changed since", row["id"])) == Drop("contamination:benchmark_item")
    for number, text in enumerate(PROSE):
        document = Document(text, f"prose/{number}")
        assert cleaner(document) is document
    assert [measure.passes for measure in cleaner.measures(Document(PROSE[0], "x"))] == [True]


def test_refine_drops_what_was_found_in_what_it_reads(tmp_path: Path) -> None:
    """In the order of the manual: dedup, contamination, refine; and once more, which changes nothing."""
    rows = [Row("en", "web", f"web/{n}", text) for n, text in enumerate([*PROSE[:3], planted(pages()[0], 1), PROSE[4]])]
    write_stage(tmp_path / "run" / "dedup", rows)
    search = make_config(tmp_path, texts=[str(tmp_path / "run" / "dedup")])
    contamination(search)
    listed = {"contamination": {"lists": [str(tmp_path / "out" / "documents.jsonl")]}}
    config = DataConfig({"web": Source(str(tmp_path))}, {"html": {}}, {"pii": {}, **listed}, str(tmp_path / "run"),
                        workers=WorkersConfig(num_workers=1))  # fmt: skip
    for _ in range(2):
        assert refine(config) == contamination(search) == 0
        counts = json.loads((tmp_path / "run" / "refine" / "meta.json").read_text())["counts"]
        assert (counts["in"], counts["out"]) == (5, 4)
    (dropped,) = pq.ParquetDataset(tmp_path / "run" / "refine" / "dropped").read(["id", "reason"]).to_pylist()
    assert dropped == {"id": "web/3", "reason": "contamination:benchmark_item"}


def test_the_cleaner_names_mistakes(tmp_path: Path) -> None:
    bad = tmp_path / "list.jsonl"
    for line in ("{}", "[1]", '{"id": 1, "hash": "0"}', '{"id": "a", "hash": "x"}', "no json"):
        bad.write_text('{"id": "a", "hash": "00ff"}\n' + line + "\n")
        assert any("list.jsonl:2" in problem for problem in Contamination([str(bad)]).problems()), line
    assert any("cannot be read" in problem for problem in Contamination([str(tmp_path / "none")]).problems())
    assert list(Contamination().problems())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no benchmark items"):
        contamination(make_config(tmp_path, items=[str(empty)]))
    with pytest.raises(UserError, match="no text here"):
        contamination(make_config(tmp_path, texts=[str(empty)]))
    write_lines(empty / "x.jsonl", [{"body": "text"}])
    with pytest.raises(UserError, match="text_field to one of body"):
        contamination(make_config(tmp_path, texts=[str(empty)]))
    (empty / "x.jsonl").write_text('{"text"\n[1]\n')
    with pytest.raises(UserError, match="no document could be read: .*x.jsonl:1: no JSON"):
        contamination(make_config(tmp_path, texts=[str(empty)]))
    problems = ContaminationConfig(min_share=2, max_documents=0, num_workers=-1, text_field="").problems()
    assert len(list(problems)) == 6


def test_bad_rows_are_counted_and_the_others_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"text": page, "id": "\ud800"}).encode() for page in pages()]
    bad = [b"", b'{"text"', b'{"text": "\xff"}', b"[1]", b'{"text": 5}', b'{"title": "x"}', b" "]
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"\n".join([*bad, *lines]))
    noise = [json.dumps({"text": random.Random(n).randbytes(900).hex()}).encode() for n in range(200)]
    for suffix, pack in ((".gz", gzip.compress), (".zst", lambda data: pa.compress(data, codec="zstd", asbytes=True))):
        (folder / f"cut.jsonl{suffix}").write_bytes(pack(b"\n".join([lines[0], *noise, lines[1]]))[:-6000])
    for n in (1, 2):
        assert contamination(make_config(tmp_path, texts=[str(folder)], out=str(tmp_path / str(n)), num_workers=n)) == 0
    said = capsys.readouterr().out
    assert outputs(tmp_path / "1") == outputs(tmp_path / "2")
    text = json.loads((tmp_path / "1" / "report.json").read_text())["text"]
    assert {reason: row["num"] for reason, row in text["skipped"].items()} == {
        "cut_off": 2, "no_json": 3, "no_text": 2
    }  # fmt: skip
    assert "not searched, no_json: 3; the first: " in said and "a.jsonl:2: no JSON" in said and "cut.jsonl.gz" in said
    rows = read_list(tmp_path / "1" / "contaminated.jsonl")
    assert len(rows) == len(ROWS) and rows[0]["documents"] == ["\\ud800"]
    assert text["num_contaminated"] == len(ROWS) + 2, "and the first row of each file that was cut off"


def test_made_up_ids_count_as_the_pipeline_does(tmp_path: Path) -> None:
    """A list over the pipeline's own input must not name its neighbours."""
    folder = tmp_path / "data" / "web"
    folder.mkdir(parents=True)
    page = json.dumps({"text": pages()[0]})
    (folder / "a.jsonl").write_text(f'\n{{"text": "a"}}\n\n{{"text"\n{page}\n')
    contamination(make_config(tmp_path, texts=[str(tmp_path / "data")]))
    (document,) = read_list(tmp_path / "out" / "documents.jsonl")
    shards = list_shards({"web": Source(path=str(folder))}, 1 << 20)
    ids = [d.id for shard in shards for d in read_input(shard) if pages()[0].encode() in d.meta.get("plain", b"")]
    assert ids == [document["id"]] == ["web/a.jsonl#4"]


def test_text_in_a_folder_named_like_a_set_is_searched(tmp_path: Path) -> None:
    """Only the very set is not looked for in itself, not all that has its name."""
    copies = write_sets(tmp_path / "mine", {"english": ENGLISH[1:2]})
    contamination(make_config(tmp_path, texts=[str(copies)]))
    assert [r["doc_id"] for r in read_list(tmp_path / "out" / "contaminated.jsonl")] == [1]
    rows = [{"text": row["question"]} for row in ENGLISH]
    own = write_lines(tmp_path / "plain.jsonl", rows)
    other = write_lines(tmp_path / "other.jsonl", rows[:1])
    config = make_config(tmp_path, items=[str(own)], texts=[str(own), str(other)], out=str(tmp_path / "plain"))
    contamination(config)
    assert [r["documents"] for r in read_list(tmp_path / "plain" / "contaminated.jsonl")] == [["other.jsonl#0"]]


def test_an_import_that_was_killed_is_not_searched_for(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    (tmp_path / "items" / "plan.json").write_text("{}")
    with pytest.raises(UserError, match="items is not complete .*python -m eval import"):
        contamination(config)


@pytest.mark.skipif(not (BENCH / "agieval").is_dir(), reason="the benchmarks are not there")
def test_known_overlaps_are_found(tmp_path: Path) -> None:
    """LogiQA is part of AGIEval in both languages, and 1,000 of its problems are MATH's."""
    importing = pytest.importorskip("eval.importing.run")
    data = tmp_path / "data"
    data.mkdir()
    for name in ("agieval", "logiqa", "math"):
        (data / name).symlink_to(BENCH / name)
    assert importing.import_sets(importing.ImportConfig(data=str(data), out=str(tmp_path / "sets"))) == 0
    sets = tmp_path / "sets"
    texts = [str(sets / "logiqa"), str(sets / "math")]
    contamination(ContaminationConfig(items=[str(sets / "agieval")], texts=texts, out=str(tmp_path / "out")))
    rows = [json.loads(line) for line in (sets / "agieval" / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {row["doc_id"] for row in read_list(tmp_path / "out" / "contaminated.jsonl")}
    counts = {name: sum(rows[i]["subject"] == name for i in found) for name in ("logiqa-en", "logiqa-zh", "math")}
    assert counts == {"logiqa-en": 651, "logiqa-zh": 651, "math": 1000}
