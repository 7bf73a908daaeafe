"""How far a run over many items is: a bar where somebody looks on, a plain line a minute where a log is written.

Items of known size are weighed by bytes, so that the time left does not depend on their order. The rate is that of the
last five minutes: shards that an earlier start had finished pass in a moment and would spoil a mean over all.
Cost: microseconds an item.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

PERIOD = 300.0  # seconds over which the rate is taken
MIN_SAMPLES = 16  # ... or so many items, where fewer have ended in that time
LINE_SECONDS = 60.0


class Meter:
    """`n of m, rate, time left` of items, each weighed by its `num_bytes` where all have one. Shown until the end.

    Use it in a `with` block, and call `advance` with each item that is over.
    """

    def __init__(
        self,
        title: str,
        items: Sequence[Any],
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title, self._clock = title, clock
        self._console = console or Console(stderr=True)
        self._sizes = _sizes(items)
        self._num_items, self._total = len(items), sum(self._sizes) if self._sizes else len(items)
        self._num_done, self._done = 0, 0
        self._samples = deque([(clock(), 0)])  # (time, done), a second apart at least
        self._next_line, self._name = clock() + LINE_SECONDS, ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            _Status(self),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=self._total)

    def begin(self, name: str) -> None:
        """Work on an item begins that is worth naming, for items may differ much in length."""
        self._name = name
        self._log()

    def advance(self, index: int) -> None:
        """Item number `index` is over."""
        self._num_done += 1
        self._done += self._sizes[index] if self._sizes else 1
        self._sample()
        self._bar.update(self._task, completed=self._done)
        self._log()

    def _log(self) -> None:
        if not self._console.is_terminal and self._clock() >= self._next_line:
            self._next_line = self._clock() + LINE_SECONDS
            self._console.print(
                f"{self._title}: {self.status()}", markup=False, highlight=False, soft_wrap=True, emoji=False
            )

    def _sample(self) -> None:
        now = self._clock()
        if now - self._samples[-1][0] >= 1:
            self._samples.append((now, self._done))
            while len(self._samples) > MIN_SAMPLES and now - self._samples[1][0] > PERIOD:
                self._samples.popleft()

    def status(self) -> str:
        """For example "120 of 3,000, 4.1 MB/s, 2 h 3 min left"."""
        parts = [f"{self._num_done:,} of {self._num_items:,}"]
        started, done = self._samples[0]
        rate = (self._done - done) / max(self._clock() - started, 1e-3)
        if rate:
            parts.append(_bytes_rate(rate) if self._sizes else _items_rate(rate))
            parts.append(f"{duration((self._total - self._done) / rate)} left")
        return ", ".join(parts) + (f"; at work: {self._name}" if self._name else "")

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class _Status(ProgressColumn):
    """The meter's status behind the bar; rich asks for it again ten times a second, so that the time left goes on."""

    def __init__(self, meter: Meter):
        super().__init__()
        self._meter = meter

    def render(self, task: Task) -> Text:
        return Text(self._meter.status())


def _bytes_rate(rate: float) -> str:
    return f"{rate / 1e6:.1f} MB/s" if rate >= 1e6 else f"{rate / 1e3:.0f} kB/s"


def _items_rate(rate: float) -> str:
    for unit, seconds in (("a second", 1), ("a minute", 60)):
        if rate * seconds >= 1:
            return f"{rate * seconds:,.0f} {unit}"
    return f"{rate * 3600:,.1f} an hour"


def duration(seconds: float) -> str:
    """Two units at most: 45 s, 3 min, 2 h 3 min, 4 d 5 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _sizes(items: Sequence[Any]) -> list[int]:
    """`num_bytes` of every item, asked for once, for it costs a look at each file; none if those of one are unknown."""
    sizes = [getattr(item, "num_bytes", None) for item in items]
    return [size for size in sizes if size] if all(sizes) else []
