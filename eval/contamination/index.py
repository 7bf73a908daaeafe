"""The index of all items: which n-grams (seeds) point to which item, on disk, as sorted arrays that processes share.

A text finds an item in two steps. Seeds are n-grams long enough to be rare: 3 or 4 words, or 5 CJK characters. One
that more than `max_frequency` items have is a template ("which of the following is"), and no seed. What the seeds point
to is compared by small n-grams of letters (5, or 3 CJK characters): most survive an error in every twentieth letter.
Those inside templates do not count. Items without a seed, short ones mostly, are known by their question as a whole
line with the answer below it.
Cost: see build. Searching maps the files, and touches little of them: 12 bytes a seed, 8 a small n-gram.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.contamination.grams import Grams, Units
from mindllm.stage import atomic, read_json, write_json

SEED_BYTES = 14  # UTF-8 bytes of a seed's units
SMALL_SIZE = 5  # of a small n-gram: 5 letters, 3 CJK characters (2 each)
MIN_SIZE = 8  # small n-grams outside templates (of wide letters twice); a text with fewer has no seeds
MIN_LINE_BYTES = 8  # of a question that is looked for as a whole line
MAX_CHARACTERS = 20_000  # of each part of a text; of a longer one its beginning is known
SEARCHED, LINE, TOO_SHORT = range(3)  # how a text is found: by seeds, by its question as a whole line, not at all
ENTRY = np.dtype([("item", "<i4"), ("units", "<i4"), ("seeds", "<i4"), ("size", "<i4"), ("state", "<i4")])
_FILTER_BITS = 16  # a seed: 6 % of the n-grams that are none pass
_TEXTS_AT_ONCE = 2_000  # memory: 100 MB
_ARRAYS = ("entries", "keys", "owners", "filter", "smalls", "small_starts", "lines", "line_ends", "line_owners")
Texts = Callable[[], Iterable[tuple[int, Sequence[str]]]]


class Index(NamedTuple):
    """Texts ("entries"; an item has one or more), and the arrays in which a document looks for them.

    entries: ENTRY (num_entries,), of which size counts the different small n-grams outside templates, those of wide
    letters twice: what there is to recognise.  keys: uint64 (num_seeds,), ascending, and the entry of each in owners.
    filter: uint8, a bit for each value of a key's lowest bits.  smalls: uint64, those of entry e ascending at
    small_starts[e] to small_starts[e + 1].  lines: uint64, ascending, hashes of whole questions; line_ends: uint64, of
    the last part of each text, its answer mostly; line_owners.
    """

    entries: np.ndarray
    keys: np.ndarray
    owners: np.ndarray
    filter: np.ndarray
    smalls: np.ndarray
    small_starts: np.ndarray
    lines: np.ndarray
    line_ends: np.ndarray
    line_owners: np.ndarray

    def smalls_of(self, entry: int) -> np.ndarray:
        """The small n-grams of an entry, ascending."""
        return self.smalls[self.small_starts[entry] : self.small_starts[entry + 1]]

    def maybe(self, hashes: np.ndarray) -> np.ndarray:
        """bool, same shape: False for hashes that are no keys. One random read a hash, in a file that fits caches."""
        places = hashes & np.uint64(8 * len(self.filter) - 1)
        bits = self.filter[(places >> np.uint64(3)).astype(np.intp)] >> (places & np.uint64(7)).astype(np.uint8)
        return (bits & 1).astype(bool)


class _Block(NamedTuple):
    """Some texts in a row: the number of the first one, their items, the units of all their parts; the text of each
    unit, the first part of each text, and the last one that has units."""

    first: int
    items: np.ndarray
    units: Units
    texts: np.ndarray
    parts: np.ndarray
    lasts: np.ndarray


def build(folder: Path, texts: Texts, max_frequency: int) -> Index:
    """Write the index of `texts()`, pairs (item, parts of a text), to a folder, if no earlier start has; open it.

    No n-gram crosses from one part into the next. `texts` is read twice: templates are known after the first time.
    memory: 0.6 GB, and 15 s of processor time, for the 85,000 items of the fifteen benchmarks (3 million seeds, 130 MB
    on disk); both grow with the items.
    """
    if read_json(folder / "index.json") is None:
        keys, owners = _seeds(texts)
        order = np.argsort(keys, kind="stable")
        keys, owners = keys[order], owners[order]
        firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
        counts = np.diff(np.append(firsts, len(keys)))
        rare, templates = np.repeat(counts <= max_frequency, counts), keys[firsts[counts > max_frequency]]
        arrays = {"keys": keys[rare], "owners": owners[rare], "filter": _filter(keys[rare])}
        arrays |= _arrays(texts, templates, np.bincount(owners[rare]))
        for name in _ARRAYS:
            _save(folder / f"{name}.npy", arrays[name])
        write_json(folder / "index.json", {name: len(arrays[name]) for name in _ARRAYS} | {"templates": len(templates)})
    return open_index(folder)


def open_index(folder: Path) -> Index:
    """Map the files of an index."""
    return Index(*(_open(folder / f"{name}.npy") for name in _ARRAYS))


def _open(path: Path) -> np.ndarray:
    """A file through a memory map, as a plain array: numpy's own class for maps costs microseconds a slice."""
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def _save(path: Path, array: np.ndarray) -> None:
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def _blocks(texts: Texts) -> Iterator[_Block]:
    rows, first = iter(texts()), 0
    while batch := list(islice(rows, _TEXTS_AT_ONCE)):
        units = Units([part[:MAX_CHARACTERS] for _, parts in batch for part in parts])
        num_parts = np.array([len(parts) for _, parts in batch])
        owners = np.repeat(np.repeat(np.arange(len(batch)), num_parts), np.diff(units.starts)) + first
        parts = np.cumsum(num_parts) - num_parts
        last_units = np.searchsorted(owners, np.arange(len(batch)) + first, side="right") - 1
        lasts = np.maximum(parts, np.searchsorted(units.starts, last_units, side="right") - 1)
        yield _Block(first, np.array([item for item, _ in batch]), units, owners, parts, lasts)
        first += len(batch)


def _seeds(texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    """Every seed of every text once (uint64), and its text (int32); templates are among them."""
    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
    for block in _blocks(texts):
        grams = block.units.grams(SEED_BYTES)
        owner = block.texts[grams.begins]
        first = _distinct(grams.hashes, owner)
        hashes.append(grams.hashes[first])
        owners.append(owner[first].astype(np.int32))
    return np.concatenate(hashes), np.concatenate(owners)


def _distinct(hashes: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Where each pair stands first; in the order of owners, then hashes."""
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    new = np.ones(len(hashes), dtype=bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return order[new]


def _arrays(texts: Texts, templates: np.ndarray, num_seeds: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays that hold something for each text: entries, small n-grams, whole lines."""
    entries, smalls, counts = [np.zeros(0, ENTRY)], [np.zeros(0, np.uint64)], [np.zeros(1, np.int64)]
    lines, line_ends, line_owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
    for block in _blocks(texts):
        small = _small(block.units, templates)
        owners = block.texts[np.searchsorted(block.units.letter_starts, small.begins, side="right") - 1] - block.first
        chosen = _distinct(small.hashes, owners)
        begins, owners = small.begins[chosen], owners[chosen]
        smalls.append(small.hashes[chosen])
        counts.append(np.bincount(owners, minlength=len(block.items)))
        weights = np.diff(block.units.letters.sizes)[begins]
        rows = _entries(block, np.bincount(owners, weights, len(block.items)), num_seeds)
        entries.append(rows)
        short = np.flatnonzero(rows["state"] == LINE)
        for found, parts in ((lines, block.parts[short]), (line_ends, block.lasts[short])):
            found.append(block.units.stretches(block.units.starts[parts], block.units.starts[parts + 1]))
        line_owners.append((short + block.first).astype(np.int32))
    hashes = np.concatenate(lines)
    order = np.argsort(hashes, kind="stable")
    return {
        "entries": np.concatenate(entries),
        "smalls": np.concatenate(smalls),
        "small_starts": np.cumsum(np.concatenate(counts)),
        "lines": hashes[order],
        "line_ends": np.concatenate(line_ends)[order],
        "line_owners": np.concatenate(line_owners)[order],
    }


def _entries(block: _Block, sizes: np.ndarray, num_seeds: np.ndarray) -> np.ndarray:
    """ENTRY rows of a block; sizes: those of its texts."""
    rows = np.zeros(len(block.items), dtype=ENTRY)
    begins = np.searchsorted(block.texts, np.arange(len(rows) + 1) + block.first)
    known = num_seeds[block.first : block.first + len(rows)]
    rows["item"], rows["units"], rows["size"] = block.items, np.diff(begins), sizes
    rows["seeds"][: len(known)] = known
    asked = np.diff(block.units.sizes[block.units.starts])[block.parts]
    line = np.where(asked < MIN_LINE_BYTES, TOO_SHORT, LINE)
    rows["state"] = np.where((rows["seeds"] > 0) & (rows["size"] >= MIN_SIZE), SEARCHED, line)
    return rows


def _small(units: Units, templates: np.ndarray) -> Grams:
    """The small n-grams that lie in no template."""
    seeds, small = units.grams(SEED_BYTES), units.letters.grams(SMALL_SIZE)
    is_template = np.isin(seeds.hashes, templates)
    begins, ends = (units.letter_starts[place[is_template]] for place in (seeds.begins, seeds.ends))
    last = np.searchsorted(begins, small.begins, side="right") - 1  # the template that begins last before it: it also
    inside = last >= 0  # ends last, since seeds that begin later never end earlier
    inside[inside] = ends[last[inside]] >= small.ends[inside]
    return Grams(*(array[~inside] for array in small))


def _filter(keys: np.ndarray) -> np.ndarray:
    """uint8: a bit for each value that the lowest bits of a key can have; set where a key has it."""
    size = max(64, 1 << (len(keys) * _FILTER_BITS - 1).bit_length()) if len(keys) else 64
    flags = np.zeros(size, dtype=bool)  # memory: 16 to 32 bytes a key
    flags[(keys & np.uint64(size - 1)).astype(np.intp)] = True
    return np.packbits(flags, bitorder="little")
