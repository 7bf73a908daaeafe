"""The writing of one checkpoint: every process its own files, then rank 0 makes it complete.

It may run in a thread beside training, where no collective operation is allowed, so the processes agree through the
folder that is being written: each leaves a small record of its files there, last of all, and rank 0 waits for those of
all. meta.json, then the rename, then pruning: a kill at any moment leaves what was complete before. Bytes are hashed on
their way to the disk, so nothing is read again.
"""

from __future__ import annotations

import json
import os
import threading
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
import xxhash

from mindllm.checkpoint.folder import TEMPORARY, FileRecord, step_of
from mindllm.checkpoint.keep import Keep, prune, remove
from mindllm.stage import read_json, sync_folder, write_json

_CHUNK = 8 << 20  # bytes hashed, then written while they are in the processor's cache
_POLL = 0.05  # seconds between two looks at the folder


class Job(NamedTuple):
    """What one process writes: states by file inside `temporary`; rank 0 makes that `final`, and then follows `keep`.

    meta: what meta.json holds beside the files.
    """

    temporary: Path
    final: Path
    states: dict[Path, Any]
    meta: dict[str, Any]
    keep: Keep
    rank: int
    world: int


class Writing:
    """A checkpoint on its way to the disk. error: what went wrong, if anything; seconds, num_bytes: what it took.

    `write` and `commit` are called one after the other by the thread that `start` begins, or without it by training.
    written: this process's part is over.  given_up: set by training where the checkpoint cannot become complete.
    """

    def __init__(self, job: Job):
        self.job, self.error, self.seconds, self.num_bytes = job, "", 0.0, 0
        self.written, self.given_up = threading.Event(), threading.Event()
        self._began = time.perf_counter()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Write and commit in a thread."""
        self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
        self._thread.start()

    def join(self, seconds: float | None = None) -> None:
        """Until the thread has ended, if there is one, or so many seconds are over."""
        if self._thread is not None:
            self._thread.join(seconds)

    def write(self) -> None:
        """This process's files and the record of them. An error is kept in `error`, for training to raise."""
        try:
            self._attempt(self._write_files)
        finally:
            self.written.set()

    def commit(self) -> None:
        """Rank 0, when the records of all processes are there: complete the checkpoint, then prune older ones."""
        if self.job.rank == 0 and not self.error:
            self._attempt(self._complete)

    def _work(self) -> None:
        self.write()
        self.commit()

    def _attempt(self, part: Callable[[], None]) -> None:
        try:
            part()
        except OSError as error:
            self.error = f"{error.filename or self.job.temporary}: {error.strerror or error}"
        except BaseException as error:
            if self._thread is None and not isinstance(error, Exception):
                raise  # Ctrl-C in training itself; of a thread nobody else would hear
            self.error = f"{type(error).__name__}: {error}"

    def _write_files(self) -> None:
        records = {}
        for path, state in self.job.states.items():
            records[path.relative_to(self.job.temporary).as_posix()] = write_state(path, state, self.job.rank)
        self.job.states.clear()
        sync_folder(self.job.temporary)
        path = self._record_of(self.job.rank)
        half = path.with_suffix(".half")
        half.write_text(json.dumps({name: record._asdict() for name, record in records.items()}), encoding="utf-8")
        os.replace(half, path)  # the last thing here: from now on rank 0 may rename the folder at any moment

    def _complete(self) -> None:
        names = {self._record_of(rank).name for rank in range(self.job.world)}
        while not names <= {path.name for path in self.job.temporary.iterdir()}:  # a listing is never out of date
            if self.given_up.wait(_POLL):
                return
        files: dict[str, Any] = {}
        for rank in range(self.job.world):
            files |= read_json(self._record_of(rank))
            self._record_of(rank).unlink()
        files |= self._records_of_others(set(files))
        write_json(self.job.temporary / "meta.json", {**self.job.meta, "files": dict(sorted(files.items()))})
        sync_folder(self.job.temporary)
        _move(self.job.temporary, self.job.final)
        self.num_bytes = sum(record["size"] for record in files.values())
        prune(self.job.final.parent, self.job.keep, step_of(self.job.final))
        self.seconds = time.perf_counter() - self._began

    def _records_of_others(self, known: set[str]) -> dict[str, Any]:
        """Of files that DeepSpeed writes by itself (an optimizer that is kept on a disk)."""
        paths = {p.relative_to(self.job.temporary).as_posix(): p for p in self.job.temporary.rglob("*") if p.is_file()}
        return {name: record_of(path)._asdict() for name, path in paths.items() if name not in known}

    def _record_of(self, rank: int) -> Path:
        return self.job.temporary / f"rank-{rank:05d}.json"


def write_state(path: Path, state: Any, rank: int = 0) -> FileRecord:
    """Write a state as torch.save does, have it on the disk, and return its record. Raises OSError."""
    with open(path, "wb", buffering=0) as raw:
        file = _HashedFile(raw.write)
        torch.save(state, typing.cast(IO[bytes], file))
        if file.error is not None:
            raise OSError(file.error.errno, file.error.strerror, str(path))
        os.fsync(raw.fileno())
    return FileRecord(file.size, file.digest.hexdigest(), rank)


def record_of(path: Path) -> FileRecord:
    """The record of a file that is there, read once from beginning to end. Raises OSError."""
    digest, size = xxhash.xxh3_128(), 0
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileRecord(size, digest.hexdigest())


class _HashedFile:
    """A file for torch.save that hashes what passes through, and counts its bytes.

    torch calls it from C++ code that an exception must not cross, so the first error is kept, and the rest dropped.
    """

    def __init__(self, write: Callable[[Any], int | None]):
        self._write, self.digest, self.size = write, xxhash.xxh3_128(), 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`; returns its bytes."""
        view = memoryview(data)
        if self.error is None:
            try:
                for start in range(0, len(view), _CHUNK):
                    self._write_chunk(view[start : start + _CHUNK])
            except OSError as error:
                self.error = error
        return len(view)

    def flush(self) -> None:
        """Nothing is held back."""

    def _write_chunk(self, chunk: memoryview) -> None:
        self.digest.update(chunk)
        self.size += len(chunk)
        while len(chunk):
            chunk = chunk[self._write(chunk) or 0 :]


def _move(temporary: Path, final: Path) -> None:
    """Put a complete folder in its place; a folder of that name was written earlier, or is damaged."""
    aside = final.with_name(f"{final.name}.old{TEMPORARY}")
    remove(aside)
    if final.exists():
        final.rename(aside)
    temporary.rename(final)
    sync_folder(final.parent)  # what was set aside goes with the next pruning
