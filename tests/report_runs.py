"""Runs for the tests of data_pipeline.report: stages' folders written without the stages, and a parser of the page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from data_pipeline.clean import KEPT, Stats
from data_pipeline.config import DataConfig, Source
from data_pipeline.dedup import CLUSTERS
from data_pipeline.document import Document
from data_pipeline.parquet import DROPPED_SCHEMA, SCHEMA, write_rows
from data_pipeline.report.page import PAGE, report
from data_pipeline.workers import WorkersConfig

ONE = WorkersConfig(num_workers=1)

EVIL = "</script><script>alert('x')</script>"
ZH, HANT, EN = "春天来了，桥头的柳树先绿。", "臺灣的夏天很熱，蟬聲不斷。", "The rain of the night has stopped."
Row = tuple[str, str, str, str, str, dict[str, Any]]  # shard, language, site, reason, text, meta


def write_stage(run: Path, name: str, rows: Sequence[Row], inputs: dict[str, Any] | None = None) -> None:
    """A stage's folder as the verbs leave it."""
    folder, stats = run / name, Stats()
    by_shard: dict[str, list[tuple[Document, str]]] = defaultdict(list)
    for number, (shard, lang, site, reason, text, meta) in enumerate(rows):
        url = f"https://{site}/{number}"
        document = Document(text, meta.get("id", f"web/{site}/{number}.html"), url, site, lang, "web", dict(meta))
        stats.add(document, reason)
        by_shard[shard].append((document, reason))
    for shard, documents in by_shard.items():
        with write_rows(folder / f"{shard}.parquet", SCHEMA) as kept:
            with write_rows(folder / "dropped" / f"{shard}.parquet", DROPPED_SCHEMA) as dropped:
                for document, reason in documents:
                    if reason == KEPT:
                        kept.add_document(document)
                    else:
                        fields = {k: getattr(document, k) for k in ("id", "url", "site", "lang", "text")}
                        dropped.add({**fields, "reason": reason, "meta": json.dumps(document.meta)})
    counts = {"in": stats.documents(), "out": stats.documents(kept=True), "bytes": stats.text_bytes()}
    meta = {"hash": name, "inputs": inputs or {}, "config": {}, "counts": counts, "seconds": 2.0}
    (folder / "stats.json").write_text(json.dumps(stats.counts), encoding="utf-8")
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def write_clusters(run: Path, rows: Sequence[tuple[str, str, float, str]]) -> None:
    with write_rows(run / "dedup" / "clusters" / "web-0.parquet", CLUSTERS) as file:
        for id, kept_id, similarity, kind in rows:
            row = {"id": id, "kept_id": kept_id, "kept_run": "", "similarity": similarity, "kind": kind}
            file.add(row)


CLEAN: list[Row] = [
    *[("web-0", "zh-Hans", "a.example", KEPT, ZH * n, {"density": 0.9}) for n in range(1, 8)],
    *[("web-0", "zh-Hans", "a.example", "density:too_short", ZH, {"density": 0.75}) for _ in range(3)],
    *[("web-1", "en", "b.example", KEPT, EN * n, {"density": 1.0}) for n in range(1, 5)],
    *[("web-1", "en", "b.example", "density:low_density", EN, {"density": 0.5}) for _ in range(2)],
    ("web-1", "en", "a.example", "density:too_short", EN, {"density": 0.8}),
    ("web-1", "zh-Hant", "茶館.tw", KEPT, HANT, {"density": 0.95}),
    ("web-1", "", "c.example", "html:binary", "", {}),
]
DEDUP: list[Row] = [row for row in CLEAN if row[3] == KEPT]
DEDUP[0] = (*DEDUP[0][:3], "dedup:near", *DEDUP[0][4:])
DEDUP[7] = (*DEDUP[7][:3], "dedup:exact", *DEDUP[7][4:])
REFINE: list[Row] = [(*r[:5], {**r[5], "pii": {"phone": 2, "email": 1}}) for r in DEDUP if r[3] == KEPT]


def write_run(folder: Path) -> Path:
    """A run of all three cleaning stages, with the rows above."""
    write_stage(folder, "clean", CLEAN, {"web": {"files": 3, "bytes": 12345}})
    write_stage(folder, "dedup", DEDUP, {"clean": "clean"})
    write_stage(folder, "refine", REFINE, {"dedup": "dedup"})
    return folder


def config(run: Path, **changes: Any) -> DataConfig:
    return DataConfig(
        sources={"web": Source("nowhere")},
        clean={},
        refine={},
        run=str(run),
        workers=ONE,
        **changes,
    )


def page(run: Path) -> str:
    assert report(config(run)) == 0
    return (run / PAGE).read_text(encoding="utf-8")


class Parsed(HTMLParser):
    """Tags that nest, attributes, texts of elements with data-f, and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[tuple[str, dict[str, str]]] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.numbers: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in ("meta", "br"):
            self.stack.append(self.seen[-1])

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, attrs = self.stack[-1] if self.stack else ("", {})
        if "data-f" in attrs:
            self.numbers[attrs["data-f"], attrs["data-k"], attrs.get("data-of", "")].add(data)
        if tag == "script":
            self.scripts.append((attrs, data))

    def data(self) -> dict[str, Any]:
        (text,) = [text for attrs, text in self.scripts if attrs.get("type") == "application/json"]
        return dict(json.loads(text))


def count(rows: Sequence[Row], fate: str, lang: str, site: str, reason: str = "") -> int:
    """Documents of `rows`, counted without the code under test; "" stands for any."""
    found = [r for r in rows if lang in ("", r[1] or "?") and site in ("", r[2]) and reason in ("", r[3])]
    return len([r for r in found if fate == "in" or (r[3] == KEPT) == (fate == "kept")])
