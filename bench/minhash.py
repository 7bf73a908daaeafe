"""MinHash signatures: MB and documents a second and core of ours and of datasketch, of the same documents, in turns.

    python bench/minhash.py [PATH ...] [--peers PYTHON] [--sizes 500 2000 10000] [--repeats 5]

The texts (files, or folders of files; samples/prose without any) are cut into documents of so many characters. PYTHON
is an interpreter with datasketch; without it, datasketch is measured if this interpreter has it.
Both sides begin with text and end with signatures: 128 hashes, shingles of 5 units, seed 1. Ours makes exact hashes,
too. Theirs, in its fastest way: shingles as bytes, units found by the regular expression behind mindllm.text.units,
MinHash.generator (which is update_batch on copies of one object) with its default scheme; once with its default hash
function (SHA-1), once with xxh32 of the xxhash package, as its documentation advises a faster one.
Each repeat is a fresh process of each side, one after the other; CPU seconds of one thread, after one document that is
not counted. Memory: all texts.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common import SAMPLE_TEXTS, read_text, text_files

OURS, PEERS = "mindllm", ("datasketch sha1", "datasketch xxh32")
SHINGLE, NUM_HASHES, SEED = 5, 128, 1
LEAST_BYTES, LEAST_SECONDS = 300_000, 0.2  # of a set of documents; of each measurement
BATCH_CHARACTERS = 100_000  # as in the verb dedup

Sets = dict[str, list[str]]  # "zh 500" -> documents
Sketch = Callable[[list[str]], object]


def cut(texts: Sequence[str], sizes: Sequence[int]) -> Sets:
    """Documents of every language and size; a language without any text is left out."""
    from mindllm.text import num_han

    sets = {}
    for name, chinese in (("zh", True), ("en", False)):
        whole = "\n\n".join(text for text in texts if (num_han(text) > len(text) / 4) == chinese)
        for size in sizes if whole else ():
            documents = [whole[i : i + size] for i in range(0, len(whole), size)]
            sets[f"{name} {size}"] = documents * -(-LEAST_BYTES // num_bytes(documents))
    return sets


def num_bytes(documents: Sequence[str]) -> int:
    """Bytes of UTF-8."""
    return sum(len(text.encode()) for text in documents)


def unit_pattern() -> str:
    """The regular expression of mindllm.text.units, for an interpreter that cannot import it."""
    from mindllm.text import CJK

    return f"[{CJK}]|[^\\W_{CJK}]+"


def ours(_: str) -> Sketch:
    """What the verb dedup calls, in batches as large as its own."""
    from data_pipeline.duplicates import minhash

    def sketch(documents: list[str]) -> None:
        count = max(1, BATCH_CHARACTERS // len(documents[0]))
        for i in range(0, len(documents), count):
            minhash.sketch(documents[i : i + count], NUM_HASHES, SHINGLE, SEED)

    return sketch


def datasketch(side: str) -> Sketch:
    """Its fastest way to the same sketches, with the hash function that the side names."""
    from datasketch import MinHash  # type: ignore[import-untyped]

    given: dict[str, object] = {"num_perm": NUM_HASHES, "seed": SEED}
    if side.endswith("xxh32"):
        from xxhash import xxh32_intdigest

        given["hashfunc"] = xxh32_intdigest
    find = re.compile(os.environ["UNIT"]).findall

    def shingles(text: str) -> list[bytes]:
        found = [unit.encode() for unit in find(text.lower())]
        return list(map(b" ".join, zip(*(found[i:] for i in range(SHINGLE)), strict=False)))

    def sketch(documents: list[str]) -> None:
        for _ in MinHash.generator(map(shingles, documents), **given):
            pass

    return sketch


def one_pass(side: str, sets: Sets) -> dict[str, float]:
    """CPU seconds that one side needs for each set, in this process."""
    sketch = (ours if side == OURS else datasketch)(side)
    sketch(["一份不计入的文档，先把表格都做好。 A document that is not counted, so that all tables are made."])
    seconds = {}
    for name, documents in sets.items():
        start, rounds = time.process_time(), 0
        while rounds == 0 or time.process_time() - start < LEAST_SECONDS:
            sketch(documents)
            rounds += 1
        seconds[name] = (time.process_time() - start) / rounds
    return seconds


def compare(sets: Sets, pythons: dict[str, str], repeats: int) -> dict[str, list[dict[str, float]]]:
    """For each side, the seconds of every repeat; the sides take turns."""
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "UNIT": unit_pattern()}
    results: dict[str, list[dict[str, float]]] = {side: [] for side in pythons}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sets.json"
        file.write_text(json.dumps(sets), encoding="utf-8")
        for _, (side, python) in itertools.product(range(repeats), pythons.items()):
            command = [python, str(Path(__file__).resolve()), str(file), "--pass", side]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
            if done.returncode:
                raise SystemExit(f"{side}: {python} ended with exit code {done.returncode}; its messages are above")
            results[side].append(json.loads(done.stdout.splitlines()[-1]))
    return results


def report(sets: Sets, results: dict[str, list[dict[str, float]]]) -> None:
    """Print a line for every set and side: medians, and how many times faster ours was in each repeat."""
    print(f"{'':2} {'characters':>10}  {'side':17} {'MB/s':>6} {'documents/s':>11}  ours is faster by: median (range)")
    for name, documents in sets.items():
        lang, size = name.split()
        for side, passes in results.items():
            seconds = statistics.median(p[name] for p in passes)
            row = f"{lang} {size:>10}  {side:17} {num_bytes(documents) / seconds / 1e6:6.1f}"
            ratios = [theirs[name] / mine[name] for mine, theirs in zip(results[OURS], passes, strict=True)]
            spread = f"  {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
            print(f"{row} {len(documents) / seconds:11,.0f}{spread if side != OURS else ''}")
    if len(results) == 1:
        print("datasketch was not measured: give --peers PYTHON, an environment made with")
        print("    python -m venv ENV; ENV/bin/pip install datasketch xxhash")


def main() -> None:
    """The command line; `--pass` is how the script starts itself in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=[str(SAMPLE_TEXTS)], metavar="PATH")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of an environment with datasketch and xxhash")
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 10000], help="characters of a document")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pass", dest="side", choices=(OURS, *PEERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one_pass(options.side, json.loads(Path(options.paths[0]).read_text(encoding="utf-8")))))
        return
    sets = cut([read_text(path) for path in text_files(options.paths)], options.sizes)
    python = options.peers or (sys.executable if importlib.util.find_spec("datasketch") else "")
    pythons = {OURS: sys.executable} | ({side: python for side in PEERS} if python else {})
    report(sets, compare(sets, pythons, options.repeats))


if __name__ == "__main__":
    main()
