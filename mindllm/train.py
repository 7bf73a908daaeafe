"""TrainConfig and the only training loop: pre-training, tuning, sweeps and dialogue models all run through `train`.

The loss of a step is the sum over its targets divided by their number in the whole global batch, so neither the
micro-batch size nor the number of processes nor masked positions change what is optimised. Batches and learning rate
are pure functions of the step: resuming is starting the loop at another step. A non-finite loss or gradient ends the
run before it is saved.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from mindllm import checkpoint
from mindllm import engine as door
from mindllm.attention import Mask
from mindllm.checkpoint import Progress
from mindllm.engine import DERIVED_KEYS, DERIVED_ZERO_KEYS, Engine
from mindllm.metrics import Metrics
from mindllm.models.base import LanguageModel
from mindllm.stage import write_text


@dataclass
class TrainConfig:
    """How a model is trained. Batch sizes are in sequences (samples); reports are in tokens.

    batch_size: sequences of one optimizer step over all processes.  micro_batch_size: of one forward pass of one
    process.  schedule: after linear warm-up, `cosine` or `linear` down to min_lr_ratio, `wsd` (constant, then linear
    over the last decay_ratio of the steps after warm-up), or `constant`.  max_grad_norm: 0 clips nothing.
    compile: torch.compile every layer.  recompute_layers: so many layers, from the first, recompute in the backward
    pass what they would keep; -1: all.  z_loss: weight of the squared log of the softmax's denominator (PaLM: 1e-4).
    peak_tflops: dense bf16 TFLOP/s of one device, which MFU is measured against; 0: from a table.
    deepspeed: extra keys for DeepSpeed's JSON.
    """

    steps: int = 1000
    batch_size: int = 16
    micro_batch_size: int = 8
    learning_rate: float = 1e-3
    min_lr_ratio: float = 0.1
    warmup_steps: int = 20
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    decay_ratio: float = 0.2
    weight_decay: float = 0.1
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    eps: float = 1e-8
    max_grad_norm: float = 1.0
    precision: Literal["bf16", "fp32"] = "bf16"
    zero_stage: int = 1
    seed: int = 1
    num_threads: int = 0
    compile: bool = False
    recompute_layers: int = 0
    z_loss: float = 0.0
    peak_tflops: float = 0.0
    log_every: int = 10
    eval_every: int = 100
    save_every: int = 100
    keep_last: int = 2
    deepspeed: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        for name in ("steps", "batch_size", "micro_batch_size", "log_every", "eval_every", "save_every", "keep_last"):
            if getattr(self, name) < 1:
                yield f"{name}: must be at least 1"
        if self.micro_batch_size > 0 and self.batch_size % self.micro_batch_size:
            yield f"batch_size: {self.batch_size} is no multiple of micro_batch_size {self.micro_batch_size}"
        if self.zero_stage not in (0, 1, 2, 3):
            yield f"zero_stage: {self.zero_stage} is not 0, 1, 2 or 3"
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            yield "betas: two numbers in [0, 1)"
        if self.learning_rate <= 0 or not 0 <= self.min_lr_ratio <= 1 or not 0 < self.decay_ratio <= 1:
            yield "learning_rate must be above 0, min_lr_ratio in [0, 1], decay_ratio in (0, 1]"
        if not 0 <= self.warmup_steps <= self.steps:
            yield f"warmup_steps: {self.warmup_steps} is not between 0 and steps {self.steps}"
        for name in ("weight_decay", "eps", "max_grad_norm", "num_threads", "z_loss", "peak_tflops"):
            if not getattr(self, name) >= 0:
                yield f"{name}: must be 0 or more"
        if self.recompute_layers < -1:
            yield "recompute_layers: a number of layers, or -1 for all"
        zero = self.deepspeed.get("zero_optimization", {})
        if not isinstance(zero, dict):
            yield "deepspeed.zero_optimization: expected keys and values"
        given = [*self.deepspeed, *(f"zero_optimization.{key}" for key in zero)]
        for key in sorted({*DERIVED_KEYS, *(f"zero_optimization.{k}" for k in DERIVED_ZERO_KEYS)} & {*given}):
            yield f"deepspeed.{key}: is derived from the other keys here; set those"

    def accumulation(self, world: int) -> int:
        """Micro-batches per process and step."""
        return self.batch_size // (self.micro_batch_size * world)


class Batches(Protocol):
    """A pure function of the step: the micro-batches (B, T + 1) of token ids for one of `world` processes."""

    def __call__(self, step: int, rank: int, world: int) -> list[np.ndarray]: ...


class Loss(Protocol):
    """Loss terms of a micro-batch: each a sum over its own kind of targets; the loop divides by their global number.

    The term "loss" is the one that is shown; what is optimised is the sum of all. Nothing here may wait for the device.
    """

    def prepare(self, batch: np.ndarray, device: torch.device) -> dict[str, Any]:
        """Move a micro-batch to the device, as the model wants it."""

    def counts(self, batch: dict[str, Any]) -> dict[str, int]:
        """Number of targets of every term, the same terms for every batch."""

    def __call__(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Summed loss of every term (fp32 scalars)."""


class NextToken:
    """The language-modelling loss: token t + 1 from the tokens up to t.

    mask_documents: the id that ends a document; attention and positions then stay inside each. None: one long text.
    """

    def __init__(self, mask_documents: int | None = None):
        self.eos_id = mask_documents

    def prepare(self, batch: np.ndarray, device: torch.device) -> dict[str, Any]:
        """int64 (B, T + 1) to input_ids and labels (B, T), and the mask."""
        tokens = torch.from_numpy(batch).to(device, non_blocking=True)
        prepared: dict[str, Any] = {"input_ids": tokens[:, :-1].contiguous(), "labels": tokens[:, 1:].contiguous()}
        if self.eos_id is not None:
            first = np.zeros((len(batch), batch.shape[1] - 1), dtype=bool)
            first[:, 1:] = batch[:, :-2] == self.eos_id
            prepared["mask"] = Mask.packed(first, device)
        return prepared

    def counts(self, batch: dict[str, Any]) -> dict[str, int]:
        """Every position is a target."""
        return dict.fromkeys(("loss", "z_loss"), batch["labels"].numel())

    def __call__(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The model sums its own loss, so that the head runs in chunks. z_loss has the gradient of both."""
        total, loss = model(**batch)
        return {"loss": loss, "z_loss": total - loss}


class Result(NamedTuple):
    """How a run ended: finished all steps, or was asked to stop (and saved)."""

    progress: Progress
    finished: bool
    last_valid: dict[str, float]


Validate = Callable[[nn.Module], dict[str, float]]


def train(
    model: nn.Module, batches: Batches, config: TrainConfig, out: Path, *, rank: int, world: int, device: torch.device,
    fingerprints: dict[str, Any], flops_per_token: float, validate: Validate, loss: Loss | None = None,
) -> Result:  # fmt: skip
    """Train `model` in `out` from its newest checkpoint (or the start) to config.steps. All processes call it.

    Raises UserError when the checkpoint there belongs to another run, RuntimeError when loss or gradient stop being
    finite.
    """
    loss = loss or NextToken()
    torch.set_num_threads(
        config.num_threads or max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", world)))
    )
    if isinstance(model, LanguageModel):
        _prepare_model(model, config)
    engine = _engine(model.to(device), config, world)
    start = checkpoint.latest(out)
    progress = checkpoint.resume(engine, start, fingerprints) if start else Progress(fingerprints=fingerprints)
    if start and rank == 0:
        print(f"resuming from {start}", flush=True)
    stop = _StopRequest()
    # A run that was killed between its last checkpoint and its end has only its last validation left to do.
    valid = validate(engine.model) if progress.step == config.steps else {}
    saved = progress.step
    folder = out if rank == 0 else None
    with Metrics(folder, progress.step, config.steps, flops_per_token, world, config.peak_tflops) as metrics:
        while progress.step < config.steps and not stop.agreed:
            lr = lr_at(progress.step, config)
            micro_batches = batches(progress.step, rank, world)
            terms, num_tokens, stop.agreed = _forward_backward(engine, loss, micro_batches, device, stop)
            _check_finite(sum(terms.values()), "loss", progress.step + 1)
            grad_norm = engine.step(lr)
            _check_finite(grad_norm, "gradient's norm", progress.step + 1)
            progress.step, progress.tokens = progress.step + 1, progress.tokens + num_tokens
            show = progress.step % config.log_every == 0 or progress.step == config.steps
            metrics.step(progress.step, terms, lr, grad_norm, num_tokens, progress.tokens, show)
            if progress.step % config.eval_every == 0 or progress.step == config.steps:
                valid = validate(engine.model)
                metrics.valid(progress.step, valid)
                metrics.restart_clock()
            if progress.step % config.save_every == 0 or progress.step == config.steps or stop.agreed:
                checkpoint.save(engine, out, progress, rank, config.keep_last)
                saved = progress.step
                metrics.restart_clock()
    assert saved == progress.step, "the loop must not end with unsaved steps"
    return Result(progress, progress.step >= config.steps, valid)


def _forward_backward(
    engine: Engine, loss: Loss, micro_batches: list[np.ndarray], device: torch.device, stop: _StopRequest
) -> tuple[dict[str, float], int, bool]:
    """Gradients of one step; returns (mean of each term, targets in the global batch, whether one was asked to stop).

    Everything up to the last line is only queued: the device never waits for the host between micro-batches.
    """
    assert len(micro_batches) == engine.accumulation, (
        f"{len(micro_batches)} micro-batches for a process, where a step takes {engine.accumulation}"
    )
    prepared = [loss.prepare(batch, device) for batch in micro_batches]
    counts: dict[str, int] = {}
    for batch in prepared:
        for name, count in loss.counts(batch).items():
            counts[name] = counts.get(name, 0) + count
    totals = door.add_up([*counts.values(), int(stop.asked)], device)
    share = 1.0 / totals[:-1].clamp(min=1.0)
    values = torch.zeros(len(counts), dtype=torch.float64, device=device)
    for batch in prepared:
        terms = loss(engine.model, batch)
        sums = torch.stack([terms[name] for name in counts])
        values += sums.detach()
        engine.backward((sums * share.to(sums.dtype)).sum())
    means = door.add_up(values * share, device)
    *found, targets, stopping = torch.cat([means, totals[:1], totals[-1:]]).tolist()  # sync: a few numbers a step
    return dict(zip(counts, found, strict=True)), round(targets), stopping > 0


def _check_finite(value: float, what: str, step: int) -> None:
    """Stop before anything is saved: under ZeRO-0 the weights are lost already, and the next batches would not help."""
    if not math.isfinite(value):
        raise RuntimeError(f"step {step}: the {what} is {value}; the last checkpoint is the one to go on from")


def lr_at(step: int, config: TrainConfig) -> float:
    """Learning rate of a step (0-based): linear warm-up, then the schedule.

    Cosine: Loshchilov and Hutter 2016, eq. 5.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    floor = config.min_lr_ratio
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "cosine":
        return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
    if config.schedule == "wsd":
        done = max(0.0, done - (1 - config.decay_ratio)) / config.decay_ratio
    return config.learning_rate * (1 - (1 - floor) * done)


def _prepare_model(model: LanguageModel, config: TrainConfig) -> None:
    """How the model computes, as far as the config of a training decides it."""
    model.z_loss = config.z_loss
    model.recompute_layers = len(model.decoder_layers()) if config.recompute_layers < 0 else config.recompute_layers
    if config.compile:
        model.compile_layers()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors (norms) do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.dim() >= 2]
    others = [p for p in parameters if p.dim() < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _engine(model: nn.Module, config: TrainConfig, world: int) -> Engine:
    return Engine(
        model, parameter_groups(model, config.weight_decay), precision=config.precision,
        zero_stage=config.zero_stage, micro_batch_size=config.micro_batch_size,
        accumulation=config.accumulation(world), max_grad_norm=config.max_grad_norm,
        betas=(config.betas[0], config.betas[1]), eps=config.eps, extra=config.deepspeed,
    )  # fmt: skip


class _StopRequest:
    """Set by SIGTERM; the processes agree on it once a step, so that all save the same one."""

    def __init__(self) -> None:
        self.asked = self.agreed = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True


def write_config(out: Path, config: Any) -> None:
    """config.yaml of a run folder: everything the run was started with, defaults included."""
    write_text(out / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))
