"""The tables of the page about runs, side by side: where each stands and its best values, settings, mixture.

All text: what is shown is decided here, and the page only lays it out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from mindllm.metrics.runs import Run
from mindllm.metrics.series import Clock, Points, clock, finite
from mindllm.metrics.summary import EPOCHS, LANGUAGE_BITS, SOURCE_BITS, Totals, totals
from mindllm.page import show_count, show_seconds, show_share

ABSENT = "(absent)"
LAST_STEPS = 20  # the training loss is stated as their mean
NOTHING = "-"


class Cell(NamedTuple):
    """What one run has to say in a row; best: no other run's value is better (and some is worse)."""

    text: str
    best: bool = False


class Row(NamedTuple):
    """One line of a table, a cell for each run."""

    name: str
    cells: list[Cell]


def value_rows(runs: Sequence[Run]) -> list[Row]:
    """Final and best values; rows that no run has a value for are left out."""
    found = [_Values(run) for run in runs]
    rows = [
        Row("progress", [Cell(run.status) for run in runs]),
        _row("tokens", found, lambda v: v.tokens, show_tokens),
        _row("hours", found, lambda v: v.hours, lambda h: f"{h:.2f}"),
        _row(f"training loss, mean of the last {LAST_STEPS} steps", found, lambda v: v.training_loss(), _four, min),
    ]
    for key, name in (("valid_loss", "validation loss"), ("valid_bpb", "bits per byte")):
        rows.append(_row(f"{name}, last", found, lambda v, key=key: v.last(key), _four, min))
        best = _row(f"{name}, best", found, lambda v, key=key: v.best(key), _four, min)
        cells = [_with_step(cell, v.best_step(key)) for cell, v in zip(best.cells, found, strict=True)]
        rows.append(Row(best.name, cells))
    rows += [
        _row("tokens/s, median", found, lambda v: v.totals and v.totals.rate, lambda r: f"{r:,.0f}", max),
        _row("MFU, median", found, lambda v: v.totals and v.totals.mfu, show_share, max),
        _row("waiting for data", found, lambda v: v.waiting, lambda share: f"{share:.2%}", min),
        _row("memory at most, GiB", found, lambda v: v.most("memory_gib"), lambda m: f"{m:.2f}"),
        _row("waiting for checkpoints", found, lambda v: v.total("save_stall"), show_seconds),
        _row("validating", found, lambda v: v.total("valid_seconds"), show_seconds),
        _row("largest gradient norm", found, lambda v: v.most("grad_norm"), lambda n: f"{n:.3g}"),
        Row("left out", [Cell("; ".join(v.notes) or NOTHING) for v in found]),
    ]
    return [row for row in rows if any(cell.text != NOTHING for cell in row.cells)]


def part_rows(runs: Sequence[Run]) -> dict[str, list[Row]]:
    """Bits per byte of the last validation, by language and by source, under these names."""
    found = [_Values(run) for run in runs]
    parts = {"language": LANGUAGE_BITS, "source": SOURCE_BITS}
    return {
        name: [
            _row(key.removeprefix(prefix), found, lambda v, key=key: v.last(key), _four, min)
            for key in ordered_keys(found, prefix)
        ]
        for name, prefix in parts.items()
    }


def ordered_keys(found: Sequence[_Values], prefix: str) -> list[str]:
    """Keys that begin so, in the order in which the runs have them."""
    return list(dict.fromkeys(key for values in found for key in values.series if key.startswith(prefix)))


def config_rows(runs: Sequence[Run]) -> list[Row]:
    """The settings in which the runs' config.yaml differ; a run without one is left out of the comparison."""
    known = [run.config for run in runs if run.config]
    keys = dict.fromkeys(key for config in known for key in config)
    different = [key for key in keys if len({config.get(key, ABSENT) for config in known}) > 1]
    configs = [run.config or dict.fromkeys(different, NOTHING) for run in runs]
    return [Row(key, [Cell(config.get(key, ABSENT)) for config in configs]) for key in different]


class Share(NamedTuple):
    """What a source gives to a run: share of the tokens, tokens, epochs at its end, and epochs so far."""

    share: str
    tokens: str
    epochs: str
    so_far: str


def mixture_rows(runs: Sequence[Run]) -> list[tuple[str, list[Share | None]]]:
    """(source, what it gives to each run) of every source of a mixture.json; None where a run has no such source."""
    found = [dict(_shares(run)) for run in runs]
    names = dict.fromkeys(name for shares in found for name in shares)
    return [(name, [shares.get(name) for shares in found]) for name in names]


def _shares(run: Run) -> Iterator[tuple[str, Share]]:
    values = _Values(run)
    for row in run.mixture.get("table", []):
        if row.get("phase", "") == "":
            so_far = values.last(f"{EPOCHS}{row['source']}")
            yield row["source"], Share(
                show_share(row["share"]), show_tokens(row["served_tokens"]), f"{row['epochs']:.2f}",
                NOTHING if so_far is None else f"{so_far:.2f}",
            )  # fmt: skip


class _Values:
    """The numbers of one run."""

    def __init__(self, run: Run):
        self._run = run
        self.series = {key: finite(points) for key, points in run.series.items()}
        infinite = sum(map(len, run.series.values())) - sum(map(len, self.series.values()))
        self.notes = list(run.notes)
        if infinite:
            self.notes.append(f"{infinite:,} value{'s' * (infinite > 1)} (NaN or infinity)")

    @functools.cached_property
    def totals(self) -> Totals | None:
        timed = all("tokens" in line for line in self._run.lines if line.get("tokens_per_second"))
        return totals(self._run.lines) if timed else None

    @functools.cached_property
    def clock(self) -> Clock:
        return clock(self._run.lines, 1)

    @property
    def tokens(self) -> int | None:
        return self.clock.tokens[-1] if self.clock.tokens else None

    @property
    def hours(self) -> float | None:
        found = self.totals  # the clock's last hour is that of the last step, without the pauses behind it
        return found and (found.training + found.saving + found.validating + found.sampling) / 3600

    @property
    def waiting(self) -> float | None:
        """Share of the steps' time that was spent waiting for data."""
        known = "data_wait" in self.series and self.totals is not None and self.totals.training > 0
        return self.totals.waiting / self.totals.training if known and self.totals else None

    def last(self, key: str) -> float | None:
        return self.series[key][-1][1] if self.series.get(key) else None

    def training_loss(self) -> float | None:
        points = self.series.get("loss")
        return fmean(value for _, value in points[-LAST_STEPS:]) if points else None

    def best(self, key: str) -> float | None:
        return min((value for _, value in self.series.get(key, [])), default=None)

    def best_step(self, key: str) -> int | None:
        points: Points = self.series.get(key, [])
        return min(points, key=lambda point: (point[1], point[0]))[0] if points else None

    def most(self, key: str) -> float | None:
        return max((value for _, value in self.series.get(key, [])), default=None)

    def total(self, key: str) -> float | None:
        points = self.series.get(key)
        return sum(value for _, value in points) if points else None


def _row(
    name: str, found: Sequence[_Values], value: Callable[..., Any], show: Callable[[Any], str],
    better: Callable[..., Any] | None = None,
) -> Row:  # fmt: skip
    """A cell for each run; `better` (min or max) says which is marked, where not all are the same."""
    values = [value(v) for v in found]
    known = [v for v in values if v is not None]
    best = better(known) if better and len(set(known)) > 1 else None
    return Row(name, [Cell(NOTHING) if v is None else Cell(show(v), v == best) for v in values])


def _with_step(cell: Cell, step: int | None) -> Cell:
    return cell if step is None else Cell(f"{cell.text} (step {step:,})", cell.best)


def _four(value: float) -> str:
    return f"{value:.4f}"


def show_tokens(count: int) -> str:
    """12,345; from a million on 1.23M, 1.23B, 1.23T."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= factor:
            return f"{count / factor:.2f}{unit}"
    return show_count(count)
