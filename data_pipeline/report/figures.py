"""Charts of the data report as inline SVG: bars made of named numbers, and histograms that hang below their axis, too.

The server draws them without a filter; report.js moves the same rectangles and paths when the reader filters. So both
know the geometry: WIDTH, HEIGHT and `histogram_shape` here, `drawHistogram` there. Colours are classes (l0, l1, ... a
language; f0, f1, ... a fate) that the page's style fills in light and in dark. Cost: 10 kB a histogram, no library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from data_pipeline.report.scan import DENSITIES, LENGTHS

WIDTH, HEIGHT, TOP, LEFT = 312, 120, 6, 4  # of the plot, in units of the view box
_POWERS = {10: "10", 100: "100", 1000: "1k", 10_000: "10k", 100_000: "100k", 1_000_000: "1M"}
_TICKS = {  # histogram -> (bin at whose left edge it stands, label)
    "length": tuple((LENGTHS.index(low), label) for low, label in _POWERS.items()),
    "density": ((0, "0"), (5, ".25"), (10, ".5"), (15, ".75"), (20, "1")),
}


def bar(keys: Sequence[tuple[str, str]], scale: str, numbers: Callable[[str], int], total: int) -> str:
    """A bar of stacked parts, (class, key of its number) each, in per cent of `total`; report.js fits it in `scale`."""
    parts, x = [], 0.0
    for name, key in keys:
        width = 100 * numbers(key) / total if total else 0.0
        parts.append(f'<rect class="{name}" data-k="{key}" x="{x:.3f}" y="0" width="{width:.3f}" height="10"/>')
        x += width
    inner = "".join(parts)
    return (
        f'<svg class="bar" data-scale="{scale}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f"{inner}</svg>"
    )


def bin_labels() -> dict[str, list[str]]:
    """What each bin of each histogram holds, in words."""
    ends = [f"{low:,} to {high - 1:,}" for low, high in zip(LENGTHS, LENGTHS[1:], strict=False)]
    lengths = [f"{text} characters" for text in (*ends, f"{LENGTHS[-1]:,} or more")]
    return {"length": lengths, "density": [f"density {low:.2f} to {low + 0.05:.2f}" for low in DENSITIES]}


def histogram(kind: str, language: int | None, title: str, values: Sequence[Sequence[int]], limit: float | None) -> str:
    """Documents by bin, values[fate][bin]: the kept (fate 0) above the axis, the dropped below, one scale for both.

    `limit`: a density, drawn as a broken line.
    """
    labels = bin_labels()[kind]
    axis, paths = histogram_shape(values)
    step = WIDTH / len(labels)
    shapes = [f'<path class="f{fate}" data-fate="{fate}" d="{d}"/>' for fate, d in enumerate(paths)]
    shapes.append(f'<path class="axis" d="{_axis_path(axis)}"/>')
    if limit is not None:
        x = LEFT + limit * WIDTH
        shapes.append(f'<path class="limit" d="M{x:.1f},{TOP}V{TOP + HEIGHT}"/>')
    for bin, label in _TICKS[kind]:
        x = LEFT + bin * step
        anchor = "start" if bin == 0 else "end" if bin == len(labels) else "middle"
        shapes.append(f'<text x="{x:.1f}" y="{TOP + HEIGHT + 14}" text-anchor="{anchor}">{label}</text>')
    for bin, label in enumerate(labels):
        kept, dropped = values[0][bin], sum(v[bin] for v in values[1:])
        shapes.append(
            f'<rect class="hit" x="{LEFT + bin * step:.1f}" y="{TOP}" width="{step:.1f}" height="{HEIGHT}">'
            f"<title>{label}: {kept:,} kept, {dropped:,} dropped</title></rect>"
        )
    number = "" if language is None else str(language)
    return (
        f'<svg class="histogram" data-hist="{kind}" data-lang="{number}" viewBox="0 0 320 144" role="img" '
        f'aria-label="{escape(title, quote=True)}">{"".join(shapes)}</svg>'
    )


def histogram_shape(values: Sequence[Sequence[int]]) -> tuple[float, list[str]]:
    """Height of the axis, and for each fate the path of its bars; the dropped are stacked downwards."""
    num_bins = len(values[0])
    up = max(values[0])
    down = max(sum(v[bin] for v in values[1:]) for bin in range(num_bins))
    unit = HEIGHT / (up + down) if up + down else 0.0
    axis = TOP + up * unit if unit else TOP + HEIGHT
    step = WIDTH / num_bins
    below, paths = [0] * num_bins, []
    for fate, counts in enumerate(values):
        d = ""
        for bin, n in enumerate(counts):
            if n:
                y = axis - n * unit if fate == 0 else axis + below[bin] * unit
                d += f"M{LEFT + bin * step + 0.4:.1f},{y:.1f}h{step - 0.8:.1f}v{n * unit:.1f}h{0.8 - step:.1f}z"
                below[bin] += n if fate else 0
        paths.append(d)
    return axis, paths


def _axis_path(axis: float) -> str:
    return f"M{LEFT},{axis:.1f}h{WIDTH}"
