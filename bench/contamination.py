"""Finding benchmark items in text: how many of planted copies with errors, what in text without any, and how fast.

    python bench/contamination.py ITEMS TEXTS [--num 200] [--seed 1] [--workers N]

ITEMS: benchmark sets as `python -m eval import` writes them. TEXTS: JSONL that holds none of them. Of each set --num
items are written as an exam page would have them, a share of their characters is changed (noise: a third each replaced,
left out, another one added), and the page is put between two passages of TEXTS: found or not, by set and noise. Then
TEXTS themselves: what is found there is wrong, or they are not as clean as that; some of it is shown. The time is that
of the whole command on all cores, with the index of the items made anew, and by itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common  # noqa: F401  puts the repository on Python's path

from eval.contamination import ContaminationConfig
from eval.contamination.index import Index, build
from eval.contamination.run import contamination
from eval.contamination.search import search
from eval.contamination.texts import list_files, read
from eval.items import Item, list_item_files, read_items
from eval.rows import read_rows
from mindllm.text import HAN

NOISE = (0.0, 0.02, 0.05, 0.1)
_HAN = re.compile(f"[{HAN}]")
_COMMON_HAN = "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
_LATIN = "abcdefghijklmnopqrstuvwxyz"


def noisy(text: str, share: float, rng: random.Random) -> str:
    """A text of which about this share of the characters is replaced, left out, or has another one after it."""
    pieces: list[str] = []
    for character in text:
        if character.isspace() or rng.random() >= share:
            pieces.append(character)
            continue
        other = rng.choice(_COMMON_HAN if _HAN.match(character) else _LATIN)
        pieces.append(rng.choice((other, "", character + other)))
    return "".join(pieces)


def exam_page(row: dict[str, Any], rng: random.Random) -> str:
    """A row as a page would have it: the question, lettered choices, the answer; one side of a translation."""
    if "en" in row:
        return str(row[rng.choice(("zh_hans", "zh_hant", "en"))])
    asked = [str(row[key]) for key in ("context", "passage", "question", "text") if row.get(key)]
    if "choices" not in row:
        return "\n".join([*asked, str(row.get("answer", ""))])
    lettered = [f"{chr(65 + number)}. {choice}" for number, choice in enumerate(row["choices"])]
    return "\n".join([*asked, *lettered, f"Answer: {chr(65 + row['answer'])}"])


def main() -> None:
    """Print three tables: found by noise, found in the texts, times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", metavar="ITEMS")
    parser.add_argument("texts", metavar="TEXTS")
    parser.add_argument("--num", type=int, default=200, help="items of each set that are planted")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a core")
    parser.add_argument("--show", type=int, default=10, help="pairs found in the texts that are shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = ContaminationConfig([options.items], [options.texts], folder, num_workers=options.workers)
        start = time.monotonic()
        contamination(config)
        seconds = time.monotonic() - start
        report = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
        index, items, rows = load(options.items, config, Path(folder) / "again")
        building = time.monotonic() - start - seconds
        passages = [document.text[:1000] for file in list_files([options.texts], "text")
                    for document in itertools.islice(read(file, "text", ""), 50)]  # fmt: skip
        print_detection(index, items, rows, passages, options.num, options.seed, config.min_share)
        print_texts(report, Path(folder), options.show)
    size = report["text"]["num_bytes"]
    scanning = seconds - building
    print(
        f"time: {seconds:.1f} s for {size / 1e6:.0f} MB; of these the index of {len(items):,} items {building:.1f} s,"
    )
    print(f"      so {scanning * 1e8 / size:.1f} s for each further 100 MB")


def load(path: str, config: ContaminationConfig, out: Path) -> tuple[Index, list[Item], list[dict[str, Any]]]:
    """The index, the items and their rows."""
    files = list_item_files([path])
    items = [item for file in files for item in read_items(file)]
    rows = [row for file in files for _, row in read_rows(file.path)]
    texts = [(number, text) for number, item in enumerate(items) for text in item.texts]
    return build(out, lambda: texts, config.max_frequency), items, rows


def print_detection(
    index: Index, items: Sequence[Item], rows: Sequence[dict[str, Any]], passages: Sequence[str], num: int, seed: int,
    min_share: float,
) -> None:  # fmt: skip
    """Share of the planted items that is found, by set and noise."""
    by_set: defaultdict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        by_set[item.set].append(number)
    print(f"\nplanted copies that are found, by share of characters changed ({num} items a set)")
    print(f"{'set':12}" + "".join(f"{noise:>9.0%}" for noise in NOISE))
    totals = dict.fromkeys(NOISE, 0)
    total = 0
    for name, numbers in by_set.items():
        rng = random.Random(f"{seed} {name}")
        chosen = rng.sample(numbers, min(num, len(numbers)))
        pages = [exam_page(rows[number], rng) for number in chosen]
        line, total = f"{name:12}", total + len(chosen)
        for noise in NOISE:
            planted = [
                "\n\n".join((rng.choice(passages), noisy(page, noise, rng), rng.choice(passages))) for page in pages
            ]
            found = {(hit.document, int(index.entries["item"][hit.entry])) for hit in search(index, planted, min_share)}
            num_found = sum((document, number) in found for document, number in enumerate(chosen))
            totals[noise] += num_found
            line += f"{num_found / len(chosen):>9.1%}"
        print(line)
    print(f"{'all':12}" + "".join(f"{totals[noise] / total:>9.1%}" for noise in NOISE))


def print_texts(report: dict[str, Any], out: Path, show: int) -> None:
    """What was found in the texts."""
    lines = (out / "contaminated.jsonl").read_text(encoding="utf-8").splitlines()
    num_items = sum(row["num_items"] for row in report["benchmarks"].values())
    print(f"\nin the texts: {len(lines)} of {num_items:,} items, on {report['text']['num_contaminated']} of "
          f"{report['text']['num_documents']:,} documents")  # fmt: skip
    examples = [(name, e) for name, row in report["benchmarks"].items() for e in row["examples"]]
    for name, example in examples[:: max(1, len(examples) // max(1, show))][:show]:
        print(f"  {name} {example['share']:.2f} {example['document']}\n    {example['item'][:110]}")
        print(f"    {example['passage'][:110]}")


if __name__ == "__main__":
    main()
