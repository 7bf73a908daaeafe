"""A training step on a CPU: our models next to Hugging Face's of the same shape and weights, step by step in turns.

    python bench/training.py [--modes fp32,bf16] [--families llama,gpt_neo] [--rounds 6] [--malloc default] [--quick]

A step is forward, mean cross-entropy over all tokens, backward, clipping to norm 1, fused AdamW: the same for all, from
the same initial weights, so the losses of the last step must be near each other. bf16 is autocast on fp32 weights.
Compiled: ours by compile_layers (each layer by itself), theirs by torch.compile of the whole model. `llama` is our
decoder (pre-norm, GeGLU) beside LlamaForCausalLM with SDPA attention; `gpt_neo` ours beside GPTNeoForCausalLM with the
only attention that it has on a CPU.

Ratios are medians of ours to theirs in the same round: wall clock, and processor time (with --threads 1 the one to read
on a busy machine). The share is model FLOPs per second over the rate of a square matrix product of that precision,
measured before each mode.
--malloc tuned (the default) starts this script again with glibc settings that keep freed memory for all models alike.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import common  # noqa: F401  the repository on Python's path

TUNED = {  # measured: 5 to 16 % faster, ours and theirs; read when a process starts
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "THP_MEM_ALLOC_ENABLE": "1",
}
MODES = ("fp32", "bf16", "fp32-compiled", "bf16-compiled")
FAMILIES = ("llama", "gpt_neo")
BARS = {  # ours to Hugging Face's Llama: must, goal
    "bf16": (1.25, 1.40),
    "bf16-compiled": (1.20, 1.35),
    "fp32": (1.08, 1.15),
    "fp32-compiled": (1.03, 1.10),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; --quick overrides some."""
    first, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shape = {"layers": 6, "width": 384, "ffn": 1024, "heads": 6, "vocab": 8192, "seq-len": 512, "batch": 8}
    for name, value in (shape | {"threads": 2, "rounds": 6}).items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    parser.add_argument("--modes", default=",".join(MODES), help=f"of {', '.join(MODES)}; default all")
    parser.add_argument("--families", default=",".join(FAMILIES), help="default llama,gpt_neo")
    parser.add_argument("--malloc", choices=["tuned", "default"], default="tuned")
    parser.add_argument("--quick", action="store_true", help="2 sequences a step, 3 rounds, nothing compiled")
    options = parser.parse_args(arguments)
    if options.quick:
        options.batch, options.rounds, options.modes = 2, 3, "fp32,bf16"
    for name, known in (("modes", MODES), ("families", FAMILIES)):
        setattr(options, name, getattr(options, name).split(","))
        if unknown := set(getattr(options, name)) - set(known):
            parser.error(f"--{name}: unknown {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return options


if __name__ == "__main__":
    _options = parse()
    if _options.malloc == "tuned" and any(os.environ.get(name) != value for name, value in TUNED.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | TUNED)

import torch  # noqa: E402  after the environment is settled
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from mindllm import attention, loss  # noqa: E402
from mindllm.metrics.flops import flops_per_token  # noqa: E402
from mindllm.models import MODELS, GPTNeoConfig, LanguageModel, MindLLMConfig  # noqa: E402


@dataclass
class Entry:
    """A model with its optimizer, and the seconds of its steps."""

    name: str
    model: nn.Module
    mean_loss: Callable[[Tensor, Tensor], Tensor]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    last_loss: float = math.nan

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )

    def step(self, batch: Tensor, bf16: bool) -> None:
        """One optimizer step on batch (B, T + 1), timed."""
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            value = self.mean_loss(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.last_loss = value.item()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def build_hf(family: str, options: argparse.Namespace) -> nn.Module:
    """The model of transformers, with its own initial weights."""
    import transformers

    torch.manual_seed(0)
    if family == "llama":
        config = transformers.LlamaConfig(
            vocab_size=options.vocab, hidden_size=options.width, intermediate_size=options.ffn, use_cache=False,
            num_hidden_layers=options.layers, num_attention_heads=options.heads, hidden_act="gelu_pytorch_tanh",
            max_position_embeddings=options.seq_len, rms_norm_eps=1e-5, tie_word_embeddings=False,
        )  # fmt: skip
    else:
        config = transformers.GPTNeoConfig(
            vocab_size=options.vocab, hidden_size=options.width, num_layers=options.layers, num_heads=options.heads,
            attention_types=[[["global", "local"], options.layers // 2]], intermediate_size=4 * options.width,
            window_size=256, max_position_embeddings=options.seq_len, use_cache=False, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
    kind = "sdpa" if family == "llama" else "eager"
    model: nn.Module = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=kind, dtype=torch.float32
    )
    return model.train()


def shape_of(family: str, options: argparse.Namespace) -> MindLLMConfig | GPTNeoConfig:
    """Our config of the shape."""
    if family == "llama":
        return MindLLMConfig(
            vocab_size=options.vocab, hidden_size=options.width, intermediate_size=options.ffn, residual="prenorm",
            num_hidden_layers=options.layers, num_attention_heads=options.heads, num_key_value_heads=options.heads,
            max_position_embeddings=options.seq_len,
        )  # fmt: skip
    return GPTNeoConfig(
        vocab_size=options.vocab, hidden_size=options.width, num_layers=options.layers, num_heads=options.heads,
        max_position_embeddings=options.seq_len,
    )  # fmt: skip


def build_ours(family: str, options: argparse.Namespace, weights: dict[str, Tensor]) -> LanguageModel:
    """Our model of the same shape with the same weights: the names are the same."""
    config = shape_of(family, options)
    model: LanguageModel = MODELS[config.model_type](config)
    model.load_state_dict(weights)
    return model.train()


def entries(options: argparse.Namespace, compiled: bool) -> Iterator[tuple[Entry, Entry]]:
    """Per family theirs and ours."""
    for family in options.families:
        theirs = build_hf(family, options)
        ours = build_ours(family, options, theirs.state_dict())
        assert sum(p.numel() for p in theirs.parameters()) == ours.num_parameters(), "the shapes must be the same"
        if compiled:
            ours.compile_layers()
        called = torch.compile(theirs) if compiled else theirs

        def their_loss(x: Tensor, y: Tensor, called: Callable[..., object] = called) -> Tensor:
            logits: Tensor = called(input_ids=x).logits  # type: ignore[attr-defined]
            return F.cross_entropy(logits.float().flatten(0, 1), y.flatten())

        def our_loss(x: Tensor, y: Tensor, ours: LanguageModel = ours) -> Tensor:
            total: Tensor = ours(x, labels=y)[0]
            return total / y.numel()

        yield Entry(f"Hugging Face {family}", theirs, their_loss), Entry(f"ours {family}", ours, our_loss)


def matrix_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of a square matrix product, the best of some."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def run_mode(mode: str, options: argparse.Namespace) -> None:
    """All models in turns, `rounds` times after a step that is not counted; prints a row for each."""
    bf16, compiled = mode.startswith("bf16"), mode.endswith("compiled")
    rate = matrix_rate(torch.bfloat16 if bf16 else torch.float32)
    shape = (options.rounds + 1, options.batch, options.seq_len + 1)
    data = torch.randint(0, options.vocab, shape, generator=torch.Generator().manual_seed(1))
    pairs = list(entries(options, compiled))
    for batch in data:
        for entry in (entry for pair in pairs for entry in pair):
            entry.step(batch, bf16)
    must, goal = BARS[mode]
    print(f"\n{mode}: matrix product {rate / 1e9:.0f} GFLOP/s; bars for ours llama: must {must:.2f}, goal {goal:.2f}")
    columns = ("tokens/s", "per CPU s", "ratio", "CPU", "share", "loss", "1st step")
    print(("{:22} {:>9} {:>9} {:>6} {:>6} {:>6} {:>8} {:>8}").format("model", *columns))
    for family, (theirs, ours) in zip(options.families, pairs, strict=True):
        flops = flops_per_token(shape_of(family, options), options.seq_len)
        for entry in (theirs, ours):
            print_row(entry, theirs, options.batch * options.seq_len, flops / rate)


def print_row(entry: Entry, reference: Entry, tokens: int, seconds_per_token: float) -> None:
    """Speed of one model, and its ratios to the reference; the first step is left out, for it compiles."""
    wall, cpu = tokens / statistics.median(entry.wall[1:]), tokens / statistics.median(entry.cpu[1:])
    ratios = (
        statistics.median(r / e for r, e in zip(a[1:], b[1:], strict=True))
        for a, b in ((reference.wall, entry.wall), (reference.cpu, entry.cpu))
    )
    print(f"{entry.name:22} {wall:9.0f} {cpu:9.0f} {next(ratios):6.2f} {next(ratios):6.2f} "
          f"{wall * seconds_per_token:6.0%} {entry.last_loss:8.4f} {entry.wall[0]:6.1f} s", flush=True)  # fmt: skip


def main(options: argparse.Namespace) -> None:
    """All modes, one after the other."""
    torch.set_num_threads(options.threads)
    tuned = all(os.environ.get(name) == value for name, value in TUNED.items())
    print(f"{options.layers} layers, {options.width} wide, feed-forward {options.ffn} (gpt_neo {4 * options.width}), "
          f"{options.heads} heads, vocabulary {options.vocab}, {options.batch} x {options.seq_len} tokens a step, "
          f"{options.threads} threads, torch {torch.__version__}")  # fmt: skip
    print(f"malloc: {' '.join(f'{k}={v}' for k, v in TUNED.items()) if tuned else 'as it is'}")
    print(f"ours: {attention.describe()}; {loss.describe()}")
    for family in options.families:
        flops = flops_per_token(shape_of(family, options), options.seq_len)
        print(f"model FLOPs per token, {family}: {flops / 1e6:.1f} million")
    for mode in options.modes:
        run_mode(mode, options)
        torch.compiler.reset()


if __name__ == "__main__":
    main(_options)
