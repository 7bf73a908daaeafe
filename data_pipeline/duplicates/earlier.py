"""What a run keeps for later ones, and what it finds of earlier ones (dedup.against): signatures of kept documents.

dedup/signatures/ holds settings.json, and for each shard heads.npy, signatures.npy and names.arrow (id, cluster), a row
a kept document: a store as sketches.py makes it, of which a later run makes only the index anew. So bands,
rows and threshold may differ from run to run; what signatures mean may not. Disk: 24 bytes, 4 an entry (536 at 128
hashes), id and cluster a document.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.clean import stage_shards
from data_pipeline.config import DedupConfig
from data_pipeline.duplicates import minhash
from data_pipeline.duplicates.arrays import open_array, write_array
from data_pipeline.duplicates.sketches import HEAD, Part, write_names
from mindllm.config import UserError
from mindllm.stage import differences, read_json, require

SETTINGS, FILES = "settings.json", ("heads.npy", "signatures.npy", "names.arrow")


@dataclass(frozen=True)
class Earlier:
    """One earlier run: its folder as the config names it, the hash of its dedup stage, its shards."""

    folder: str
    hash: str
    shards: tuple[str, ...]

    @property
    def signatures(self) -> Path:
        """The folder with a store for each shard."""
        return Path(self.folder) / "dedup" / "signatures"


def meaning(settings: DedupConfig) -> dict[str, int]:
    """What must be the same for two signatures to be comparable."""
    names = ("num_hashes", "shingle_units", "seed")
    versions = {"signature_version": minhash.ALGORITHM_VERSION, "units_version": minhash.UNITS_VERSION}
    return {**{n: getattr(settings, n) for n in names}, **versions}


def find_earlier(settings: DedupConfig, run: str) -> list[Earlier]:
    """The runs that settings.against names. Raises UserError for one that cannot be used, and says why."""
    found: dict[Path, Earlier] = {}
    for folder in settings.against:
        place = Path(folder).resolve()
        if place == Path(run).resolve():
            raise UserError(f"dedup.against: {folder} is this run itself; name earlier runs only, and this one as run=")
        if place in found:
            raise UserError(f"dedup.against: {folder} is named twice")
        meta = require(Path(folder) / "dedup", f"python -m data_pipeline dedup CONFIG run={folder}")
        earlier = Earlier(folder, meta["hash"], tuple(s.name for s in stage_shards(Path(folder) / "dedup")))
        files = [SETTINGS, *(f"{shard}/{name}" for shard in earlier.shards for name in FILES)]
        gone = [name for name in files if not (earlier.signatures / name).exists()]
        if gone:
            raise UserError(
                f"dedup.against: {folder} keeps no signatures ({earlier.signatures / gone[0]} is missing); delete "
                f"{Path(folder) / 'dedup'} and make it again: python -m data_pipeline dedup CONFIG run={folder}"
            )
        noted = read_json(earlier.signatures / SETTINGS)
        if noted != meaning(settings):
            lines = "; ".join(differences(noted, meaning(settings)))
            raise UserError(
                f"dedup.against: signatures of {folder} cannot be compared with this run's (there -> here): {lines}. "
                "Use its settings here, or make it anew with these: force=true"
            )
        found[place] = earlier
    return list(found.values())


def earlier_parts(found: Sequence[Earlier], work: Path) -> Iterator[Part]:
    """The shards of earlier runs, before all others. Their indexes have a folder that no new shard shares."""
    first = 0
    for number, earlier in enumerate(found):
        for shard in earlier.shards:
            store, index = earlier.signatures / shard, work / "against" / f"{number:03d}" / shard
            count = len(open_array(store / "heads.npy"))
            yield Part(
                f"{shard} of {earlier.folder}", "", str(store), str(index), first, count, fixed=True, run=earlier.folder
            )
            first += count


AddKept = Callable[[np.ndarray, np.ndarray, Sequence[str], Sequence[str]], None]


@contextlib.contextmanager
def keep_signatures(folder: Path, num_hashes: int) -> Iterator[AddKept]:
    """Hands out `add(heads, signatures, ids, clusters)` for kept documents of one shard."""
    with (
        write_names(folder / "names.arrow", ("id", "cluster")) as add_names,
        write_array(folder / "heads.npy", HEAD) as add_heads,
        write_array(folder / "signatures.npy", "<u4", (num_hashes,)) as add_signatures,
    ):

        def add(heads: np.ndarray, signatures: np.ndarray, ids: Sequence[str], clusters: Sequence[str]) -> None:
            assert len(heads) == len(signatures) == len(ids) == len(clusters), "a row of each for a document"
            add_heads(heads)
            add_signatures(signatures)
            add_names([ids, clusters])

        yield add
