"""Searches the files of a text, each in a worker process, and notes what was found in each beside the others.

found/<number>.json is there when a file is done: a killed search goes on with the other files. Workers are spawned, not
forked (threads of pyarrow do not survive a fork), and share the pages of the index. A long document is searched in
pieces that overlap. Cost: see search.py. Memory: a piece and the documents of a batch, times workers.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from eval.contamination.grams import fold
from eval.contamination.index import Index, open_index
from eval.contamination.search import BATCH_CHARACTERS, Found, search
from eval.contamination.texts import Document, Skipped, TextFile, read
from mindllm.config import RunFailed
from mindllm.progress import Meter
from mindllm.stage import write_json
from mindllm.text import units

PIECE, OVERLAP = 200_000, 20_000  # characters
_EXCERPT = 200  # characters


@dataclass(frozen=True)
class Task:
    """What all files of a search have in common. item_homes: ItemFile.home of each item."""

    out: str
    item_homes: tuple[str, ...]
    text_field: str
    tokenizer: str
    min_share: float


class _Piece(NamedTuple):
    """A document, or a part of a long one; number: of the document in its file."""

    number: int
    document: Document
    text: str


@functools.lru_cache(maxsize=1)  # a document may hold thousands of items
def text_hash(text: str) -> str:
    """16 hex digits by which the cleaner `contamination` knows a document that comes without its id."""
    return xxhash.xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass"))


def scan_all(files: Sequence[TextFile], task: Task, num_workers: int) -> list[Path]:
    """Search all files that no earlier start has; the results' paths, in the order of the files.

    Raises RunFailed where a worker dies, and what reading a file raises.
    """
    results = [Path(task.out) / "found" / f"{number:05}.json" for number in range(len(files))]
    missing = [number for number, path in enumerate(results) if not path.exists()]
    missing.sort(key=lambda n: -files[n].path.stat().st_size)  # the longest first, so that the last ones end together
    num_workers = min(num_workers or len(os.sched_getaffinity(0)), len(missing))
    meter = Meter("contamination", [files[number] for number in missing])
    if num_workers <= 1:
        with meter:
            for place, number in enumerate(missing):
                meter.begin(files[number].label)
                scan(files[number], results[number], task)
                meter.advance(place)
        return results
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, _begin) as pool, meter:
        places = {pool.submit(scan, files[n], results[n], task): place for place, n in enumerate(missing)}
        try:
            for future in as_completed(places):
                future.result()
                meter.advance(places[future])
        except BrokenProcessPool:
            raise RunFailed("a worker process died (out of memory?); the same command goes on from here") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return results


def _begin() -> None:
    """Ends this worker with its parent: one that is left behind would write into the files of the next run.

    Ctrl-C in a terminal reaches workers, too; they leave it to the parent, which lets them finish their files.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers are processes of their own"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@functools.lru_cache(maxsize=1)
def _index(folder: str) -> Index:
    return open_index(Path(folder))


def scan(file: TextFile, out: Path, task: Task) -> None:
    """Search one file, and write how many documents it has, what was found in them, what could not be read."""
    index, own, skipped = _index(f"{task.out}/index"), file.homes, Skipped()
    counts = {"documents": 0, "bytes": 0}
    found: dict[tuple[int, int], dict[str, Any]] = {}  # (document, item): its best text
    for batch in _batches(_pieces(read(file, task.text_field, task.tokenizer, skipped), counts)):
        for hit in search(index, [piece.text for piece in batch], task.min_share):
            item, piece = int(index.entries["item"][hit.entry]), batch[hit.document]
            place, share = (piece.number, item), round(hit.share, 4)
            if task.item_homes[item] not in own and share > found.get(place, {"share": 0.0})["share"]:
                found[place] = _row(item, piece, share, hit)
    write_json(out, {**counts, "skipped": skipped.to_json(), "found": [found[place] for place in sorted(found)]})


def _row(item: int, piece: _Piece, share: float, hit: Found) -> dict[str, Any]:
    excerpt = _excerpt(piece.text, hit.begin, hit.end)
    document = piece.document
    return {"item": item, "document": document.id, "hash": text_hash(document.text), "share": share, "excerpt": excerpt}


def _excerpt(text: str, begin: int, end: int) -> str:
    """The passage between two units of a text, folded as it is compared, on one line; its beginning."""
    folded, places = _places(text)
    first = places[begin][0]
    return " ".join(folded[first : places[end - 1][1]][:_EXCERPT].split())


@functools.lru_cache(maxsize=1)
def _places(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A text, folded, and where each of its units stands in that: begin, end."""
    folded, place, places = fold(text), 0, []
    for unit in units(folded):
        place = folded.index(unit, place)
        places.append((place, place + len(unit)))
        place += len(unit)
    return folded, places


def _pieces(documents: Iterable[Document], counts: dict[str, int]) -> Iterator[_Piece]:
    """The documents, counted; long ones in pieces."""
    for document in documents:
        counts["bytes"] += len(document.text.encode("utf-8", "surrogatepass"))
        for start in range(0, max(1, len(document.text) - OVERLAP), PIECE - OVERLAP):
            yield _Piece(counts["documents"], document, document.text[start : start + PIECE])
        counts["documents"] += 1


def _batches(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
