"""How many samples every step of a run has: one number, or smaller ones first (a ramp).

A pure function of the step, as the data order is: a step's samples begin where those of all steps before it end, and
that place is a sum over the few stages of the ramp, never over steps. So a run with a ramp is resumed, recorded and
compared like any other. Cost: two microseconds a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BatchSizes:
    """Samples of a step. ramp: (until_step, batch_size) in their order, before those of `final` samples."""

    final: int
    ramp: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        ends = [0, *(until for until, _ in self.ramp)]
        assert all(a < b for a, b in zip(ends, ends[1:], strict=False)), "the steps of a ramp grow"
        assert min(self.final, *(size for _, size in self.ramp), self.final) > 0, "a batch has samples"

    def at(self, step: int) -> int:
        """Samples of a step (0-based)."""
        return next((size for until, size in self.ramp if step < until), self.final)

    def before(self, step: int) -> int:
        """Samples of all steps before this one: the number of the first sample of `step`."""
        served = start = 0
        for until, size in self.ramp:
            served += max(0, min(step, until) - start) * size
            start = until
        return served + max(0, step - start) * self.final

    def first(self, step: int) -> BatchSizes:
        """The same before `step` (at least 1), and from there on as in the step before it; in the shortest form."""
        stretches: list[tuple[int, int]] = []
        for until, size in [*self.ramp, (step, self.final)]:
            if stretches and stretches[-1][0] >= step:
                break
            if stretches and stretches[-1][1] == size:
                stretches.pop()
            stretches.append((min(until, step), size))
        return BatchSizes(stretches[-1][1], tuple(stretches[:-1]))

    def then(self, step: int, size: int) -> BatchSizes:
        """The same before `step` (at least 1), and `size` from there on; in the shortest form."""
        before = self.first(step)
        return before if before.final == size else BatchSizes(size, (*before.ramp, (step, before.final)))

    def __str__(self) -> str:
        """8, or with a ramp: 2 to step 10, 4 to step 20, then 8."""
        stages = "".join(f"{size} to step {until}, " for until, size in self.ramp)
        return f"{stages}then {self.final}" if stages else f"{self.final}"

    def record(self) -> dict[str, Any]:
        """As JSON; without a ramp there is no key for it, as before there were ramps."""
        ramp = {"batch_ramp": [list(stage) for stage in self.ramp]} if self.ramp else {}
        return {"batch_size": self.final, **ramp}


def as_sizes(batch_size: int | BatchSizes) -> BatchSizes:
    """Sizes from one number, too."""
    return batch_size if isinstance(batch_size, BatchSizes) else BatchSizes(batch_size)


def recorded_sizes(record: Mapping[str, Any]) -> BatchSizes:
    """What `BatchSizes.record` has written."""
    return BatchSizes(record["batch_size"], tuple((until, size) for until, size in record.get("batch_ramp", [])))
