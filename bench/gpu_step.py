"""One case of bench/gpu.py in a process of its own: training steps of one model at one length, timed on one device.

    python bench/gpu_step.py --shape mindllm-3.1b --side mindllm --seq-len 2048

The step is a whole one: forward in bf16, the real loss head, backward, clipping by the global norm, AdamW on fp32
masters, weights copied back. Nothing in it waits for the device. Sizes of micro-batches are tried downwards until one
fits. Side `hf` is the same shape in Hugging Face transformers, with its own attention and cross-entropy under the same
optimizer. Prints one line of JSON. Needs torch, and for side `hf` transformers; neither deepspeed nor flash-attn.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import common  # noqa: F401  the repository on Python's path
import torch
from torch import Tensor, nn

from mindllm import attention, loss
from mindllm.metrics.flops import flops_per_token
from mindllm.metrics.peaks import peak_tflops
from mindllm.models import MODELS, GPTNeoConfig, MindLLMConfig, ModelConfig


class Shape(NamedTuple):
    """A model's shape, and the tokens of a micro-batch to begin with."""

    config: ModelConfig
    tokens: int


# Vocabularies are rounded up to a multiple of 128, for both sides: products of odd widths are slower.
SHAPES = {
    "gpt-neo-1.3b": Shape(GPTNeoConfig(vocab_size=50304), 32768),
    "mindllm-1.3b": Shape(MindLLMConfig(
        vocab_size=50304, hidden_size=2048, intermediate_size=5504, num_hidden_layers=24, num_attention_heads=16,
        num_key_value_heads=16, residual="prenorm", tie_word_embeddings=True), 32768),
    "mindllm-3.1b": Shape(MindLLMConfig(
        vocab_size=125824, hidden_size=2560, intermediate_size=6912, num_hidden_layers=31, num_attention_heads=20,
        num_key_value_heads=20), 16384),
    "tiny-neo": Shape(GPTNeoConfig(vocab_size=256, hidden_size=64, num_layers=2, num_heads=2, window_size=16), 128),
    "tiny": Shape(MindLLMConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2), 128),
}  # fmt: skip
SIDES = ("mindllm", "hf")
OUT_OF_MEMORY = "out of memory"
MAX_GRAD_NORM = 1.0
NUM_PARTS = 8  # of the update, so that fp32 copies of the gradients are there for one part only


class Side(NamedTuple):
    """A model, its repeated layers, the mean loss of a batch, and which attention it takes."""

    model: nn.Module
    layers: nn.ModuleList
    loss: Callable[[Tensor, Tensor], Tensor]
    attention: str


def build_ours(config: ModelConfig, recompute: int) -> Side:
    """The model of this project."""
    model = MODELS[config.model_type](config)
    layers = model.decoder_layers()
    model.recompute_layers = len(layers) if recompute < 0 else recompute
    how = f"{attention.describe()}; loss by {loss.describe()}"
    return Side(model, layers, lambda x, y: model(x, labels=y)[0] / y.numel(), how)


def build_hf(config: ModelConfig, recompute: int) -> Side:
    """The same shape in transformers, by the best attention that it has here; its own loss (of one target fewer)."""
    import transformers

    kind, theirs = "llama", {}
    if isinstance(config, GPTNeoConfig):
        kind = "gpt_neo"
        theirs = {"num_layers": config.num_layers, "num_heads": config.num_heads, "window_size": config.window_size,
                  "attention_types": [[config.attention_types, config.num_layers // len(config.attention_types)]],
                  "intermediate_size": config.intermediate_size or 4 * config.hidden_size}  # fmt: skip
    else:
        names = ("intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act")
        theirs = {name: getattr(config, name) for name in names}
    shape = transformers.AutoConfig.for_model(
        kind, vocab_size=config.vocab_size, hidden_size=config.hidden_size, use_cache=False, bos_token_id=0,
        max_position_embeddings=config.max_position_embeddings, eos_token_id=0,
        tie_word_embeddings=config.tie_word_embeddings, **theirs,
    )  # fmt: skip
    for how in ("flash_attention_2", "sdpa", "eager"):
        try:
            model = transformers.AutoModelForCausalLM.from_config(shape, attn_implementation=how, dtype=torch.bfloat16)
            break
        except (ImportError, ValueError, OSError):  # not installed, not for this model, not to be downloaded
            if how == "eager":
                raise
    layers = model.transformer.h if kind == "gpt_neo" else model.model.layers
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return Side(model, layers, lambda x, _: model(input_ids=x, labels=x).loss, f"transformers {how}")


class MasterAdamW:
    """AdamW on fp32 copies (masters) of bf16 weights, clipped by the global norm; no number ever reaches the host.

    memory: 16 bytes a parameter with the weight and its gradient; several micro-batches are added up in fp32, + 4.
    """

    def __init__(self, model: nn.Module, num_micro_batches: int):
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.masters = [p.detach().float().clone() for p in self.weights]
        several = num_micro_batches > 1
        self.sums = [torch.zeros_like(master) for master in self.masters] if several else []
        size, done = sum(p.numel() for p in self.weights) / NUM_PARTS, 0
        parts: dict[int, list[int]] = {}
        for i, p in enumerate(self.weights):
            parts.setdefault(int(done / size), []).append(i)
            done += p.numel()
        self.parts = [(part, self._adamw(part)) for part in parts.values()]

    def _adamw(self, part: list[int]) -> torch.optim.AdamW:
        matrices, vectors = ([self.masters[i] for i in part if (self.masters[i].dim() > 1) == wide]
                             for wide in (True, False))  # fmt: skip
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=3e-4, betas=(0.9, 0.95), fused=True)

    def add(self) -> None:
        """Take the gradients of one of several micro-batches."""
        if self.sums:
            torch._foreach_add_(self.sums, [w.grad for w in self.weights])
            self._forget()

    @torch.no_grad()
    def step(self) -> None:
        """Clip, update, write the weights."""
        gradients = self.sums or [w.grad for w in self.weights]
        norms = [torch.linalg.vector_norm(g, dtype=torch.float32) for g in gradients if g is not None]
        share = (MAX_GRAD_NORM / (torch.linalg.vector_norm(torch.stack(norms)) + 1e-6)).clamp(max=1.0)
        for part, optimizer in self.parts:
            for i in part:
                self.masters[i].grad = gradients[i].float().mul_(share)  # memory: 4 bytes for an eighth of all
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            torch._foreach_copy_([self.weights[i] for i in part], [self.masters[i] for i in part])
        self._forget()
        for total in self.sums:
            total.zero_()

    def _forget(self) -> None:
        for weight in self.weights:
            weight.grad = None


def train_step(side: Side, optimizer: MasterAdamW, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """One optimizer step on micro-batches of inputs and labels (B, T); returns the mean loss, still on the device."""
    total = torch.zeros((), device=batches[0][0].device)
    for x, y in batches:
        mean = side.loss(x, y) / len(batches)
        mean.backward()
        total += mean.detach()
        optimizer.add()
    optimizer.step()
    return total


def measure(side: Side, options: argparse.Namespace, micro_batch: int, vocab_size: int) -> dict[str, Any]:
    """Seconds of every timed step, peak memory, the last loss."""
    device, cuda = torch.device(options.device), options.device == "cuda"
    optimizer = MasterAdamW(side.model, options.accumulation)
    shape = (options.accumulation, micro_batch, options.seq_len + 1)
    tokens = torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(1)).to(device)
    batches = [(t[:, :-1].contiguous(), t[:, 1:].contiguous()) for t in tokens]
    begin = time.perf_counter()
    for _ in range(options.warmup):
        train_step(side, optimizer, batches)
    wait(cuda)
    warm, marks, clock = time.perf_counter() - begin, [_mark(cuda)], [time.perf_counter()]
    for _ in range(options.steps):
        value = train_step(side, optimizer, batches)
        marks.append(_mark(cuda))
        clock.append(time.perf_counter())
    wait(cuda)
    if cuda:
        seconds = [a.elapsed_time(b) / 1e3 for a, b in zip(marks, marks[1:], strict=False)]
    else:
        seconds = [b - a for a, b in zip(clock, clock[1:], strict=False)]
    return {
        "micro_batch": micro_batch, "step_seconds": [round(s, 5) for s in seconds], "warmup_seconds": round(warm, 1),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if cuda else None, "loss": float(value),
    }  # fmt: skip


def wait(cuda: bool) -> None:
    """Until the device has done all that was queued."""
    if cuda:
        torch.cuda.synchronize()


def _mark(cuda: bool) -> Any:
    if not cuda:
        return None
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Build, warm up and measure; the size of the micro-batch is halved until it fits."""
    shape = SHAPES[options.shape]
    positions = max(options.seq_len, shape.config.max_position_embeddings)
    config = dataclasses.replace(shape.config, max_position_embeddings=positions)
    torch._dynamo.config.automatic_dynamic_shapes = False  # a smaller micro-batch gets kernels of its own size
    torch.manual_seed(1)
    with torch.device(options.device):
        side = (build_ours if options.side == "mindllm" else build_hf)(config, options.recompute)
    side.model.to(torch.bfloat16).train()
    if options.compile:
        torch._dynamo.config.recompile_limit = 32  # as compile_layers does: equal layers count together
        for layer in side.layers:
            layer.compile()
    micro_batch = options.micro_batch or max(1, shape.tokens // options.seq_len)
    found = None
    while found is None:
        try:
            found = measure(side, options, micro_batch, config.vocab_size)
        except RuntimeError as error:  # torch.OutOfMemoryError, and cuBLAS's own
            if not is_out_of_memory(error):
                raise
        if found is None:  # here the error is gone, and with it what it kept alive
            if micro_batch == 1:
                return {"failed": OUT_OF_MEMORY}
            micro_batch //= 2
            _free(side.model)
    about = {"parameters": sum(p.numel() for p in side.model.parameters()), "graphs": _graphs()}
    return found | _rates(found, config, options) | about | {"attention": side.attention}


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether it says that the device's memory is used up."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or OUT_OF_MEMORY in text or "alloc_failed" in text


def _free(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _rates(found: dict[str, Any], config: ModelConfig, options: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second (median step), and MFU where the device's peak is known."""
    rate = found["micro_batch"] * options.accumulation * options.seq_len / statistics.median(found["step_seconds"])
    peak = (options.peak_tflops or peak_tflops()) if options.device == "cuda" else None
    flops = flops_per_token(config, options.seq_len)
    mfu = None if peak is None else round(rate * flops / (peak * 1e12), 4)
    return {"tokens_per_second": round(rate), "mfu": mfu, "flops_per_token": flops, "peak_tflops": peak}


def _graphs() -> int:
    """Graphs that torch.compile made: a few; about as many as layers means that equal layers did not share."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def arguments() -> argparse.ArgumentParser:
    """The options of one case; bench/gpu.py gives the same names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="mindllm-1.3b")
    parser.add_argument("--side", choices=SIDES, default="mindllm")
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--micro-batch", type=int, default=0, help="sequences to begin with; 0: by the shape")
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches of a step")
    parser.add_argument("--recompute", type=int, default=0, help="layers computed again in the backward pass; -1: all")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="dense bf16 peak; 0: from the table")
    return parser


if __name__ == "__main__":
    print(json.dumps(run(arguments().parse_args())), flush=True)
    sys.exit(0)
