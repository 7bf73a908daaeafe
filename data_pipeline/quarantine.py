"""A document that hangs, or kills the process that cleans it, is set aside with its reason, and the run goes on.

The worker notes in a journal which document is at hand, and sets a timer of the kernel whose signal ends the process
even inside C code: CPU seconds, so that a busy or stopped machine condemns nobody (a document that sleeps for ever is
not seen). The parent, if it lives, reads the journal of a worker that died and writes the document down in
quarantine/<shard>.json; the shard is cleaned again without it. Cost: 5 to 8 microseconds a document.
Memory has no limit of its own: RLIMIT_AS counts addresses, of which allocators and threads reserve gigabytes that they
never use, so it would kill the innocent. Sizes of documents are limited, and beyond that the kernel kills the worker.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mindllm.config import RunFailed
from mindllm.stage import read_json, write_json

READING, CLEANING, WRITING = "reading", "cleaning", "writing"
TIMEOUT, CRASH = "quarantine:timeout", "quarantine:crash"
MAX_PER_SHARD = 100
MAX_VANISHED = 5  # deaths of one shard's process without a trace, each at another document: then it is no document
# The reader passes over what is no page (images in a WARC file) without a word, and reads 1000 rows at once.
READING_FACTOR = 10
_RECORD = 64  # bytes: the note, padded; behind it faulthandler writes where the process died


class Place(NamedTuple):
    """Which document: what was done to it, the file's number within the shard, the document's number in the shard.

    READING: the reader was at work and had read `document` documents of the shard; what would come next is unknown.
    """

    state: str
    file: int
    document: int


class Named(Protocol):
    """A shard: its name is that of its output file."""

    @property
    def name(self) -> str: ...


Note = Callable[[str, int, int], None]


@contextlib.contextmanager
def watch(folder: Path, shard: str, seconds: int) -> Iterator[Note]:
    """Hands out `note(state, file, document)`: this process turns to that, and may take `seconds` of CPU time for it.

    While READING it is ten times that; while WRITING there is no limit. With seconds = 0 nothing is noted or limited.
    `folder` is that of the stage, here and below.
    """
    if not seconds:
        yield lambda state, file, document: None
        return
    limits = {READING: float(seconds * READING_FACTOR), CLEANING: float(seconds), WRITING: 0.0}
    path = _journal(folder, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb", buffering=0) as file:
        handle = file.fileno()
        file.seek(_RECORD)
        faulthandler.enable(file, all_threads=False)
        faulthandler.register(signal.SIGPROF, file, all_threads=False, chain=True)  # chain: then the signal kills

        def note(state: str, number: int, document: int) -> None:
            os.pwrite(handle, b"%-8b %20d %20d\n" % (state.encode(), number, document), 0)  # survives the process
            signal.setitimer(signal.ITIMER_PROF, limits[state])

        try:
            yield note
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.unregister(signal.SIGPROF)
            faulthandler.disable()
            path.unlink()


def condemned(folder: Path, shard: str) -> dict[Place, str]:
    """Place to reason, of the documents of one shard that must not be touched again."""
    rows = read_json(_verdicts(folder, shard)) or []
    return {Place(row["state"], row["file"], row["document"]): row["reason"] for row in rows}


class Quarantine:
    """The parent's side, for workers.run(on_crash=...): finds the document that was at hand, and condemns it.

    A crash that left a trace (a fault in C code, the timer) condemns at once. A process that vanished without one was
    killed from outside, for memory as a rule, maybe for another's: only a second time at the same document counts.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._suspects: dict[str, list[Place]] = {}
        stale = folder.glob(_journal(folder, "*").name)  # of a run that was killed as a whole: that condemns nobody
        for path in stale:
            path.unlink()

    def __call__(self, shard: Named) -> bool:
        """Whether the shard's next attempt will be another one. Raises RunFailed beyond MAX_PER_SHARD documents."""
        found = _read_journal(_journal(self._folder, shard.name))
        if found is None or found[0].state == WRITING:
            return False
        place, trace = found
        suspects = self._suspects.setdefault(shard.name, [])
        if not trace and place not in suspects:
            suspects.append(place)
            return len(suspects) < MAX_VANISHED
        if place in condemned(self._folder, shard.name):  # nobody has touched it again
            return False
        reason = CRASH if not trace or trace.startswith("Fatal Python error") else TIMEOUT
        self._condemn(shard.name, place, reason)
        of = f"document {place.document}" if place.state == CLEANING else f"the reader behind document {place.document}"
        head = f"{shard.name}: {of} takes too long" if reason == TIMEOUT else f"{shard.name}: {of} kills its process"
        print(f"{head}{_where(trace)}; set aside as {reason}", file=sys.stderr, flush=True)
        return True

    def _condemn(self, shard: str, place: Place, reason: str) -> None:
        listed = condemned(self._folder, shard) | {place: reason}
        if len(listed) > MAX_PER_SHARD:
            raise RunFailed(
                f"{shard}: more than {MAX_PER_SHARD} documents hang or crash ({_verdicts(self._folder, shard)}); "
                "look at some with `python -m data_pipeline inspect`: a cleaner or a library must be broken"
            )
        rows = [{**p._asdict(), "reason": r} for p, r in sorted(listed.items(), key=lambda item: item[0].document)]
        write_json(_verdicts(self._folder, shard), rows)


def _verdicts(folder: Path, shard: str) -> Path:
    return folder / "quarantine" / f"{shard}.json"


def _journal(folder: Path, shard: str) -> Path:
    return folder / f".{shard}.journal.tmp"


def _read_journal(path: Path) -> tuple[Place, str] | None:
    """What a dead process was at, and the trace that faulthandler left ("" for none); the journal is taken away."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    path.unlink()
    words: list[Any] = data[:_RECORD].strip(b"\0").decode("ascii", "replace").split()
    if len(words) != 3:  # it died before its first note
        return None
    return Place(words[0], int(words[1]), int(words[2])), data[_RECORD:].decode("utf-8", "replace")


def _where(trace: str) -> str:
    """The innermost line of ours in a trace, as " in html.py, line 5 in parse"; "" without one."""
    lines = [line for line in trace.splitlines() if "/data_pipeline/" in line and line.lstrip().startswith("File ")]
    return " in " + lines[0].rpartition("/data_pipeline/")[2].replace('"', "") if lines else ""
