"""Training speed of the 1.3B and 3.1B on one GPU, next to the same shapes in Hugging Face transformers.

    python bench/gpu.py                                          all cases: some 20 minutes, by estimate
    python bench/gpu.py --shapes mindllm-3.1b --seq-lens 2048    some of them
    python bench/gpu.py --parity                                 are the kernels right? (gpu_parity.py)
    python bench/gpu.py --cpu                                    tiny shapes: does the script work here?

A case is a whole training step (gpu_step.py) in a process of its own, so that one that runs out of memory stops
no other. Prints tokens a second, MFU (dense bf16 peak from a table; n/a where the GPU is not in it), peak memory; every
case is a line of JSON in --out as soon as it ends. Needs torch and, for the peer, transformers; neither deepspeed nor
flash-attn nor this project installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common  # noqa: F401  the repository on Python's path
import torch
from gpu_step import SHAPES, SIDES
from rich.console import Console
from rich.markup import escape
from rich.table import Table

HERE = Path(__file__).resolve().parent
LARGE = ("gpt-neo-1.3b", "mindllm-1.3b", "mindllm-3.1b")
TINY = ("tiny-neo", "tiny")
COLUMNS = ("shape", "tokens", "side", "batch", "tokens/s", "ratio", "MFU", "peak GiB", "step ms", "warm-up s", "note")


def cases(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What to run, the two sides of a shape one after the other."""
    shapes = options.shapes or (TINY if options.cpu else LARGE)
    lengths = options.seq_lens or ([64] if options.cpu else [2048] if options.quick else [2048, 8192])
    for shape in shapes:
        for seq_len in lengths:
            for side in options.sides:
                yield {"shape": shape, "seq_len": seq_len, "side": side}


def command(case: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """How a case is started."""
    short = options.cpu or options.quick
    words = {
        "--shape": case["shape"], "--seq-len": case["seq_len"], "--side": case["side"],
        "--micro-batch": options.micro_batch, "--accumulation": options.accumulation, "--recompute": options.recompute,
        "--steps": options.steps or (2 if options.cpu else 4 if options.quick else 8),
        "--warmup": 1 if options.cpu else 2 if short else 3, "--peak-tflops": options.peak_tflops,
        "--device": "cpu" if options.cpu else "cuda",
    }  # fmt: skip
    flags = ["--compile" if options.compile and not options.cpu else "--no-compile"]
    return [sys.executable, str(HERE / "gpu_step.py"), *flags, *(str(w) for pair in words.items() for w in pair)]


def run_case(case: dict[str, Any], options: argparse.Namespace, seconds: float | None) -> dict[str, Any]:
    """The case's line: what it measured, or `failed` and why."""
    try:
        done = subprocess.run(command(case, options), capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return case | {"failed": "out of time"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return case | json.loads(lines[-1])
    why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return case | {"failed": "killed (main memory?)" if done.returncode == -9 else why[0][:300]}


def run_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All cases; each is written to --out at once."""
    found: list[dict[str, Any]] = []
    end = time.monotonic() + 60 * options.minutes if options.minutes else None
    for case in cases(options):
        left = None if end is None else end - time.monotonic()
        print(f"{case['shape']} at {case['seq_len']:,} tokens, {case['side']} ...", file=sys.stderr, flush=True)
        line = case | {"failed": "out of time"} if left is not None and left < 1 else run_case(case, options, left)
        found.append(line | versions())
        if options.out:
            with open(options.out, "a", encoding="utf-8") as file:
                file.write(json.dumps(found[-1]) + "\n")
    return found


def versions() -> dict[str, Any]:
    """What the figures depend on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"device": device, "torch": torch.__version__}


def print_table(found: list[dict[str, Any]]) -> None:
    """One line a case; `ratio` is to transformers in the same run."""
    peers = {(f["shape"], f["seq_len"]): f["tokens_per_second"] for f in found
             if f["side"] == "hf" and "failed" not in f}  # fmt: skip
    table = Table(title=f"training steps on one {found[0]['device']}, torch {found[0]['torch']}, bf16")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("shape", "side", "note") else "right")
    for f in found:
        names = (f["shape"], f"{f['seq_len']:,}", f["side"])
        if "failed" in f:
            table.add_row(*names, *[""] * (len(COLUMNS) - 4), escape(f["failed"]))
            continue
        peer = peers.get((f["shape"], f["seq_len"]))
        ratio = f"{f['tokens_per_second'] / peer:.2f}" if peer and f["side"] != "hf" else ""
        times = sorted(f["step_seconds"])
        table.add_row(
            *names, str(f["micro_batch"]), f"{f['tokens_per_second']:,}", ratio,
            "n/a" if f["mfu"] is None else f"{f['mfu']:.1%}", "" if f["peak_gib"] is None else f"{f['peak_gib']:.1f}",
            f"{times[len(times) // 2] * 1e3:,.0f}", f"{f['warmup_seconds']:.0f}", escape(f["attention"]),
        )  # fmt: skip
    Console(width=160).print(table)


def main() -> int:
    """Run the cases one after the other and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, metavar="SHAPE", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--seq-lens", nargs="+", type=int, metavar="TOKENS")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--micro-batch", type=int, default=0, help="sequences to begin with; 0: by the shape")
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches of a step")
    parser.add_argument("--recompute", type=int, default=0, help="layers computed again in the backward pass; -1: all")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="both sides' layers")
    parser.add_argument("--steps", type=int, default=0, help="timed steps; 0: 8")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="dense bf16 peak; 0: from the table")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so many; 0: no limit")
    parser.add_argument("--quick", action="store_true", help="2,048 tokens only, 4 timed steps")
    parser.add_argument("--cpu", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--parity", action="store_true", help="compare the kernels with plain arithmetic instead")
    parser.add_argument("--out", type=Path, help="a file for one line of JSON a case (added at its end)")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch finds no GPU here; --cpu tries the script with tiny shapes")
    if options.parity:
        flags = ["--device", "cpu" if options.cpu else "cuda"]
        return subprocess.run([sys.executable, str(HERE / "gpu_parity.py"), *flags], check=False).returncode
    found = run_all(options)
    print_table(found)
    return 1 if any("failed" in f for f in found if f["side"] == "mindllm") else 0


if __name__ == "__main__":
    sys.exit(main())
