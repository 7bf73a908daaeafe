"""Runs the cleaners of configs/data/sample.yaml over mutated real pages: nothing may raise, hang or crash.

    python bench/mutate.py [FOLDER_OR_ARCHIVE ...] [--num 20000] [--seed 1] [--workers 1]
    python bench/mutate.py FOLDER_OR_ARCHIVE --only 1234        # one mutant again, with its traceback

Inputs are folders of pages, .tar.gz archives, or folders of archives (default: samples/web). Mutant i is a function of
(seed, i, pages): bits flipped, parts cut, two pages spliced, stretches doubled, random bytes, entities and a thousand
tags put in. Cost: what cleaning a page costs, about 10 ms. Memory: all pages. The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import functools
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from common import CONFIG, SAMPLE_PAGES, Page, cleaners_of, read_pages

from data_pipeline import workers
from data_pipeline.clean import apply
from data_pipeline.document import Cleaner, Document
from data_pipeline.quarantine import CLEANING, WRITING, Place, Quarantine, condemned, watch

CHUNK = 500  # mutants a task
SECONDS = 30  # of CPU time, after which a mutant counts as hanging
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline
_TAG = re.compile(rb"<[^<>]{1,200}>")
_ENTITIES = b"&amp; &#0; &#xD800; &#x110000; &#27; &nbsp &zwnj; &#x202e; &#99999999999;".split()


class Result(NamedTuple):
    """What became of mutant `number`: the reason of its drop ("" if kept), CPU seconds, size in bytes, its making."""

    number: int
    reason: str
    seconds: float
    num_bytes: int
    made: str


class Chunk(NamedTuple):
    """The mutants `first` ... `last` - 1: one task. Its name is that of its journal."""

    name: str
    first: int
    last: int


def flip_bits(rng: random.Random, page: bytes, other: bytes) -> bytes:
    """1 to 50 bits."""
    data = bytearray(page)
    for _ in range(rng.randint(1, 50)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def cut(rng: random.Random, page: bytes, other: bytes) -> bytes:
    """A part is left out; half of the time that is the end."""
    start, end = _stretch(rng, page, len(page))
    return page[:start] if rng.random() < 0.5 else page[:start] + page[end:]


def splice(rng: random.Random, page: bytes, other: bytes) -> bytes:
    """The beginning of one page, the end of another."""
    return page[: rng.randint(0, len(page))] + other[rng.randint(0, len(other)) :]


def double(rng: random.Random, page: bytes, other: bytes) -> bytes:
    """A stretch of up to 2,000 bytes, 2 to 50 times."""
    start, end = _stretch(rng, page, 2000)
    return page[:start] + page[start:end] * rng.randint(2, 50) + page[end:]


def insert_bytes(rng: random.Random, page: bytes, other: bytes) -> bytes:
    """1 to 500 random bytes."""
    at = rng.randint(0, len(page))
    return page[:at] + rng.randbytes(rng.randint(1, 500)) + page[at:]


def insert_entities(rng: random.Random, page: bytes, other: bytes) -> bytes:
    """Up to 1,000 entities, most of them of characters that no text should hold."""
    at = rng.randint(0, len(page))
    return page[:at] + b"".join(rng.choices(_ENTITIES, k=rng.randint(1, 1000))) + page[at:]


def repeat_tag(rng: random.Random, page: bytes, other: bytes) -> bytes:
    """One of the page's tags, a thousand times in a row."""
    tags = _TAG.findall(page) or [b"<div>"]
    at = rng.randint(0, len(page))
    return page[:at] + rng.choice(tags) * 1000 + page[at:]


def drop_tags(rng: random.Random, page: bytes, other: bytes) -> bytes:
    """All tags like one of the page's tags (its closing tags, for example) go."""
    tags = _TAG.findall(page)
    return page.replace(rng.choice(tags), b"") if tags else page


MUTATIONS: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    flip_bits, cut, splice, double, insert_bytes, insert_entities, repeat_tag, drop_tags,
)  # fmt: skip


def _stretch(rng: random.Random, page: bytes, longest: int) -> tuple[int, int]:
    start = rng.randint(0, len(page))
    return start, min(len(page), start + rng.randint(0, longest))


def mutant(pages: Sequence[Page], seed: int, number: int) -> Page:
    """Mutant `number`: one of the pages after 1 to 4 mutations; the name says which."""
    rng = random.Random(f"{seed} {number}")  # of text: the same in every process
    name, data = rng.choice(pages)
    for change in rng.choices(MUTATIONS, k=rng.randint(1, 4)):
        data = change(rng, data or b"?", rng.choice(pages).data)
        name += f" {change.__name__}"
    return Page(name, data)


@functools.lru_cache(maxsize=1)
def _kept_pages(inputs: tuple[str, ...]) -> list[Page]:
    return read_pages(inputs)


def clean_page(page: Page, number: int, cleaners: dict[str, Cleaner]) -> Result:
    """Run the cleaners over one page; text that holds control characters is an error, too."""
    start = time.process_time()
    document, drop = apply(
        Document("", str(number), "http://a.example/", "a.example", meta={"html": page.data}), cleaners
    )
    seconds = time.process_time() - start
    reason = drop.reason if drop else "error:text:control_character" if CONTROLS.search(document.text) else ""
    return Result(number, reason, seconds, len(page.data), page.name)


def clean_chunk(chunk: Chunk, inputs: Sequence[str], seed: int, config: str, folder: Path) -> list[Result]:
    """All mutants of one chunk but those that have killed a process before."""
    pages, cleaners = _kept_pages(tuple(inputs)), cleaners_of(config)
    given_up, results = condemned(folder, chunk.name), []
    with watch(folder, chunk.name, SECONDS) as note:
        for number in range(chunk.first, chunk.last):
            page = mutant(pages, seed, number)
            reason = given_up.get(Place(CLEANING, 0, number))
            if reason:
                results.append(Result(number, reason, SECONDS, len(page.data), page.name))
                continue
            note(CLEANING, 0, number)
            results.append(clean_page(page, number, cleaners))
            note(WRITING, 0, 0)
    return results


def report(results: Sequence[Result]) -> int:
    """Print reasons, failures and the slowest mutants; returns the number of failures."""
    failed = [r for r in results if r.reason.startswith(("error:", "quarantine:"))]
    seconds = sum(r.seconds for r in results)
    print(f"{len(results)} mutants, {sum(r.num_bytes for r in results) / 1e6:.1f} MB, {seconds:.1f} s of CPU time")
    for reason, count in Counter(r.reason or "kept" for r in results).most_common():
        print(f"{count:8} {reason}")
    print("slowest:")
    for r in sorted(results, key=lambda r: -r.seconds)[:5]:
        print(f"{r.seconds:8.3f} s {r.num_bytes:10} bytes  mutant {r.number} ({r.made}): {r.reason or 'kept'}")
    for r in failed[:20]:
        print(f"FAILED mutant {r.number} ({r.made}): {r.reason}; see it with --only {r.number}")
    print(f"{len(failed)} failures")
    return len(failed)


def main() -> int:
    """The command line; the exit code is 1 if there was a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", default=[str(SAMPLE_PAGES)])
    parser.add_argument("--num", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--config", default=str(CONFIG))
    parser.add_argument("--only", type=int, help="number of the one mutant to run, without catching what it raises")
    options = parser.parse_args()
    if options.only is not None:
        page = mutant(read_pages(options.inputs), options.seed, options.only)
        document: object = Document("", "mutant", meta={"html": page.data})
        for cleaner in cleaners_of(options.config).values():
            document = cleaner(document) if isinstance(document, Document) else document
        print(page.name, document)
        return 0
    with tempfile.TemporaryDirectory() as name:
        settings = {"inputs": options.inputs, "seed": options.seed, "config": options.config, "folder": Path(name)}
        starts = range(0, options.num, CHUNK)
        chunks = [Chunk(f"chunk-{first}", first, min(first + CHUNK, options.num)) for first in starts]
        task = functools.partial(clean_chunk, **settings)
        where = workers.WorkersConfig(num_workers=options.workers)
        parts = workers.run(task, chunks, where, "mutants", Quarantine(Path(name))).results
    return 1 if report([result for part in parts for result in part]) else 0


if __name__ == "__main__":
    sys.exit(main())
