"""The tables of a plan: what a run is, how long it takes, what it keeps on disk and on every device.

Every number stands with the arithmetic that it comes from, so that a reader can check it, or change a factor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from rich.table import Column, Table

from mindllm.mixture import BatchSizes
from mindllm.models import GPTNeoConfig, ModelConfig
from mindllm.plan.hardware import Device, HardwareConfig
from mindllm.plan.memory import RESERVE, Need, Sizes, checkpoint_bytes, need
from mindllm.train.config import TrainConfig
from mindllm.training_data import short

GIB = 2**30
MICRO_BATCHES = (1, 2, 4, 8, 16, 32, 64)  # rows of the memory table


class Work(NamedTuple):
    """A run in numbers: what the tables are made from."""

    model: ModelConfig
    sizes: Sizes
    seq_len: int
    train: TrainConfig
    world: int
    batches: BatchSizes
    flops: float

    @property
    def tokens(self) -> int:
        """Tokens that the run is trained on."""
        return self.batches.before(self.train.steps) * self.seq_len


def model_rows(work: Work) -> Iterator[tuple[str, str]]:
    """Shape and parameters, part by part."""
    model, total = work.model, work.sizes.total
    C, V, head_dim = model.hidden_size, model.vocab_size, model.head_size
    neo = isinstance(model, GPTNeoConfig)
    heads = model.num_heads if isinstance(model, GPTNeoConfig) else model.num_attention_heads
    keys = heads if isinstance(model, GPTNeoConfig) else model.num_key_value_heads
    inner = model.intermediate_size or 4 * C
    yield (
        "shape",
        (
            f"{model.model_type}: {model.num_hidden_layers} layers, {C:,} wide, feed-forward {inner:,}, {heads} heads "
            f"of {head_dim} ({keys} of keys and values), vocabulary {V:,}, {model.max_position_embeddings:,} positions"
        ),
    )
    embedding = V * C + (model.max_position_embeddings * C if neo else 0)
    head = 0 if model.tie_word_embeddings else V * C
    positions = f" + {model.max_position_embeddings:,} x {C:,} positions" if neo else ""
    yield "embedding", f"{V:,} x {C:,}{positions} = {embedding:,}"
    layers = total - embedding - head - _last_norm(model)
    yield "layers", f"{model.num_hidden_layers} x {layers // model.num_hidden_layers:,} = {layers:,}"
    yield "head", f"{V:,} x {C:,} = {head:,}" if head else "the embedding's weights: 0"
    rest = f"without embedding and head {short(total - embedding - head)}"
    yield "parameters", f"{total:,} ({short(total)}; {rest})"


def _last_norm(model: ModelConfig) -> int:
    return model.hidden_size * (2 if isinstance(model, GPTNeoConfig) else 1)


def work_rows(work: Work) -> Iterator[tuple[str, str]]:
    """Batches, tokens and FLOPs."""
    train, size = work.train, work.train.micro_batch_size
    for before, (until, batch) in zip((0, *(until for until, _ in work.batches.ramp)),
                                      (*work.batches.ramp, (train.steps, train.batch_size)), strict=True):  # fmt: skip
        when = f"steps {before:,} to {until:,}: " if work.batches.ramp else ""
        deal = f"{batch:,} = micro-batch {size} x accumulation {batch // size // work.world} x {work.world} process(es)"
        yield "batch", f"{when}{deal}"
        yield "tokens a step", f"{when}{batch:,} x {work.seq_len:,} = {batch * work.seq_len:,}"
    sample = f"{work.batches.before(train.steps):,} samples in {train.steps:,} steps"
    per = f"{work.tokens / work.sizes.total:.1f} a parameter"
    yield "tokens", f"{sample} = {work.tokens:,} ({short(work.tokens)}), {per}"
    products = work.sizes.matrices - _looked_up(work.model)
    attention = work.flops - 6 * products
    yield "FLOPs a token", f"6 x {products:,} + {attention / 1e9:.3f}G of attention = {work.flops / 1e9:.3f}G"
    yield "FLOPs", f"{work.tokens:,} x {work.flops / 1e9:.3f}G = {work.tokens * work.flops:.3e}"


def _looked_up(model: ModelConfig) -> int:
    """Parameters of matrices that multiply nothing: embeddings, but a tied one is the head, too."""
    positions = model.max_position_embeddings if isinstance(model, GPTNeoConfig) else 0
    return model.hidden_size * (positions + (0 if model.tie_word_embeddings else model.vocab_size))


def time_rows(work: Work, device: Device, hardware: HardwareConfig) -> Iterator[tuple[str, str]]:
    """Speed, hours and costs at the share of the peak that is hoped for."""
    seconds = _seconds(work, device, hardware)
    if seconds is None or device.tflops is None:
        yield "hours", "n/a: the device's speed is not known"
        return
    rate = work.tokens / seconds
    yield (
        "tokens/s",
        (
            f"{device.tflops:g} TFLOP/s x MFU {hardware.mfu:g} / {work.flops / 1e9:.3f}G = {rate / work.world:,.0f}; "
            f"x {work.world} = {rate:,.0f}"
        ),
    )
    hours = seconds / 3600
    yield "time", f"{work.tokens:,} / {rate:,.0f} = {hours:,.1f} hours = {hours / 24:,.1f} days"
    yield "GPU hours", f"{hours:,.1f} x {work.world} = {hours * work.world:,.1f}"
    if hardware.price:
        yield "cost", f"{hours * work.world:,.1f} x {hardware.price:g} = {hours * work.world * hardware.price:,.0f}"


def _seconds(work: Work, device: Device, hardware: HardwareConfig) -> float | None:
    """Seconds of the whole run, all of it training; None where the speed is not known."""
    if device.tflops is None:
        return None
    return work.tokens * work.flops / (device.tflops * 1e12 * hardware.mfu * work.world)


def checkpoint_rows(work: Work, device: Device, hardware: HardwareConfig) -> Iterator[tuple[str, str]]:
    """Size of a checkpoint, disk for all that stay, time between them, host memory."""
    train, total = work.train, work.sizes.total
    size = checkpoint_bytes(total, train.precision, train.zero_stage)
    yield "size", f"{total:,} x {size / total:g} bytes = {_gib(size)}"
    parts = {"newest": train.keep_last, "best": train.keep_best, "being written": 1}
    if train.keep_every:
        parts[f"of every {train.keep_every:,} steps"] = train.steps // train.keep_every
    shown = " + ".join(f"{count} {name}" for name, count in parts.items() if count)
    yield "disk", f"at most ({shown}) x {_gib(size)} = {_gib(sum(parts.values()) * size)}"
    seconds = _seconds(work, device, hardware)
    apart = "" if seconds is None else f" = {seconds * train.save_every / train.steps / 3600:.2f} hours on average"
    yield "written", f"every {train.save_every:,} steps{apart}: what a crash costs at most"
    if train.async_save:
        own = " (ZeRO-0: all of it at process 0)" if train.zero_stage == 0 else f", over {work.world} process(es)"
        yield "host memory", f"{_gib(size)}{own}, up to twice that as torch rounds pinned memory; async_save keeps it"


def memory_table(work: Work, device: Device, kind: str) -> Table:
    """Bytes of a device by micro-batch, ZeRO stage and recomputation."""
    largest = max(work.train.batch_sizes()) // work.world
    micros = sorted({work.train.micro_batch_size, *(n for n in MICRO_BATCHES if largest % n == 0)})
    columns = [(stage, layers) for layers in (0, -1) for stage in range(4)]
    limit = f", x does not fit into {_gib(device.memory)} less {RESERVE:.0%}" if device.memory else ""
    names = [f"ZeRO-{stage}\n{'all' if layers else 'none'}" for stage, layers in columns]
    table = Table(
        Column("micro-batch\nrecomputed layers"), Column("tokens", justify="right"),
        *(Column(name, justify="right") for name in names),
        title=f"memory of each of {work.world} process(es), GiB (< the config's{limit})",
    )  # fmt: skip
    for micro in micros:
        cells = []
        for stage, layers in columns:
            train = replace(work.train, zero_stage=stage, micro_batch_size=micro, recompute_layers=layers)
            found = _need(work, train, kind)
            mark = "x" if device.memory and not found.fits(device.memory) else ""
            mark += "<" if train == _plain(work) else ""
            cells.append(f"{found.total / GIB:.1f} {mark:1}")
        table.add_row(f"{micro}", f"{micro * work.seq_len:,}", *cells)
    return table


def _plain(work: Work) -> TrainConfig:
    """The run's settings, with all layers recomputed written as -1."""
    everything = work.train.recompute_layers >= work.model.num_hidden_layers
    return replace(work.train, recompute_layers=-1) if everything else work.train


def _need(work: Work, train: TrainConfig, kind: str) -> Need:
    return need(work.model, train, work.seq_len, work.world, sizes=work.sizes, kind=kind)


def chosen_lines(work: Work, device: Device, kind: str) -> Iterator[str]:
    """The memory of the config's own choice, part by part."""
    found, train = _need(work, work.train, kind), work.train
    parts = {"weights": found.state.weights, "gradients": found.state.gradients, "masters": found.state.masters,
             "AdamW": found.state.moments, "buffers": found.buffers, "activations and loss": found.working}  # fmt: skip
    shown = " + ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items() if size)
    verdict = ""
    if device.memory:
        verdict = "; it fits" if found.fits(device.memory) else "; it does NOT fit"
        verdict += f" into {device.memory / GIB:.1f} GiB, {RESERVE:.0%} of which stay free for what is not counted"
    yield (
        f"memory: ZeRO-{train.zero_stage}, micro-batch {train.micro_batch_size}, recompute_layers "
        f"{train.recompute_layers}: {shown} = {found.total / GIB:.1f} GiB{verdict}"
    )
    offload = {"offload_optimizer", "offload_param"} & {*train.deepspeed.get("zero_optimization", {})}
    if offload:
        yield f"memory: {' and '.join(sorted(offload))} moves part of this to the host, which is not counted here"


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:,.1f} MiB"
