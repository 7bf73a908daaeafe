"""Figures of the report as inline SVG, the same bytes for the same numbers: fixed hash salt, no date, no global state.

Text stays text and takes the colour of the page (`currentColor`), so a figure reads in light and in dark. matplotlib's
own font has no Chinese glyphs: labels are codes and names of ours, all others stand beside the figure. Cost: about
.2 s and 20 to 100 kB a figure.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MAX_POINTS = 600  # of one curve; longer ones are thinned
COLOURS = ("#3b82c4", "#46a58c", "#e08a2e", "#9a7cc1", "#8a929c", "#c75d6a", "#5bb8d0", "#8b6f47")
_INK = "#010203"  # stands for the page's text colour until the SVG is written
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.size": 10,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    **{
        key: _INK
        for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    },
}


def funnel(stages: Sequence[str], documents: Mapping[str, Sequence[int]]) -> str:
    """Stacked bars: documents left after each stage, by language (`documents[language][stage]`)."""
    with _figure("funnel", height=0.75 + 0.36 * len(stages)) as (figure, axes):
        left = [0] * len(stages)
        for colour, (language, counts) in zip(_cycle(len(documents)), documents.items(), strict=True):
            axes.barh(range(len(stages)), counts, left=left, height=0.62, color=colour, label=language)
            left = [a + b for a, b in zip(left, counts, strict=True)]
        for row, total in enumerate(left):
            axes.annotate(f"{total:,}", (total, row), (5, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(stages)), stages)
        axes.invert_yaxis()
        axes.set_xlim(0, max(left, default=0) * 1.15 or 1)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("documents")
        _legend(axes)
        return _svg(figure, "funnel")


def curves(train: Sequence[tuple[float, float]], valid: Sequence[tuple[float, float]], unit: str) -> str:
    """Training and validation loss (nats a token), each a list of (x, loss), over x in `unit`."""
    with _figure("curves", height=2.9) as (figure, axes):
        for points, colour, label, marker in (
            (train, COLOURS[0], "training", ""),
            (valid, COLOURS[2], "validation", "o"),
        ):
            if points:
                thin = thinned(points)
                style: Any = {"marker": marker, "markersize": 3.5, "linewidth": 1.2 if marker else 0.9}
                axes.plot([x for x, _ in thin], [y for _, y in thin], color=colour, label=label, **style)
        axes.set_ylabel("loss, nats per token")
        axes.set_xlabel(unit)
        _legend(axes)
        return _svg(figure, "curves")


class Point(NamedTuple):
    """A place on a curve. hollow: drawn as a ring."""

    x: float
    y: float
    error: float | None = None
    hollow: bool = False


class Line(NamedTuple):
    """One curve, and the level of guessing, if there is one."""

    colour: str
    points: list[Point]
    chance: float | None = None


def lines(name: str, found: Sequence[Line], unit_x: str, unit_y: str) -> str:
    """Curves with error bars, the level of guessing dashed in the same colour. `name` is this figure's on the page.

    The legend is the page's, which can write any name.
    """
    with _figure(name, height=2.7) as (figure, axes):
        for line in found:
            x, y = [p.x for p in line.points], [p.y for p in line.points]
            errors = [p.error or 0.0 for p in line.points]
            axes.errorbar(x, y, errors, color=line.colour, linewidth=1.2, elinewidth=0.8, capsize=2)
            faces = ["none" if p.hollow else line.colour for p in line.points]
            axes.scatter(x, y, s=18, facecolors=faces, edgecolors=line.colour, linewidths=1, zorder=3)
            if line.chance is not None:
                axes.axhline(line.chance, color=line.colour, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.8)
        axes.set_xlabel(unit_x)
        axes.set_ylabel(unit_y)
        return _svg(figure, name)


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about MAX_POINTS points: means of equal runs of neighbours, the last run as long as it is."""
    size = -(-len(points) // MAX_POINTS)
    runs = [points[i : i + size] for i in range(0, len(points), size)] if size > 1 else [[p] for p in points]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


@contextlib.contextmanager
def _figure(name: str, height: float) -> Iterator[tuple[Figure, Axes]]:
    """One pair of axes in our style, without pyplot and its global state."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        yield figure, figure.subplots()


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _legend(axes: Axes) -> None:
    columns = len(axes.get_legend_handles_labels()[0])
    if columns:
        place: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderpad": 0.2}
        axes.legend(**place, ncols=columns, handlelength=1.2, columnspacing=1.4)


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element: no prolog or metadata, ids unique on the page, text in the page's colour."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font(-family)?: ([^;\"]*?)'[^;\"]*", r"font\1: \g<2>system-ui, sans-serif", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)
