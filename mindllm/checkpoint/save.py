"""Checkpoints of a training run: folders step-00012000, complete when meta.json is there and the files have its sizes.

A checkpoint is written under a temporary name, synced and renamed after its meta.json, so a kill while saving leaves
the previous one in place. It holds DeepSpeed's files (weights, optimizer) and our Progress; random state and data
order need no saving, because both are pure functions of seed and step. Older ones are pruned only after a newer one
is complete.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mindllm import engine as door
from mindllm.config import UserError
from mindllm.engine import Engine
from mindllm.mixture.past import past_differences
from mindllm.stage import differences, indented, read_json, write_json

_NAME = re.compile(r"^step-(\d{8})$")


@dataclass
class Progress:
    """Where a run stands.

    skipped: ranges of steps passed over.  fingerprints: JSON of what it is, and under `data` the record of the mixture
    (Mixture.record) that it was trained on.
    """

    step: int = 0
    tokens: int = 0
    skipped: list[list[int]] = field(default_factory=list)
    fingerprints: dict[str, Any] = field(default_factory=dict)


class Keep(NamedTuple):
    """Which checkpoints stay: the newest `last`, those of every `every` steps (0: none), the `best` with the lowest
    validation loss."""

    last: int
    every: int = 0
    best: int = 0


class Saver:
    """Writes the checkpoints of a run. All processes make one and call the same methods."""

    def __init__(self, engine: Engine, out: Path, keep: Keep, background: bool):
        self._engine, self._out, self._keep, self._background = engine, out, keep, background

    def save(self, progress: Progress, valid: dict[str, float]) -> float:
        """Save a checkpoint; returns the seconds that training waited."""
        began = time.perf_counter()
        save(self._engine, self._out, progress, int(os.environ.get("RANK", "0")), self._keep.last)
        return time.perf_counter() - began

    def wait(self) -> None:
        """Until the last checkpoint is complete."""

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


def folder_name(step: int) -> str:
    """step-00012000."""
    return f"step-{step:08d}"


def save(engine: Engine, out: Path, progress: Progress, rank: int, keep_last: int) -> None:
    """Write a checkpoint (all processes call it) and prune older ones down to `keep_last`."""
    name = folder_name(progress.step)
    temporary = f"{name}.tmp"
    if rank == 0:
        # A folder of this name is only ever a damaged one: complete ones are not saved twice.
        for old in (temporary, name):
            shutil.rmtree(out / old, ignore_errors=True)
    door.barrier()
    engine.save(out, temporary)
    door.barrier()
    if rank == 0:
        files = {p.name: _sync(p) for p in sorted((out / temporary).iterdir())}
        write_json(out / temporary / "meta.json", {**asdict(progress), "files": files})
        (out / temporary).rename(out / name)
        _prune(out, keep_last)
    door.barrier()


def _sync(path: Path) -> int:
    """Have a file on the disk, whatever happens to the machine; returns its size."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return path.stat().st_size


def latest(out: Path) -> Path | None:
    """The newest complete checkpoint; an incomplete or damaged newer one is named (by rank 0) and passed over."""
    for folder in sorted((p for p in out.glob("step-*") if _NAME.match(p.name)), reverse=True):
        problem = damage(folder)
        if problem is None:
            return folder
        if os.environ.get("RANK", "0") == "0":  # the launcher's; one message is enough
            print(f"checkpoint {folder} is damaged ({problem}); using the one before it, if any", flush=True)
    return None


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None."""
    try:
        meta = read_json(folder / "meta.json")
    except RuntimeError as error:
        return str(error)
    if meta is None:
        return "no meta.json"
    for name, size in meta["files"].items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    return None


def resume(engine: Engine, folder: Path, fingerprints: dict[str, Any]) -> Progress:
    """Load weights and optimizer; refuse a run made from other data, tokenizer or model, showing the difference.

    Of the data only what was served before the checkpoint has to be the same: the Progress that comes back holds the
    new fingerprints, so that the next checkpoint is compared with what it was trained on.
    """
    progress = read_progress(folder)
    different = run_differences(progress, fingerprints)
    if different:
        raise UserError(
            f"{folder} belongs to another run (there -> now):\n{indented(different)}\n"
            "Use another out=... folder, or the old settings."
        )
    engine.load(folder.parent, folder.name)
    progress.fingerprints = fingerprints
    return progress


def run_differences(progress: Progress, fingerprints: dict[str, Any]) -> list[str]:
    """Lines about what forbids to go on from `progress` as a run of these fingerprints."""
    was, now = dict(progress.fingerprints), dict(fingerprints)
    lines: list[str] = []
    if "data" in was and "data" in now:
        lines = past_differences(was.pop("data"), now.pop("data"), progress.step)
    return [*differences(was, now), *lines]


def read_progress(folder: Path) -> Progress:
    """The Progress in a complete checkpoint."""
    meta = read_json(folder / "meta.json")
    return Progress(**{k: meta[k] for k in ("step", "tokens", "skipped", "fingerprints")})


def _prune(out: Path, keep_last: int) -> None:
    complete = [p for p in sorted(out.glob("step-*")) if _NAME.match(p.name) and damage(p) is None]
    for folder in complete[:-keep_last]:
        (folder / "meta.json").unlink()  # first: what is half deleted must not look complete
        shutil.rmtree(folder)
    for folder in out.glob("step-*.tmp"):  # left by a kill while saving
        shutil.rmtree(folder)
