"""How much memory training takes on every device, by arithmetic: nothing is allocated.

State: what DeepSpeed 0.19 keeps for every parameter, by ZeRO stage (arXiv 1910.02054), and the buffers in which it adds
up gradients over processes. Activations: what a layer keeps of every token for the backward pass, with a flash kernel
and without torch.compile (which keeps about as much, or a little less). Both are counted against the real thing on a
CPU by tests/test_memory.py. Not counted: the CUDA context, NCCL, gaps of the allocator (RESERVE), offloading to the
host, and the probabilities that attention on a CPU keeps (up to 32 MiB a layer).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from mindllm.loss import LOGITS_BYTES, MIN_TOKENS, SOFTMAX_BYTES
from mindllm.models import MODELS, GPTNeoConfig, ModelConfig
from mindllm.train.config import TrainConfig

RESERVE = 0.08  # of a device: what is not counted
BUCKET = 500_000_000  # gradients that DeepSpeed adds up at once over processes, outside of its ZeRO-2 and 3
# DeepSpeed's own defaults, in numbers of values
ZERO_DEFAULTS = {"reduce_bucket_size": 5e8, "stage3_max_live_parameters": 1e9, "stage3_prefetch_bucket_size": 5e7,
                 "sub_group_size": 1e9}  # fmt: skip

# Bytes of a parameter: fp32 is 4, bf16 is 2. C hidden, V vocab, n tokens of a micro-batch


class Sizes(NamedTuple):
    """Parameters of a model: all, those with weight decay (matrices), those of the largest matrix."""

    total: int
    matrices: int
    largest: int


def empty_model(config: ModelConfig) -> nn.Module:
    """The model without memory for its weights (on torch's meta device)."""
    with torch.device("meta"):
        model: nn.Module = MODELS[config.model_type](config)
    return model


def sizes_of(model: nn.Module) -> Sizes:
    """What its memory depends on; a tied head counts once."""
    counts = [(p.numel(), p.dim()) for p in model.parameters()]
    return Sizes(sum(n for n, _ in counts), sum(n for n, dim in counts if dim >= 2), max(n for n, _ in counts))


class State(NamedTuple):
    """Bytes of what lives for every parameter. gradients: with what is left of those of the micro-batch before."""

    weights: float
    gradients: float
    masters: float
    moments: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def state(num_parameters: int, precision: str, zero_stage: int, world: int) -> State:
    """What one of `world` processes holds at the end of the backward pass, before the optimizer's step.

    Gradients are summed in fp32 whatever the precision. ZeRO-0: fp32 weights (bf16 is autocast there). ZeRO-1: masters
    and moments are shared out. ZeRO-2: the sums are shared out, too. ZeRO-3: and the weights.
    """
    share = num_parameters / world
    if zero_stage == 0:
        return State(4.0 * num_parameters, 4.0 * num_parameters, 0.0, 8.0 * num_parameters)
    weights = _element(precision) * (share if zero_stage == 3 else num_parameters)
    summed = 4 * (num_parameters if zero_stage == 1 else share)
    return State(weights, summed, 4 * share, 8 * share)


def checkpoint_bytes(num_parameters: int, precision: str, zero_stage: int) -> float:
    """The tensors in a checkpoint, all files together; and so the host memory of a copy, over all processes.

    Masters and moments are 12 bytes a parameter; ZeRO-1 and 2 write the weights of the forward pass besides.
    """
    return (12 + (_element(precision) if zero_stage in (1, 2) else 0)) * num_parameters


def layer_bytes(config: ModelConfig, precision: str, zero_stage: int) -> float:
    """What one layer keeps of one token for the backward pass.

    MindLLM: inputs and outputs of two norms (4 C), queries, keys, values and the result of attention, four of the
    feed-forward's width (gate, its activation, up, their product). GPT-Neo: two of that width, before and after gelu.
    Norms keep an fp32 number or two a token, attention one a head. Under autocast (bf16 without ZeRO) the residual
    stream is fp32, and GPT-Neo's first norm is rounded for queries, keys and values each.
    """
    autocast = precision == "bf16" and zero_stage == 0
    product, stream, C = _element(precision), _stream(precision, zero_stage), config.hidden_size
    if isinstance(config, GPTNeoConfig):
        inner = config.intermediate_size or 4 * C
        values = (4 if autocast else 2) * C + 4 * C + 2 * inner
        return 2 * stream * C + product * values + 16 + 4 * config.num_heads
    queries, keys = (n * config.head_size for n in (config.num_attention_heads, config.num_key_value_heads))
    values = 2 * C + 2 * queries + 2 * keys + 4 * config.intermediate_size
    return 2 * stream * C + product * values + 8 + 4 * config.num_attention_heads


def activation_bytes(config: ModelConfig, precision: str, zero_stage: int, tokens: int, recompute_layers: int) -> float:
    """The most that is kept of `tokens` tokens, beside the head.

    A recomputed layer keeps its input; in the backward pass one of them is whole again. Work in progress: half a layer.
    Behind the layers: the last norm's input and the gradient of its output.
    """
    num_layers = config.num_hidden_layers
    recomputed = num_layers if recompute_layers < 0 else min(recompute_layers, num_layers)
    layer, stream = layer_bytes(config, precision, zero_stage), _stream(precision, zero_stage)
    only_inputs = recomputed * stream * config.hidden_size
    kept = max((num_layers - recomputed) * layer + only_inputs, only_inputs + layer)
    ends = (stream + _element(precision)) * config.hidden_size
    return tokens * (kept + layer / 2 + ends)


def head_bytes(config: ModelConfig, precision: str, tokens: int, kind: str = "cuda") -> float:
    """The loss (mindllm/loss.py): the head's gradient in fp32, and a chunk of logits or the rounded gradient."""
    V, product = config.vocab_size, _element(precision)
    chunk = max(MIN_TOKENS, LOGITS_BYTES[kind] // (V * product) // MIN_TOKENS * MIN_TOKENS)
    rows = min(chunk, max(16, SOFTMAX_BYTES[kind] // (V * 4)))
    logits = min(chunk, tokens) * V * product + min(rows, tokens) * V * 4
    return V * config.hidden_size * 4 + max(logits, V * config.hidden_size * product)


class Traffic(NamedTuple):
    """Memory for adding gradients up over processes. share: of the gradients that are there when that begins.

    always: bytes in the whole backward pass.  adding: besides, while it is done.  step: besides, in the optimizer.
    """

    always: float
    adding: float
    step: float
    share: float


def traffic(
    sizes: Sizes, precision: str, zero_stage: int, world: int, extra: Mapping[str, Any], kind: str = "cuda"
) -> Traffic:
    """What DeepSpeed allocates for it, also for a single process. extra: of train.deepspeed.zero_optimization.

    ZeRO-0, and 1 in bf16: at the end of a step, a copy of BUCKET gradients (ZeRO-1 holds them in one piece: none beyond
    that). ZeRO-2, and 1 in fp32: a bucket of reduce_bucket_size, emptied whenever it is full, through copies in bf16
    and fp32. ZeRO-3: such a bucket in fp32, and the weights that are in use. Norms are taken in fp64 under ZeRO-2.
    """
    values = {name: float(extra.get(name, default)) for name, default in ZERO_DEFAULTS.items()}
    bucket, share, element = values["reduce_bucket_size"], sizes.total / world, _element(precision)
    filled = min(sizes.total, max(bucket, sizes.largest))
    if kind == "cpu":
        bucket = min(bucket, filled)  # of a host's memory only what was written to is taken
    if zero_stage == 0:
        return Traffic(0, 4 * min(sizes.total, BUCKET + sizes.largest), 0, 1)
    if zero_stage == 1 and precision == "bf16":
        return Traffic(0, 0 if sizes.matrices > BUCKET else 4 * sizes.total, 0, 1)
    if zero_stage <= 2:
        copies = 6 * filled if precision == "bf16" else 4 * max(filled, share)
        return Traffic(element * bucket, copies, 8 * sizes.largest, 1 if zero_stage == 1 else filled / sizes.total)
    in_use = min(sizes.total, values["stage3_max_live_parameters"] + values["stage3_prefetch_bucket_size"])
    always = 4 * bucket + element * max(in_use, sizes.largest)
    step = 4 * min(share, values["sub_group_size"]) + 8 * min(sizes.largest, share)
    return Traffic(always, 4 * filled * (1 + 1 / world), step, filled / sizes.total)


@dataclass(frozen=True)
class Need:
    """Bytes of one device at the worst moment, by what they are for; `working` is of activations, loss and traffic."""

    state: State
    buffers: float
    working: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.state.total + self.buffers + self.working

    def fits(self, memory: float) -> bool:
        """Whether it leaves RESERVE of the device's memory free."""
        return self.total <= memory * (1 - RESERVE)


def need(
    config: ModelConfig, train: TrainConfig, seq_len: int, world: int, *, sizes: Sizes, kind: str = "cuda"
) -> Need:
    """What each of `world` processes needs at most, of a run like `train` (its ZeRO stage, micro-batch, recomputation).

    The worst moment is the beginning of the backward pass, the first time that gradients are added up, or the step.
    """
    precision, stage, tokens = train.precision, train.zero_stage, train.micro_batch_size * seq_len
    kept = activation_bytes(config, precision, stage, tokens, train.recompute_layers)
    if precision == "bf16" and stage == 0:
        kept += 2 * sizes.matrices  # autocast's copies of the weights
    moves = traffic(sizes, precision, stage, world, train.deepspeed.get("zero_optimization", {}), kind)
    moments = (kept + head_bytes(config, precision, tokens, kind), kept * (1 - moves.share) + moves.adding, moves.step)
    return Need(state(sizes.total, precision, stage, world), moves.always, max(moments))


def _element(precision: str) -> int:
    return 2 if precision == "bf16" else 4


def _stream(precision: str, zero_stage: int) -> int:
    """Bytes of a value between layers."""
    return 2 if precision == "bf16" and zero_stage > 0 else 4
