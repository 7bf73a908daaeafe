"""The only training loop: pre-training, tuning, sweeps and dialogue models all run through `train`.

The loss of a step is the sum over its targets divided by their number in the whole global batch, so neither the
micro-batch size nor the number of processes nor masked positions change what is optimised. Batches and learning rate
are pure functions of the step: resuming is starting the loop at another step. A non-finite loss or gradient ends the
run before it is saved.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mindllm import checkpoint
from mindllm import engine as door
from mindllm.checkpoint import Keep, Progress, Saver
from mindllm.config import RunFailed
from mindllm.engine import Engine
from mindllm.metrics.record import Metrics
from mindllm.models.base import LanguageModel
from mindllm.train.config import TrainConfig
from mindllm.train.objective import Batches, Loss, NextToken
from mindllm.train.prefetch import Prefetch, Prepared, prepare_steps
from mindllm.train.processor import keep_freed_memory, set_threads
from mindllm.train.profile import Profiler
from mindllm.train.schedule import lr_at

REHEARSAL_STEPS = 2


class Result(NamedTuple):
    """How a run ended: finished all steps, or was asked to stop (and saved)."""

    progress: Progress
    finished: bool
    last_valid: dict[str, float]


Validate = Callable[[nn.Module, int], dict[str, float]]
Sample = Callable[[nn.Module, int], dict[str, str]]


def train(
    model: nn.Module, batches: Batches, config: TrainConfig, out: Path, *, rank: int, world: int, device: torch.device,
    fingerprints: dict[str, Any], flops_per_token: float, validate: Validate, sample: Sample | None = None,
    loss: Loss | None = None, rehearse: bool = False, dry_run: bool = False,
) -> Result:  # fmt: skip
    """Train `model` in `out` from its newest checkpoint (or the start) to config.steps. All processes call it.

    validate, sample: called by all processes with the model and the number of steps done; they return what is recorded,
    numbers and texts by name.  rehearse: after the first two steps of a new run, save, load and validate, so that what
    cannot work fails now and not in the night; dry_run: and stop there.
    Raises UserError when the checkpoint there belongs to another run, RunFailed when none there can be used, or when
    loss or gradient stop being finite.
    """
    loss = loss or NextToken()
    set_threads(config.num_threads, world)
    if device.type == "cpu":
        keep_freed_memory()
    if isinstance(model, LanguageModel):
        _prepare_model(model, config)
    engine = _engine(model.to(device), config, world)
    start = None if dry_run else checkpoint.latest_intact(out)  # a dry run that was killed left one
    progress = checkpoint.resume(engine, start, fingerprints) if start else Progress(fingerprints=fingerprints)
    if start and rank == 0:
        print(f"resuming from {start}", flush=True)
    # A run that was killed between its last checkpoint and its end has only its last validation left to do.
    valid = validate(engine.model, progress.step) if progress.step == config.steps else {}
    stop = _StopRequest()
    rehearsal_at = min(REHEARSAL_STEPS, config.steps) if (rehearse or dry_run) and not start else 0
    profiler = Profiler(out if rank == 0 else None, config.profile_step, device)
    sizes = config.sizes_of_steps()
    prepare = prepare_steps(batches, loss, rank, world, device)
    with (
        Metrics(out if rank == 0 else None, progress.step, config, flops_per_token, world, sizes.before) as metrics,
        Saver(engine, out, Keep(config.keep_last, config.keep_every, config.keep_best), config.async_save) as saver,
        Prefetch(prepare, progress.step, config.steps, config.prefetch, device) as data,
    ):
        while progress.step < config.steps and not stop.agreed:
            with profiler.step(progress.step + 1):
                with profiler.region("data"):
                    prepared = data.get()
                lr = lr_at(progress.step, config)
                terms, num_tokens, stop.agreed = _forward_backward(engine, loss, prepared, device, stop, profiler)
                _check_finite(sum(terms.values()), "loss", progress.step + 1)
                with profiler.region("optimizer"):
                    grad_norm = engine.step(lr)
                _check_finite(grad_norm, "gradient's norm", progress.step + 1)
            progress.step, progress.tokens = progress.step + 1, progress.tokens + num_tokens
            metrics.step(progress.step, terms, lr, grad_norm, num_tokens, progress.tokens, data.waited)
            validated = _due(progress.step, config.eval_every, config)
            if validated:
                valid = validate(engine.model, progress.step)
                metrics.valid(progress.step, valid)
            if sample and _due(progress.step, config.samples_every, config):
                for name, text in sample(engine.model, progress.step).items():
                    metrics.text(progress.step, name, text)
            if _due(progress.step, config.save_every, config) or stop.agreed:
                metrics.saved(progress.step, saver.save(progress, valid if validated else {}))
            if progress.step == rehearsal_at:
                _rehearse(engine, saver, validate, sample, progress, out, rank)
                stop.agreed = stop.agreed or dry_run
            metrics.restart_clock()
    return Result(progress, progress.step >= config.steps, valid)


def _due(step: int, every: int, config: TrainConfig) -> bool:
    """Whether something is done after this step that is done every so many steps, and at the end (0: never)."""
    return every > 0 and (step % every == 0 or step == config.steps)


def _forward_backward(
    engine: Engine, loss: Loss, prepared: Prepared, device: torch.device, stop: _StopRequest, profiler: Profiler
) -> tuple[dict[str, float], int, bool]:
    """Gradients of one step; returns (mean of each term, targets in the global batch, whether one was asked to stop).

    Everything up to the last line is only queued: the device never waits for the host between micro-batches.
    """
    micro_batches, counts = prepared
    totals = door.add_up([*counts.values(), int(stop.asked)], device)
    share = 1.0 / totals[:-1].clamp(min=1.0)
    values = torch.zeros(len(counts), dtype=torch.float64, device=device)
    for number, batch in enumerate(micro_batches, 1):
        engine.begin(last=number == len(micro_batches))
        with profiler.region("forward"):
            terms = loss(engine.model, batch)
            sums = torch.stack([terms[name] for name in counts])
            values += sums.detach()
        with profiler.region("backward"):
            engine.backward((sums * share.to(sums.dtype)).sum())
    means = door.add_up(values * share, device)
    *found, targets, stopping = torch.cat([means, totals[:1], totals[-1:]]).tolist()  # sync: a few numbers a step
    return dict(zip(counts, found, strict=True)), round(targets), stopping > 0


def _rehearse(
    engine: Engine, saver: Saver, validate: Validate, sample: Sample | None, progress: Progress, out: Path, rank: int
) -> None:
    """Save, load, validate, generate once; the run goes on from what was loaded, which is the same bit by bit."""
    if rank == 0:
        print(f"rehearsal after {progress.step} steps: saving, loading, validating, generating", flush=True)
    began = time.perf_counter()
    saver.save(progress, {})
    saver.wait()
    saved = time.perf_counter()
    folder = out / checkpoint.folder_name(progress.step)  # not the newest: one that is damaged may be of a later step
    checkpoint.resume(engine, folder, progress.fingerprints)
    loaded = time.perf_counter()
    validate(engine.model, progress.step)
    if sample:
        sample(engine.model, progress.step)
    if rank == 0:
        size = sum(p.stat().st_size for p in folder.iterdir())
        print(f"rehearsal: all of it works; a checkpoint is {size / 2**30:.2f} GiB, saved in {saved - began:.1f} s, "
              f"loaded in {loaded - saved:.1f} s; validating and generating takes {time.perf_counter() - loaded:.1f} s",
              flush=True)  # fmt: skip


def _check_finite(value: float, what: str, step: int) -> None:
    """Stop before anything is saved: under ZeRO-0 the weights are lost already, and the next batches would not help."""
    if not math.isfinite(value):
        raise RunFailed(
            f"step {step}: the {what} is {value}. Nothing of it was saved, but the same command would come here again, "
            "for nothing is left to chance. Train anew (out=...) with a lower train.learning_rate or a longer "
            "train.warmup_steps; or go on from the last checkpoint with other batches: let a new phase begin before "
            "this step (until_step of the one before it, and accept_changes=true)"
        )


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
