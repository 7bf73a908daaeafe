"""Scores and bits per byte over training: curves of several exports of one training, against the tokens it had seen.

Exports are taken for steps of one training where they name the same one, or else lie in one folder with the same shape
and tokenizer; two with the same step are none. Names stand beside the figure as text. Cost: .2 s a figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.report import figures
from eval.report.bars import colour_of
from eval.report.benchmarks import Group
from eval.report.bits import Bits
from eval.report.entries import Entry
from eval.report.models import Model
from eval.report.units import BITS, PLAIN, Unit
from mindllm.page import markup

Legend = list[tuple[str, str]]  # (colour, name)


@dataclass(frozen=True)
class Curves:
    """One figure: what it shows, the SVG, the names that belong to its colours, and how else to read it."""

    title: str
    svg: str
    legend: Legend
    hints: list[str]


@dataclass(frozen=True)
class Series:
    """Exports of one training: numbers of the models by step, where each is on the x axis, and its unit."""

    numbers: list[int]
    places: list[float]
    unit: str


def find_series(models: Sequence[Model]) -> list[Series]:
    """The trainings of which at least two steps are here."""
    by_series: dict[str, list[int]] = {}
    for number, model in enumerate(models):
        if model.series:
            by_series.setdefault(model.series, []).append(number)
    found = []
    for numbers in by_series.values():
        steps = [models[number].step or 0 for number in numbers]
        if len(numbers) > 1 and len(set(steps)) == len(steps):
            found.append(_series(sorted(numbers, key=lambda number: models[number].step or 0), models))
    return found


def _series(numbers: list[int], models: Sequence[Model]) -> Series:
    """The x axis: tokens where all of them are known, else steps."""
    tokens = [models[number].tokens for number in numbers]
    if None in tokens:
        return Series(numbers, [float(models[number].step or 0) for number in numbers], "steps")
    known = [float(count) for count in tokens if count is not None]
    word, size = ("billions", 1e9) if max(known) >= 1e9 else ("millions", 1e6)
    return Series(numbers, [count / size for count in known], f"tokens, {word}")


def make_curves(
    groups: Sequence[Group], bits: Bits | None, models: Sequence[Model]
) -> tuple[list[Curves], dict[str, list[Curves]]]:
    """Figures of bits per byte, and of the scores of each group by its name; none where no two steps are known.

    Of each benchmark the first metric; a figure for each training, and each unit.
    """
    series, number = find_series(models), itertools.count()
    for_bits = [drawn for one in series for drawn in _draw(one, _bits_lines(one, bits), BITS, models, number)]
    by_group: dict[str, list[Curves]] = {}
    for group in groups:
        first = {entry.title: entry for entry in reversed(group.entries) if entry.unit is not PLAIN}
        units = dict.fromkeys(entry.unit for entry in group.entries if entry.unit is not PLAIN)
        for one, unit in itertools.product(series, units):
            shown = [entry for entry in group.entries if first.get(entry.title) is entry and entry.unit is unit]
            lines = {entry.title: line for entry in shown if (line := _line(entry, one))}
            by_group.setdefault(group.name, []).extend(_draw(one, lines, unit, models, number))
    return for_bits, by_group


def _draw(
    one: Series, lines: dict[str, figures.Line], unit: Unit, models: Sequence[Model], number: Iterator[int]
) -> Iterator[Curves]:
    """The figures of these lines, as many in each as there are colours."""
    named = list(lines.items())
    for start in range(0, len(named), len(figures.COLOURS)):
        names, plain = zip(*named[start : start + len(figures.COLOURS)], strict=True)
        coloured = [line._replace(colour=colour_of(n)) for n, line in enumerate(plain)]
        svg = figures.lines(f"curves{next(number)}", coloured, one.unit, unit.name)
        title = f"{len(one.numbers)} steps, {models[one.numbers[0]].name} to {models[one.numbers[-1]].name}"
        legend = [(line.colour, name) for line, name in zip(coloured, names, strict=True)]
        hints = ["dashed: chance"] * any(line.chance is not None for line in coloured)
        hints += ["ring: guessing explains the score"] * any(p.hollow for line in coloured for p in line.points)
        yield Curves(title, markup(svg), legend, hints)


def _line(entry: Entry, one: Series) -> figures.Line | None:
    """The scores of an entry over a training; None where fewer than two steps have one."""
    rows, factor = dict(entry.rows), entry.unit.factor
    points = [
        figures.Point(x, row.value * factor, None if row.stderr is None else row.stderr * factor, not row.clear)
        for n, x in zip(one.numbers, one.places, strict=True)
        if (row := rows.get(n)) and row.value is not None
    ]
    chance = next((row.chance * factor for n in one.numbers if (row := rows.get(n)) and row.chance is not None), None)
    return figures.Line("", points, chance) if len(points) > 1 else None


def _bits_lines(one: Series, bits: Bits | None) -> dict[str, figures.Line]:
    """Bits per byte over a training by source, language and in total."""
    found = {}
    for name, rows in bits.rows.items() if bits else ():
        values = {n: row["bpb"]["model"] for n, row in rows}
        points = [figures.Point(x, values[n]) for n, x in zip(one.numbers, one.places, strict=True) if n in values]
        if len(points) > 1:
            found[name] = figures.Line("", points)
    return found
