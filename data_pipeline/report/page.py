"""One HTML page about the data of a run (verb report): what clean, dedup, refine kept and dropped, why, how fast.

<run>/data_report.html is one file that needs no network: the server draws every table and chart without a filter, and a
small script (allowed by its hash; a content policy forbids all else) moves the same numbers when the reader filters by
language and site. Text from documents is escaped, shortened, and masked as the pii cleaner does. The same run folder
gives the same bytes. Cost: one pass over the documents; a million of them on 100,000 sites (1 GB of text, well packed)
took 17 s and 280 MB on two processes. The page has at most about 3 MB.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_pipeline.config import DataConfig
from data_pipeline.report import figures
from data_pipeline.report.examples import label, list_examples, show_pair
from data_pipeline.report.facts import STAGES, UNKNOWN, Facts, Names, add_to_sums, read_facts, speeds, sum_rows
from data_pipeline.report.scan import DENSITIES, LENGTHS, NUM_EXAMPLES, Pair, Scan, find_pairs, list_items, scan
from data_pipeline.report.warnings import find_warnings
from mindllm import page
from mindllm.config import UserError
from mindllm.stage import write_text
from mindllm.text import language

PAGE = "data_report.html"
TEMPLATE = Path(__file__).with_name("report.html.j2")
SCRIPT = Path(__file__).with_name("report.js")
MAX_DATA = 1_400_000  # bytes of the counts in the page; with more, fewer sites get a row of their own
PAIRS = {"near": 5, "exact": 2}  # examples of duplicates, by kind


def report(config: DataConfig) -> int:
    """One offline HTML page: what clean, dedup and refine kept and dropped, and why; with a filter and examples."""
    run = Path(config.run)
    if not run.is_dir():
        raise UserError(f"run: {run} is no folder; clean something first, or name a run with run=FOLDER")
    facts = read_facts(run)
    found = scan(list_items(run, facts), facts, config.workers)
    pairs = find_pairs(run / "dedup", PAIRS) if any(stage.name == "dedup" for stage in facts.ran) else []
    write_text(run / PAGE, render(run, facts, found, pairs))
    for line in find_warnings(facts):
        print(f"report: {line}", flush=True)
    print(f"report: {run / PAGE}", flush=True)
    return 0


def render(run: Path, facts: Facts, found: Scan, pairs: list[Pair]) -> str:
    """The page as HTML text."""
    facts, found, data = fit(facts, found)
    sums = _all_sums(facts, found)
    script = SCRIPT.read_text(encoding="utf-8")
    others = len(facts.sites.named)
    shown = [(n, _language(name)) for n, name in enumerate(data["languages"]) if f"in:0:{n}" in sums]
    return page.render(
        TEMPLATE,
        run=run,
        facts=facts,
        warnings=find_warnings(facts),
        languages=data["languages"],
        sites=data["sites"],
        reasons=data["reasons"],
        kinds=sorted({kind for _, _, kind in found.masks}),
        site_order=[*_by_size(sums, "in:0@{}", others), *([others] if f"in:0@{others}" in sums else [])],
        others=others,
        last=len(facts.ran) - 1,
        absent=[stage for stage in facts.stages if stage.name in STAGES and stage.state != "complete"],
        speeds=speeds(facts),
        names=[stage.name for stage in facts.ran],
        shown_languages=shown,
        unknown=_language(UNKNOWN),
        reason_order=_by_size(sums, "drop:{}", len(facts.reasons)),
        num_documents=sums.get("in:0", (0, 0))[0],
        limited=_density_limit(facts) is not None,
        lang_attribute=_lang_attribute,
        scanned=sum(map(sum, found.lengths.values())),
        measured=sum(map(sum, found.densities.values())),
        examples=list_examples(facts, found),
        num_examples=NUM_EXAMPLES,
        pairs=[show_pair(pair) for pair in pairs],
        show=_shower(sums),
        top_reason=lambda site: _top_reason(sums, data["reasons"], site),
        bar=_bar_maker(facts, sums),
        charts={kind: _charts(kind, facts, found, data["languages"]) for kind in data["bins"]},
        data=page.json_for_script(data),
        script=page.markup(script),
        script_hash=page.script_hash(script),
    )


def fit(facts: Facts, found: Scan) -> tuple[Facts, Scan, dict[str, Any]]:
    """The facts with as many sites of their own as fit into MAX_DATA, and the counts for the page's script."""
    limit = len(facts.sites.named)
    while True:
        data = _data(facts, found)
        if limit == 0 or len(page.json_for_script(data).encode("utf-8")) <= MAX_DATA:
            return facts, found, data
        limit //= 2
        facts, found = _narrowed(facts, found, limit)


def _narrowed(facts: Facts, found: Scan, limit: int) -> tuple[Facts, Scan]:
    """Only the first `limit` sites have a number of their own. Numbers are by size, so this is one minimum each."""
    names = list(facts.sites.named)
    sites = Names({n: i for i, n in enumerate(names[:limit])}, facts.sites.num_others + len(names) - limit)

    def merged(counts: dict[Any, list[int]], place: int) -> dict[Any, list[int]]:
        out: dict[Any, list[int]] = {}
        for key, values in counts.items():
            new = (*key[:place], min(key[place], limit), *key[place + 1 :])
            out[new] = [a + b for a, b in zip(out[new], values, strict=True)] if new in out else values
        return out

    narrow = Scan(merged(found.lengths, 1), merged(found.densities, 1), merged(found.masks, 1), found.examples)
    return dataclasses.replace(facts, sites=sites, rows=merged(facts.rows, 2)), narrow


def _data(facts: Facts, found: Scan) -> dict[str, Any]:
    """All that report.js adds up: names, and counts by their numbers, in a fixed order."""
    return {
        "languages": [*map(label, facts.languages.named), "further languages"],
        "sites": [*map(label, facts.sites.named), "other sites"],
        "reasons": [label(_reason(facts, number)) for number in range(len(facts.reasons))],
        "rows": [[*key, *counts] for key, counts in sorted(facts.rows.items())],
        "masks": [[kind, lang, site, *counts] for (lang, site, kind), counts in sorted(found.masks.items())],
        "histograms": {"length": _trimmed(found.lengths), "density": _trimmed(found.densities)},
        "bins": figures.bin_labels(),
        "num_fates": len(facts.ran) + 1,
        "num_examples": NUM_EXAMPLES,
    }


def _language(name: str) -> str:
    return "not known" if name == UNKNOWN else name


def _lang_attribute(text: str) -> Any:
    """The attribute that lets the browser take the right font for Simplified and for Traditional Chinese."""
    found = language(text)
    return page.markup("" if found == "other" else f' lang="{found}"')


def _reason(facts: Facts, number: int) -> str:
    return facts.reasons[number][1] or f"rare reasons of {facts.ran[facts.reasons[number][0]].name}"


def _trimmed(histogram: dict[tuple[int, int, int], list[int]]) -> list[list[int]]:
    """language, site, fate, first bin that is not empty, counts from there to the last that is not."""
    rows = []
    for key, counts in sorted(histogram.items()):
        filled = [bin for bin, n in enumerate(counts) if n]
        rows.append([*key, filled[0], *counts[filled[0] : filled[-1] + 1]])
    return rows


def _all_sums(facts: Facts, found: Scan) -> dict[str, list[int]]:
    """The sums of the counts, and of the masks under mask:KIND ([masks, documents])."""
    sums = sum_rows(facts)
    for (lang, site, kind), counts in sorted(found.masks.items()):
        add_to_sums(sums, (f"mask:{kind}",), lang, site, *counts)
    return sums


def _shower(sums: dict[str, list[int]]) -> Callable[..., str]:
    """The function by which the template shows a number: `show` of report.js, without a filter."""

    def show(form: str, key: str, of: str = "") -> str:
        first, second = sums.get(key, (0, 0))
        if form == "share":
            total = sums.get(of, (0, 0))[0]
            return page.show_share(first / total) if total else "-"
        return {"count": page.show_count(first), "second": page.show_count(second), "size": page.show_bytes(second)}[
            form
        ]

    return show


def _top_reason(sums: dict[str, list[int]], reasons: list[str], site: int) -> str:
    """The most frequent reason for which documents of a site were dropped."""
    counts = {reason: sums.get(f"drop:{number}@{site}", [0])[0] for number, reason in enumerate(reasons)}
    most = max(counts.values(), default=0)
    return next((reason for reason, n in counts.items() if n == most > 0), "")


def _by_size(sums: dict[str, list[int]], key: str, number: int) -> list[int]:
    """Numbers below `number` whose sum (key: "in:0@{}") is there, largest first."""
    present = [n for n in range(number) if key.format(n) in sums]
    return sorted(present, key=lambda n: (-sums[key.format(n)][0], n))


def _bar_maker(facts: Facts, sums: dict[str, list[int]]) -> Callable[[str, str], Any]:
    """bar(base, scale): a bar whose parts are the languages of a sum; bars of one scale share their length."""
    numbers = range(len(facts.languages.named) + 1)

    def value(key: str) -> int:
        return sums.get(key, (0, 0))[0]

    totals = {
        "funnel": max((value(key) for key in ["in:0", *(f"kept:{s}" for s in range(len(facts.ran)))]), default=0),
        "reasons": max((value(f"drop:{r}") for r in range(len(facts.reasons))), default=0),
    }

    def bar(base: str, scale: str) -> Any:
        keys = [(f"l{number}", f"{base}:{number}") for number in numbers if f"in:0:{number}" in sums]
        return page.markup(figures.bar(keys, scale, value, totals[scale]))

    return bar


def _charts(kind: str, facts: Facts, found: Scan, languages: list[str]) -> list[dict[str, Any]]:
    """One histogram of all documents and one a language."""
    counts = found.lengths if kind == "length" else found.densities
    num_bins = len(LENGTHS) if kind == "length" else len(DENSITIES)
    limit = _density_limit(facts) if kind == "density" else None
    charts = []
    for number in [None, *sorted({key[0] for key in counts})]:
        values = [[0] * num_bins for _ in range(len(facts.ran) + 1)]
        for (lang, _, fate), bins in counts.items():
            if number in (None, lang):
                values[fate] = [a + b for a, b in zip(values[fate], bins, strict=True)]
        name = "all languages" if number is None else languages[number]
        svg = figures.histogram(kind, number, f"{kind} of documents, {name}", values, limit)
        charts.append({"language": number, "name": _language(name), "svg": page.markup(svg)})
    return charts if counts else []


def _density_limit(facts: Facts) -> float | None:
    """The limit that the clean stage ran with, where its settings name one."""
    settings = facts.ran[0].meta.get("config", {}).get("clean", {}).get("density") if facts.ran else None
    limit = settings.get("min_density") if isinstance(settings, dict) else None
    return float(limit) if isinstance(limit, int | float) and 0 <= limit <= 1 else None
