"""The curves of a run from the lines of its metrics, thinned out to what a page can draw.

A short run's curves keep every value. A long one's become runs of neighbours with their mean, minimum and maximum, so
no spike goes missing. Tokens and hours belong to steps: every curve is kept over steps, and the clock of the run says
which tokens and hours those are. Cost: about 1 s for 100,000 steps of ten values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

MAX_POINTS = 1500  # of one curve
MIN_POINTS = 50
MAX_NUMBERS = 300_000  # of all curves of a page: about 2.5 MB
PAUSES = ("save_stall", "valid_seconds", "sample_seconds")  # seconds beside the steps; of one step they add up
Points = list[tuple[int, float]]


class Curve(NamedTuple):
    """Values over steps; None where there is no finite number. low, high: of a thinned curve's runs, else None."""

    steps: list[int]
    mean: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None


class Clock(NamedTuple):
    """At these steps, so many tokens were done (None: no line counts tokens), after so many hours (None: no rates).

    Hours are those of the steps and of the PAUSES, as far as the lines say them.
    """

    steps: list[int]
    tokens: list[int] | None
    hours: list[float] | None


def series(lines: Sequence[Mapping[str, Any]]) -> dict[str, Points]:
    """key -> (step, value) of every number but `tokens`, by step; where a step has two, their sum if they are pauses,
    else the later line's.

    `lines` are in the order of their steps.
    """
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        for key, value in line.items():
            if key not in ("step", "tokens") and isinstance(value, int | float) and not isinstance(value, bool):
                values = found.setdefault(key, {})
                values[line["step"]] = value + (values.get(line["step"], 0) if key in PAUSES else 0)
    return {key: list(values.items()) for key, values in found.items()}


def finite(points: Points) -> Points:
    """Those points that are numbers."""
    return [(step, value) for step, value in points if math.isfinite(value)]


def points_per_curve(lengths: Sequence[int]) -> int:
    """How many points each of these curves may have so that all of them stay within MAX_NUMBERS."""
    limit = MAX_POINTS
    while limit > MIN_POINTS and sum(n if n <= limit else 3 * limit for n in lengths) > MAX_NUMBERS:
        limit = max(limit // 2, MIN_POINTS)
    return limit


def thinned(points: Points, limit: int) -> Curve:
    """The curve as it is, or of at most `limit` runs of equally many neighbours (the last may be shorter)."""
    size = -(-len(points) // limit)
    if size <= 1:
        return Curve([step for step, _ in points], [_number(value) for _, value in points])
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    numbers = [[value for _, value in finite(group)] for group in groups]
    return Curve(
        [group[len(group) // 2][0] for group in groups],
        *([_number(pick(values)) if values else None for values in numbers] for pick in (fmean, min, max)),
    )


def clock(lines: Sequence[Mapping[str, Any]], limit: int = 10**9) -> Clock:
    """Tokens and hours after steps, from step 0 on; every so many lines and the last where they are more than `limit`.

    A step's seconds are its tokens / tokens_per_second.
    """
    steps, tokens, hours = [0], [0], [0.0]
    seconds, timed = 0.0, True
    for line in lines:
        seconds += sum(_finite(line.get(key)) for key in PAUSES)
        count = line.get("tokens")
        if type(count) is not int or line["step"] <= steps[-1]:
            continue
        rate = _finite(line.get("tokens_per_second"))
        timed = timed and rate > 0
        # Where the file does not begin with step 1, all steps before are taken to be like this one.
        seconds += (count - tokens[-1]) / rate if rate > 0 else 0.0
        steps.append(line["step"])
        tokens.append(count)
        hours.append(seconds / 3600)
    if len(steps) == 1:
        return Clock([0], None, None)
    every = -(-len(steps) // limit)
    keep = [*range(0, len(steps) - 1, every), len(steps) - 1]
    return Clock(
        [steps[i] for i in keep],
        [tokens[i] for i in keep],
        [float(f"{hours[i]:.7g}") for i in keep] if timed else None,
    )


def _finite(value: Any) -> float:
    """A finite number, or 0."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else 0.0


def _number(value: float) -> float | None:
    """With seven digits, which is what float32 has; None for what JSON cannot say."""
    if not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.7g}")
