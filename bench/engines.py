"""What an engine costs: the same shards cleaned by a plain loop, by local processes and by Ray.

    python bench/engines.py PAGES [--times 5] [--passes 3] [--workers 2] [--ray]

PAGES: any input of the data stages, or .tar.gz archives of pages; cleaned --times times, so that the work outweighs the
start. Every pass runs each way once, in turns, each in a process
of its own, so that none profits from what another has loaded. Wall seconds and CPU seconds (of all processes but Ray's,
which are not ours) of the work, from the first shard to the last result: the start of the workers is part of it. The
overhead is the ratio of CPU seconds, the speed-up that of wall seconds. Believe a quiet machine only.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from common import CONFIG, SAMPLE_PAGES
from kills import unpacked

SHARD_BYTES = 1_000_000


def main() -> None:
    """A table: way, wall and CPU seconds (medians), ratios to the plain loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="?", default=str(SAMPLE_PAGES))
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ray", action="store_true", help="Ray too")
    parser.add_argument("--way", help=argparse.SUPPRESS)  # a process of ours: does the work one way
    options = parser.parse_args()
    if options.way:
        print(json.dumps(work(Path(options.pages), options.way, options.times)))
        return
    more = [f"local-{options.workers}", *([f"ray-{options.workers}"] if options.ray else [])]
    ways = list(dict.fromkeys(["loop", "local-1", *more]))
    with tempfile.TemporaryDirectory() as name:
        pages = unpacked(Path(options.pages), Path(name))
        found = {way: [] for way in ways}
        for _ in range(options.passes):
            for way in ways:
                words = [sys.executable, __file__, str(pages), "--way", way, "--times", str(options.times)]
                out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
                found[way].append(json.loads(out.strip().split("\n")[-1]))
        show(found)


def show(found: dict[str, list[dict[str, float]]]) -> None:
    """The table. Ratios are medians over the passes, each against the loop of its own pass."""
    print(f"{'way':9}{'wall s':>8}{'CPU s':>8}{'CPU / loop':>12}{'loop wall / wall':>18}   (range over passes)")
    for way, passes in found.items():
        wall, cpu = (statistics.median(p[key] for p in passes) for key in ("wall", "cpu"))
        pairs = list(zip(passes, found["loop"], strict=True))
        cost = [p["cpu"] / loop["cpu"] for p, loop in pairs]
        gain = [loop["wall"] / p["wall"] for p, loop in pairs]
        shown = [f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in (cost, gain)]
        print(f"{way:9}{wall:8.2f}{cpu:8.2f}   {shown[0]}   {shown[1]}")


def work(pages: Path, way: str, times: int) -> dict[str, float]:
    """Clean all shards one way into a folder that goes; seconds of the work."""
    from data_pipeline import workers
    from data_pipeline.clean import clean_shard
    from data_pipeline.config import DataConfig
    from data_pipeline.quarantine import Quarantine
    from data_pipeline.reading.inputs import list_shards
    from mindllm.config import load

    config = load(DataConfig, CONFIG, [f"sources.web.path={pages}"])
    found = list_shards(config.sources, SHARD_BYTES)
    shards = [replace(shard, name=f"{shard.name}-{number}") for number in range(times) for shard in found]
    engine, _, number = way.partition("-")
    seconds = 0 if engine == "loop" else config.document_seconds
    with tempfile.TemporaryDirectory() as name:
        lists = config.cleaners("clean")
        task = functools.partial(clean_shard, lists=lists, out=Path(name), document_seconds=seconds)
        started, spent = time.monotonic(), cpu_seconds()
        if engine == "loop":
            results = [task(shard) for shard in shards]
        else:
            settings = workers.WorkersConfig(engine=engine, num_workers=int(number))
            results = workers.run(task, shards, settings, way, Quarantine(Path(name))).results
        assert len(results) == len(shards), "a shard is missing"
        return {"wall": time.monotonic() - started, "cpu": cpu_seconds() - spent, "shards": len(shards)}


def cpu_seconds() -> float:
    """User and system seconds of this process and of its children that have ended (Ray's daemons are none of them)."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


if __name__ == "__main__":
    main()
