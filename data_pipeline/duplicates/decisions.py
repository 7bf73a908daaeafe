"""Passes 3 and 4 of dedup: pairs to components (one process), components to decisions (tasks), and looking these up.

Only documents that occur in a pair are in any of these files. connect writes their ordinals component by component; a
task takes whole components of about MEMBERS_PER_TASK documents and decides on each (clusters.py says how).
memory: connect 1 byte a document and 45 a document in a pair; a task 100 bytes a member and ROWS_AT_ONCE signatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.duplicates import clusters
from data_pipeline.duplicates.arrays import open_array, read_blocks, save
from data_pipeline.duplicates.sketches import Part, Store, load_store

PAIRS_AT_ONCE = 1 << 20  # memory: 70 MB
MEMBERS_PER_TASK = 1 << 20


def connect(store: Store, pairs: Sequence[Path], work: Path) -> None:
    """Write members.npy, the ordinals of documents in pairs by component, and starts.npy, where each begins."""
    if (work / "members.npy").exists() and (work / "starts.npy").exists():
        return
    paired = np.zeros(store.total, dtype=bool)
    for batch in _batches(pairs):
        paired[batch] = True
    members = np.flatnonzero(paired)
    del paired
    components = clusters.connect(len(members), (_number(batch, members) for batch in _batches(pairs)))
    order = np.argsort(components, kind="stable")  # the ordinals of a component rise
    components = components[order]
    starts = np.flatnonzero(np.append(True, components[1:] != components[:-1])[: len(components)])
    save(work / "starts.npy", starts)
    save(work / "members.npy", members[order])


def _number(pairs: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Where ordinals stand among the members. Sorted first: to look them up in any order takes ten times as long."""
    wanted, back = np.unique(pairs, return_inverse=True)
    return np.searchsorted(members, wanted)[back].reshape(pairs.shape)


def _batches(files: Sequence[Path]) -> Iterator[np.ndarray]:
    return (batch for file in files for batch in read_blocks(file, PAIRS_AT_ONCE))


@dataclass(frozen=True)
class ChoiceTask:
    """Members start ... stop - 1, which are whole components."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """For messages."""
        return f"components {self.number}"


def list_choices(work: Path) -> list[ChoiceTask]:
    """The members cut at borders of components into tasks of MEMBERS_PER_TASK, or of one larger component."""
    starts, total = open_array(work / "starts.npy"), len(open_array(work / "members.npy"))
    tasks: list[ChoiceTask] = []
    start = 0
    while start < total:
        place = int(np.searchsorted(starts, start + MEMBERS_PER_TASK, side="right")) - 1
        stop = total if start + MEMBERS_PER_TASK >= total else int(starts[place])
        if stop <= start:  # one component is larger than a task
            stop = int(starts[place + 1]) if place + 1 < len(starts) else total
        tasks.append(ChoiceTask(len(tasks), start, stop))
        start = stop
    return tasks


def choose(task: ChoiceTask, work: Path, threshold: float) -> Path:
    """Write the decisions on some components: two arrays, ascending by ordinal.

    <number>.npy, int64 (3, k): the ordinal, the first document of its component, the kept one that it is a copy of (its
    own: it is kept); <number>-similarity.npy, float64 (k,): of these two.
    """
    path = work / "choices" / f"{task.number:05d}.npy"
    near = path.with_name(f"{task.number:05d}-similarity.npy")
    if path.exists() and near.exists():
        return path
    store = load_store(work)
    members = open_array(work / "members.npy")[task.start : task.stop]
    starts = open_array(work / "starts.npy")
    components = np.searchsorted(starts, np.arange(task.start, task.stop), side="right")
    fixed = members < store.num_fixed
    order = clusters.ranked(components, fixed, store.read("heads", members)["num_units"], members)
    members, fixed, components = members[order], fixed[order], components[order]
    first = np.append(True, components[1:] != components[:-1])
    closest, reached = clusters.choose(first, fixed, lambda rows: store.read("signatures", members[rows]), threshold)
    leads = np.maximum.accumulate(np.where(first, np.arange(len(members)), 0))
    order = np.argsort(members)
    save(near, reached[order])
    save(path, np.stack([members, members[leads], members[closest]])[:, order])
    return path


class Fates(NamedTuple):
    """Of each document of one shard, (count,): the ordinals of the first document of its component and of the kept one
    that it is a copy of (its own: it is kept), how similar it is to that one, and whether it is an exact copy of it."""

    best: np.ndarray
    kept: np.ndarray
    similarity: np.ndarray
    exact: np.ndarray

    def take(self, rows: np.ndarray) -> Fates:
        """Those of some documents."""
        return Fates(*(values[rows] for values in self))


def load_fates(part: Part, work: Path) -> Fates:
    """The decisions on one shard. An exact copy shares the fate of its original, which may be in another shard."""
    files = sorted(p for p in (work / "choices").glob("*.npy") if not p.stem.endswith("-similarity"))
    own = np.arange(part.first, part.first + part.count)
    best, kept, similarity = _look_up(files, own)
    exact = np.zeros(part.count, dtype=bool)
    copies, originals = open_array(Path(part.index) / "copies.npy")
    wanted, back = np.unique(originals, return_inverse=True)
    rows = copies - part.first
    best[rows], kept[rows], similarity[rows] = (values[back] for values in _look_up(files, wanted))
    exact[rows] = kept[rows] == originals
    return Fates(best, kept, similarity, exact)


def _look_up(files: Sequence[Path], ordinals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first of the component, kept, similarity) for ascending ordinals; those in no component are alone and kept."""
    best, kept, similarity = ordinals.copy(), ordinals.copy(), np.ones(len(ordinals))
    for file in files if len(ordinals) else ():
        table = open_array(file)
        places = slice(*np.searchsorted(table[0], [ordinals[0], ordinals[-1] + 1]))
        there = table[0, places]
        if len(there):
            found = np.minimum(np.searchsorted(there, ordinals), len(there) - 1)
            hits = np.flatnonzero(there[found] == ordinals)
            best[hits], kept[hits] = table[1, places][found[hits]], table[2, places][found[hits]]
            similarity[hits] = open_array(file.with_name(f"{file.stem}-similarity.npy"))[places][found[hits]]
    return best, kept, similarity
