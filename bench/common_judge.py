"""What bench/quality.py judges both sides by: eval's bits per byte of held-out text, as a table and a curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common  # noqa: F401  the repository on Python's path
import numpy as np

from eval.bpb import encode, list_folders, read_texts
from eval.model_bits import model_bits
from mindllm.tokenizer import load_tokenizer

TOTALS = ("total", "zh", "en", "other")
Held = dict[str, tuple[list[np.ndarray], int]]  # source -> its held-out documents as token ids, their UTF-8 bytes


def read_held(config: Any, tokenizer: Any, max_bytes: int) -> Held:
    """The held-out text of every source, so much of each at most, by the exported tokenizer."""
    own = load_tokenizer(config.tokenizer)
    folders = list_folders(Path(config.shards), "valid")
    return {name: tuple(encode(read_texts(folder, own, max_bytes), tokenizer)) for name, folder in folders.items()}  # type: ignore[misc]


def bits_per_byte(model: Any, held: Held, eos: int) -> dict[str, float]:
    """By source, and in total by the language that ends the sources' names, and of all."""
    sums = {name: (float(model_bits(model, documents, eos, 4).sum()), size) for name, (documents, size) in held.items()}
    groups = {name: [row for source, row in sums.items() if source.endswith(f"-{name}")] for name in TOTALS[1:]}
    rows = {"total": list(sums.values()), **groups, **{name: [row] for name, row in sums.items()}}
    return {
        name: sum(bits for bits, _ in found) / max(1, sum(size for _, size in found)) for name, found in rows.items()
    }


def print_table(ours: dict[str, float], theirs: dict[str, float]) -> None:
    """Bits per byte beside each other; below 0 %: ours is lower."""
    width = max(map(len, ours))
    print(f"{'bits per byte':{width}} {'ours':>8} {'theirs':>8} {'':>8}")
    for name in ours:
        change = f"{ours[name] / theirs[name] - 1:8.1%}" if theirs[name] else ""
        print(f"{name:{width}} {ours[name]:8.4f} {theirs[name]:8.4f} {change}", flush=True)


def draw(path: str, curves: dict[str, list[tuple[float, float]]]) -> None:
    """Bits per byte against minutes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), dpi=120)
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), marker="o", label=name)
    axes.set(xlabel="minutes of training", ylabel="bits per byte, held-out text", title="quality at equal time")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
