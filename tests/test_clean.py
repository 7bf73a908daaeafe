"""The verbs clean and refine: what becomes of each document, counts that add up, the same bytes however they run."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_pipeline.clean import apply, clean, dropped_row, refine, stage_shards
from data_pipeline.config import DataConfig, Source
from data_pipeline.dedup import dedup
from data_pipeline.document import Document, Drop
from data_pipeline.parquet import read_documents
from data_pipeline.sources import Overrides
from data_pipeline.stats import Stats, add_up
from data_pipeline.workers import WorkersConfig
from mindllm.config import UserError, load
from mindllm.stage import read_json

ONE = WorkersConfig(num_workers=1)

CHINESE = "春天来了，河边的柳树发芽了，老人坐在门口慢慢地喝茶，孩子们在田野里放风筝。"
TRADITIONAL = "臺灣的夏天很熱，漁夫們清晨出海，傍晚才回到港口，把鮮魚賣給鎮上的人們。"
ENGLISH = "The river runs past the old mill, and a small boat lies in the harbour before the rain. "
SETTINGS = {"html": {}, "density": {"min_density": 0.1, "min_han": 20, "min_words": 10}}
REFINE = {"sensitive": {}, "pii": {}, "repetition": {}}


def page(text: str) -> bytes:
    return f"<html><head><title>题 Title</title></head><body><main><p>{text}</p></main></body></html>".encode()


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """A small web: pages in both languages, lines of JSON, an e-mail address, a copy, a short page, broken files."""
    web = tmp_path / "web"
    line = json.dumps({"text": ENGLISH, "url": "https://C.example/x"}).encode()
    pages = {
        "a.example/1.html": page(CHINESE),
        "a.example/2.html": page(TRADITIONAL),
        "a.example/3.html": page(ENGLISH * 2),
        "b.example/1.html": page(ENGLISH + "Write to anna.lee@river.org for more."),
        "b.example/copy.html": page(CHINESE),
        "b.example/short.html": page("短 short"),
        "b.example/logo.png": b"PNG",
        "b.example/empty.html": b"",
        "c.jsonl": line + b"\n{\n" + line + b"\n{",
    }
    for name, data in pages.items():
        (web / name).parent.mkdir(parents=True, exist_ok=True)
        (web / name).write_bytes(data)
    run = str(tmp_path / "run")
    return DataConfig(
        {"web": Source(str(web))},
        SETTINGS,
        REFINE,
        run=run,
        workers=ONE,
        shard_bytes=300,
        document_seconds=0,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a stage but meta.json, which holds a time."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    assert found.pop("meta.json")
    return found


def reasons(folder: Path) -> dict[str, str]:
    """Id to reason, of all dropped documents."""
    rows = [row for p in sorted((folder / "dropped").glob("*.parquet")) for row in pq.read_table(p).to_pylist()]
    return {row["id"]: row["reason"] for row in rows}


def kept(folder: Path) -> list[Document]:
    return [d for shard in stage_shards(folder) for d in read_documents(shard.path)]


def test_apply() -> None:
    def shout(document: Document) -> Document:
        return replace(document, text=document.text.upper())

    def fail(document: Document) -> Document:
        raise KeyError(document.id)

    def refuse(document: Document) -> Drop:
        return Drop("rule:没用")

    document = Document("你好 hello", "1", "http://a.example/", "a.example", "en")
    assert apply(document, {}) == (document, None)
    assert apply(document, {"a": shout, "b": shout}) == (replace(document, text="你好 HELLO"), None)
    assert apply(document, {"a": shout, "b": refuse, "c": fail}) == (
        replace(document, text="你好 HELLO"),
        Drop("rule:没用"),
    )
    assert apply(document, {"a": shout, "b": fail, "c": refuse})[1] == Drop("error:b:KeyError")
    broken = Document("detail", "2", meta={"broken": "read:unreadable"})
    assert apply(broken, {"a": fail}) == (broken, Drop("read:unreadable"))
    columns = {
        "id": "1",
        "url": "http://a.example/",
        "site": "a.example",
        "lang": "en",
        "source": "",
        "text": "你好 hello",
    }
    document.meta["density"] = 0.5
    assert dropped_row(document, "rule:x") == {**columns, "reason": "rule:x", "meta": '{"density": 0.5}'}


def test_clean(config: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean(config) == 0
    folder = config.folder("clean")
    found = {d.id.removeprefix("web/"): d for d in kept(folder)}
    assert set(found) == {f"a.example/{i}.html" for i in (1, 2, 3)} | {
        "b.example/1.html", "b.example/copy.html", "c.jsonl#0", "c.jsonl#2",
    }  # fmt: skip
    assert {d.lang for d in found.values()} == {"zh-Hans", "zh-Hant", "en"}
    assert found["a.example/1.html"].text == CHINESE and found["a.example/2.html"].text == TRADITIONAL
    assert (found["c.jsonl#2"].site, found["c.jsonl#2"].source) == ("c.example", "web")
    dropped = reasons(folder)
    assert {k.removeprefix("web/"): v for k, v in dropped.items() if v.startswith("read:")} == {
        "b.example/logo.png": "read:unknown_format", "c.jsonl#1": "read:bad_json", "c.jsonl#3": "read:bad_json",
    }  # fmt: skip
    assert dropped["web/b.example/empty.html"] == "html:empty" and len(dropped) == 5
    stats, meta = Stats(read_json(folder / "stats.json")), read_json(folder / "meta.json")
    assert (meta["counts"]["in"], meta["counts"]["out"], meta["counts"]["unit"]) == (12, 7, "documents")
    assert stats.documents(kept=True) == 7 and stats.text_bytes() == sum(len(d.text.encode()) for d in found.values())
    assert add_up(sorted((folder / "stats").iterdir())).counts == stats.counts
    assert "zh-Hant" in capsys.readouterr().out
    assert clean(config) == 0 and "done before" in capsys.readouterr().out


def test_any_number_of_workers_writes_the_same_bytes(config: DataConfig, tmp_path: Path) -> None:
    for number in (1, 2):
        run = replace(
            config, run=str(tmp_path / f"run{number}"), workers=WorkersConfig(num_workers=number), document_seconds=30
        )
        clean(run)
        dedup(replace(run, workers=ONE))  # has a test of its own
        refine(run)
    for stage in ("clean", "dedup", "refine"):
        assert contents(tmp_path / "run1" / stage) == contents(tmp_path / "run2" / stage)


def test_resume_after_any_subset_of_finished_shards(config: DataConfig) -> None:
    """A shard is done, has its counts, only its dropped documents, or nothing: all combinations end the same way."""
    clean(config)
    folder = config.folder("clean")
    expected = contents(folder)
    shutil.copytree(folder, folder.with_name("whole"))
    shards = [s.name for s in stage_shards(folder)]
    assert len(shards) == 4
    for number, state in enumerate(itertools.product(range(4), repeat=len(shards))):
        if number % 7:  # a part of the 256 that holds all combinations of any two shards
            continue
        for name, missing in zip(shards, state, strict=True):
            order = [f"{name}.parquet", f"stats/{name}.json", f"dropped/{name}.parquet"]
            for file in order[:missing]:
                (folder / file).unlink()
        (folder / "stats.json").unlink()
        (folder / "meta.json").unlink()
        assert clean(config) == 0 and contents(folder) == expected, state


def test_every_bad_input_is_counted_and_none_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file becomes at least one document, kept or dropped; broken ones are told at the end, with their reasons."""
    monkeypatch.setattr("data_pipeline.reading.input_shard.MAX_DOCUMENT_BYTES", 3_000_000)
    bombs = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    laughs = f'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY e0 "哈">{bombs}]><html><body>&e9;</body></html>'
    whole = page(CHINESE)
    inputs = {
        "clipped.html.gz": gzip.compress(whole)[:-9],
        "deep.html": b"<div>" * 100_000 + whole,
        "empty.html": b"",
        "empty.jsonl": b"",
        "entities.html": b"<html><body><p>" + b"&amp;" * 500_000 + whole,
        "good.html": whole,
        "good.jsp": whole,
        "good.php?id=3": page(TRADITIONAL),
        "huge.html": b"<p>" + "长 long ".encode() * 400_000,
        "image.html": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9,
        "laughs.xhtml": laughs.encode(),
        "mixed.html": page(CHINESE) + page(CHINESE).decode().encode("gb18030") + TRADITIONAL.encode("big5"),
        "not-gzip.html.gz": whole,
        "nul.html": whole.replace(b"<p>", b"<p>\0\0"),
        "paper.pdf": b"%PDF-1.4",
        "rows.html": json.dumps({"text": CHINESE * 3}).encode(),
        "utf16.html": whole.decode().encode("utf-16-le"),
        "zeros.html.gz": gzip.compress(bytes(4_000_000)),
        "zeros.txt": bytes(100_000),
        os.fsdecode("目录".encode("gb18030")) + ".html": whole,
        "页.TXT": CHINESE.encode(),
    }
    web = tmp_path / "web"
    web.mkdir()
    for name, data in inputs.items():
        (web / name).write_bytes(data)
    (web / "nowhere.html").symlink_to("nothing")
    config = DataConfig({"web": Source(str(web))}, SETTINGS, {}, str(tmp_path / "run"), workers=ONE)
    config.document_seconds = 0
    assert clean(config) == 0
    dropped, good = reasons(config.folder("clean")), {d.id for d in kept(config.folder("clean"))}
    assert good | set(dropped) == {f"web/{name.encode('utf-8', 'backslashreplace').decode()}" for name in inputs} - {
        "web/empty.jsonl", "web/rows.html",
    } | {"web/nowhere.html", "web/rows.html#0"}  # fmt: skip
    assert {k.removeprefix("web/"): v for k, v in dropped.items() if not v.startswith(("html:", "density:"))} == {
        "clipped.html.gz": "read:unreadable", "nowhere.html": "read:unreadable", "image.html": "read:unknown_format",
        "paper.pdf": "read:unknown_format", "huge.html": "read:too_large", "zeros.html.gz": "read:too_large",
    }  # fmt: skip
    names = ["good.html", "good.jsp", "good.php?id=3", "not-gzip.html.gz", "rows.html#0", "页.TXT", "utf16.html"]
    assert {f"web/{name}" for name in names} <= good
    out = capsys.readouterr().out
    assert (
        "not read: 6 (" in out and "read:unknown_format 2" in out and str(tmp_path / "run" / "clean" / "dropped") in out
    )


def test_a_lone_surrogate_is_an_error_of_its_document_only(tmp_path: Path) -> None:
    """Parquet would refuse the whole row group; a title or date from JSON inside a page may hold one."""
    document = Document("正文", "1", meta={"title": "\ud800题"})
    assert apply(document, {})[1] == Drop("error:clean:lone_surrogate")
    assert dropped_row(document, "x")["meta"] == '{"title": "\\ud800题"}'


def test_another_plan_is_refused_and_forced(config: DataConfig, tmp_path: Path) -> None:
    clean(config)
    before = contents(config.folder("clean"))
    strict = {"html": {}, "density": {**SETTINGS["density"], "min_words": 30}}
    content = {"web": replace(config.sources["web"], text_field="content")}
    changes: dict[str, dict[str, Any]] = {
        "config.clean.density.min_words: 10 -> 30": {"clean": strict},
        'inputs.web.text_field: "text" -> "content"': {"sources": content},
        "config.shard_bytes: 300 -> 301": {"shard_bytes": 301},
    }
    for message, change in changes.items():
        with pytest.raises(UserError, match="force=true") as caught:
            clean(replace(config, **change))
        assert message in str(caught.value) and contents(config.folder("clean")) == before
    page_path = Path(config.sources["web"].path) / "a.example" / "1.html"
    page_path.write_bytes(page(CHINESE + "。"))
    with pytest.raises(UserError, match="inputs.web.hash"):
        clean(config)
    page_path.write_bytes(page(CHINESE))
    clean(replace(config, clean=strict, force=True))
    fresh = replace(config, clean=strict, run=str(tmp_path / "fresh"))
    clean(fresh)
    assert contents(config.folder("clean")) == contents(fresh.folder("clean")) != before


def test_refine_after_dedup(config: DataConfig) -> None:
    with pytest.raises(UserError, match="dedup does not exist .* make it first: python -m data_pipeline dedup CONFIG"):
        refine(config)
    clean(config)
    dedup(config)
    assert refine(config) == 0
    found = {d.id: d for d in kept(config.folder("refine"))}
    before = {d.id: d for d in kept(config.folder("dedup"))}
    assert set(found) <= set(before) and read_json(config.folder("refine") / "meta.json")["counts"]["in"] == len(before)
    assert "web/b.example/copy.html" not in before and found["web/a.example/1.html"].text == CHINESE
    assert "<|email|>" in found["web/b.example/1.html"].text and "anna.lee" not in found["web/b.example/1.html"].text
    assert all(found[k].meta["cluster"] == before[k].meta["cluster"] for k in found)


def test_a_changed_lexicon_is_another_plan(config: DataConfig, tmp_path: Path) -> None:
    lexicon = tmp_path / "lexicon.tsv"
    shutil.copyfile(Path(__file__).parent.parent / "data_pipeline" / "cleaners" / "lexicon.tsv", lexicon)
    clean(config)
    dedup(config)
    config = replace(config, refine={"sensitive": {"lexicon": str(lexicon)}})
    refine(config)
    lexicon.write_bytes(lexicon.read_bytes() + b"\n")
    with pytest.raises(UserError, match="lexicon.tsv"):
        refine(config)


def test_mistakes_in_the_config_are_named(tmp_path: Path) -> None:
    def refusal(*overrides: str) -> str:
        with pytest.raises(UserError) as caught:
            load(DataConfig, None, ["sources.网.path=x", "clean={}", "refine={}", *overrides])
        return str(caught.value)

    wrong = refusal("dedup.bands=200", "shard.valid_fraction=1", "dedup.threshold=.nan", "shard.max_tokens_per_file=0")
    for message in (
        "dedup.bands x rows = 1600",
        "shard.valid_fraction: 1.0",
        "dedup.threshold: nan",
        "shard.max_tokens",
    ):
        assert f"  {message}" in wrong
    cleaners = "clean={htm: {}, density: {min_hann: 3, min_words: x}, html: 5}"
    wrong = refusal(cleaners, "sources.a/b.path=x", "shard_bytes=0")
    for message in ("clean.htm: unknown cleaner", "clean.density.min_hann: unknown key; did you mean 'min_han'?",
                    "clean.density.min_words: expected int", "clean.html: expected keys and values, got int 5",
                    "sources.a/b: use letters", "shard_bytes must be 1 or more"):  # fmt: skip
        assert f"  {message}" in wrong
    assert "  sources: name at least one" in refusal("sources={}")


def test_sources_and_subsets_are_cleaned_by_their_own_rules(tmp_path: Path) -> None:
    """In refine, too, where a document's source is known from the document only."""
    lines = [
        ("Code", "Write to anna@river.org or 93.184.216.34"),
        ("诗", "写信到 li@river.org 或 93.184.216.35"),
        ("", "寫信到 wu@river.org 或 93.184.216.36"),
    ]
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps({"text": text, "kind": kind}) + "\n" for kind, text in lines), encoding="utf-8")
    (tmp_path / "other.txt").write_text("Ask bo@river.org about 93.184.216.37.")
    subsets = {"code": Overrides(refine={"pii": False}), "诗": Overrides(refine={"pii": {"email": False, "ip": True}})}
    mails = Source(str(path), subset_field="kind", subsets=subsets, refine={"pii": {"ip": False}})
    sources = {"mails": mails, "web": Source(str(tmp_path / "other.txt"))}
    config = DataConfig(sources, {"html": {}}, {"pii": {}}, str(tmp_path / "run"), workers=ONE, document_seconds=0)
    assert clean(config) == dedup(config) == refine(config) == 0
    assert {d.source: d.text for d in kept(config.folder("refine"))} == {
        "mails-code": "Write to anna@river.org or 93.184.216.34",
        "mails-诗": "写信到 li@river.org 或 <|ip|>",
        "mails": "寫信到 <|email|> 或 93.184.216.36",
        "web": "Ask <|email|> about <|ip|>.",
    }
