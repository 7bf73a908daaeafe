"""What a run says about itself: metrics.jsonl (one JSON line a step), TensorBoard events, a dense line on the screen.

After a resume the lines behind the checkpoint are cut off, so the file reads like that of an undisturbed run. MFU is
model FLOPs over the hardware's dense bf16 peak: 6 x parameters + 6 x layers x width x context per token (PaLM,
appendix B, without the embedding look-up, with causal attention counted as half); an unknown device has none, rather
than a wrong one.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, TextIO

import torch
from torch.utils.tensorboard.writer import SummaryWriter

from mindllm.stage import write_text

# Dense bf16 TFLOP/s from the vendors' datasheets (no sparsity), by the name that torch reports.
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "RTX 4090": 165.2}


class Metrics:
    """Writes a run's metrics (rank 0 only; other ranks make one with out=None, which stays silent)."""

    def __init__(self, out: Path | None, start_step: int, total_steps: int, flops_per_token: float, world: int):
        self.out, self.total_steps, self.flops_per_token, self.world = out, total_steps, flops_per_token, world
        self.peak = peak_tflops()
        self._file: TextIO | None = None
        self._board: SummaryWriter | None = None
        if out is not None:
            _cut(out / "metrics.jsonl", start_step)
            self._file = open(out / "metrics.jsonl", "a", encoding="utf-8")
            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=start_step + 1)
        self._clock = time.perf_counter()

    def step(
        self, step: int, terms: dict[str, float], lr: float, grad_norm: float, tokens: int, total_tokens: int,
        show: bool,
    ) -> None:  # fmt: skip
        """Record one optimizer step of `tokens` targets; print it when `show`.

        terms: means of the loss's terms; one that is exactly 0 was not asked for, and only "loss" is printed.
        """
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        rate = tokens / seconds
        values = {
            **{name: value for name, value in terms.items() if name == "loss" or value},
            "lr": lr,
            "grad_norm": grad_norm,
            "tokens": total_tokens,
            "tokens_per_second": round(rate, 1),
        }
        if self.peak is not None:
            values["mfu"] = round(rate * self.flops_per_token / (self.peak * 1e12 * self.world), 4)
        self._write(step, values)
        if show and self._file is not None:
            mfu = f"{values['mfu']:.1%}" if "mfu" in values else "n/a"
            left = (self.total_steps - step) * seconds
            print(
                f"step {step:>6}/{self.total_steps} | loss {terms['loss']:.4f} | lr {lr:.2e} | norm {grad_norm:.3f} | "
                f"{rate:,.0f} tokens/s | MFU {mfu} | {memory_gib():.2f} GiB | {left / 60:.1f} min left",
                flush=True,
            )

    def valid(self, step: int, values: dict[str, float]) -> None:
        """Record a validation and print it; its time does not count towards the next step's rate."""
        if not values:
            return
        self._write(step, values)
        if self._file is not None:
            print(
                f"step {step:>6}/{self.total_steps} | " + " | ".join(f"{k} {v:.4f}" for k, v in values.items()),
                flush=True,
            )

    def restart_clock(self) -> None:
        """Call after work that is not training (validation, saving)."""
        self._clock = time.perf_counter()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        """Flush and close the files, however the run ended."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def _write(self, step: int, values: dict[str, Any]) -> None:
        if self._file is None or self._board is None:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that was cut by a kill is left out."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [json.loads(line) for line in lines[:-1] if line]


def flops_per_token(num_parameters: int, num_embedding: int, num_layers: int, hidden_size: int, seq_len: int) -> float:
    """FLOPs to train on one token, forward and backward: 6 (N - embedding) + 12 L C T / 2 (half: causal attention)."""
    return 6.0 * (num_parameters - num_embedding) + 6.0 * num_layers * hidden_size * seq_len


def peak_tflops() -> float | None:
    """The device's dense bf16 peak, or None when the table does not know it."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for key, peak in PEAK_TFLOPS.items() if key in name), None)


def memory_gib() -> float:
    """Peak memory: of the GPU's allocator, or of this process on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _cut(path: Path, last_step: int) -> None:
    """Drop what was written after `last_step`."""
    if path.exists():
        kept = [line for line in read_metrics(path) if line["step"] <= last_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
