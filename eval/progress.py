"""How far an evaluation is, on stderr: a bar on a terminal, a plain line a minute where a log is written.

Parts (tasks, files) differ too much in length for a time left to be worth showing; what is at work is named instead.
Cost: microseconds a part.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

LINE_SECONDS = 60.0


class Parts:
    """Counts the parts of a stage that are done. Use it in a `with` block; shown until the end."""

    def __init__(self, stage: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic):
        """unit: what the parts are ("tasks")."""
        self._stage, self._total, self._unit, self._clock = stage, total, unit, clock
        self._done, self._name, self._last = 0, "", clock()
        self._console = Console(file=sys.stderr)
        self._bar = Progress(console=self._console, transient=True, disable=not self._console.is_terminal)
        self._shown = self._bar.add_task(stage, total=total)

    def begin(self, name: str) -> None:
        """The part `name` is at work."""
        self._name = name
        self._bar.update(self._shown, description=escape(name))
        self._tell()

    def done(self) -> None:
        """One more part is over."""
        self._done += 1
        self._name = ""
        self._bar.advance(self._shown)
        self._tell()

    def _tell(self) -> None:
        if self._console.is_terminal or self._clock() - self._last < LINE_SECONDS:
            return
        self._last = self._clock()
        at_work = f"; at work: {self._name}" if self._name else ""
        line = f"{self._stage}: {self._done:,} of {self._total:,} {self._unit}{at_work}"
        print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Parts:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
