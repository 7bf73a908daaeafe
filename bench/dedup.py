"""Deduplication: recall and precision of the verb dedup on planted copies; memory, disk and time on many documents.

    python bench/dedup.py [PATH ...] [--settings threshold=0.8 bands=20 ...] [--peers PYTHON]
    python bench/dedup.py --documents 1000000 [--workers 2]

Without --documents: texts (files, or folders of files; samples/prose without any) are cut into documents of 100, 200
and 400 units. Each gets one copy in which units are replaced, deleted and inserted at a rate chosen so that the Jaccard
similarity covers .45 to 1 evenly in every language; the true one is then computed from the sets of shingles.
With --documents: so many synthetic documents of 40 to 80 units in both languages, 30 in 100 of them copies of another,
exact or edited; 20,000 are judged. The verb runs as a command on the shards of a clean/ folder made of them.

Recall, by true similarity and language: the share of pairs (document, copy) that dedup does not leave both of.
Precision: the share of dropped documents whose true similarity with the kept document, as the cluster files name it, is
at least the threshold less .1.
--peers (default: this interpreter, if it has datasketch): the same planted documents, one after the other, through an
in-memory MinHashLSH of datasketch; a document goes if one kept before it is estimated to be similar enough.
Memory is measured by bench/memory.py (Linux only).
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import random
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from common import CONFIG, ROOT, SAMPLE_TEXTS, read_text, text_files
from memory import Usage, watch

LENGTHS = (100, 200, 400)  # units of planted documents
EDGES = (0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)  # of the bands of similarity; the last holds 1
SHINGLE, NUM_HASHES, BANDS, ROWS = 5, 128, 14, 8
SHARD_DOCUMENTS = 50_000
_TEXT_SEED, _EDIT_SEED = 1 << 40, 1 << 41
JUDGED = 20_000  # copies among many documents whose true similarity is computed


class Planted(NamedTuple):
    """A document, and the id of the one that it was made from ("": of none)."""

    id: str
    text: str
    lang: str
    original: str


def plant(texts: Iterable[str], seed: int = 1) -> list[Planted]:
    """Documents cut from texts, each with one edited copy, in a random order."""
    from mindllm.text import CJK, language

    rng = random.Random(seed)
    originals: dict[str, list[tuple[list[str], list[str]]]] = defaultdict(list)  # pieces, and units to write into them
    split = re.compile(f"([{CJK}]|[^\\W_{CJK}]+)").split  # every second piece is a unit
    for text in texts:
        pieces, begin = split(text), 0
        for length in itertools.cycle(LENGTHS):
            document = pieces[begin : begin + 2 * length]
            if len(document) < 2 * length:
                break
            begin += 2 * length
            originals[language("".join(document))].append((document, pieces[1::2]))
    out = []
    for lang in sorted(originals.keys() - {"other"}):
        rng.shuffle(originals[lang])
        for number, (pieces, units) in enumerate(originals[lang]):
            wanted = 0.45 + 0.55 * (number + 0.5) / len(originals[lang])
            rate = 1 - (2 * wanted / (1 + wanted)) ** (1 / SHINGLE)  # a shingle is left as it is with (1 - rate)^5
            id, copy = f"{lang}-{number}", edit(pieces, rate, units, rng)
            out += [Planted(id, "".join(pieces), lang, ""), Planted(f"{id}-copy", copy, lang, id)]
    rng.shuffle(out)
    return out


def edit(pieces: Sequence[str], rate: float, units: Sequence[str], rng: random.Random) -> str:
    """The text with each unit (every second piece) replaced, deleted or followed by another, at this rate."""
    out = list(pieces)
    for place in range(1, len(out), 2):
        if rng.random() < rate:
            other = rng.choice(units)
            blank = " " if other.isascii() else ""
            out[place] = rng.choice((other, "", f"{out[place]}{blank}{other}"))
    return "".join(out)


def synthetic(number: int) -> Planted:
    """Document `number` of an endless series; any of them can be made again, so none has to be kept."""
    lang = ("zh-Hans", "zh-Hant", "en")[number % 3]
    source = number
    while True:  # a copy of a copy is a copy of the first
        rng = random.Random(source)
        if source < 3 or rng.random() >= 0.3:
            break
        source = 3 * rng.randrange(source // 3) + number % 3  # an earlier one of the same language
    made, rng = random.Random(_TEXT_SEED + source), random.Random(_EDIT_SEED + number)
    blank = " " if lang == "en" else ""
    pieces = [piece for _ in range(made.randrange(40, 80)) for piece in (blank, _unit(lang, made))]
    if source == number:
        return Planted(str(number), "".join(pieces), lang, "")
    units = [_unit(lang, rng) for _ in range(8)]
    return Planted(str(number), edit(pieces, rng.choice((0.0, 0.005, 0.02, 0.1)), units, rng), lang, str(source))


def _unit(lang: str, rng: random.Random) -> str:
    value = int(rng.random() * 4000)
    if lang != "en":
        return chr((0x4E00 if lang == "zh-Hans" else 0x7000) + value)
    return "".join(
        ("bdfghklmnprstvwz"[value >> 8], "aeiou"[value % 5], "lmnrst"[value % 6], "abdeiknoprstuvy"[value % 15])
    )


def write_clean(run: Path, documents: Iterable[Planted]) -> int:
    """A complete clean/ folder of these documents; their number. memory: one row group."""
    from data_pipeline.document import Document
    from data_pipeline.parquet import SCHEMA, write_rows
    from mindllm.stage import Stage

    stage = Stage(run / "clean", "clean", {}, {"made by": "bench/dedup.py"})
    stage.start()
    rest, total = iter(documents), 0
    for shard in itertools.count():
        part = itertools.islice(rest, SHARD_DOCUMENTS)
        first = next(part, None)
        if first is None:
            break
        with write_rows(run / "clean" / f"bench-{shard:05d}.parquet", SCHEMA) as file:
            for d in itertools.chain([first], part):
                file.add_document(Document(d.text, d.id, f"https://example.com/{d.id}", "example.com", d.lang, "bench"))
                total += 1
    stage.finish(**{"in": total, "out": total, "unit": "documents"})
    return total


def run_verb(run: Path, settings: Sequence[str], workers: int) -> tuple[dict[str, str], Usage]:
    """The verb dedup on run/clean: dropped id -> kept id, and what it needed."""
    import pyarrow.parquet as pq

    values = [f"run={run}", f"workers.num_workers={workers}", *(f"dedup.{setting}" for setting in settings)]
    usage = watch([sys.executable, "-m", "data_pipeline", "dedup", str(CONFIG), *values], run / "dedup", ROOT)
    kept: dict[str, str] = {}
    for path in sorted((run / "dedup" / "clusters").glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "kept_id"])
        kept |= dict(zip(table["id"].to_pylist(), table["kept_id"].to_pylist(), strict=True))
    return kept, usage


def shingles(text: str) -> set[tuple[str, ...]]:
    """Runs of five units of the lower-cased text; all units, where there are fewer."""
    from mindllm.text import units

    found = units(text.lower())
    return {tuple(found[i : i + SHINGLE]) for i in range(max(len(found) - SHINGLE + 1, min(len(found), 1)))}


def jaccard(a: str, b: str) -> float:
    """True similarity of two texts."""
    one, other = shingles(a), shingles(b)
    return len(one & other) / max(1, len(one | other))


def judge(
    name: str, pairs: Iterable[Planted], of: Callable[[str], Planted], kept: dict[str, str], least: float
) -> None:
    """Print recall by language and band of true similarity, then precision."""
    found: dict[str, dict[float, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for copy in pairs:
        true = jaccard(copy.text, of(copy.original).text)
        one_left = copy.id in kept or copy.original in kept
        for group in (copy.lang, "all"):
            found[group][max((edge for edge in EDGES[:-1] if edge <= true), default=0.0)].append(one_left)
            if true >= 0.85:
                found[group][1.0].append(one_left)
    heads = [f"{low:.2f}-{high:.2f}" for low, high in itertools.pairwise(EDGES)] + ["all >= .85"]
    print(f"{name}: recall by true similarity, in percent (of pairs)\n{'':8}" + "".join(f"{h:>15}" for h in heads))
    for group, bands in sorted(found.items(), key=lambda item: (item[0] == "all", item[0])):
        print(f"{group:8}" + "".join(f"{percent(bands[edge]):>15}" for edge in EDGES))
    right: dict[str, list[bool]] = defaultdict(list)
    for dropped, stays in itertools.islice(kept.items(), JUDGED):
        one, other = of(dropped), of(stays)
        for group in (one.lang, "all"):
            right[group].append(jaccard(one.text, other.text) >= least)
    shown = ", ".join(
        f"{group} {percent(answers)}" for group, answers in sorted(right.items(), key=lambda i: i[0] == "all")
    )
    print(f"precision, in percent (of dropped documents, true similarity with the kept one >= {least:.2f}): {shown}")


def percent(answers: Sequence[bool]) -> str:
    """Share of yes in percent, and of how many answers."""
    return f"{100 * sum(answers) / len(answers):.1f} ({len(answers)})" if answers else "-"


def datasketch_pass(lines: Path, threshold: float) -> None:
    """In the peer's interpreter: print {dropped id: kept id} as JSON."""
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

    index = MinHashLSH(num_perm=NUM_HASHES, params=(BANDS, ROWS))
    sketches: dict[str, MinHash] = {}
    kept: dict[str, str] = {}
    with open(lines, encoding="utf-8") as file:
        unit = re.compile(json.loads(next(file))).findall
        for id, text in map(json.loads, file):
            found = unit(text.lower())
            sketch = MinHash(num_perm=NUM_HASHES)
            sketch.update_batch([" ".join(s).encode() for s in zip(*(found[i:] for i in range(SHINGLE)), strict=False)])
            near = {other: sketch.jaccard(sketches[other]) for other in sorted(index.query(sketch))}
            best = max(near, key=lambda other: near[other], default="")
            if best and near[best] >= threshold:
                kept[id] = best
            else:
                sketches[id] = sketch
                index.insert(id, sketch)
    lines.with_suffix(".kept").write_text(json.dumps(kept), encoding="utf-8")


def run_datasketch(python: str, documents: Sequence[Planted], threshold: float) -> tuple[dict[str, str], Usage]:
    """The same documents, in their order, through datasketch in a process of its own."""
    from mindllm.text import CJK

    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines"
        rows = [f"[{CJK}]|[^\\W_{CJK}]+", *([d.id, d.text] for d in documents)]
        lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        command = [python, str(Path(__file__).resolve()), str(lines), "--pass", str(threshold)]
        usage = watch(command)
        return json.loads(lines.with_suffix(".kept").read_text(encoding="utf-8")), usage


def main() -> None:
    """The command line; `--pass` is how the script starts itself in the peer's interpreter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=[str(SAMPLE_TEXTS)], metavar="PATH")
    parser.add_argument("--documents", type=int, default=0, help="make so many synthetic ones, read no texts")
    parser.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="of the dedup section")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of an environment with datasketch")
    parser.add_argument("--pass", dest="peer", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer is not None:
        datasketch_pass(Path(options.paths[0]), options.peer)
        return
    threshold = float(dict(setting.split("=", 1) for setting in options.settings).get("threshold", 0.75))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        if options.documents:
            total = write_clean(run, map(synthetic, range(options.documents)))
            kept, usage = run_verb(run, options.settings, options.workers)
            print(f"dedup: {total:,} documents, {usage}", flush=True)
            copies = (d for d in map(synthetic, range(total - 1, -1, -1)) if d.original)
            judge("dedup", itertools.islice(copies, JUDGED), lambda id: synthetic(int(id)), kept, threshold - 0.1)
            return
        documents = plant(map(read_text, text_files(options.paths)))
        by_id = {d.id: d for d in documents}
        pairs = [d for d in documents if d.original]
        write_clean(run, documents)
        kept, usage = run_verb(run, options.settings, options.workers)
    print(f"dedup: {len(documents):,} documents, {usage}", flush=True)
    judge("dedup", pairs, by_id.__getitem__, kept, threshold - 0.1)
    python = options.peers or (sys.executable if importlib.util.find_spec("datasketch") else "")
    if python:
        kept, usage = run_datasketch(python, documents, threshold)
        print(f"datasketch: {len(documents):,} documents, {usage}", flush=True)
        judge("datasketch", pairs, by_id.__getitem__, kept, threshold - 0.1)
    else:
        print("datasketch was not measured: give --peers PYTHON, an environment with datasketch")


if __name__ == "__main__":
    main()
