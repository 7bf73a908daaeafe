"""One pass over a run's documents for the data report: lengths, densities, masks, and a few dropped ones as examples.

Every document is read once, where it ended: in the last stage's shards, or in dropped/ of the stage that dropped it.
Examples are those with the lowest keyed hashes, site by site, so they depend neither on order nor on the number of
processes. Cost: the text column has to be unpacked, about 100 MB of text a second and process; memory: one row group
(ROWS_PER_GROUP documents), and some MB of counts.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from data_pipeline import workers
from data_pipeline.parquet import ROWS_PER_GROUP
from data_pipeline.report.facts import Facts, Names

# Lower ends of the bins: characters, six bins a power of ten; twenty bins of density, 1 in the last.
LENGTHS = (0, *(int(10**power * step) for power in range(1, 6) for step in (1, 1.5, 2, 3, 5, 7)), 1_000_000)
DENSITIES = tuple(bin / 20 for bin in range(20))
KEPT_FATE = 0  # fate of a document: 0 kept to the end, i + 1 dropped by the i-th stage that ran
NUM_EXAMPLES = 5  # of a reason and language, and sites among which they are chosen
MAX_TEXT = 2000  # characters of an example that leave the scan
NUM_TASKS = 32  # files are gathered into so many tasks: that many results wait to be added up
SEED = 3  # of the choice of examples
COPY = ["id", "kept_id", "kept_run", "similarity", "kind"]  # columns of dedup/clusters

Fate = tuple[int, int, int]  # (language, site, fate)
Documents = dict[int, dict[str, Any]]
Group = tuple[int, str, int]  # (stage, reason, language)


class Item(NamedTuple):
    """One Parquet file, and the fate of the documents in it."""

    path: Path
    fate: int


@dataclass
class Scan:
    """What the pass found; two Scans add up. Counts of a histogram are lists, for single steps on arrays are slow."""

    lengths: dict[Fate, list[int]] = field(default_factory=dict)
    densities: dict[Fate, list[int]] = field(default_factory=dict)  # of documents that were measured
    masks: dict[tuple[int, int, str], list[int]] = field(default_factory=dict)  # (language, site, kind): masks, docs
    examples: dict[Group, dict[int, Documents]] = field(default_factory=dict)  # site's hash -> document's hash -> row

    def __add__(self, other: Scan) -> Scan:
        for mine, theirs in (
            (self.lengths, other.lengths),
            (self.densities, other.densities),
            (self.masks, other.masks),
        ):
            for key, counts in theirs.items():
                mine[key] = [a + b for a, b in zip(mine[key], counts, strict=True)] if key in mine else counts  # type: ignore[index]
        for group, sites in other.examples.items():
            for site, documents in sites.items():
                for rank, row in documents.items():
                    self.offer(group, site, rank, lambda row=row: row)  # type: ignore[misc]
        return self

    def offer(self, group: Group, site: int, rank: int, make: Callable[[], dict[str, Any]]) -> None:
        """Keep the document if it is among the lowest NUM_EXAMPLES of a site that is among the lowest NUM_EXAMPLES."""
        sites = self.examples.setdefault(group, {})
        if _has_place(sites, site) and _has_place(documents := sites.setdefault(site, {}), rank):
            documents[rank] = make()

    def chosen(self, group: Group) -> list[dict[str, Any]]:
        """The examples of one group, from as many sites as there are: a first of each, then a second of each."""
        sites = self.examples.get(group, {})
        ranked = [[sites[site][rank] for rank in sorted(sites[site])] for site in sorted(sites)]
        rounds = (documents[i] for i in range(NUM_EXAMPLES) for documents in ranked if i < len(documents))
        return [row for _, row in zip(range(NUM_EXAMPLES), rounds, strict=False)]


def _has_place(lowest: dict[int, Any], key: int) -> bool:
    """Whether `key` is among the NUM_EXAMPLES lowest so far; if it is new there, the highest makes room.

    What made room is not among the lowest of the whole, so the outcome is the same in any order, and for any parts.
    """
    if key in lowest or len(lowest) < NUM_EXAMPLES:
        return True
    highest = max(lowest)
    if key > highest:
        return False
    del lowest[highest]
    return True


def keyed_hash(*words: str) -> int:
    """64 bits that decide which documents are shown."""
    return xxhash.xxh3_64_intdigest("\t".join(words).encode("utf-8", "surrogatepass"), seed=SEED)


def list_items(run: Path, facts: Facts) -> list[Item]:
    """Every file of documents in the place where they ended. Folders that someone has removed give no files."""
    items = [
        Item(path, number + 1)
        for number, stage in enumerate(facts.ran)
        for path in sorted((run / stage.name / "dropped").glob("*.parquet"))
    ]
    last = sorted((run / facts.ran[-1].name).glob("*.parquet")) if facts.ran else []
    return items + [Item(path, KEPT_FATE) for path in last]


def scan(items: Sequence[Item], facts: Facts, settings: workers.WorkersConfig) -> Scan:
    """Read all files, as tasks with a progress bar. Raises RuntimeError naming a damaged file."""
    known = frozenset(facts.reasons)
    task = functools.partial(scan_files, languages=facts.languages, sites=facts.sites, reasons=known)
    groups = [items[number::NUM_TASKS] for number in range(min(NUM_TASKS, len(items)))]
    return functools.reduce(Scan.__add__, workers.run_all(task, groups, settings, "report"), Scan())


def scan_files(items: Sequence[Item], languages: Names, sites: Names, reasons: frozenset[tuple[int, str]]) -> Scan:
    """Read some files. `reasons`: the (stage, reason) pairs of which examples are wanted."""
    found = Scan()
    for item in items:
        columns = ["site", "lang", "text", "meta"] + (["id", "url", "reason"] if item.fate != KEPT_FATE else [])
        for batch in read_batches(item.path, columns):
            _scan_batch(batch, item.fate, languages, sites, reasons, found)
    return found


def read_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Record batches of a Parquet file. memory: one row group. Raises RuntimeError for a damaged file."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:  # with it, memory grows to the size of the file
            yield from file.iter_batches(batch_size=ROWS_PER_GROUP, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise RuntimeError(f"{path}: damaged ({error}); delete its stage's folder and run the stage again") from error


def _scan_batch(
    batch: pa.RecordBatch, fate: int, languages: Names, sites: Names, reasons: frozenset[tuple[int, str]], found: Scan
) -> None:
    num_chars = pc.utf8_length(batch.column("text")).to_numpy(zero_copy_only=False)
    bins = (np.searchsorted(LENGTHS, num_chars, side="right") - 1).tolist()
    rows = zip(*(batch.column(name).to_pylist() for name in ("lang", "site", "meta")), bins, strict=True)
    names = batch.column("reason").to_pylist() if fate != KEPT_FATE else []
    for number, (lang, site_name, text, bin) in enumerate(rows):
        language, site, meta = languages.index(lang or "?"), sites.index(site_name), json.loads(text or "{}")
        key = (language, site, fate)
        found.lengths.setdefault(key, [0] * len(LENGTHS))[bin] += 1
        measured = meta.get("density")
        if isinstance(measured, int | float) and 0 <= measured <= 1:
            found.densities.setdefault(key, [0] * len(DENSITIES))[min(int(measured * 20 + 1e-9), 19)] += 1
        if fate == KEPT_FATE:
            _count_masks(meta.get("pii"), language, site, found)
        elif (fate - 1, names[number]) in reasons:
            id, length = batch.column("id")[number].as_py(), int(num_chars[number])
            group, rank = (fate - 1, names[number], language), keyed_hash(id)
            make = functools.partial(_example, batch, number, length, meta)
            found.offer(group, keyed_hash(names[number], site_name), rank, make)


def _count_masks(pii: Any, language: int, site: int, found: Scan) -> None:
    for kind, count in pii.items() if isinstance(pii, dict) else ():
        entry = found.masks.setdefault((language, site, str(kind)), [0, 0])
        entry[0] += int(count)
        entry[1] += 1


def _example(batch: pa.RecordBatch, number: int, length: int, meta: dict[str, Any]) -> dict[str, Any]:
    row = {name: batch.column(name)[number].as_py() or "" for name in ("id", "url", "site", "lang", "reason", "text")}
    return {**row, "text": row["text"][:MAX_TEXT], "length": length, "meta": meta}


class Pair(NamedTuple):
    """A dropped document, the one that was kept for it, and the beginnings of both texts as dedup saw them."""

    kind: str
    similarity: float
    ids: tuple[str, str]
    texts: tuple[str, str]


def find_pairs(folder: Path, limits: dict[str, int]) -> list[Pair]:
    """`limits[kind]` duplicates of each kind from the dedup stage's folder, those with the lowest keyed hashes.

    Reads the columns of ids of all shards, and the text only of row groups that hold a chosen document.
    """
    lowest: dict[str, list[tuple[int, dict[str, Any]]]] = {kind: [] for kind in limits}
    batches = (read_batches(path, COPY) for path in sorted((folder / "clusters").glob("*.parquet")))
    for row in itertools.chain.from_iterable(batch.to_pylist() for batch in itertools.chain.from_iterable(batches)):
        if row["kind"] in lowest:
            ranked = [*lowest[row["kind"]], (keyed_hash(row["id"]), row)]
            lowest[row["kind"]] = sorted(ranked, key=lambda pair: pair[0])[: limits[row["kind"]]]
    rows = [row for kind in limits for _, row in lowest[kind]]
    texts = _find_texts(folder, {row["id"] for row in rows} | {row["kept_id"] for row in rows if not row["kept_run"]})
    return [
        Pair(r["kind"], r["similarity"], (r["id"], _where(r)), (texts.get(r["id"], ""), _kept_text(r, texts)))
        for r in rows
    ]


def _where(copy: dict[str, Any]) -> str:
    return f"{copy['kept_id']} ({copy['kept_run']})" if copy["kept_run"] else str(copy["kept_id"])


def _kept_text(copy: dict[str, Any], texts: dict[str, str]) -> str:
    return f"(kept by the earlier run {copy['kept_run']})" if copy["kept_run"] else texts.get(copy["kept_id"], "")


def _find_texts(folder: Path, ids: set[str]) -> dict[str, str]:
    """The texts of some documents of a stage, kept or dropped, by id."""
    texts: dict[str, str] = {}
    wanted = pa.array(sorted(ids), pa.string())
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("dropped/*.parquet")]) if ids else ():
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                found = pc.indices_nonzero(pc.is_in(file.read_row_group(group, ["id"])["id"], value_set=wanted))
                if len(found):
                    rows = file.read_row_group(group, ["id", "text"]).take(found)
                    texts |= dict(zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True))
        if len(texts) == len(ids):
            break
    return texts
