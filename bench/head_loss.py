"""The head and its loss, forward and backward: memory and time of ours beside full logits and torch's own.

    python bench/head_loss.py [--vocab 125700] [--tokens 2048] [--width 384] [--dtype fp32|bf16|autocast]

plain: logits, then F.cross_entropy in fp32.  ours: next_token_loss as training calls it; on a GPU with liger-kernel
also our chunked one.  torch: F.linear_cross_entropy, with its defaults and with its chunks, where torch has it. All get
the same numbers; the loss and the norms of both gradients are printed as relative deviations from plain's. autocast:
weights in fp32, products in bf16.

Each measures in a process of its own, in turns. Memory is the peak above what was held before the first step, gradients
included: resident pages on a CPU (Linux only), allocated bytes on a GPU. Times are the least of all steps: wall clock,
and processor time on a CPU, which is the one to read on a busy machine. The exit code is 1 if ours takes more than an
eighth of plain's memory at a vocabulary of 100,000 or more: below, ours gives memory away for larger products.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common  # noqa: F401  the repository on Python's path
import torch
import torch.nn.functional as F
from torch import Tensor

from mindllm import loss

BAR, BAR_VOCAB = 8.0, 100_000  # times less memory than plain; the smallest vocabulary that it holds for
HeadLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # hidden (N, C), weight (V, C), labels (N,) -> sum


def contestants(z_loss: float, device: str) -> dict[str, HeadLoss]:
    """What there is to measure with this torch on this machine, plain first."""

    def plain(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        logits = F.linear(hidden, weight).float()
        total = F.cross_entropy(logits, labels, reduction="sum")
        return total + z_loss * logits.logsumexp(-1).square().sum() if z_loss else total

    def ours(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        return loss.next_token_loss(hidden[None], weight, labels[None], z_loss)[0]

    def chunked(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        loss._liger = lambda: None  # type: ignore[assignment]
        return ours(hidden, weight, labels)

    found: dict[str, HeadLoss] = {"plain": plain, "ours": ours}
    if device == "cuda" and loss._liger() is not None:
        found["ours, chunked"] = chunked
    if hasattr(F, "linear_cross_entropy") and not z_loss:
        found["torch"] = lambda h, w, y: F.linear_cross_entropy(h, w, y, reduction="sum")
        if hasattr(torch.nn, "LinearCrossEntropyOptions"):
            options = torch.nn.LinearCrossEntropyOptions()
            found["torch, chunked"] = lambda h, w, y: F.linear_cross_entropy(h, w, y, reduction="sum", options=options)
    return found


def inputs(args: argparse.Namespace, num_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """hidden (N, C), weight (V, C), labels (N,): logits with a standard deviation of about 2."""
    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    hidden = torch.randn(num_tokens, args.width, generator=generator).to(args.device, dtype)
    weight = (torch.randn(args.vocab, args.width, generator=generator) * 2 / args.width**0.5).to(args.device, dtype)
    labels = torch.randint(args.vocab, (num_tokens,), generator=generator).to(args.device)
    return hidden.requires_grad_(), weight.requires_grad_(), labels


def step(run: HeadLoss, hidden: Tensor, weight: Tensor, labels: Tensor, autocast: bool) -> Tensor:
    """Forward and backward of the mean loss."""
    hidden.grad = weight.grad = None
    with torch.autocast(hidden.device.type, torch.bfloat16, enabled=autocast):
        mean = run(hidden, weight, labels).float() / len(labels)
    mean.backward()
    if hidden.is_cuda:
        torch.cuda.synchronize()
    return mean.detach()


def resident(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since the mark was reset."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, f"/proc/self/status has no {field}"
    return int(found[1]) * 1024


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One contestant in this process: peak bytes of its first step, seconds of the others, what it computed."""
    torch.set_num_threads(args.threads)
    run = contestants(args.z_loss, args.device)[args.only]
    data, autocast = inputs(args, args.tokens), args.dtype == "autocast"
    warm = inputs(argparse.Namespace(**{**vars(args), "vocab": 512}), 64)
    step(run, *warm, autocast)  # kernels and thread pools are loaded
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak so far
        held = resident("VmRSS")
    value = step(run, *data, autocast)
    peak = (torch.cuda.max_memory_allocated() if args.device == "cuda" else resident("VmHWM")) - held
    computed = [float(value), *(float(x.grad.float().norm()) for x in data[:2] if x.grad is not None)]
    wall, processor = [], []
    for _ in range(args.steps):
        start, used = time.perf_counter(), time.process_time()
        step(run, *data, autocast)
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return {"peak": peak, "wall": min(wall), "processor": min(processor), "computed": computed}


def in_process(name: str) -> dict[str, Any]:
    """`measure` in a fresh interpreter. Ends the program with what it printed if it fails."""
    command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(results: dict[str, dict[str, Any]]) -> None:
    """A line for each, with ratios to plain: above 1 is less memory, or faster."""
    reference = results["plain"]
    print(f"{'':16}{'peak MB':>9}{'ratio':>7}{'wall s':>9}{'ratio':>7}{'CPU s':>9}{'ratio':>7}   loss, gradients")
    for name, result in results.items():
        cells = [f"{result['peak'] / 1e6:9.0f}{reference['peak'] / max(1, result['peak']):7.2f}"]
        cells += [f"{result[key]:9.3f}{reference[key] / result[key]:7.2f}" for key in ("wall", "processor")]
        pairs = zip(result["computed"], reference["computed"], strict=True)
        print(f"{name:16}{''.join(cells)}   {' '.join(f'{found / right - 1:+.1e}' for found, right in pairs)}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=125_700)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--dtype", choices=("fp32", "bf16", "autocast"), default="fp32")
    parser.add_argument("--z-loss", type=float, default=0.0, help="its weight; torch's own has none and is left out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="processes for each")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a process")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args)))
        return
    results: dict[str, dict[str, Any]] = {}
    for _ in range(args.rounds):
        for name in contestants(args.z_loss, args.device):
            found = in_process(name)
            before = results.get(name, found)
            results[name] = found | {key: min(before[key], found[key]) for key in ("peak", "wall", "processor")}
    print(
        f"torch {torch.__version__}, {args.device}, {args.dtype}:",
        f"{args.tokens} tokens, {args.width} wide, V = {args.vocab}",
    )
    print(f"ours: {loss.describe()}")
    table(results)
    ratio = results["plain"]["peak"] / max(1, results["ours"]["peak"])
    judged = args.vocab >= BAR_VOCAB
    print(f"memory of plain over ours: {ratio:.1f}" + (f", the bar is {BAR:.0f}" if judged else ""))
    raise SystemExit(judged and ratio < BAR)


if __name__ == "__main__":
    main()
