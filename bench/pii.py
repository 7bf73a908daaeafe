"""Recall and precision of the PII cleaner on marked English sentences, and its speed on any texts.

    python bench/pii.py [FOLDER] [--text PATH ...]

FOLDER holds presidio-research's synth_dataset_v2.json (or .json.gz): sentences made from templates, with the places of
names, telephones, cards and so on. A marked span is found when one mask of its kind covers it; a mask of no marked span
of its kind is false. PATH is a text, or a folder of texts. Cost: a second; each text is read twice, at some 60 MB/s.
Memory: the texts of one PATH three times.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common import read_text, text_files
from rich.console import Console
from rich.table import Table

from data_pipeline.cleaners.pii import Pii

KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "bank_card",
    "IBAN_CODE": "bank_card",
    "IP_ADDRESS": "ip",
    "US_SSN": "id_card",
}
NAMES = ("synth_dataset_v2.json", "synth_dataset_v2.json.gz")
CHUNK = 10_000  # characters: about a page


def main(argv: list[str] | None = None) -> None:
    """Print the tables of what is given; exit code 2 where something is missing."""
    parser = argparse.ArgumentParser(description="Recall and precision of the PII cleaner on marked sentences; speed.")
    parser.add_argument("folder", type=Path, nargs="?", help="folder of presidio-research's synth_dataset_v2.json(.gz)")
    parser.add_argument("--text", nargs="*", default=[], help="UTF-8 texts (also .gz), or folders, to measure speed on")
    parser.add_argument("--show", action="store_true", help="print every span that was missed and every false mask")
    arguments = parser.parse_args(argv)
    if arguments.folder:
        path = next((arguments.folder / name for name in NAMES if (arguments.folder / name).is_file()), None)
        if path is None:
            parser.error(f"no {' or '.join(NAMES)} in {arguments.folder}")
        Console().print(quality_table(json.loads(read_text(path)), arguments.show))
    if arguments.text:
        Console().print(speed_table(arguments.text))
    if not arguments.folder and not arguments.text:
        parser.error("nothing to measure on: give FOLDER, --text, or both")


def quality_table(sentences: list[dict[str, Any]], show: bool = False) -> Table:
    """Marked, found and missed spans by their name in the data, and false masks by our kind."""
    marked: Counter[str] = Counter()
    found: Counter[str] = Counter()
    masks: Counter[str] = Counter()
    false: Counter[str] = Counter()
    for sentence in sentences:
        text, spans = sentence["full_text"], list(Pii().find(sentence["full_text"]))
        masks.update(span.kind for span in spans)
        right = set()
        for mark in (m for m in sentence["spans"] if m["entity_type"] in KINDS):
            name, start, end = mark["entity_type"], mark["start_position"], mark["end_position"]
            covers = {s for s in spans if s.kind == KINDS[name] and s.start <= start and end <= s.end}
            marked[name] += 1
            found[name] += bool(covers)
            right |= covers
            if show and not covers:
                print("missed", name, repr(text[max(0, start - 40) : end + 20]))
        for span in (s for s in spans if s not in right):
            false[span.kind] += 1
            if show:
                print("false", span.kind, repr(text[max(0, span.start - 40) : span.end + 20]))
    table = Table("marked as", "our kind", "spans", "found", "recall", "false masks", "precision", title="PII cleaner")
    for name in sorted(marked):
        kind = KINDS[name]
        precision = f"{1 - false[kind] / masks[kind]:.4f}" if masks[kind] else "-"
        row = (str(marked[name]), str(found[name]), f"{found[name] / marked[name]:.4f}", str(false[kind]), precision)
        table.add_row(name, kind, *row)
    for kind in sorted(set(false) - {KINDS[name] for name in marked}):
        table.add_row("-", kind, "0", "0", "-", str(false[kind]), "0.0000")
    return table


def speed_table(paths: list[str]) -> Table:
    """MB of UTF-8 a second of processor time, the better of two passes over page-long chunks, and masks by kind."""
    table = Table("text", "MB", "MB/s", "masks", title="speed, one process")
    for path in paths:
        text = "\n".join(map(read_text, text_files([path])))
        chunks = [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]
        size = len(text.encode()) / 1e6
        seconds, counts = [], Counter[str]()
        for _ in range(2):
            counts.clear()
            begin = time.process_time()
            for chunk in chunks:
                counts.update(Pii().mask(chunk)[1])
            seconds.append(time.process_time() - begin)
        shown = ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items())) or "none"
        table.add_row(path, f"{size:.1f}", f"{size / max(min(seconds), 1e-9):.0f}", shown)
    return table


if __name__ == "__main__":
    main()
