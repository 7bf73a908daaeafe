"""What a deduplication is going to need, printed before it starts: memory, disk, time; and whether the disk has it.

Numbers of documents and bytes of text are in the footers of the Parquet files. How fast texts become sketches is
measured on the first PROBE_BYTES of text, which takes about 50 ms; the other passes are constants, measured with
bench/dedup.py. So the time is good for telling minutes from hours, no more.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from data_pipeline.config import DedupConfig
from data_pipeline.duplicates import minhash
from data_pipeline.duplicates.bands import TASK_BYTES
from data_pipeline.duplicates.sketches import HEAD, Part, batches
from data_pipeline.local_engine import num_cpus
from data_pipeline.parquet import read_documents
from data_pipeline.workers import WorkersConfig
from mindllm.config import UserError
from mindllm.progress import duration

PROBE_BYTES = 2_000_000
PROCESS_BYTES = 250_000_000  # memory: a worker with its libraries, one row group, one block of signatures
PAIRED_BYTES = 45  # memory: of connect, a document in a pair
PARAGRAPH_SHARE = 8  # percent of the text, for what paragraphs need on disk
SECONDS_PER_DOCUMENT = 50e-6  # of one worker: sorting keys, bands, and the rows of the filter
SECONDS_PER_BYTE = 1 / 120e6  # of one worker: reading texts twice, and writing Parquet again
START_SECONDS = 7  # where there are several workers: seven passes that start them
MEMORY_SHARE = 0.6  # of the machine's memory, for tasks that run at once


@dataclass(frozen=True)
class Needs:
    """Sizes in bytes. at_once: so many tasks that need task_memory may run at once on this machine."""

    documents: int
    shards: int
    fixed: int
    task_memory: int
    connect_memory: int
    at_once: int
    work_disk: int
    kept_disk: int
    seconds: float
    num_workers: int

    def describe(self) -> str:
        """A few lines to print."""
        old = f", and {self.fixed:,} of earlier runs" if self.fixed else ""
        most = f"{self.at_once} at once {_megabytes(self.at_once * self.task_memory)}"
        together = most if self.at_once else "one for each CPU of the cluster"
        memory = f"{_megabytes(self.task_memory)} a task, {together}"
        return "\n".join(
            (
                f"dedup: {self.documents:,} documents in {self.shards:,} shards{old}; needs",
                f"  memory  {memory}; connecting pairs {_megabytes(self.connect_memory)} at most",
                f"  disk    {_megabytes(self.work_disk)} while it runs, {_megabytes(self.kept_disk)} of results",
                f"  time    about {duration(self.seconds)} on {self.num_workers} workers",
            )
        )

    def check_room(self, folder: Path) -> None:
        """Raises UserError if the disk cannot hold what is still to be written (what lies in `folder` is there)."""
        there = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        missing, free = self.work_disk + self.kept_disk - there, shutil.disk_usage(folder).free
        if missing > free:
            raise UserError(
                f"dedup: {folder} needs about {_megabytes(missing)} more, its disk has {_megabytes(free)} free; "
                "make room, choose another run=... folder, or dedup less at a time (dedup.against)"
            )


def estimate(parts: Sequence[Part], settings: DedupConfig, where: WorkersConfig) -> Needs:
    """The needs of a whole run; what of it is done already does not count. Raises UserError if one task cannot fit."""
    new = [part for part in parts if not part.fixed]
    fixed, documents = (sum(p.count for p in some) for some in ([p for p in parts if p.fixed], new))
    total = fixed + documents
    text_bytes, name_bytes = (sum(sizes) for sizes in zip((0, 0), *(_footer(Path(p.path)) for p in new), strict=True))
    num_workers = where.num_workers or num_cpus()
    task_memory = PROCESS_BYTES + TASK_BYTES * min(total, settings.rows_per_task)
    signature = HEAD.itemsize + 4 * settings.num_hashes
    index = 12 * (settings.bands + 1)
    pairs = 16 * settings.bands + 32  # if every document had one: a pair in each band, and a decision
    again = text_bytes if settings.paragraphs else 0
    seconds = text_bytes * _seconds_per_byte(new, settings) + SECONDS_PER_BYTE * (text_bytes + again)
    return Needs(
        documents=documents,
        shards=len(new),
        fixed=fixed,
        task_memory=task_memory,
        connect_memory=PROCESS_BYTES + total + PAIRED_BYTES * total,
        at_once=_at_once(task_memory, where, settings),
        work_disk=documents * signature + total * (index + pairs) + name_bytes + again * PARAGRAPH_SHARE // 100,
        kept_disk=documents * signature + 2 * name_bytes + sum(os.path.getsize(p.path) for p in new),
        seconds=(seconds + total * SECONDS_PER_DOCUMENT) / num_workers + START_SECONDS * (num_workers > 1),
        num_workers=num_workers,
    )


def _footer(path: Path) -> tuple[int, int]:
    """Bytes of text and of ids in a Parquet file, uncompressed."""
    footer = pq.read_metadata(path)
    columns = [
        footer.row_group(group).column(number)
        for group in range(footer.num_row_groups)
        for number in range(footer.num_columns)
    ]
    text, ids = (sum(c.total_uncompressed_size for c in columns if c.path_in_schema == name) for name in ("text", "id"))
    return text, ids


def _seconds_per_byte(parts: Sequence[Part], settings: DedupConfig) -> float:
    """Of sketching, measured on the first documents there are, in batches as sketch_part has them; 0 without any.

    The first batch is sketched twice: the first time costs more.
    """
    for part in parts:
        if part.count:
            texts = [[text for text, _ in batch] for batch in batches(_first_texts(Path(part.path)))]
            minhash.sketch(texts[0], settings.num_hashes, settings.shingle_units, settings.seed)
            start = time.perf_counter()
            for batch in texts:
                minhash.sketch(batch, settings.num_hashes, settings.shingle_units, settings.seed)
            return (time.perf_counter() - start) / max(1, sum(len(t.encode()) for batch in texts for t in batch))
    return 0.0


def _first_texts(path: Path) -> Iterator[tuple[str, str]]:
    size = 0
    for document in read_documents(path, ("text",)):
        yield document.text, document.id
        size += len(document.text.encode())
        if size >= PROBE_BYTES:
            return


def _at_once(task_memory: int, where: WorkersConfig, settings: DedupConfig) -> int:
    """How many of the workers may take such tasks; all of them (0: every CPU) on a cluster, whose machines are not
    known here."""
    if where.address:
        return where.num_workers
    room = int(MEMORY_SHARE * machine_memory()) // task_memory
    if room < 1:
        rows = int(MEMORY_SHARE * machine_memory() - PROCESS_BYTES) // TASK_BYTES
        raise UserError(
            f"dedup.rows_per_task: {settings.rows_per_task:,} rows need {_megabytes(task_memory)} in a task, "
            f"this machine has {_megabytes(machine_memory())}; up to {max(rows, 1):,} fit"
        )
    return min(room, where.num_workers or num_cpus())


def machine_memory() -> int:
    """Bytes of memory that processes may have here: the machine's, or what a container or a job is given."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    own = Path("/proc/self/cgroup")
    lines = own.read_text().splitlines() if own.exists() else []
    inside = next((line[3:] for line in lines if line.startswith("0::")), "/")  # of version 2, which has one tree
    place = Path("/sys/fs/cgroup") / inside.lstrip("/")
    for folder in (place, *place.parents):
        limit = folder / "memory.max"
        words = limit.read_text().strip() if limit.exists() else "max"
        sizes += [int(words)] if words.isdigit() else []
    return min(sizes)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"
