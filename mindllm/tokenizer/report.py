"""Verb report: tokenizers side by side on the same text, as numbers, as a table on the screen and as one HTML page.

It answers what a tokenizer costs and buys: bytes a token by language and source (context length and training time),
rows of the embedding (parameters), text that does not come back, and what the vocabulary is spent on. The page needs no
network and no script; everything on it is in report.json, and only the speeds there change from run to run.
Cost: encoding and decoding bytes_per_cell for every language of every source with every tokenizer, some 3 MB/s each.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mindllm import page
from mindllm.config import RunFailed, UserError
from mindllm.stage import Stage, read_json, require, write_json, write_text
from mindllm.tokenizer import vocabulary
from mindllm.tokenizer.measure import Measured, measure
from mindllm.tokenizer.others import Absent, Opened, open_tokenizer
from mindllm.tokenizer.sample import LINE_SECONDS
from mindllm.tokenizer.unseen import MAX_DOCUMENT_BYTES, Cell, Seen, draw, learned_from, read

TEMPLATE = Path(__file__).with_name("report.html.j2")
NUMBERS, PAGE = "report.json", "report.html"
HIDDEN_SIZES = (768, 2560)  # of a small model and of the 3B
MAX_NAME = 40  # characters of a tokenizer's name: it heads a column
_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # between the marks of a plot
_MAX_MARKS = 8
_ROW, _LANE = 26, 5.0  # pixels: height of a row of a plot, most between the dots of two tokenizers


@dataclass
class ReportConfig:
    """Tokenizers compared on clean text.

    documents: a complete stage folder of Parquet shards.  tokenizers: name -> folder (ours; Hugging Face's with
    tokenizer.json, or vocab.json and merges.txt; SentencePiece's with tokenizer.model), or tiktoken:ENCODING, left out
    where its file is not on this machine.  bytes_per_cell: text measured of each language of each source, at most.
    out: where report.json and report.html go.  seed: which documents are drawn.
    """

    run: str = "runs/demo"
    documents: str = "{run}/refine"
    tokenizers: dict[str, str] = field(default_factory=lambda: {"ours": "{run}/tokenizer"})
    bytes_per_cell: int = 2_000_000
    out: str = "{run}/tokenizer_report"
    seed: int = 1
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if not self.tokenizers:
            yield "tokenizers: name at least one (NAME: FOLDER)"
        for name in self.tokenizers:
            if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
                yield f"tokenizers: {name[:60]!r} is no name (1 to {MAX_NAME} visible characters)"
        if self.bytes_per_cell < 1:
            yield "bytes_per_cell: must be 1 or more"


class Line(NamedTuple):
    """A line of the tables: one language of one source, all sources of a language, or all text (both None)."""

    language: str | None
    source: str | None

    def holds(self, cell: Mapping[str, Any]) -> bool:
        """Whether the text of a cell is part of this line's."""
        return self.language in (None, cell["language"]) and self.source in (None, cell["source"])


def report(config: ReportConfig) -> int:
    """Compare tokenizers on clean text: a table on the screen, report.json, report.html."""
    before = require(config.documents, "python -m data_pipeline refine CONFIG")
    opened, left_out = open_all(config.tokenizers)
    prints = {n: opened[n].fingerprint if n in opened else "left out" for n in config.tokenizers}
    settings = {"bytes_per_cell": config.bytes_per_cell, "seed": config.seed}
    stage = Stage(config.out, "tokenizer_report", settings, {"documents": before["hash"], "tokenizers": prints})
    if stage.start(config.force):
        facts = collect(config, before["hash"], opened, left_out)
        write_json(stage.folder / NUMBERS, facts)
        write_text(stage.folder / PAGE, render(facts))
        stage.finish(**{"in": facts["text"]["bytes"], "out": len(opened), "unit": "bytes -> tokenizers"})
    facts = read_json(stage.folder / NUMBERS)
    if facts is None:
        raise RunFailed(f"{stage.folder}: {NUMBERS} is gone; add force=true to make it again")
    if not (stage.folder / PAGE).exists():
        write_text(stage.folder / PAGE, render(facts))
    write_table(facts)
    print(f"tokenizer report: {stage.folder / PAGE}", flush=True)
    return 0


def open_all(tokenizers: dict[str, str]) -> tuple[dict[str, Opened], dict[str, str]]:
    """The tokenizers by name, and the reasons of those that are left out; UserError where none is left."""
    found = {name: open_tokenizer(what) for name, what in tokenizers.items()}
    left_out = {name: result.reason for name, result in found.items() if isinstance(result, Absent)}
    for name, reason in left_out.items():
        print(f"tokenizer report: {name} is left out: {reason}", flush=True)
    opened = {name: result for name, result in found.items() if isinstance(result, Opened)}
    if not opened:
        raise UserError("tokenizers: none of them can be opened here; name a folder with a tokenizer in it")
    return opened, left_out


def collect(config: ReportConfig, hash: str, opened: dict[str, Opened], left_out: dict[str, str]) -> dict[str, Any]:
    """All numbers of the report, as JSON."""
    learned = {name: learned_from(config.tokenizers[name], hash) for name in opened}
    seen: list[Seen] = [text.seen for text in learned.values() if text.seen is not None]
    drawn = draw(config.documents, config.bytes_per_cell, config.seed, seen)
    print(f"tokenizer report: {drawn.num_bytes / 1e6:.1f} MB of text, {len(opened)} tokenizers", flush=True)
    measured = measure(opened, _with_news(read(config.documents, drawn, seen), drawn.num_bytes))
    cells = [
        {**cell._asdict(), **asdict(measured.texts[cell]), "unseen": cell in drawn.unseen} for cell in drawn.limits
    ]
    return {
        "run": Path(config.run).name,
        "documents": Path(config.documents).as_posix(),
        "bytes_per_cell": config.bytes_per_cell,
        "max_document_bytes": MAX_DOCUMENT_BYTES,
        "text": {key: sum(cell[key] for cell in cells) for key in ("documents", "bytes", "characters", "units")},
        "cells": cells,
        "tokenizers": {
            name: {"what": config.tokenizers[name], "learned_from": learned[name].words, **facts_of(name, measured)}
            for name in opened
        },
        "left_out": left_out,
    }


def _with_news(batches: Iterable[tuple[Cell, list[str]]], num_bytes: int) -> Iterator[tuple[Cell, list[str]]]:
    """The batches; where that takes long, a line a minute says how much is done."""
    last, done = time.monotonic(), 0
    for cell, texts in batches:
        yield cell, texts
        done += sum(len(text.encode()) for text in texts)
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            print(f"tokenizer report: {done / 1e6:.1f} of {num_bytes / 1e6:.1f} MB", file=sys.stderr, flush=True)


def facts_of(name: str, measured: Measured) -> dict[str, Any]:
    """The numbers of one tokenizer."""
    meter = measured.meters[name]
    opened, tokens = meter.opened, meter.opened.tokens
    languages = dict.fromkeys(cell.language for cell in measured.texts)
    sources = dict.fromkeys(cell.source for cell in measured.texts)
    return {
        "kind": opened.kind,
        "fingerprint": opened.fingerprint,
        "vocab_size": len(tokens),
        "embedding_millions": {str(size): len(tokens) * size / 1e6 for size in HIDDEN_SIZES},
        "all": measured.row(name),
        "languages": {language: measured.row(name, language) for language in languages},
        "sources": {source: measured.row(name, source=source) for source in sources},
        "cells": [{**cell._asdict(), **measured.row(name, *cell)} for cell in measured.texts],
        "not_exact": meter.failures,
        "kinds": vocabulary.count_kinds(tokens, opened.special, opened.single_bytes),
        "unused": meter.unused(),
        "longest": vocabulary.longest(tokens, opened.special),
        "junk": vocabulary.junk(tokens, opened.special),
    }


def lines_of(facts: dict[str, Any]) -> list[Line]:
    """The lines of the tables: the sources of each language (the order of the draw), the language, at last all text."""
    lines: list[Line] = []
    for language in dict.fromkeys(cell["language"] for cell in facts["cells"]):
        sources = [cell["source"] for cell in facts["cells"] if cell["language"] == language]
        lines += [*(Line(language, source) for source in sources), Line(language, None)]
    return [*lines, Line(None, None)]


def numbers(facts: dict[str, Any], name: str, line: Line) -> dict[str, float]:
    """What was measured for one line of the tables."""
    tokenizer = facts["tokenizers"][name]
    found: dict[str, float]
    if line.language is None:
        found = tokenizer["all"] if line.source is None else tokenizer["sources"][line.source]
    elif line.source is None:
        found = tokenizer["languages"][line.language]
    else:
        found = next(cell for cell in tokenizer["cells"] if (cell["language"], cell["source"]) == line)
    return found


def write_table(facts: dict[str, Any], console: Console | None = None) -> None:
    """Bytes a token on the screen: a line for each language and source, a column for each tokenizer."""
    table = Table(title="bytes per token", box=None, padding=(0, 2, 0, 0), pad_edge=False, title_justify="left")
    table.add_column("language", no_wrap=True)
    table.add_column("source", no_wrap=True)
    table.add_column("text", justify="right", no_wrap=True)
    for name in facts["tokenizers"]:
        table.add_column(escape(name), justify="right")
    for line in lines_of(facts):
        values = [numbers(facts, name, line)["bytes_per_token"] for name in facts["tokenizers"]]
        shown = [f"[bold]{value:.2f}[/]" if value == max(values) else f"{value:.2f}" for value in values]
        size = sum(cell["bytes"] for cell in facts["cells"] if line.holds(cell))
        head = (line.language or "all", escape(line.source or ""), page.show_bytes(size))
        table.add_row(*head, *shown, end_section=line.source is None, style="" if line.source is None else "dim")
    (console or Console()).print(table)


def render(facts: dict[str, Any]) -> str:
    """The page as HTML text; nothing goes in that is not in report.json."""
    names = list(facts["tokenizers"])
    languages = [line for line in lines_of(facts) if line.source is None]
    sources = [Line(None, source) for source in dict.fromkeys(cell["source"] for cell in facts["cells"])]
    return page.render(
        TEMPLATE,
        {"ratio": "{:.2f}".format, "percent": show_percent},
        facts=facts,
        names=names,
        lines=lines_of(facts),
        languages=languages,
        plots={"language": plot(facts, languages), "domain": plot(facts, sources)},
        numbers=lambda name, line: numbers(facts, name, line),
        seen=[cell for cell in facts["cells"] if not cell["unseen"]],
        hidden_sizes=HIDDEN_SIZES,
        kinds=vocabulary.KINDS,
    )


def plot(facts: dict[str, Any], lines: Sequence[Line]) -> dict[str, Any]:
    """Bytes a token as a plot of dots: its marks and, by line, a value a tokenizer, each with its place in per cent.

    Each tokenizer has a lane of its own in a row, for equal values are common (English in GPT-2 and enlarged from it).
    The page draws the labels as text of its own, so that names in Chinese need no font here.
    """
    values = [[numbers(facts, name, line)["bytes_per_token"] for name in facts["tokenizers"]] for line in lines]
    highest = max(max(row) for row in values)
    step = next((step for step in _STEPS if highest / step <= _MAX_MARKS), _STEPS[-1])
    width = step * max(1, math.ceil(highest / step - 1e-9))
    apart = min(_LANE, 3 * _LANE / max(len(facts["tokenizers"]) - 1, 1))
    middle = (len(facts["tokenizers"]) - 1) / 2
    lanes = [f"{_ROW / 2 + (n - middle) * apart:.1f}" for n in range(len(facts["tokenizers"]))]
    rows = [
        {
            "label": line.source or line.language or "all text",
            "total": line == Line(None, None),
            "dots": [
                {"value": value, "x": f"{100 * value / width:.2f}", "y": y} for value, y in zip(row, lanes, strict=True)
            ],
        }
        for line, row in zip(lines, values, strict=True)
    ]
    marks = [{"label": f"{step * n:g}", "x": f"{100 * step * n / width:.2f}"} for n in range(round(width / step) + 1)]
    return {"marks": marks, "rows": rows}


def show_percent(share: float) -> str:
    """12.34%, rounded towards the middle: 100% means all, 0% means none."""
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{min(max(100 * share, 0.01), 99.99):.2f}%"
