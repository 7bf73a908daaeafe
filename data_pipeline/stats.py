"""What a stage counts: documents and bytes by language, site and reason; each shard's counts are a file, added up last.

A crawl has tens of millions of sites: beyond MAX_ROWS rows, those of few documents are counted as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data_pipeline.document import Document
from mindllm.stage import read_json

MAX_ROWS = 300_000  # of the counts of a stage
OTHER_SITES = "(other sites)"
KEPT = ""  # the reason of a document that stays


class Stats:
    """Documents and UTF-8 bytes of text by (language, site, reason); reason "" means kept."""

    def __init__(self, counts: dict[str, list[int]] | None = None):
        self.counts = counts or {}

    def add(self, document: Document, reason: str) -> None:
        """Count one document."""
        entry = self.counts.setdefault("\t".join((document.lang or "?", document.site, reason)), [0, 0])
        entry[0] += 1
        entry[1] += len(document.text.encode("utf-8", "ignore"))

    def rows(self) -> Iterator[tuple[str, str, str, int, int]]:
        """(language, site, reason, documents, bytes) a row."""
        for key, (documents, size) in self.counts.items():
            lang, rest = key.split("\t", 1)
            site, reason = rest.rsplit("\t", 1)  # a site may hold anything
            yield lang, site, reason, documents, size

    def documents(self, kept: bool | None = None) -> int:
        """Number of documents; only the kept or only the dropped ones if asked."""
        return sum(n for _, _, reason, n, _ in self.rows() if kept is None or kept == (reason == KEPT))

    def text_bytes(self) -> int:
        """Bytes of text kept."""
        return sum(size for _, _, reason, _, size in self.rows() if reason == KEPT)


def add_up(paths: Iterable[Path]) -> Stats:
    """The counts of all shards, from their files, one at a time.

    memory: 300 bytes a (language, site, reason). Where there are more than MAX_ROWS of them, sites of few documents
    become one, OTHER_SITES: a crawl has tens of millions.
    """
    total: dict[str, list[int]] = {}
    for path in paths:
        for key, (documents, size) in read_json(path).items():
            entry = total.setdefault(key, [0, 0])
            entry[0] += documents
            entry[1] += size
        if len(total) > 2 * MAX_ROWS:
            total = _fold(total)
    return Stats(dict(sorted((_fold(total) if len(total) > MAX_ROWS else total).items())))


def _fold(total: dict[str, list[int]]) -> dict[str, list[int]]:
    """The MAX_ROWS rows of most documents (of equals, the first by name), and the rest as OTHER_SITES."""
    others = {key: total.pop(key) for key in list(total) if f"\t{OTHER_SITES}\t" in key}
    names = sorted(total, key=lambda key: (-total[key][0], key))
    stats = Stats({name: total[name] for name in names[:MAX_ROWS]} | others)
    for lang, _, reason, documents, size in Stats({name: total[name] for name in names[MAX_ROWS:]}).rows():
        entry = stats.counts.setdefault("\t".join((lang, OTHER_SITES, reason)), [0, 0])
        entry[0] += documents
        entry[1] += size
    return stats.counts


def print_stats(stage: str, stats: Stats) -> None:
    """Kept and dropped documents by language, and the reasons, as a table."""
    table = Table("language", "kept", "dropped", "kept bytes", "reasons", title=stage)
    for lang in sorted({row[0] for row in stats.rows()}):
        rows = [row for row in stats.rows() if row[0] == lang]
        kept = sum(n for _, _, reason, n, _ in rows if reason == KEPT)
        size = sum(b for _, _, reason, _, b in rows if reason == KEPT)
        reasons: dict[str, int] = {}
        for _, _, reason, n, _ in rows:
            if reason != KEPT:
                reasons[reason] = reasons.get(reason, 0) + n
        shown = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1])[:4])
        table.add_row(lang, str(kept), str(sum(reasons.values())), f"{size:,}", shown)
    Console().print(table)


def print_troubles(folder: Path, stats: Stats) -> None:
    """How many documents could not be read, made a cleaner fail, or were put into quarantine, by reason, and where."""
    for kind, head in (("read", "not read"), ("error", "made a cleaner fail"), ("quarantine", "hang or crash")):
        reasons: dict[str, int] = {}
        for _, _, reason, n, _ in stats.rows():
            if reason.startswith(f"{kind}:"):
                reasons[reason] = reasons.get(reason, 0) + n
        if reasons:
            shown = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1]))
            print(f"{head}: {sum(reasons.values())} ({shown}); listed in {folder / 'dropped'}", flush=True)
        if {"read:missing", "read:forbidden"} & reasons.keys():
            print("What was missing or forbidden counts as done: once that is mended, force=true reads all again.")
