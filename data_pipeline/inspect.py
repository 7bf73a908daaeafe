"""python -m data_pipeline inspect FILE: what every cleaner of `clean`, then `refine`, does to one document.

Shows for each cleaner its measures against their limits, the verdict, the fields it changed and a diff of the text. The
document goes through the same code as in a run, with the site statistics of the config's run if that has some. Other
stages compare documents, so they have no part in it. Text is printed with its control characters spelled out, for they
could command the terminal. Costs what the cleaners cost on one document, and reading the file up to it.
"""

from __future__ import annotations

import copy
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from data_pipeline.clean import apply, with_site_phrases
from data_pipeline.cleaners import build_cleaners
from data_pipeline.config import DataConfig, Source
from data_pipeline.diff import GONE, NEW, NOTE, SAME, Piece, Row, diff, shorten
from data_pipeline.document import Cleaner, Document, Drop, Measure
from data_pipeline.parquet import ROWS_PER_GROUP
from data_pipeline.reading.files import read
from data_pipeline.reading.input_shard import InputShard
from data_pipeline.sources import of_source
from mindllm.config import UserError

STAGES = ("clean", "refine")
_FIELDS = ("id", "url", "site", "lang", "source")
_OURS = {"text", "id", "url", "site", "lang", "meta"}  # columns of a shard that a stage wrote, kept or dropped
_STYLES = {SAME: "", GONE: "red strike", NEW: "green", NOTE: "dim"}
_MARKS = {SAME: "{}", GONE: "[-{}-]", NEW: "{{+{}+}}", NOTE: "{}"}  # where there are no colours
_SIGNS = {SAME: " ", GONE: "-", NEW: "+", NOTE: " "}
# Control characters but tab, zero-width and direction marks, lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


@dataclass
class InspectConfig(DataConfig):
    """The config of a run, and which document of FILE to show.

    FILE: any input (html, txt, jsonl, warc, parquet; also compressed), or a shard of a run, kept or dropped.
    source: as which source FILE is read; empty: that whose folder holds it, else the first.
    document: which one in it, from 1 on.  id: or the one of this id.  all: go on after a drop.
    max_lines: rows of a diff, and lines of a new text.  color: auto means on a terminal.
    """

    file: str = ""
    source: str = ""
    document: int = 1
    id: str = ""
    all: bool = False
    max_lines: int = 60
    color: Literal["auto", "always", "never"] = "auto"

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        yield from super().problems()
        if self.source and self.source not in self.sources:
            yield f"source: {self.source} is none of {', '.join(self.sources)}"
        if self.document < 1:
            yield "document: counts from 1"
        if self.max_lines < 1:
            yield "max_lines: must be at least 1"


@dataclass(frozen=True)
class Step:
    """One cleaner's work: the document as it came in and as it went on, why it goes (None: it stays), the measures."""

    stage: str
    name: str
    before: Document
    after: Document
    drop: Drop | None
    measures: list[Measure]


def inspect(config: InspectConfig) -> int:
    """What every cleaner does to one document: text before and after, measures against limits, verdict and reason."""
    document = find_document(config)
    page = Page(config.color, config.max_lines)
    page.document(document)
    sites = site_statistics(config)
    dropped, num_left = "", sum(len(of_source(document, config.cleaners(stage))) for stage in STAGES)
    for step in run_cleaners(document, config, sites):
        page.step(step, f"site statistics: {sites or 'none; the refine verb makes them'}" * (step.name == "repetition"))
        num_left -= 1
        if step.drop is not None:
            dropped = dropped or f"dropped by {step.name}: {step.drop.reason}"
            if not config.all:
                break
    if "broken" in document.meta:
        dropped = f"dropped before any cleaner: {document.meta['broken']}"
    elif num_left:
        page.line("\nThe cleaners after it did not run; all=true shows what they would have done.")
    page.line(f"\n{dropped or 'kept'}", "bold red" if dropped else "bold green")
    return 0


def run_cleaners(document: Document, config: DataConfig, sites: str = "") -> Iterator[Step]:
    """A step per cleaner, each with what the one before left; a dropped document goes on as it was. None if broken."""
    if "broken" in document.meta:
        return
    for stage in STAGES:
        lists = config.cleaners(stage)
        if sites and stage == "refine":
            lists = {name: with_site_phrases(listed, sites) for name, listed in lists.items()}
        built = {name: build_cleaners(listed, [], stage) for name, listed in lists.items()}
        for name, cleaner in of_source(document, built).items():
            before = copy.deepcopy(document)
            measures = _measures(cleaner, copy.deepcopy(document))
            document, drop = apply(document, {name: cleaner})
            yield Step(stage, name, before, copy.deepcopy(document), drop, measures)


def _measures(cleaner: Cleaner, document: Document) -> list[Measure]:
    measures = getattr(cleaner, "measures", None)
    try:
        return list(measures(document)) if measures else []
    except Exception as error:  # as in a run, a document that breaks a cleaner is shown, not the end
        return [Measure("measures failed", f"{type(error).__name__}: {error}", "", False)]


def site_statistics(config: DataConfig) -> str:
    """The file of phrase statistics that the config's repetition names, else the one that its run has; "" if none."""
    named = (config.refine.get("repetition") or {}).get("site_phrases") or ""
    path = config.folder("refine") / "sites" / "sites.parquet"
    return named or (str(path) if path.exists() else "")


def find_document(config: InspectConfig) -> Document:
    """The document that the config names. Raises UserError where the file, or the document in it, is missing."""
    path = Path(config.file)
    if not path.is_file():
        problem = "is a folder; name a file in it" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {problem} (inspect FILE [CONFIG.yaml] key=value ...)")
    known: list[str] = []
    number = 0
    for number, document in enumerate(_documents(path, config), 1):
        if document.id == config.id if config.id else number == config.document:
            return document
        known += [document.id] if len(known) < 3 else []
    if config.id:
        raise UserError(f"id={config.id}: none of the {number} documents of {path}; the first: {', '.join(known)}")
    raise UserError(f"document={config.document}: {path} holds {number} document{'s' * (number != 1)}")


def _documents(path: Path, config: InspectConfig) -> Iterable[Document]:
    return _rows_of_stage(path) if _is_stage_shard(path) else read(_as_input(path, config))


def _is_stage_shard(path: Path) -> bool:
    """Whether a stage has written the file; what is damaged is none: the reader of inputs says how."""
    try:
        return path.suffix == ".parquet" and set(pq.read_schema(path).names) >= _OURS
    except (OSError, pa.ArrowException):
        return False


def _rows_of_stage(path: Path) -> Iterator[Document]:
    """The rows of a stage's shard; of dropped ones, the reason is in meta["dropped"]."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
            for row in batch.to_pylist():
                meta = json.loads(row.get("meta") or "{}")
                if row.get("reason"):
                    meta["dropped"] = row["reason"]
                source = row.get("source") or row["id"].partition("/")[0]
                yield Document(row["text"] or "", row["id"], row["url"], row["site"], row["lang"], source, meta)


def _as_input(path: Path, config: InspectConfig) -> InputShard:
    """The file as part of the source whose folder holds it, so that it gets the same id and site as in a run; else of
    the first source, as if its folder were the source's.
    """
    path = path.resolve()
    for name, source in config.sources.items():
        place = source.path or source.dataset
        if config.source not in ("", name) or not place or "://" in place:
            continue
        root = Path(place).expanduser().resolve()
        root = root.parent if root.is_file() else root
        if path.is_relative_to(root):
            return _input(path, name, source, root)
    name = config.source or next(iter(config.sources))
    source = config.sources[name]
    return _input(path, name, source, path.parent)


def _input(path: Path, name: str, source: Source, root: Path) -> InputShard:
    files = (path.relative_to(root).as_posix(),)
    return InputShard("inspect", files, name, str(root), source)


class Page:
    """What is printed, with colours or with marks."""

    def __init__(self, color: str, max_lines: int):
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show Chinese is told the codes
        forced = {"auto": None, "always": True, "never": False}[color]
        system: Any = {"auto": "auto", "always": "standard", "never": None}[color]
        self._console = Console(force_terminal=forced, color_system=system, highlight=False, soft_wrap=True)
        self._plain = self._console.color_system is None or self._console.no_color
        self._max_lines = max_lines

    def line(self, text: str, style: str = "") -> None:
        """One line (or several) of ours."""
        self._console.print(Text(text, style))

    def document(self, document: Document) -> None:
        """Where the document is from and what it holds before any cleaner."""
        self.line(printable(document.id), "bold")
        for name in _FIELDS[1:]:
            if getattr(document, name):
                self.line(f"  {name}: {_value(getattr(document, name))}")
        for key, value in document.meta.items():
            self.line(f"  {key}: {_value(value)}")
        if document.text:
            self.line(f"  text: {len(document.text):,} characters")

    def step(self, step: Step, note: str = "") -> None:
        """One cleaner."""
        self.line(f"\n{step.stage} / {step.name}", "bold")
        if note:
            self.line(f"  {note}", "dim")
        for measure in step.measures:
            self._measure(measure)
        for line in _field_changes(step.before, step.after):
            self.line(f"  {line}")
        if not step.before.text and step.after.text:
            self._new_text(step.after.text)
        elif step.before.text == step.after.text:
            self.line("  text: unchanged")
        else:
            self.line(f"  text: {len(step.before.text):,} -> {len(step.after.text):,} characters")
            self._diff(diff(step.before.text, step.after.text))
        verdict = f"dropped: {step.drop.reason}" if step.drop else "kept"
        self.line(f"  {verdict}", "bold red" if step.drop else "green")

    def _measure(self, measure: Measure) -> None:
        value = f"{measure.value:.4g}" if isinstance(measure.value, float) else _value(measure.value)
        limit = f"  ({measure.limit})" if measure.limit else ""
        self.line(
            f"  {printable(measure.name)}: {value}{limit}{'' if measure.passes else '  fails'}",
            "" if measure.passes else "red",
        )

    def _new_text(self, text: str) -> None:
        lines = text.split("\n")
        self.line(f"  text: {len(text):,} characters in {len(lines):,} lines")
        for line in lines[: self._max_lines]:
            self._row([Piece(SAME, shorten(line))])
        if len(lines) > self._max_lines:
            self._row([Piece(NOTE, f"… {len(lines) - self._max_lines:,} lines more (max_lines=...) …")])

    def _diff(self, rows: Iterator[Row]) -> None:
        for row in islice(rows, self._max_lines):
            self._row(row)
        if next(rows, None) is not None:
            self._row([Piece(NOTE, "… more changes (max_lines=...) …")])

    def _row(self, row: Row) -> None:
        kinds = {piece.kind for piece in row}
        sign = _SIGNS[kinds.pop()] if len(kinds) == 1 else "~"
        text = Text(f"  {sign} ")
        for kind, piece in row:
            marked = self._plain and len(row) > 1
            text.append(_MARKS[kind].format(printable(piece)) if marked else printable(piece), _STYLES[kind])
        self._console.print(text)


def _field_changes(before: Document, after: Document) -> Iterator[str]:
    """Lines `name: old -> new` for fields and meta that the cleaner changed; raw bytes are told by their size."""
    was = {name: getattr(before, name) for name in _FIELDS} | {f"meta {k}": v for k, v in before.meta.items()}
    now = {name: getattr(after, name) for name in _FIELDS} | {f"meta {k}": v for k, v in after.meta.items()}
    for name in {**was, **now}:
        old, new = was.get(name, ""), now.get(name, "")
        if (old != new or type(old) is not type(new)) and not isinstance(old, bytes):
            yield f"{name.removeprefix('meta ')}: {f'{_value(old)} -> ' if old != '' else ''}{_value(new)}"


def _value(value: Any) -> str:
    return f"{len(value):,} bytes" if isinstance(value, bytes) else printable(shorten(str(value)))


def printable(text: str) -> str:
    """`text` with control, zero-width and direction characters spelled out: a document must not command a terminal."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
