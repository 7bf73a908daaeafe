"""Runs one function over shards on an engine: what fails is tried again, then set aside; results keep their order.

The engine (local_engine.py, ray_engine.py) starts items and says how they ended; here stands what follows from it, the
same for all engines. A second attempt comes after everything else, so that passing trouble has the time to pass.
Memory: what one shard needs times the number of workers, and a few bytes an item.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from data_pipeline.local_engine import DIED, DONE, REFUSED, UNLOADABLE, Ended, Engine, InProcess, Processes, num_cpus
from mindllm.config import RunFailed, UserError
from mindllm.progress import Meter

Item = TypeVar("Item")
Result = TypeVar("Result")
LOCAL, RAY = "local", "ray"
OnCrash = Callable[[Item], bool]

PAUSES = (1.0, 4.0, 15.0)  # seconds at least before the second attempt, the third, and all later ones
SHOWN_FAILURES = 5


@dataclass
class WorkersConfig:
    """Where the work is done: processes of this machine, or Ray on one machine or many (docs/cluster.md).

    engine: local or ray.  num_workers: processes (0: one per core, or per CPU of the cluster).  address: of Ray: empty
    starts it on this machine; auto joins the cluster that this machine belongs to.  attempts: a shard that fails is
    tried so often before it is set aside.  max_failed: a stage is complete although so many shards were set aside.
    """

    engine: str = LOCAL
    num_workers: int = 0
    address: str = ""
    attempts: int = 3
    max_failed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if self.engine not in (LOCAL, RAY):
            yield f"engine: {self.engine!r} is none of {LOCAL}, {RAY}"
        if self.address and self.engine != RAY:
            yield f"address: is for engine: {RAY} only"
        if self.num_workers < 0 or self.attempts < 1 or self.max_failed < 0:
            yield "num_workers and max_failed must be 0 or more, attempts 1 or more"


class Failure(NamedTuple):
    """An item that was given up: its name, the last reason, the traceback, and how often it was tried."""

    name: str
    reason: str
    trace: str
    attempts: int


class Outcome(NamedTuple, Generic[Result]):
    """What came out, in the order of the items; those that were given up are left out of it and stand in `failures`."""

    results: list[Result]
    failures: list[Failure]


def run_all(
    function: Callable[[Item], Result], items: Sequence[Item], settings: WorkersConfig, title: str
) -> list[Result]:
    """As `run`, for work of which no part may be missing. Raises RunFailed if an item was given up."""
    results, failures = run(function, items, settings, title)
    if failures:
        head = f"{title}: {len(failures)} of {len(items)} could not be done; the same command tries them again"
        raise RunFailed(f"{head}\n{describe(failures)}")
    return results


def run(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    settings: WorkersConfig,
    title: str,
    on_crash: OnCrash[Item] | None = None,
) -> Outcome[Result]:
    """`[function(i) for i in items]` on up to `num_workers` processes, with a progress bar; `function` is pickled.

    An item whose function raises, or whose process dies (a crash in C code, a signal, the kernel's out-of-memory
    killer), is tried `settings.attempts` times, then set aside. `on_crash(item)` is called here, in the parent, after a
    death; if it returns True, the next attempt will do something else than the last one: it follows at once, and the
    death does not count. With `on_crash` even one local worker is a process of its own; without it, it is this process.

    Raises UserError as soon as an item does, RunFailed where many items in a row fail, none in between succeeding: a
    full disk would fail them all. Finished items stay finished on disk, so the stage goes on from there.
    """
    if not items:
        return Outcome([], [])
    with _engine(function, len(items), settings, on_crash is not None) as engine, Meter(title, items) as meter:
        return _Run(engine, items, settings, title, meter, on_crash).outcome()


def _engine(function: Callable[[Item], Result], num_items: int, settings: WorkersConfig, protected: bool) -> Engine:
    if settings.engine == RAY:
        from data_pipeline.ray_engine import Ray

        return Ray(function, settings.num_workers, settings.address)
    num_workers = min(settings.num_workers or num_cpus(), num_items)
    return Processes(function, num_workers) if protected or num_workers > 1 else InProcess(function)


def describe(failures: Sequence[Failure]) -> str:
    """The first few failures, a line each."""
    lines = [f"  {f.name}: {_line(f.reason)} (attempts: {f.attempts})" for f in failures[:SHOWN_FAILURES]]
    if len(failures) > SHOWN_FAILURES:
        lines.append(f"  ... and {len(failures) - SHOWN_FAILURES:,} more")
    return "\n".join(lines)


def _line(text: str, length: int = 300) -> str:
    """Text of anyone as one line that a terminal can print."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= length else line[:length] + " ..."


class _Run(Generic[Item, Result]):
    """The books of one run: what waits, what waits for another attempt, what came out, what was given up."""

    def __init__(
        self,
        engine: Engine,
        items: Sequence[Item],
        settings: WorkersConfig,
        title: str,
        meter: Meter,
        on_crash: OnCrash[Item] | None,
    ):
        self._engine, self._items, self._settings, self._title = engine, items, settings, title
        self._meter, self._on_crash = meter, on_crash
        self._waiting = deque(range(len(items)))
        self._later: list[tuple[float, int]] = []  # heap of (not before this time, item)
        self._num_failed = [0] * len(items)  # attempts that failed
        self._row: list[Failure] = []  # first attempts that failed, since something last succeeded
        self._most = 0  # items that ran at one time: a machine that is lost fails all of its items at once
        self._results: dict[int, Result] = {}
        self._failures: dict[int, Failure] = {}

    def outcome(self) -> Outcome[Result]:
        """Do the work."""
        num_running = 0
        while num_running or self._waiting or self._later:
            while num_running < self._engine.slots() and (index := self._next()) is not None:
                self._engine.start(index, self._items[index])
                num_running += 1
            self._most = max(self._most, num_running)
            pause = max(0.0, self._later[0][0] - time.monotonic()) if self._later and not self._waiting else None
            if not num_running:
                time.sleep(pause or 0)
                continue
            for index, ended in self._engine.wait(pause if num_running < self._engine.slots() else None):
                num_running -= 1
                self._book(index, ended)
        return Outcome(
            [self._results[i] for i in sorted(self._results)], [f for _, f in sorted(self._failures.items())]
        )

    def _next(self) -> int | None:
        """An item to start now, if there is one."""
        if self._waiting:
            return self._waiting.popleft()
        if self._later and self._later[0][0] <= time.monotonic():
            return heapq.heappop(self._later)[1]
        return None

    def _book(self, index: int, ended: Ended) -> None:
        if ended.state == DONE:
            self._results[index] = ended.result
            self._row.clear()
            self._meter.advance(index)
        elif ended.state == REFUSED:
            raise UserError(ended.reason)
        elif ended.state == UNLOADABLE:
            raise RunFailed(f"{self._title}: a worker cannot load its work: {ended.reason}\n{ended.trace}")
        elif ended.state == DIED and self._on_crash and self._on_crash(self._items[index]):
            self._waiting.appendleft(index)
        else:
            self._book_failure(index, ended)

    def _book_failure(self, index: int, ended: Ended) -> None:
        self._num_failed[index] += 1
        attempts = self._num_failed[index]
        failure = Failure(_name(self._items[index]), ended.reason, ended.trace, attempts)
        if attempts == 1:  # further ones come last, after each other: those of bad shards say nothing about the world
            self._row.append(failure)
            self._check_world()
        if attempts >= self._settings.attempts:
            self._failures[index] = failure
            self._meter.advance(index)
        else:
            pause = PAUSES[min(attempts, len(PAUSES)) - 1]
            heapq.heappush(self._later, (time.monotonic() + pause, index))

    def _check_world(self) -> None:
        limit = max(2 * self._most + 8, self._settings.max_failed + 1)
        if len(self._row) >= limit:
            head = f"{self._title}: {len(self._row)} items failed one after the other, so the run was ended"
            last = {failure.reason: failure for failure in self._row}  # the last one of each reason
            raise RunFailed(f"{head}. The same command goes on from here. Last reasons:\n{describe([*last.values()])}")


def _name(item: Any) -> str:
    return str(getattr(item, "name", None) or item)[:200]
