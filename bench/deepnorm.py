"""Residuals of very deep decoders: DeepNorm next to plain post-norm and pre-norm, all without warm-up. On a CPU.

    python bench/deepnorm.py --out docs/deepnorm.png        (about 5 minutes on two cores; --quick: one)

One model three times: 96 layers, 64 wide, the bytes of samples/prose (Chinese and English) as text, the same batches,
AdamW with a constant learning rate from the first step. Post-norm is the DeepNorm model with alpha = 1 and a gain of 1
(Xavier) instead of beta: x = norm(x + f(x)). Prints a table and draws the losses; a run's figures do not depend on how
many processes share the work (they do, a little, on the machine's arithmetic).
"""

from __future__ import annotations

import argparse
import io
import math
import multiprocessing
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import common
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mindllm.models import MindLLM, MindLLMConfig

KINDS = ("DeepNorm", "post-norm", "pre-norm")
COLOURS = dict(zip(KINDS, ("#3b82c4", "#c75d6a", "#46a58c"), strict=True))
BATCH, SEQ_LEN = 8, 64
LAST = 20  # steps whose mean loss is a run's result


class Job(NamedTuple):
    """One run: which residual, what learning rate, how deep, how long."""

    kind: str
    learning_rate: float
    layers: int
    steps: int
    seed: int


class Curve(NamedTuple):
    """Losses (nats a byte) of every step, up to the first that is not finite, and norms of the gradients."""

    losses: list[float]
    norms: list[float]


def build(kind: str, layers: int, seed: int) -> MindLLM:
    """The model of one kind, initialised by its own rule from the same seed."""
    torch.manual_seed(seed)
    residual: Literal["prenorm", "deepnorm"] = "prenorm" if kind == "pre-norm" else "deepnorm"
    model = MindLLM(MindLLMConfig(
        vocab_size=256, hidden_size=64, intermediate_size=176, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=SEQ_LEN, residual=residual,
    ))  # fmt: skip
    if kind == "post-norm":
        _plain(model, layers)
    return model


@torch.no_grad()
def _plain(model: MindLLM, layers: int) -> None:
    """Undo both of DeepNorm's factors: alpha on the residual, beta on the matrices that write into it."""
    beta = (8 * layers) ** -0.25
    for layer in model.decoder_layers():
        assert layer.scale > 1, "the model has no DeepNorm factor here any more"
        layer.scale = 1.0
    for name, weight in model.decoder_layers().named_parameters():
        if name.split(".")[-2] in ("v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
            weight /= beta


def read_bytes() -> np.ndarray:
    """All bytes of the sample texts, in a stable order."""
    return np.frombuffer(b"\n".join(p.read_bytes() for p in common.text_files([common.SAMPLE_TEXTS])), dtype=np.uint8)


def entropy(text: np.ndarray) -> float:
    """Nats a byte of the best guess that looks at no context: what a model reaches that learns nothing else."""
    shares = np.bincount(text, minlength=256) / len(text)
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())


def train(job: Job) -> Curve:
    """Train one model; every kind sees the same batches. One thread: the products are too small for more."""
    torch.set_num_threads(1)
    model, text = build(job.kind, job.layers, job.seed), read_bytes()
    optimizer = torch.optim.AdamW(model.parameters(), lr=job.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    rng, curve = np.random.default_rng(job.seed), Curve([], [])
    for _ in range(job.steps):
        begins = rng.integers(0, len(text) - SEQ_LEN, BATCH)
        tokens = torch.from_numpy(np.stack([text[b : b + SEQ_LEN + 1] for b in begins]).astype(np.int64))
        loss = model(tokens[:, :-1].contiguous(), labels=tokens[:, 1:].contiguous())[0] / (BATCH * SEQ_LEN)
        loss.backward()
        curve.losses.append(loss.item())
        curve.norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        if not math.isfinite(curve.losses[-1] + curve.norms[-1]):
            break
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return curve


def result(curve: Curve, steps: int) -> float:
    """Mean loss of the last steps; infinite for a run that broke off."""
    broken = len(curve.losses) < steps or not math.isfinite(curve.losses[-1])
    return math.inf if broken else statistics.mean(curve.losses[-LAST:])


def run(jobs: Sequence[Job], processes: int) -> dict[Job, Curve]:
    """All jobs, some at a time."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return dict(zip(jobs, pool.imap(train, jobs), strict=True))


def print_table(curves: dict[Job, Curve], floor: float) -> None:
    """A line a run."""
    table = Table(title=f"nats a byte; {floor:.2f} without any context")
    for column in ("residual", "layers", "learning rate", "seed", "first norm", "first loss", f"last {LAST} steps"):
        table.add_column(column, justify="left" if column == "residual" else "right")
    for job, curve in curves.items():
        last = result(curve, job.steps)
        table.add_row(job.kind, str(job.layers), f"{job.learning_rate:g}", str(job.seed), f"{curve.norms[0]:.3g}",
                      f"{curve.losses[0]:.2f}", f"{last:.2f}" if math.isfinite(last) else "not finite")  # fmt: skip
    Console(width=100).print(table)


def draw(curves: dict[Job, Curve], floor: float, path: Path) -> None:
    """A panel for each learning rate, a line for each kind of residual (of the first seed)."""
    from matplotlib.figure import Figure
    from PIL import Image

    rates = sorted({job.learning_rate for job in curves})
    job = next(iter(curves))
    figure = Figure(figsize=(3.9 * len(rates), 3.6), layout="constrained", dpi=110)
    for axes, rate in zip(figure.subplots(1, len(rates), sharey=True, squeeze=False)[0], rates, strict=True):
        for this, curve in curves.items():
            if this.learning_rate == rate and this.seed == job.seed:
                axes.plot(
                    range(1, len(curve.losses) + 1), curve.losses, color=COLOURS[this.kind], label=this.kind, lw=1.3
                )
        axes.axhline(floor, color="#8a929c", ls="--", lw=0.9, label="no context: single bytes")
        axes.set(title=f"learning rate {rate:g}", xlabel="step", xlim=(0, job.steps))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("training loss (nats a byte)")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.supxlabel(
        f"{job.layers} layers, 64 wide, 2 heads, FFN 176; {BATCH} x {SEQ_LEN} bytes of samples/prose a step;\n"
        "AdamW, constant learning rate, no warm-up, norm clipped to 1; post-norm: alpha = 1, Xavier gain 1",
        fontsize=8,
    )
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png")
    Image.open(pixels).convert("RGB").quantize(32).save(path, optimize=True)  # a third of the size


def main() -> int:
    """Train the three kinds of residual, print their losses, draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3], help="learning rates")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--layers", type=int, default=96)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--quick", action="store_true", help="one learning rate, 40 steps")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="a picture (.png) of the losses")
    options = parser.parse_args()
    rates, steps = (options.rates[-1:], 40) if options.quick else (options.rates, options.steps)
    jobs = [Job(kind, rate, options.layers, steps, seed)
            for rate in rates for seed in options.seeds for kind in KINDS]  # fmt: skip
    curves, floor = run(jobs, options.processes), entropy(read_bytes())
    print_table(curves, floor)
    if options.out:
        draw(curves, floor, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
