"""Bits per byte of several models by source and by language: the measure that moves where benchmarks still guess.

Read from the bpb.json of each run. Models can be compared where they saw the same text; where the bytes differ that is
said. Cost: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.report.bars import Bar, Block, Chart, colour_of, make_chart
from eval.report.models import Model
from eval.report.units import BITS
from mindllm.page import show_bytes, show_count

TOTAL = "all sources"


@dataclass(frozen=True)
class Bits:
    """The chart, and for each source or language the rows of the models that have it: (number of the model, row)."""

    chart: Chart
    rows: dict[str, list[tuple[int, dict[str, Any]]]]


def make_bits(models: Sequence[Model]) -> Bits | None:
    """Chart and rows of all sources together, then languages, then each source; None where no model was measured."""
    totals = [(number, model.bpb["total"]) for number, model in enumerate(models) if model.bpb]
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = {TOTAL: totals}
    for part in ("languages", "sources"):
        for number, model in enumerate(models):
            for name, row in ((model.bpb or {}).get(part) or {}).items():
                rows.setdefault(f"{name} (language)" if part == "languages" else name, []).append((number, row))
    rows = {name: [(n, row) for n, row in found if row["bpb"]["model"] is not None] for name, found in rows.items()}
    rows = {name: found for name, found in rows.items() if found}
    blocks = [_block(name, found, models) for name, found in rows.items()]
    return Bits(make_chart(BITS, blocks), rows) if blocks else None


def _block(title: str, rows: Sequence[tuple[int, dict[str, Any]]], models: Sequence[Model]) -> Block:
    bars = []
    for number, row in rows:
        bits = row["bpb"]
        text = BITS.show(bits["model"])
        bars.append(
            Bar(models[number].name, text, colour_of(number), bits["model"], None, bits["unigram"], bits["trigram"])
        )
    texts = list(dict.fromkeys((row["documents"], row["bytes"]) for _, row in rows))
    detail = " and ".join(f"{show_count(n)} document{'s' * (n != 1)}, {show_bytes(size)}" for n, size in texts)
    return Block(title, detail + ": not the same text" * (len(texts) > 1), bars)
