"""What a sample of a mixture costs, with reading, and whether start-up grows with the corpus.

    python bench/mixture.py [--sources 30] [--samples 20000] [--seq-len 2048]

Sources of fake sizes, 10^6 to 10^12 tokens in all: their shards say how long they are, and read their tokens from one
small memory map, which stays in memory. So the times are those of the order and of copying, not of a disk. For each
size and kind of phase: the time to open the mixture, microseconds for a sample located and for one read (median of
batches of 512), and the same a second time from a place far inside.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import common  # noqa: F401  the repository on Python's path
import numpy as np

from mindllm.mixture import Mixture, PhaseConfig
from mindllm.shards import Shards

SIZES = (10**6, 10**8, 10**10, 10**12)
PHASES = {
    "by size": [PhaseConfig()],
    "two phases": [PhaseConfig({"*-en": 1}, until_step=1000), PhaseConfig({"*-zh": 0.5, "*-en": 0.5})],
    "annealing": [PhaseConfig({"*-zh": 0.5, "*-en": 0.5}, anneal_to={"*-zh": 0.9, "*-en": 0.1})],
    "blocked": [PhaseConfig(order="blocked")],
    "a tenth blocked": [PhaseConfig(blocked_share=0.1)],
}
BATCH = 512


class FakeShards(Shards):
    """A source that says it is `num_tokens` long, and reads its tokens from a small array over and over."""

    def __init__(self, name: str, num_tokens: int, seq_len: int, tokens: np.ndarray):
        self.source, self.seq_len, self.num_tokens, self.num_documents = name, seq_len, num_tokens, num_tokens // 1000
        self.fingerprint, self.meta, self._tokens = name, {}, tokens

    def read(self, start: int, stop: int) -> np.ndarray:
        """int64 (stop - start,): some tokens."""
        place = start % (len(self._tokens) - self.seq_len - 1)
        return self._tokens[place : place + stop - start].astype(np.int64)


def sources(total: int, count: int, seq_len: int, tokens: np.ndarray) -> dict[str, Shards]:
    """`count` sources of `total` tokens in all, the largest 100 times the smallest, half Chinese and half English."""
    weights = np.geomspace(1, 100, count)
    sizes = (weights / weights.sum() * total).astype(np.int64).tolist()
    names = [f"source-{k:03d}-{'zh' if k % 2 else 'en'}" for k in range(count)]
    return {n: FakeShards(n, max(size, seq_len), seq_len, tokens) for n, size in zip(names, sizes, strict=True)}


def measure(mixture: Mixture, first: int, num_samples: int) -> tuple[float, float]:
    """Microseconds for a sample located, and for one read, from sample `first` on: the median of batches of 512."""
    times: tuple[list[float], list[float]] = ([], [])
    for start in range(first, first + num_samples, BATCH):
        for kind, work in enumerate((mixture.locate, mixture.__getitem__)):
            # reading comes after locating and finds the block of the order made: so each has its own samples
            begin = time.perf_counter()
            for i in range(start + kind * num_samples, start + kind * num_samples + BATCH):
                work(i)
            times[kind].append((time.perf_counter() - begin) / BATCH * 1e6)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=30)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--seq-len", type=int, default=2048)
    options = parser.parse_args()
    print(f"{options.sources} sources, samples of {options.seq_len + 1:,} tokens (uint32 on disk, int64 in memory)")
    columns = ("tokens", "open, ms", "locate, us", "read, us", "far: locate", "far: read")
    print(f"{'phases':<16}" + "".join(f"{column:>12}" for column in columns))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.bin"
        np.random.default_rng(1).integers(0, 125_700, 1 << 22, dtype=np.uint32).tofile(path)
        tokens = np.memmap(path, dtype=np.uint32, mode="r")
        for name, phases in PHASES.items():
            for total in SIZES:
                _print_row(name, phases, sources(total, options.sources, options.seq_len, tokens), options.samples)
    return 0


def _print_row(name: str, phases: list[PhaseConfig], found: dict[str, Shards], num_samples: int) -> None:
    total = sum(shards.num_tokens for shards in found.values())
    Mixture(found, phases, BATCH, 200_000, 1)  # makes the tables that all share
    begin = time.perf_counter()
    mixture = Mixture(found, phases, BATCH, 200_000, 1)
    opened = (time.perf_counter() - begin) * 1e3
    near, far = measure(mixture, 0, num_samples), measure(mixture, 10**8, num_samples)
    print(f"{name:<16}{total:>12.0e}" + "".join(f"{value:>12.1f}" for value in (opened, *near, *far)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
