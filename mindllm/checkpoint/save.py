"""Saving without stopping for long: training waits for a copy of its state, a thread of each process writes it.

Without `background` training waits for the disk, and no copy is made. Either way a checkpoint is written under a
temporary name and renamed when all of it is on the disk (writer.py), and an error reaches all processes, at the latest
at the next save. memory in the background: see snapshot.py. stall: the copy (about a second for 20 GB from a GPU over
PCIe 5), and the rest of the save before where that is still being written.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from mindllm import engine as door
from mindllm.checkpoint.folder import TEMPORARY, Progress, folder_name, latest
from mindllm.checkpoint.keep import Keep, remove
from mindllm.checkpoint.snapshot import HostCopies, num_bytes
from mindllm.checkpoint.writer import Job, Writing
from mindllm.config import RunFailed
from mindllm.engine import Engine
from mindllm.stage import versions

_LONG = 1.0  # seconds of waiting for the save before that are worth a line
_OTHERS = 60.0  # seconds in which rank 0, stopped by an error, lets other processes finish their files
_FREE = "GiB are free in"
_MARGIN = 1.02  # of the space that tensors need: file headers, records


class Saved(NamedTuple):
    """What a complete checkpoint took: seconds that training waited, seconds until it was complete, its bytes."""

    step: int
    stall: float
    seconds: float
    num_bytes: int


class Saver:
    """Writes the checkpoints of a run. All processes make one and call the same methods, none of them in a thread.

    last: what the last complete one took (None before).
    """

    def __init__(self, engine: Engine, out: Path, keep: Keep, background: bool):
        self._engine, self._out, self._keep, self._background = engine, out, keep, background
        self._copies, self._stall, self._told = HostCopies(), 0.0, False
        self._writing: Writing | None = None
        self._versions = versions()
        self.last: Saved | None = None

    def save(self, progress: Progress, valid: dict[str, float]) -> float:
        """Save a checkpoint with the validation values of its step; returns the seconds that training waited.

        In the background it is complete some time later: `wait`, or the next `save`, makes sure. Raises RunFailed, on
        all processes, for this checkpoint or the one before, where the disk is full or cannot be written to.
        """
        began = time.perf_counter()
        self._wait_for_the_one_before()
        final = self._out / folder_name(progress.step)
        temporary = final.with_name(final.name + TEMPORARY)
        states = self._collect(progress.step, temporary)
        if self._background:
            states = self._copy(progress.step, states)
        meta = {**asdict(progress), "valid": dict(valid), "versions": self._versions}
        job = Job(temporary, final, states, meta, self._keep, door.rank(), door.world_size())
        self._writing = Writing(job)
        if self._background:
            self._writing.start()
            self._stall = time.perf_counter() - began
            return self._stall
        self._writing.write()
        self.wait()
        self._stall = time.perf_counter() - began
        if self.last is not None:
            self.last = self.last._replace(stall=self._stall)
        return self._stall

    def wait(self) -> None:
        """Until the last checkpoint is complete. Raises RunFailed, on all processes, where it could not be written."""
        if self._writing is None:
            return
        writing, step = self._writing, int(self._writing.job.meta["step"])
        writing.written.wait()
        problems = door.from_every_rank(writing.error)
        if any(problems):
            writing.given_up.set()  # rank 0 need not wait for the records of all
            writing.join()
            self._writing = None
            self._fail(step, problems)
        writing.join()
        if not self._background:
            writing.commit()
        self._writing = None
        error, seconds, size = door.from_rank_zero((writing.error, writing.seconds, writing.num_bytes))
        if error:
            self._fail(step, [error])
        self.last = Saved(step, self._stall, seconds, size)

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Complete the last checkpoint, after an error too: then without asking other processes, which may be gone."""
        if error is None:
            self.wait()
        elif self._writing is not None:
            self._writing.written.wait()
            self._writing.join(_OTHERS)
            self._writing.given_up.set()
            self._writing.join()
            if self._writing.error:  # training's own error goes on; this one must not be lost
                print(f"checkpoint {self._writing.job.final} is not complete: {self._writing.error}", flush=True)

    def _wait_for_the_one_before(self) -> None:
        began = time.perf_counter()
        self.wait()
        waited = time.perf_counter() - began
        if waited > _LONG and self._background and not self._told and door.rank() == 0:
            self._told = True
            print(f"saving takes longer than the time between checkpoints: training waited {waited:.1f} s for the one "
                  "before; a higher train.save_every, or a faster disk, avoids that", flush=True)  # fmt: skip

    def _collect(self, step: int, temporary: Path) -> dict[Path, Any]:
        """The states of this process by file, once it is certain that the disk has room for those of all."""
        problem = ""
        if door.rank() == 0:
            try:
                remove(temporary)  # of a run that was killed here
            except OSError as error:
                problem = f"{temporary}: {error.strerror}"
        self._agree(step, problem)
        states = self._engine.collect(self._out, temporary.name)
        needed = int(sum(door.from_every_rank(num_bytes(states))) * _MARGIN)
        free = shutil.disk_usage(self._out).free
        if free < needed:
            problem = f"it needs {needed / 2**30:.2f} GiB, and only {free / 2**30:.2f} {_FREE} {self._out}"
        self._agree(step, problem)
        return states

    def _copy(self, step: int, states: dict[Path, Any]) -> dict[Path, Any]:
        problem = ""
        try:
            states = self._copies.copy(states)
        except RunFailed as error:
            problem = str(error)
        self._agree(step, problem)
        return states

    def _agree(self, step: int, problem: str) -> None:
        """Every process goes on, or none."""
        problems = door.from_every_rank(problem)
        if any(problems):
            self._fail(step, problems)

    def _fail(self, step: int, problems: list[str]) -> None:
        """Remove what was begun and raise RunFailed. All processes have stopped writing when they come here."""
        if door.rank() == 0:
            shutil.rmtree(self._out / (folder_name(step) + TEMPORARY), ignore_errors=True)
        lines = sorted({problem for problem in problems if problem})
        before = latest(self._out)
        goes_on = (
            f"{before} is complete; the same command goes on from it." if before else "Older: none was saved before it."
        )
        no_room = any(_FREE in line or os.strerror(errno.ENOSPC) in line for line in lines)
        way_out = "Make room there, or lower train.keep_last. " if no_room else ""
        head = f"the checkpoint of step {step} could not be saved: {'; '.join(lines)}"
        raise RunFailed(f"{head}\n{way_out}{goes_on}")
