"""The tokenizer report: numbers of tokenizers side by side, a safe page of one file, the same from the same text."""

from __future__ import annotations

import html.parser
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from rich.console import Console
from tokenizers import decoders, models, pre_tokenizers, trainers

from mindllm.cli import Verb, main
from mindllm.config import RunFailed, UserError, load
from mindllm.tokenizer.bytelevel import byte_names
from mindllm.tokenizer.fast import write_twin
from mindllm.tokenizer.pieces import train_model
from mindllm.tokenizer.report import (
    Line,
    ReportConfig,
    lines_of,
    numbers,
    plot,
    render,
    report,
    show_percent,
    write_table,
)
from mindllm.tokenizer.sample import is_drawn
from tests.clean_documents import Row, write_stage

EVIL = "<script>alert('茶')</script>"
SENTENCES = {
    "en": "The ferry leaves at seven and comes back at noon, if the wind allows it.",
    "zh-Hans": "渡船早上七点开，风小的时候中午回来。奶奶把种子收在铁盒里。",
    "zh-Hant": "渡船早上七點開，風小的時候中午回來。奶奶把種子收在鐵盒裡。",
    "other": "Die Fähre legt um sieben ab. 渡し船は七時に出ます。",
}
SOURCES = ("web", f"书籍{EVIL}")


def rows() -> list[Row]:
    """Twelve documents a language, in two sources; one holds what could break a page."""
    return [
        Row(lang, SOURCES[n % 2], f"{lang}-{n}", f"{text} {n}\n{EVIL if n == 0 else ''}")
        for lang, text in SENTENCES.items()
        for n in range(12)
    ]


def write_byte_level(folder: Path) -> None:
    """A byte-level BPE of bytes, 40 merges of the texts, and a token that could break a page."""
    fast = tokenizers.Tokenizer(models.BPE())
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=296, initial_alphabet=sorted(byte_names()), show_progress=False)
    fast.train_from_iterator([row.text.replace(EVIL, "") for row in rows()], trainer)
    fast.add_tokens([EVIL])
    folder.mkdir()
    fast.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with documents and a tokenizer of ours; a folder `theirs` beside it."""
    top = tmp_path_factory.mktemp("report")
    write_stage(top / "run" / "refine", rows(), 3)
    (top / "run" / "tokenizer").mkdir()
    model = train_model((line for row in rows() for line in row.text.split("\n") if line), 400, 1.0)
    (top / "run" / "tokenizer" / "tokenizer.model").write_bytes(model)
    write_twin(top / "run" / "tokenizer")
    write_byte_level(top / "theirs")
    return top / "run"


def config(run: Path, **more: Any) -> ReportConfig:
    named = {"ours": "{run}/tokenizer", EVIL: str(run.parent / "theirs")}
    text = json.dumps({"run": str(run), "tokenizers": named, **more}, ensure_ascii=False)
    path = run.parent / "report.yaml"
    path.write_text(text)  # JSON is YAML
    return load(ReportConfig, path)


@pytest.fixture(scope="module")
def facts(run: Path) -> dict[str, Any]:
    """What report.json holds of the two tokenizers."""
    assert report(config(run)) == 0
    found: dict[str, Any] = json.loads((run / "tokenizer_report" / "report.json").read_text())
    return found


def without_speed(value: Any) -> Any:
    """A JSON value without the one number that changes."""
    if isinstance(value, dict):
        return {key: without_speed(v) for key, v in value.items() if key != "mb_per_second"}
    return [without_speed(v) for v in value] if isinstance(value, list) else value


def test_numbers_hold_for_every_language_source_and_tokenizer(facts: dict[str, Any]) -> None:
    assert [(c["language"], c["source"]) for c in facts["cells"]] == [
        (lang, source) for lang in ("zh-Hans", "zh-Hant", "en", "other") for source in sorted(SOURCES)
    ]
    assert facts["text"]["documents"] == 48 and facts["text"]["bytes"] == sum(len(r.text.encode()) for r in rows())
    for name in facts["tokenizers"]:
        for line in lines_of(facts):
            found, cells = numbers(facts, name, line), [c for c in facts["cells"] if line.holds(c)]
            tokens = sum(numbers(facts, name, Line(c["language"], c["source"]))["tokens"] for c in cells)
            assert found["tokens"] == tokens
            assert found["bytes_per_token"] == pytest.approx(sum(c["bytes"] for c in cells) / tokens)
            assert found["characters_per_token"] == pytest.approx(sum(c["characters"] for c in cells) / tokens)
            assert found["tokens_per_unit"] == pytest.approx(tokens / sum(c["units"] for c in cells))
            assert 0 <= found["partial_share"] <= 1 and found["round_trip"] == 1.0 and found["mb_per_second"] > 0


def test_vocabularies_are_counted_whole(facts: dict[str, Any]) -> None:
    ours, theirs = facts["tokenizers"].values()
    assert (ours["vocab_size"], theirs["vocab_size"]) == (400, 297)
    assert ours["embedding_millions"] == {"768": 400 * 768 / 1e6, "2560": 400 * 2560 / 1e6}
    for tokenizer in (ours, theirs):
        assert sum(tokenizer["kinds"].values()) == tokenizer["vocab_size"]
        used = round(tokenizer["all"]["vocabulary_share"] * tokenizer["vocab_size"])
        special = tokenizer["kinds"]["special"]
        assert tokenizer["unused"]["tokens"] + used == tokenizer["vocab_size"] - special
    assert ours["kinds"]["bytes"] == 256 and ours["kinds"]["special"] == 23
    assert ours["learned_from"] == theirs["learned_from"] == "not known"


def test_the_same_text_gives_the_same_numbers_and_the_same_numbers_the_same_page(
    run: Path, facts: dict[str, Any], tmp_path: Path
) -> None:
    report(config(run, out=str(tmp_path / "again")))
    again = json.loads((tmp_path / "again" / "report.json").read_text())
    assert without_speed(again) == without_speed(facts)
    assert render(facts) == (run / "tokenizer_report" / "report.html").read_text() == render(facts)


def test_a_done_report_shows_its_table_again(
    run: Path, facts: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "tokenizer_report" / "report.json").read_bytes()
    report(config(run))
    shown = capsys.readouterr().out
    assert "done before" in shown and "bytes per token" in shown and "report.html" in shown
    assert (run / "tokenizer_report" / "report.json").read_bytes() == before
    with pytest.raises(UserError, match="bytes_per_cell: 2000000 -> 500"):
        report(config(run, bytes_per_cell=500))


def test_less_text_is_drawn_where_less_is_asked(run: Path, tmp_path: Path) -> None:
    report(config(run, bytes_per_cell=200, out=str(tmp_path / "out")))
    cells = json.loads((tmp_path / "out" / "report.json").read_text())["cells"]
    assert len(cells) == 8 and all(1 <= cell["documents"] < 6 and 200 <= cell["bytes"] < 500 for cell in cells)
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["counts"] == {"in": sum(c["bytes"] for c in cells), "out": 2, "unit": "bytes -> tokenizers"}
    with pytest.raises(RunFailed, match="force=true"):
        (tmp_path / "out" / "report.json").unlink()
        report(config(run, bytes_per_cell=200, out=str(tmp_path / "out")))


def test_documents_that_ours_was_learned_from_are_left_out_or_named(run: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "token_bytes.npy"):
        (tmp_path / "tokenizer").mkdir(exist_ok=True)
        (tmp_path / "tokenizer" / name).write_bytes((run / "tokenizer" / name).read_bytes())
    counts = {"sample": {"zh": {"share": 0.5}, "en": {"share": 1.0}}}
    meta = {"stage": "tokenizer", "hash": "1", "config": {"seed": 1}, "counts": counts}
    meta["inputs"] = {"documents": "0123456789abcdef"}
    (tmp_path / "tokenizer" / "meta.json").write_text(json.dumps(meta))
    report(config(run, tokenizers={"ours": str(tmp_path / "tokenizer")}, out=str(tmp_path / "out")))
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {c["language"] for c in facts["cells"] if not c["unseen"]} == {"en"}
    chinese = [row for row in rows() if row.lang.startswith("zh")]
    left = sum(not is_drawn(row.id, 0.5, 1) for row in chinese)
    assert sum(c["documents"] for c in facts["cells"] if c["language"].startswith("zh")) == left < len(chinese)
    page = render(facts)
    assert "in 2 of the 8 languages and sources" in page and "a sample of these documents" in page
    assert "its numbers flatter it" not in render({**facts, "cells": [{**c, "unseen": True} for c in facts["cells"]]})


def test_what_is_not_on_this_machine_is_left_out_and_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    named = {"ours": "{run}/tokenizer", "gpt-4": "tiktoken:cl100k_base"}
    report(config(run, tokenizers=named, out=str(tmp_path / "out")))
    assert "gpt-4 is left out: its file is not on this machine" in capsys.readouterr().out
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(facts["tokenizers"]) == ["ours"] and "cl100k_base.tiktoken" in facts["left_out"]["gpt-4"]
    assert "</b> is left out: its file" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(UserError, match="none of them can be opened"):
        report(config(run, tokenizers={"gpt-4": "tiktoken:cl100k_base"}, out=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_the_table_on_the_screen(facts: dict[str, Any]) -> None:
    out = io.StringIO()
    write_table(facts, Console(file=out, width=200))
    lines = [line.rstrip() for line in out.getvalue().split("\n")]
    assert lines[0].strip() == "bytes per token" and lines[1].split() == [
        "language",
        "source",
        "text",
        "ours",
        *EVIL.split(),
    ]
    assert [line.split()[0] for line in lines[2:-1] if line] == ["zh-Hans"] * 3 + ["zh-Hant"] * 3 + ["en"] * 3 + [
        "other"
    ] * 3 + ["all"]
    assert f"{facts['tokenizers']['ours']['all']['bytes_per_token']:.2f}" in lines[-2]


class Page(html.parser.HTMLParser):
    """The elements of a page, the text of those that are looked at, and every element's nesting."""

    VOID = ("meta", "br")

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_whole_safe_and_needs_no_network(facts: dict[str, Any]) -> None:
    text = render(facts)
    page = Page(text)
    assert not page.open and "script" not in {tag for tag, _ in page.elements}
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none';") and "script-src" not in policy
    for tag, attributes in page.elements:
        assert not {"src", "href", "srcset", "action"} & set(attributes), tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not re.search(r"url\(|@import|https?:", text)
    shown = "".join(page.texts)
    assert EVIL in shown and SOURCES[1] in shown  # names, sources and tokens, as text


def test_the_page_shows_tokens_plots_and_both_kinds_of_chinese(facts: dict[str, Any]) -> None:
    text = render(facts)
    assert text.count('<table class="plot">') == 2 and 'role="img"' in text
    assert 'class="token" lang="zh-Hans"' in text or 'class="token" lang="zh-Hant"' in text
    for word in (
        "How to read it",
        "Longest tokens",
        "In none of this text",
        "zh-Hant",
        "Bytes per token by source",
    ):
        assert word in text


def test_a_page_of_many_tokenizers_tells_them_apart(facts: dict[str, Any]) -> None:
    many = {**facts, "tokenizers": {f"number {n}": facts["tokenizers"]["ours"] for n in range(20)}}
    signs = set(re.findall(r'<path class="dot (c\d)" d="([^"]+)"', render(many)))
    assert len(signs) == 18  # six colours, three shapes


def test_plots_have_round_marks_and_places_in_range(facts: dict[str, Any]) -> None:
    for lines in ([Line(None, None)], lines_of(facts)):
        drawn = plot(facts, lines)
        places = [float(dot["x"]) for row in drawn["rows"] for dot in row["dots"]]
        marks = [float(mark["label"]) for mark in drawn["marks"]]
        assert all(0 < x <= 100 for x in places) and 2 <= len(marks) <= 10 and marks[0] == 0
        assert drawn["marks"][-1]["x"] == "100.00"
        for row in drawn["rows"]:
            for dot in row["dots"]:
                assert float(dot["x"]) == pytest.approx(100 * dot["value"] / marks[-1], abs=0.01)


def test_all_and_none_are_exact() -> None:
    assert [show_percent(x) for x in (0.0, 1e-9, 0.5, 0.123456, 1 - 1e-9, 1.0)] == [
        "0%", "0.01%", "50.00%", "12.35%", "99.99%", "100%",
    ]  # fmt: skip


def test_wrong_configs_say_what_is_wrong(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verbs = {"report": Verb(ReportConfig, report)}
    wrong = {"tokenizers": {"a\nb": "x", "": "y", "n" * 41: "z"}, "bytes_per_cell": 0}
    (run.parent / "wrong.yaml").write_text(json.dumps(wrong))
    assert main("python -m mindllm.tokenizer", verbs, ["report", str(run.parent / "wrong.yaml")]) == 2
    shown = capsys.readouterr().err
    assert shown.count("is no name") == 3 and "bytes_per_cell: must be 1 or more" in shown
    with pytest.raises(UserError, match="name at least one"):
        config(run, tokenizers={})
    with pytest.raises(UserError, match="no such folder"):
        report(config(run, tokenizers={"x": str(run / "absent")}))
    with pytest.raises(UserError, match="make it first: python -m data_pipeline refine"):
        report(config(run, documents=str(run / "absent")))
