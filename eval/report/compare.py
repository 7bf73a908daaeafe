"""Models, or steps of one training, side by side in one HTML page: bits per byte, benchmark scores, published figures.

The page is one file that needs no network and no script: bars and curves are SVG, text from names and tasks is escaped,
and a content policy forbids everything else. The same folders give the same bytes. Cost: a second; 50 to 300 kB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.bpb import MODELS
from eval.elo.page import section as section_of_ratings
from eval.harness import show_score
from eval.report.bars import colour_of
from eval.report.benchmarks import make_section
from eval.report.bits import make_bits
from eval.report.models import Model, find_runs, is_model, read_contamination, read_models, read_ratings
from eval.report.published import Published, read_published
from eval.report.steps import make_curves
from mindllm import page
from mindllm.stage import write_text

TEMPLATE = Path(__file__).with_name("compare.html.j2")


@dataclass
class CompareConfig:
    """Models to show side by side.

    RUN: a run's folder, with harness/scores.json, bpb/bpb.json or elo/ratings.json in it, or one that holds such
    folders.  out: the page.
    title: "": the runs' names.  published: figures of papers to show beside ours; "": none.  contamination: JSONL of
    contaminated items, for scores on clean ones; "": none.
    """

    runs: list[str] = field(default_factory=list)
    out: str = "compare.html"
    title: str = ""
    published: str = "eval/published.yaml"
    contamination: str = ""

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if not self.out or self.out.endswith("/"):
            yield f"out: {self.out!r} is no file name"


def compare(config: CompareConfig) -> int:
    """Benchmark scores and bits per byte of several models, or steps of one, in one HTML page that needs no network."""
    folders, published = find_runs(config.runs), read_published(config.published)
    models = read_models([f for f in folders if is_model(f)], read_contamination(config.contamination))
    write_text(config.out, render(models, published, config.title, read_ratings(folders)))
    print(f"compare: {len(models)} model{'s' * (len(models) != 1)} in {config.out}", flush=True)
    return 0


def render(
    models: Sequence[Model], published: Published, title: str = "", ratings: Mapping[str, dict[str, Any]] | None = None
) -> str:
    """The page as HTML text. ratings: what ratings.json holds, by name of the run."""
    ratings = ratings or {}
    section, bits = make_section(models, published), make_bits(models)
    bits_curves, curves = make_curves(section.groups, bits, models)
    facts: dict[str, Any] = {
        "title": title or ", ".join([model.name for model in models] or ratings),
        "models": models,
        "colours": [colour_of(number) for number in range(len(models))],
        "bits": bits,
        "bits_curves": bits_curves,
        "section": section,
        "curves": curves,
        "references": MODELS[1:],
        "ratings": {name: section_of_ratings(found) for name, found in ratings.items()},
    }
    html = page.render(TEMPLATE, {"score": show_score}, **facts)
    return html.encode("utf-8", "replace").decode("utf-8")  # names of folders may hold bytes that are no text
