"""One HTML page about a run: what each stage took in and gave out, what was dropped and why, the loss, the results.

The page is one file that needs no network and no script: figures are inline SVG, text from documents and models is
escaped, and a content policy forbids everything else. The same run folder gives the same bytes. Stages that have not
run are named, not hidden. Cost: about a second; the page is 100 to 300 kB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.bpb import MODELS
from eval.config import EvalConfig
from eval.elo.page import section as section_of_ratings
from eval.harness import show_score
from eval.report import figures
from eval.report.benchmarks import make_section
from eval.report.bits import make_bits
from eval.report.entries import roots
from eval.report.facts import Curve, Funnel, model_facts, read_curve, read_funnel, stage_rows
from eval.report.models import RATINGS, read_contamination, read_model
from eval.report.published import read_published
from mindllm import page
from mindllm.config import UserError
from mindllm.page import show_count, show_rate, show_seconds
from mindllm.stage import read_json, write_text

TEMPLATE = Path(__file__).with_name("report.html.j2")
MAX_SITES = 20
MAX_REASONS = 30
COMMANDS = {
    "stages": "make demo",
    "funnel": "make data",
    "curve": "make pretrain",
    "bpb": "make eval",
    "scores": "make eval",
    "samples": "make eval",
}


def report(config: EvalConfig) -> int:
    """One offline HTML page about the run, and its closing table on the screen."""
    if not Path(config.run).is_dir():
        raise UserError(f"run: {config.run} is no folder; make a run first, or name one with run=FOLDER")
    facts = collect(config)
    write_text(config.report, render(facts))
    write_summary(facts)
    print(f"report: {config.report}", flush=True)
    return 0


def collect(config: EvalConfig) -> dict[str, Any]:
    """Everything that the page and the closing table show; None or empty where a stage has not run."""
    run = Path(config.run)
    published, contamination = read_published(config.published), read_contamination(config.contamination)
    model = read_model(run, run.name, contamination, Path(config.model))
    return {
        "title": config.title or run.name,
        "run": run.as_posix(),
        "model": model_facts(Path(config.model)),
        "stages": stage_rows(run),
        "funnel": read_funnel(run),
        "curve": read_curve(run / "pretrain" / "metrics.jsonl"),
        "bpb": model.bpb,
        "bits": make_bits([model]),
        "scores": roots(model),
        "section": make_section([model], published),
        "notes": model.notes,
        "ratings": read_json(run / RATINGS),
        "samples": read_json(run / "samples" / "samples.json"),
    }


def render(facts: dict[str, Any]) -> str:
    """The page as HTML text."""
    drawn = {key: page.markup(svg) for key, svg in draw(facts).items()}
    limits = {"max_sites": MAX_SITES, "max_reasons": MAX_REASONS, "models": MODELS, "commands": COMMANDS}
    elo = section_of_ratings(facts["ratings"]) if facts["ratings"] else ""
    html = page.render(TEMPLATE, {"score": show_score}, **facts, **limits, figures=drawn, elo=elo)
    return html.encode("utf-8", "replace").decode("utf-8")  # names of folders may hold bytes that are no text


def draw(facts: dict[str, Any]) -> dict[str, str]:
    """SVG by section, for the sections that have numbers."""
    drawn = {}
    funnel: Funnel | None = facts["funnel"]
    if funnel is not None and funnel.documents:
        drawn["funnel"] = figures.funnel(funnel.stages, funnel.documents)
    curve: Curve | None = facts["curve"]
    if curve is not None:
        drawn["curve"] = figures.curves(curve.train, curve.valid, curve.unit)
    return drawn


def write_summary(facts: dict[str, Any], console: Console | None = None) -> None:
    """The closing table of a run for the terminal: what each stage took in, gave out and cost, then the results."""
    table = Table(title=escape(f"run {facts['title']}"), box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("stage", "in", "out", "unit", "time", "rate"):
        table.add_column(column, justify="left" if column in ("stage", "unit") else "right", no_wrap=column != "unit")
    for row in facts["stages"]:
        counts = (show_count(row.num_in), show_count(row.num_out), escape(row.unit))
        table.add_row(escape(row.name), *counts, show_seconds(row.seconds), show_rate(row.rate))
    console = console or Console()
    console.print(table)
    for line in _results(facts):
        console.print(escape(line), highlight=False)


def _results(facts: dict[str, Any]) -> list[str]:
    """The lines below the table: bits per byte, and how many scores differ from guessing."""
    lines = []
    total = (facts["bpb"] or {}).get("total")
    if total and total["bpb"]["model"] is not None:
        values = ", ".join(f"{model} {total['bpb'][model]:.3f}" for model in MODELS if total["bpb"][model] is not None)
        lines.append(f"bits per byte on held-out text: {values}")
    guessed = [score for score in facts["scores"] if score.chance is not None]
    if guessed:
        clear = sum(score.clear for score in guessed)
        lines.append(f"benchmarks: {clear} of {len(guessed)} accuracies are clear of guessing")
    return lines
