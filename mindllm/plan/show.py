"""What a run needs, before it is started: plan=true prints it, with the arithmetic, and does nothing.

No weight is allocated and no process group joined, so that a laptop plans a run on 64 GPUs in seconds. Tokenizer and
shards are looked at where they are there; else a vocabulary is assumed, and said. What would stop the run at its start
(a batch that does not divide, a source that is read too often) is the same error here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mindllm.config import UserError
from mindllm.metrics.flops import flops_per_token
from mindllm.mixture import BatchSizes, Mixture, PhaseConfig
from mindllm.models import ModelConfig
from mindllm.plan.checks import check_batches, with_vocabulary
from mindllm.plan.hardware import DEFAULT_VOCAB_SIZE, HardwareConfig, find_device
from mindllm.plan.memory import empty_model, sizes_of
from mindllm.plan.rows import (
    Work,
    checkpoint_rows,
    chosen_lines,
    memory_table,
    model_rows,
    time_rows,
    work_rows,
)  # fmt: skip
from mindllm.stage import require
from mindllm.tokenizer import Tokenizer, load_tokenizer
from mindllm.train.config import TrainConfig
from mindllm.training_data import print_mixture, short

PIPE_WIDTH = 120  # columns where no terminal says how many it has


class Run(Protocol):
    """What a plan looks at of a pre-training's config."""

    shards: str
    more_shards: dict[str, str]
    tokenizer: str
    seq_len: int
    phases: list[PhaseConfig]
    model: ModelConfig
    train: TrainConfig
    hardware: HardwareConfig


def print_plan(run: Run, mixture_of: Callable[[Tokenizer], Mixture], check: Callable[[Mixture], None]) -> int:
    """Print the plan of a run; returns the exit code.

    mixture_of: opens the shards.  check: raises UserError where a source is read too often; called after the table.
    Raises UserError for a batch that the GPUs cannot share, before anything is printed.
    """
    if os.environ.get("RANK", "0") != "0":
        return 0
    world = run.hardware.gpus or int(os.environ.get("WORLD_SIZE", "1"))
    check_batches(run.train, world)
    tokenizer = load_tokenizer(run.tokenizer) if (Path(run.tokenizer) / "tokenizer.json").exists() else None
    model, assumed = _guessed(run, tokenizer)
    device = find_device(run.hardware, run.train.peak_tflops)
    batches = BatchSizes(run.train.batch_size, tuple((s.until_step, s.batch_size) for s in run.train.batch_ramp))
    sizes, flops = sizes_of(empty_model(model)), flops_per_token(model, run.seq_len)
    work = Work(model, sizes, run.seq_len, run.train, world, batches, flops)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    _say(assumed)
    kind = "cpu" if device.name == "CPU" else "cuda"
    for title, rows in (
        ("model", model_rows(work)),
        ("work", work_rows(work)),
        (f"time on {world} x {device.name}", time_rows(work, device, run.hardware)),
        ("checkpoints", checkpoint_rows(work, device, run.hardware)),
    ):
        console.print(_facts(title, rows))
    console.print(memory_table(work, device, kind))
    _say([*chosen_lines(work, device, kind), *device.notes])
    _show_mixture(run, batches, tokenizer, mixture_of, check)
    return 0


def _guessed(run: Run, tokenizer: Tokenizer | None) -> tuple[ModelConfig, list[str]]:
    """The model with the vocabulary that it will have, as far as is known, and what had to be assumed."""
    if tokenizer:
        return with_vocabulary(run.model, tokenizer.vocab_size, tokenizer.folder), []
    if run.model.vocab_size:
        return run.model, []
    count = run.hardware.vocab_size or DEFAULT_VOCAB_SIZE
    assumed = f"ASSUMED: a vocabulary of {count:,} ({run.tokenizer} is not there yet; hardware.vocab_size says another)"
    return with_vocabulary(run.model, count, run.tokenizer), [assumed]


def _show_mixture(
    run: Run, batches: BatchSizes, tokenizer: Tokenizer | None, mixture_of: Callable[[Tokenizer], Mixture],
    check: Callable[[Mixture], None],
) -> None:  # fmt: skip
    """The mixture's tables, or why there are none."""
    try:
        for folder in (run.shards, *run.more_shards.values()):
            require(folder, "python -m data_pipeline shard CONFIG")
        tokenizer = tokenizer or load_tokenizer(run.tokenizer)
    except UserError as error:
        _say([*_phase_lines(run, batches), f"the mixture could not be looked at: {error}"])
        return
    mixture = mixture_of(tokenizer)
    print_mixture(mixture)
    check(mixture)


def _phase_lines(run: Run, batches: BatchSizes) -> Iterator[str]:
    """The phases as the config has them: patterns of sources, and tokens."""
    start = 0
    for number, phase in enumerate(run.phases):
        until = min(phase.until_step or run.train.steps, run.train.steps)
        tokens = (batches.before(until) - batches.before(start)) * run.seq_len
        shares = phase.weights or phase.factors
        kind = "weights" if phase.weights else "by size" + (" x" if phase.factors else "")
        what = " ".join([kind, *(f"{name} {value:g}" for name, value in shares.items())])
        yield f"phases.{number}: steps {start:,} to {until:,}, {short(tokens)} tokens: {what}"
        start = until


def _facts(title: str, rows: Iterator[tuple[str, str]]) -> Table:
    table = Table(Column(no_wrap=True), Column(overflow="fold"), title=escape(title), show_header=False)
    for name, value in rows:
        table.add_row(name, escape(value))
    return table


def _say(lines: list[str]) -> None:
    for line in lines:
        print(f"plan: {line}", flush=True)
