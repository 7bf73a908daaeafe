"""A recipe's real steps on this machine: python -m mindllm.pretrain, stopped half-way by SIGTERM and started again.

    python bench/gpu_run.py --config configs/pretrain/mindllm-1.3b.yaml --batch-size 64      one GPU, 50 steps
    python bench/gpu_run.py --cpu                                                            does the script work here?

Data are random ids in shards of both languages: speed, memory and checkpoints do not depend on what they mean.
Prints the run's own lines, then one table: tokens a second, MFU, share of time waiting for data, memory, what a
checkpoint cost, and whether the losses after the stop equal those of a run that was not stopped (--straight). The exit
code is 1 if they do not. Needs this project's dependencies, deepspeed among them. disk: 14 bytes a parameter and
checkpoint, two of them.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
from rich.console import Console
from rich.table import Table

TINY = ["seq_len=64", "model.hidden_size=64", "model.num_layers=2", "model.num_heads=4", "model.vocab_size=8192",
        "model.max_position_embeddings=64", "train.compile=false", "train.micro_batch_size=2"]  # fmt: skip
TOKENS = 4_000_000  # of each source


def write_inputs(folder: Path) -> None:
    """A small tokenizer, and shards of random ids of it for two sources, with held-out parts."""
    from mindllm.shards import ShardWriter
    from mindllm.stage import write_json
    from mindllm.tokenizer import load_tokenizer
    from mindllm.tokenizer.config import TokenizerConfig
    from mindllm.tokenizer.train import train

    write_documents(folder / "refine")
    train(TokenizerConfig(documents=str(folder / "refine"), out=str(folder / "tokenizer"), vocab_size=4096))
    tokenizer = load_tokenizer(folder / "tokenizer")
    random = np.random.default_rng(1)
    for source in ("random-en", "random-zh"):
        for split, tokens in (("train", TOKENS), ("valid", TOKENS // 20)):
            writer = ShardWriter(folder / "shards" / source / split, tokenizer.vocab_size, tokenizer.eos_id,
                                 tokenizer.fingerprint)  # fmt: skip
            for _ in range(tokens // 1000):
                ids = random.integers(300, tokenizer.vocab_size, 1000)
                writer.add(ids, 3 * len(ids), source[-2:])
            writer.finish()
    write_json(folder / "shards" / "meta.json", {"hash": "random", "counts": {}})


def write_documents(folder: Path) -> None:
    """The samples' prose as the tokenizer stage reads it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mindllm.stage import write_json

    folder.mkdir(parents=True)
    texts = [common.read_text(path) for path in common.text_files([common.SAMPLE_TEXTS])]
    lang = ["zh" if any("一" <= c <= "鿿" for c in text) else "en" for text in texts]
    pq.write_table(pa.table({"lang": lang, "id": [str(i) for i in range(len(texts))], "text": texts}),
                   folder / "0.parquet")  # fmt: skip
    write_json(folder / "meta.json", {"hash": "samples"})


def words(folder: Path, out: str, options: argparse.Namespace) -> list[str]:
    """The command line of the run."""
    from mindllm.config import load
    from mindllm.plan import with_vocabulary
    from mindllm.plan.hardware import DEFAULT_VOCAB_SIZE
    from mindllm.pretrain import PretrainConfig

    half, config = options.steps // 2, load(PretrainConfig, options.config, [])
    vocabulary = with_vocabulary(config.model, config.hardware.vocab_size or DEFAULT_VOCAB_SIZE, "").vocab_size
    values = {
        "model.vocab_size": vocabulary,  # the recipe's, not that of the small tokenizer: the head is a part of the cost
        "run": folder, "out": folder / out, "max_epochs": 1000, "valid_samples": 8,
        "train.steps": options.steps, "train.warmup_steps": min(10, half), "train.batch_size": options.batch_size,
        "train.eval_every": half, "train.save_every": half, "train.keep_last": 1, "train.keep_every": 0,
        "train.keep_best": 0, "train.samples_every": 0, "train.log_every": 1,
    }  # fmt: skip
    changes = [f"{key}={value}" for key, value in values.items()] + (TINY if options.cpu else []) + options.set
    return [sys.executable, "-m", "mindllm.pretrain", options.config, *changes]


def run(command: list[str], out: Path, stop_at: int = 0) -> tuple[int, float]:
    """Run to the end, or until metrics.jsonl has step `stop_at` (then SIGTERM); returns (exit code, seconds)."""
    from mindllm.metrics.read import read_metrics

    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=common.ROOT)
    while process.poll() is None:
        time.sleep(0.05)
        lines = read_metrics(out / "metrics.jsonl") if stop_at else []
        if lines and lines[-1]["step"] >= stop_at:
            process.send_signal(signal.SIGTERM)
            stop_at = 0
    return process.returncode, time.perf_counter() - began


def figures(out: Path) -> dict[str, str]:
    """What the run wrote about itself; medians leave the steps that compile out of account."""
    from mindllm.metrics.read import read_metrics

    lines = read_metrics(out / "metrics.jsonl")

    def median(key: str) -> float:
        values: list[Any] = [line[key] for line in lines if key in line]
        return float(statistics.median(values)) if values else float("nan")

    mfu = median("mfu")
    stalls = [line["save_stall"] for line in lines if "save_stall" in line]
    return {
        "tokens a second": f"{median('tokens_per_second'):,.0f}", "MFU": f"{mfu:.1%}" if mfu == mfu else "n/a",
        "waiting for data": f"{median('data_wait'):.2%}", "memory, GiB": f"{median('memory_gib'):.1f}",
        "stalls of checkpoints, s": ", ".join(f"{stall:.2f}" for stall in stalls),
    }  # fmt: skip


def losses(out: Path) -> list[float]:
    """The loss of every step."""
    from mindllm.metrics.read import read_metrics

    return [line["loss"] for line in read_metrics(out / "metrics.jsonl") if "loss" in line]


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/pretrain/mindllm-1.3b.yaml")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64, help="sequences a step")
    parser.add_argument("--straight", action="store_true", help="a second run that is not stopped, to compare with")
    parser.add_argument("--cpu", action="store_true", help="a tiny shape")
    parser.add_argument("set", nargs="*", help="more key=value for the run")
    options = parser.parse_args()
    if options.cpu:
        options.steps, options.batch_size = 60, min(options.batch_size, 4)  # long enough to be stopped half-way
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder)
        command, out = words(folder, "stopped", options), folder / "stopped"
        first = run(command, out, stop_at=options.steps // 2 + 2)
        if first[0] == 0 and (out / "meta.json").exists():
            print("the run had ended before it could be stopped; take more --steps", file=sys.stderr)
            return 1
        second = run(command, out)
        table = Table("figure", "value", title=f"{options.config}, {options.steps} steps, stopped once")
        table.add_row("exit codes, seconds", f"{first[0]} in {first[1]:.0f}, {second[0]} in {second[1]:.0f}")
        for key, value in figures(out).items():
            table.add_row(key, value)
        same = True
        if options.straight:
            run(words(folder, "straight", options), folder / "straight")
            same = losses(folder / "straight") == losses(out)
            table.add_row("losses equal those of a run that was not stopped", str(same))
        Console().print(table)
        return 0 if same and first[0] == second[0] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
