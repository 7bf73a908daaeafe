"""Generation: tokens a second of mindllm.generate beside transformers' generate, the same random Llama, the same ids.

    python bench/generate.py [--batches 1 8] [--prompt 128] [--new 128] [--rounds 3] [--device cuda] [--dtype bfloat16]

Greedy, no end token, fp32 unless told. Both write the same prompts in turns, in one process, so that what disturbs the
machine hits both; times are medians. On a busy machine take --threads 1 and look at the ratio of processor seconds.
The ids of all rounds must be equal, or the exit code is 1 (in bfloat16, logits are often equal: only fp32 counts).
One minute on two free cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import common  # noqa: F401  puts the repository on Python's path
import torch
from rich.console import Console
from rich.table import Table

Ids = list[list[int]]


class Took(NamedTuple):
    """Seconds by the wall clock, and of processors."""

    wall: float
    cpu: float


def build(a: argparse.Namespace) -> tuple[Any, Any]:
    """Our pre-norm decoder with random weights, and transformers' Llama with the same."""
    from mindllm.hf.export import quiet, to_huggingface
    from mindllm.models import MindLLM, MindLLMConfig

    quiet()
    torch.manual_seed(1)
    config = MindLLMConfig(
        vocab_size=a.vocab, hidden_size=a.hidden, intermediate_size=8 * a.hidden // 3, num_hidden_layers=a.layers,
        num_attention_heads=a.heads, num_key_value_heads=a.heads, max_position_embeddings=a.prompt + a.new,
        residual="prenorm", initializer_range=0.1,
    )  # fmt: skip
    ours = MindLLM(config).eval()
    theirs = to_huggingface(config, ours.state_dict(), eos_id=1, pad_id=2)
    theirs.generation_config.eos_token_id = None  # write all tokens
    return (model.to(a.device, getattr(torch, a.dtype)) for model in (ours, theirs))  # type: ignore[return-value]


def timed(write: Callable[[], Ids], device: str) -> tuple[Took, Ids]:
    """What writing took, and what was written."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = write()
    if device == "cuda":
        torch.cuda.synchronize()
    return Took(time.perf_counter() - wall, time.process_time() - cpu), found


def compare(ours: Any, theirs: Any, batch: int, a: argparse.Namespace) -> tuple[list[tuple[Took, Took]], bool]:
    """What every round took both of us, and whether all ids were equal."""
    from mindllm.generate import Settings, generate

    prompts = torch.randint(3, a.vocab, (batch, a.prompt), generator=torch.Generator().manual_seed(batch))
    settings = Settings(temperature=0, max_new_tokens=a.new, batch_size=batch)

    def write_ours() -> Ids:
        return [written.ids for written in generate(ours, prompts.tolist(), settings)]

    def write_theirs() -> Ids:
        ids = prompts.to(a.device)
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=a.new, do_sample=False, pad_token_id=2
        )
        found: Ids = out[:, a.prompt :].tolist()
        return found

    rounds, same = [], True
    for _ in range(a.rounds + 1):
        (mine, ids), (others, their_ids) = timed(write_ours, a.device), timed(write_theirs, a.device)
        rounds.append((mine, others))
        same = same and ids == their_ids
    return rounds[1:], same  # the first one warms up


def main() -> int:
    """Print the table; 1 when ids differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    for name, value in {"prompt": 128, "new": 128, "rounds": 3, "threads": 2, "vocab": 8192, "hidden": 384, "layers": 6,
                        "heads": 6}.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    ours, theirs = build(a)
    title = f"greedy, {a.prompt} + {a.new} tokens, {a.hidden} x {a.layers}, {a.vocab:,} entries, {a.dtype}, {a.device}"
    table = Table("batch", "ours, tokens/s", "transformers", "ratio", "by CPU time", "ids", title=title)
    all_same = True
    for batch in a.batches:
        rounds, same = compare(ours, theirs, batch, a)
        rates = (batch * a.new / statistics.median(pair[i].wall for pair in rounds) for i in (0, 1))
        ratios = (statistics.median(others[i] / mine[i] for mine, others in rounds) for i in (0, 1))
        table.add_row(str(batch), *(f"{r:,.0f}" for r in rates), *(f"{r:.2f}" for r in ratios),
                      "equal" if same else "DIFFERENT")  # fmt: skip
        all_same = all_same and same
    Console().print(table)
    return 0 if all_same or a.dtype != "float32" else 1


if __name__ == "__main__":
    sys.exit(main())
