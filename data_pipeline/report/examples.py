"""Dropped documents and duplicates as the data report shows them: shortened, masked, nothing in them hidden or alive.

A page that is passed on must not spread what the refine stage would have masked, so texts and titles go through the pii
cleaner with all its rules. Control characters, and those that turn the direction of writing, are shown as U+FFFD.
Cost: milliseconds; some hundred documents of at most 2,000 characters.
"""

from __future__ import annotations

import re
from typing import Any

from data_pipeline.clean import apply
from data_pipeline.cleaners import build_cleaners
from data_pipeline.document import Cleaner, Document
from data_pipeline.report.facts import UNKNOWN, Facts
from data_pipeline.report.scan import NUM_EXAMPLES, Pair, Scan

MAX_EXAMPLES = 500  # in the page, if that leaves five a reason
MAX_SHOWN = 400  # characters of an example's text
MAX_COMPARED = 20_000  # characters of a duplicate in which the first difference is looked for
MAX_NAME = 120  # characters of a site, a title, a figure's value
MAX_URL = 300
MAX_MEASURES = 12  # of a document's meta
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def list_examples(facts: Facts, found: Scan) -> list[dict[str, Any]]:
    """For every reason its examples, the languages taking turns; the script shows the first five that fit."""
    most = max(NUM_EXAMPLES, MAX_EXAMPLES // max(1, len(facts.reasons)))
    masker = _masker()
    groups = []
    for number, (stage, reason) in enumerate(facts.reasons):
        by_language = [found.chosen((stage, reason, lang)) for lang in range(len(facts.languages.named) + 1)]
        turns = [rows[turn] for turn in range(NUM_EXAMPLES) for rows in by_language if turn < len(rows)]
        rows = [show_example(row, facts, masker) for row in turns[:most]]
        if reason:
            groups.append({"number": number, "stage": facts.ran[stage].name, "name": label(reason), "rows": rows})
    return groups


def show_example(row: dict[str, Any], facts: Facts, masker: dict[str, Cleaner]) -> dict[str, Any]:
    """One document as the page shows it: nothing in it is longer than its limit, private data is masked."""
    url = row["url"]
    is_link = re.match(r"https?://[^\s\"'<>\\]+$", url) and len(url) <= MAX_URL and not _CONTROLS.search(url)
    return {
        "language": facts.languages.index(row["lang"] or UNKNOWN),
        "site_number": facts.sites.index(row["site"]),
        "href": url if is_link else "",
        "url": shown(url, MAX_URL),
        "id": shown(row["id"], MAX_URL),
        "site": label(row["site"]),
        "lang": row["lang"],
        "text": shown(mask(row["text"], masker), MAX_SHOWN),
        "length": row["length"],
        "measures": [
            (label(str(key)), label(mask(_value(value), masker)))
            for key, value in list(row["meta"].items())[:MAX_MEASURES]
            if value not in ("", None, {}, [])
        ],
    }


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in list(value.items())[:MAX_MEASURES])
    return str(value)[: 10 * MAX_NAME]


def show_pair(pair: Pair) -> dict[str, Any]:
    """A duplicate and its original from a little before the place where they begin to differ."""
    masker = _masker()
    texts = [mask(text[:MAX_COMPARED], masker)[: -100 if len(text) > MAX_COMPARED else None] for text in pair.texts]
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(0, same - MAX_SHOWN // 4) if texts[0] != texts[1] else 0
    sides = [
        {"id": shown(id, MAX_URL), "text": ("…" if start else "") + shown(text[start:], MAX_SHOWN)}
        for id, text in zip(pair.ids, texts, strict=True)
    ]
    return {"kind": pair.kind, "similarity": pair.similarity, "sides": sides}


def _masker() -> dict[str, Cleaner]:
    return build_cleaners({"pii": {}}, [], "")


def mask(text: str, masker: dict[str, Cleaner]) -> str:
    """`text` with private data masked; documents dropped before refine still hold theirs."""
    document, drop = apply(Document(text, id=""), masker)
    return document.text if drop is None else f"({drop.reason})"


def label(name: str) -> str:
    """A name as the page shows it."""
    return shown(name, MAX_NAME)


def shown(text: str, limit: int) -> str:
    """At most `limit` characters, with a mark where the rest is missing; control characters are made visible."""
    text = _CONTROLS.sub("\ufffd", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
