"""Raw pages to cleaned and masked text in one process: pages a second of our cleaners and of datatrove's nearest steps.

    python bench/clean_pages.py [FOLDER ...] [--only TEXT] [--datatrove PYTHON] [--repeats 5]

Inputs are files, folders or .tar.gz archives of pages; without any, samples/web. PYTHON is the interpreter of an
environment of its own (bench/requirements-datatrove.txt); without it only ours is measured.
Each repeat is one pass over the same pages in the same order in a fresh process of each side, in turns. Importing, and
one small page that makes both sides load what they load once, are not counted; decoding bytes is. Memory: all pages.

Ours: the cleaners of clean and refine in configs/data/sample.yaml (html, density, sensitive, pii, repetition). Theirs,
as shipped: Trafilatura, GopherRepetitionFilter, FineWebQualityFilter (rules on lines), FTFYFormatter (mojibake),
PIIFormatter (e-mails, IP addresses); the two filters split words, but know none. Left out are Gopher's and C4's quality
rules (English words and sentences), the language filter and the bad words (downloads; so nothing of theirs stands
against our sensitive cleaner), and the URL filter (no URLs here). Their steps are called directly, in favour
of the peer: without the sandbox process that each extraction goes to, and without statistics.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import CONFIG, SAMPLE_PAGES, cleaners_of, read_pages

SMALL_PAGE = b"""<html><body><article>
<p>The first ferry of the morning left the harbour with eleven people on board, and everybody else waited on the pier.
Nobody knew why the captain had sailed so early; some said he had read the sky, others that he disliked company.</p>
<p>By noon a grey wall of rain stood over the outer islands. Fishermen pulled their boats above the tide line,
the baker closed her shutters, and children were sent home from school an hour before the bell.</p>
<p>When the storm broke at last, it took two roofs, a dozen chimneys and the old bridge behind the mill. The ferry lay
safe in the northern bay, where its passengers played cards below deck until the wind turned and the sea calmed.</p>
</article></body></html>"""  # long and varied enough to reach the last step of both sides

Clean = Callable[[bytes], str]  # a page to its text; "" for one that is dropped


def ours(config: Path) -> Clean:
    """The cleaners of a data config, one document at a time. Their statistics of whole sites are not part of this."""
    from data_pipeline.clean import apply
    from data_pipeline.document import Document

    cleaners = cleaners_of(config)

    def clean(page: bytes) -> str:
        document, drop = apply(Document("", "page", meta={"html": page}), cleaners)
        return "" if drop else document.text

    return clean


def datatrove(config: Path) -> Clean:
    """datatrove's steps in the order of its own examples: extract, filter, then formatters."""
    from charset_normalizer import detect
    from datatrove.data import Document  # type: ignore[import-not-found]
    from datatrove.pipeline.extractors import Trafilatura  # type: ignore[import-not-found]
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherRepetitionFilter  # type: ignore[import-not-found]
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter  # type: ignore[import-not-found]

    extractor, filters = Trafilatura(), (GopherRepetitionFilter(), FineWebQualityFilter())
    formatters = (FTFYFormatter(), PIIFormatter())

    def clean(page: bytes) -> str:
        try:
            html = page.decode()
        except UnicodeDecodeError:  # what its WARC reader does, with the detector that trafilatura brings along
            html = page.decode(detect(page)["encoding"] or "utf-8", "replace")
        text = extractor.extract(html) or ""
        for rule in filters:
            answer: Any = rule.filter(Document(text=text, id="page")) if text else False
            if not (answer[0] if isinstance(answer, tuple) else answer):
                return ""
        for formatter in formatters:
            text = formatter.format(text)
        return text

    return clean


SIDES: dict[str, Callable[[Path], Clean]] = {"ours": ours, "datatrove": datatrove}


def one_pass(side: str, folder: Path, config: Path) -> dict[str, float]:
    """One pass over the pages of `folder` in this process: CPU and wall seconds, pages kept, characters of text."""
    clean = SIDES[side](config)
    pages = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert clean(SMALL_PAGE), "the first page must reach the last step, so that all is loaded"
    wall, cpu = time.perf_counter(), time.process_time()
    texts = [clean(page) for page in pages]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "kept": sum(map(bool, texts)), "characters": sum(map(len, texts))}


def _fresh_process(python: str, side: str, folder: Path, config: Path) -> dict[str, float]:
    command = [python, str(Path(__file__).resolve()), "--pass", side, str(folder), "--config", str(config)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{side}: {' '.join(command)} ended with exit code {done.returncode}; its messages are above")
    return json.loads(done.stdout.splitlines()[-1])


def compare(pages: Sequence[bytes], pythons: dict[str, str], repeats: int, config: Path) -> dict[str, list[Any]]:
    """Passes of every side in turns over the same files; {side: one result a repeat}."""
    results: dict[str, list[Any]] = {side: [] for side in pythons}
    with tempfile.TemporaryDirectory() as name:
        for number, page in enumerate(pages):
            (Path(name) / f"{number:06}.html").write_bytes(page)
        for _ in range(repeats):
            for side, python in pythons.items():
                results[side].append(_fresh_process(python, side, Path(name), config))
    return results


def report(results: dict[str, list[Any]], pages: Sequence[bytes]) -> None:
    """Print pages a second (median of the repeats) and, with two sides, their ratio in every repeat."""
    megabytes = sum(map(len, pages)) / 1e6
    print(f"{len(pages)} pages, {megabytes:.1f} MB; medians of {len(results['ours'])} fresh processes")
    print(f"{'':10} {'pages/s':>8} {'MB/s':>6} {'wall pages/s':>12} {'kept':>5} {'characters':>10}")
    for side, passes in results.items():
        cpu, wall = (statistics.median(p[key] for p in passes) for key in ("cpu", "wall"))
        row = f"{len(pages) / cpu:8.1f} {megabytes / cpu:6.2f} {len(pages) / wall:12.1f}"
        print(f"{side:10} {row} {passes[0]['kept']:5} {passes[0]['characters']:10}")
    if "datatrove" in results:
        pairs = zip(results["ours"], results["datatrove"], strict=True)
        ratios = [theirs["cpu"] / mine["cpu"] for mine, theirs in pairs]
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"ours / datatrove, pages a second: {statistics.median(ratios):.2f} {spread}")
    else:
        print("datatrove was not measured: give --datatrove PYTHON, an environment made with")
        print("    python -m venv ENV; ENV/bin/pip install -r bench/requirements-datatrove.txt")


def main() -> None:
    """The command line; `--pass` is how the script starts itself in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", default=[str(SAMPLE_PAGES)], metavar="FOLDER")
    parser.add_argument("--only", default="", help="only pages whose path holds this text")
    parser.add_argument("--datatrove", metavar="PYTHON", help="the interpreter of datatrove's environment")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--config", type=Path, default=CONFIG, help="data config whose cleaners are run")
    parser.add_argument("--pass", dest="side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one_pass(options.side, Path(options.inputs[0]), options.config)))
        return
    pages = [page.data for page in read_pages(options.inputs, options.only)]
    pythons = {"ours": sys.executable} | ({"datatrove": options.datatrove} if options.datatrove else {})
    report(compare(pages, pythons, options.repeats, options.config), pages)


if __name__ == "__main__":
    main()
