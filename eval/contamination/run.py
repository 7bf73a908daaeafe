"""python -m eval contamination: which benchmark items stand in a text, where, and the lists made of that.

contaminated.jsonl names the items, for scores on clean items; documents.jsonl the documents, for the cleaner
`contamination`; report.json counts both by benchmark, with examples. The index, and what was found in each file, stay
in the folder: a killed search goes on from there. Cost: index and search; memory: the items' places and what was found.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from eval.contamination.config import ContaminationConfig
from eval.contamination.index import LINE, TOO_SHORT, Index, build
from eval.contamination.scan import Task, scan_all
from eval.contamination.texts import Skipped, TextFile, list_files
from eval.items import Item, ItemFile, list_item_files, read_items
from mindllm.config import UserError
from mindllm.stage import Stage, hash_file, held, read_json, write_json, write_text

_SETTINGS = ("text_field", "min_share", "max_frequency", "max_documents", "num_examples")
_EXCERPT = 200  # characters
_STATES = {LINE: "num_by_line", TOO_SHORT: "num_too_short"}  # of those that are not searched by n-grams


@dataclass
class Hits:
    """What was found of one item: the best share, in how many documents, the ids of the best of them, a passage."""

    share: float = 0.0
    excerpt: str = ""
    num_documents: int = 0
    documents: list[tuple[float, int, str]] = field(default_factory=list)

    def add(self, row: dict[str, Any], max_documents: int) -> None:
        """One more document that holds the item."""
        if row["share"] > self.share:
            self.share, self.excerpt = row["share"], row["excerpt"]
        self.documents.append((-row["share"], self.num_documents, row["document"]))
        self.documents = sorted(self.documents)[:max_documents]
        self.num_documents += 1


def contamination(config: ContaminationConfig) -> int:
    """Find benchmark items in training text; list the items, and the documents that hold them."""
    item_files = list_item_files(config.items, config.splits)
    texts = list_files(config.texts, config.text_field)
    settings = {key: getattr(config, key) for key in _SETTINGS}
    inputs = {
        "items": {f"{f.set}/{f.split}": hash_file(f.path) for f in item_files},
        "texts": [[file.label, file.kind, file.hash()] for file in texts],
    }
    stage = Stage(config.out, "contamination", settings, inputs, place="out=...")
    if stage.start(config.force):
        with held(stage.folder):
            _make(config, stage, item_files, texts)
    print_report(read_json(stage.folder / "report.json"))
    return 0


def _make(config: ContaminationConfig, stage: Stage, item_files: Sequence[ItemFile], texts: Sequence[TextFile]) -> None:
    items: list[Item] = []
    homes: list[str] = []  # of each item
    for file in item_files:
        items += [item._replace(texts=()) for item in read_items(file)]  # memory: 300 bytes each
        homes += [file.home] * (len(items) - len(homes))
    if not items:
        raise UserError(f"{', '.join(config.items)}: no benchmark items in these files")

    def numbered() -> Iterator[tuple[int, tuple[str, ...]]]:
        every = (item for file in item_files for item in read_items(file))
        return ((number, text) for number, item in enumerate(every) for text in item.texts)

    index = build(stage.folder / "index", numbered, config.max_frequency)
    task = Task(str(stage.folder), tuple(homes), config.text_field, config.tokenizer, config.min_share)
    results = scan_all(texts, task, config.num_workers)
    hits, counts = _gather(results, items, stage.folder, config.max_documents)
    if counts["skipped"] and not counts["num_documents"]:
        first = next(iter(counts["skipped"].values()))["first"]
        raise UserError(f"no document could be read: {first}; expected JSONL files (.gz, .zst), one object a line")
    _write_items(stage.folder / "contaminated.jsonl", items, hits)
    report = {"benchmarks": _by_set(items, index, hits, item_files, config.num_examples), "text": counts}
    write_json(stage.folder / "report.json", report)
    stage.finish(**{"in": counts["num_documents"], "out": counts["num_contaminated"], "unit": "documents"})


def _gather(
    results: Sequence[Path], items: Sequence[Item], out: Path, max_documents: int
) -> tuple[dict[int, Hits], dict[str, Any]]:
    """What was found of each item, and the counts of the text; writes documents.jsonl, a line a document."""
    hits: defaultdict[int, Hits] = defaultdict(Hits)
    counts, lines, skipped = Counter[str](), [], Skipped()
    for path in results:
        found = read_json(path)
        counts.update(num_documents=found["documents"], num_bytes=found["bytes"])
        for reason, row in found["skipped"].items():
            skipped.add(reason, row["first"], row["num"])
        by_document: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in found["found"]:
            hits[row["item"]].add(row, max_documents)
            by_document.setdefault((row["document"], row["hash"]), []).append(row)
        counts["num_contaminated"] += len(by_document)
        for (id, text_hash), rows in by_document.items():
            sets = sorted({items[row["item"]].set for row in rows})
            lines.append({"id": id, "hash": text_hash, "num_items": len(rows), "tasks": sets})
    write_text(out / "documents.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    counts.update(num_documents=0, num_bytes=0, num_contaminated=0)  # so that these are there
    return dict(hits), {**counts, "skipped": skipped.to_json()}


def _write_items(path: Path, items: Sequence[Item], hits: dict[int, Hits]) -> None:
    """The list of contaminated items, in the order of the sets."""
    lines = []
    for number in sorted(hits):
        item, found = items[number], hits[number]
        line = {"task": item.set, "split": item.split, "doc_id": item.row, "id": item.id, "share": found.share}
        line |= {"num_documents": found.num_documents, "documents": [id for _, _, id in found.documents]}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def _by_set(
    items: Sequence[Item], index: Index, hits: dict[int, Hits], files: Sequence[ItemFile], num_examples: int
) -> dict[str, dict[str, Any]]:
    """The counts of each set, and pairs of an item and the passage that was found, evenly from all of them."""
    searched = _best_states(index, len(items))
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        numbers[item.set].append(number)
    shown = {}
    for name, of_set in numbers.items():
        found = [number for number in of_set if number in hits]
        shown[name] = found[:: max(1, -(-len(found) // num_examples))] if num_examples else []
    texts = _texts(files, {number for chosen in shown.values() for number in chosen})
    rows: dict[str, dict[str, Any]] = {}
    for name, of_set in numbers.items():
        num_found, states = sum(number in hits for number in of_set), Counter(searched[of_set].tolist())
        rows[name] = {
            "num_items": len(of_set),
            "num_contaminated": num_found,
            "share": round(num_found / len(of_set), 4),
            **{key: states[state] for state, key in _STATES.items()},
            "examples": [_example(items[n], texts[n], hits[n]) for n in shown[name]],
        }
    return rows


def _best_states(index: Index, num_items: int) -> np.ndarray:
    """How each item can be found: by the best of its texts; TOO_SHORT for those without any."""
    states = np.full(num_items, TOO_SHORT)
    np.minimum.at(states, index.entries["item"], index.entries["state"])
    return states


def _texts(files: Sequence[ItemFile], wanted: set[int]) -> dict[int, str]:
    """The texts of some items, on one line, their beginnings."""
    every = (item for file in files for item in read_items(file))
    chosen = ((number, item) for number, item in enumerate(every) if number in wanted)
    return {n: " ".join(" | ".join(part for text in item.texts for part in text).split()) for n, item in chosen}


def _example(item: Item, text: str, found: Hits) -> dict[str, Any]:
    place = {"split": item.split, "doc_id": item.row, "share": found.share, "document": found.documents[0][2]}
    return {**place, "item": text[:_EXCERPT], "passage": found.excerpt}


def print_report(report: dict[str, Any]) -> None:
    """The counts by benchmark, as a table, and a line on the text."""
    text = report["text"]
    table = Table("benchmark", title="benchmark items in the text", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("items", "found", "share", "by whole lines", "too short"):
        table.add_column(column, justify="right")
    for name, row in report["benchmarks"].items():
        counts = (row[key] for key in _STATES.values())
        table.add_row(
            name,
            f"{row['num_items']:,}",
            f"{row['num_contaminated']:,}",
            f"{row['share']:.2%}",
            *(f"{count:,}" for count in counts),
        )
    Console().print(table)
    size = f"{text['num_documents']:,} documents, {text['num_bytes']:,} bytes"
    print(f"{text['num_contaminated']:,} of {size} hold items", flush=True)
    for reason, row in text["skipped"].items():
        print(f"not searched, {reason}: {row['num']:,}; the first: {row['first']}", flush=True)
