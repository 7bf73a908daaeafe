"""What a run says about itself: metrics.jsonl (one JSON line a step), TensorBoard events, a dense line on the screen.

After a resume the lines behind the checkpoint are cut off, so the file reads like that of an undisturbed run. MFU is
the model's FLOPs (`flops_per_token`; what is computed twice to save memory counts once) over the hardware's dense bf16
peak, from a table of datasheets; a device that is not in it has none, rather than a wrong one.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol, TextIO

import torch
from torch.utils.tensorboard.writer import SummaryWriter

from mindllm.metrics.peaks import peak_tflops
from mindllm.metrics.read import read_metrics
from mindllm.stage import write_text


class LogConfig(Protocol):
    """What of a TrainConfig is needed here."""

    steps: int
    peak_tflops: float
    log_every: int


class Metrics:
    """Writes a run's metrics (rank 0 only; other ranks make one with out=None, which stays silent)."""

    def __init__(self, out: Path | None, start_step: int, config: LogConfig, flops_per_token: float, world: int):
        self.out, self.total_steps, self.flops_per_token, self.world = out, config.steps, flops_per_token, world
        self.peak = config.peak_tflops or peak_tflops()
        self.log_every = config.log_every
        self._file: TextIO | None = None
        self._board: SummaryWriter | None = None
        if out is not None:
            _cut(out / "metrics.jsonl", start_step)
            self._file = open(out / "metrics.jsonl", "a", encoding="utf-8")
            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=start_step + 1)
        self._clock = time.perf_counter()

    def step(
        self, step: int, terms: dict[str, float], lr: float, grad_norm: float, tokens: int, total_tokens: int,
        waited: float,
    ) -> None:  # fmt: skip
        """Record one optimizer step of `tokens` targets that waited so many seconds for data; print some of them.

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
            "data_wait": round(waited / seconds, 4),
        }
        if self.peak is not None:
            values["mfu"] = round(rate * self.flops_per_token / (self.peak * 1e12 * self.world), 4)
        self._write(step, values)
        show = step % self.log_every == 0 or step == self.total_steps
        if show and self._file is not None:
            mfu = f"{values['mfu']:.1%}" if "mfu" in values else "n/a"
            left = (self.total_steps - step) * seconds
            print(
                f"step {step:>6}/{self.total_steps} | loss {terms['loss']:.4f} | lr {lr:.2e} | norm {grad_norm:.3f} | "
                f"{rate:,.0f} tokens/s | data {waited / seconds:.1%} | MFU {mfu} | {memory_gib():.2f} GiB | "
                f"{left / 60:.1f} min left",
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

    def saved(self, step: int, stall: float) -> None:
        """Record that a checkpoint made training wait for so many seconds."""
        self._write(step, {"save_stall": round(stall, 3)})

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
