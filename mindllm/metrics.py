"""What a run says about itself: metrics.jsonl (one JSON line a step), TensorBoard events, a dense line on the screen.

After a resume the lines behind the checkpoint are cut off, so the file reads like that of an undisturbed run. MFU is
the model's FLOPs (`flops_per_token`; what is computed twice to save memory counts once) over the hardware's dense bf16
peak, from a table of datasheets; a device that is not in it has none, rather than a wrong one.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import nn
from torch.utils.tensorboard.writer import SummaryWriter

from mindllm.models import MODELS, GPTNeoConfig, ModelConfig
from mindllm.stage import write_text

# Dense bf16 TFLOP/s with fp32 sums, by words of the name that torch reports: the entry with most words wins. Many
# datasheets state twice this, with sparsity. Of one part sold as SXM and PCIe the plain name is the SXM one.
PEAK_TFLOPS = {
    "B200": 2250.0,  # NVIDIA HGX B200 datasheet: 36 PFLOP/s of eight, with sparsity
    "GH200": 989.4,  # NVIDIA GH200 datasheet: 1,979 with sparsity
    "H200": 989.4,  # NVIDIA H200 datasheet, SXM: 1,979 with sparsity
    "H200 NVL": 835.5,  # the same: 1,671 with sparsity
    "H100": 989.4,  # NVIDIA H100 datasheet, SXM: 1,979 with sparsity
    "H100 NVL": 835.5,  # the same: 1,671 with sparsity
    "H100 PCIe": 756.5,  # the same, first edition: 1,513 with sparsity
    "H800": 989.4,  # as H100: less interconnect and fp64, the same tensor cores
    "H800 PCIe": 756.5,
    "H20": 148.0,  # NVIDIA H20 datasheet, dense
    "A100": 312.0,  # NVIDIA A100 datasheet, SXM and PCIe, dense
    "A800": 312.0,  # as A100: less interconnect
    "A40": 149.7,  # NVIDIA A40 datasheet, dense
    "A30": 165.0,  # NVIDIA A30 datasheet, dense
    "A10": 125.0,  # NVIDIA A10 datasheet, dense
    "A10G": 70.0,  # NVIDIA A10G datasheet, dense
    "L40S": 362.05,  # NVIDIA L40S datasheet, dense
    "L40": 181.05,  # NVIDIA L40 datasheet, dense
    "L20": 119.5,  # NVIDIA L20 datasheet, dense
    "L4": 121.0,  # NVIDIA L4 datasheet: 242 with sparsity
    "RTX A6000": 154.8,  # NVIDIA GA102 white paper, dense
    "RTX 5090": 209.5,  # NVIDIA RTX Blackwell white paper, fp32 accumulate, dense
    "RTX 4090": 165.2,  # NVIDIA Ada white paper, fp32 accumulate, dense
    "RTX 3090": 71.0,  # NVIDIA GA102 white paper, fp32 accumulate, dense
    "MI300X": 1307.4,  # AMD Instinct MI300X datasheet, dense
    "MI250X": 191.5,  # AMD Instinct MI250X datasheet: 383 of the two devices that torch sees
}
_OTHER_PARTS = {"ti", "d", "super", "laptop", "mobile", "max-q", "mig"}  # of the same name, but slower or faster


class Metrics:
    """Writes a run's metrics (rank 0 only; other ranks make one with out=None, which stays silent)."""

    def __init__(
        self, out: Path | None, start_step: int, total_steps: int, flops_per_token: float, world: int, peak: float = 0.0
    ):
        """peak: dense bf16 TFLOP/s of one device; 0: what the table knows of it."""
        self.out, self.total_steps, self.flops_per_token, self.world = out, total_steps, flops_per_token, world
        self.peak = peak or peak_tflops()
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


def flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """FLOPs of a model of this shape to train on one token of seq_len, forward and backward (twice the forward).

    6 x parameters that multiply (every matrix but the embeddings' look-up; a tied head multiplies, once) + 12 x width
    of all query heads x keys that a query sees on average, summed over layers: PaLM, arXiv 2204.02311, appendix B, but
    with only those scores counted that the mask leaves (seq_len / 2, where PaLM has seq_len). Norms, positions and
    softmax are left out, and so is what packed documents (mask_documents) hide.
    """
    with torch.device("meta"):  # memory: none
        model = MODELS[config.model_type](config)
    others = (module for module in model.modules() if not isinstance(module, nn.Embedding))
    products = sum(p.numel() for module in others for p in module.parameters(recurse=False) if p.dim() == 2)
    width, windows = _attention(config)
    return 6.0 * products + 12.0 * width * sum(mean_keys(seq_len, window) for window in windows)


def mean_keys(seq_len: int, window: int = 0) -> float:
    """Keys that a causal query sees on average: those before it and itself, at most `window` of them (0: all)."""
    most = min(window or seq_len, seq_len)
    return most - most * (most - 1) / (2 * seq_len)  # position t sees min(t + 1, most)


def _attention(config: ModelConfig) -> tuple[int, list[int]]:
    """Channels of all query heads together, and every layer's window."""
    if isinstance(config, GPTNeoConfig):
        return config.hidden_size, [config.window_size if k == "local" else 0 for k in config.attention_layers]
    return config.num_attention_heads * config.head_size, [0] * config.num_hidden_layers


def peak_tflops() -> float | None:
    """The device's dense bf16 peak, or None when the table does not know it (or the device has no bf16, as V100)."""
    return peak_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def peak_of(name: str) -> float | None:
    """Dense bf16 TFLOP/s of a GPU that calls itself `name`, or None. Part of a GPU (MIG) has none either."""
    words = re.split(r"[\s_-]+", name.lower())
    if _OTHER_PARTS & {*words, *name.lower().split()}:
        return None
    known = [key for key in PEAK_TFLOPS if _holds(words, key.lower().split())]
    return PEAK_TFLOPS[max(known, key=lambda key: len(key.split()))] if known else None


def _holds(words: list[str], part: list[str]) -> bool:
    return any(words[i : i + len(part)] == part for i in range(len(words)))


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
