"""Quality at equal time: our recipe beside Hugging Face's Llama with the Trainer, on the same text, tokenizer, minutes.

    python bench/quality.py RUN [--minutes 15] [--hf-lr 1e-3,2e-3] [--hf-mode bf16] [--peer PYTHON] [--out FILE.png]

RUN holds tokenizer/ and shards/, as `make base-small` makes them. Ours is `python -m mindllm.pretrain` with --config;
theirs bench/quality_peer.py in the interpreter PYTHON (torch, transformers, accelerate): Llama of the same layers and
widths (SwiGLU, its own initial weights), AdamW, clipping to norm 1, cosine after a warm-up, on the same train text in
blocks that the Trainer shuffles. Where several learning rates or modes (fp32, bf16, fp32-compiled, bf16-compiled) are
given, each is tried: modes by speed, rates by bits per byte after an eighth of the minutes.

Both first run for --measure seconds; steps, and with them the schedule, are then chosen to end in time. Minutes are
those of steps, compiling, data and logging included; importing, validating and saving is not counted on either side.
All is judged afterwards by one function, eval's bits per byte: on every checkpoint with --curve-bytes of held-out text
a source, and at the end on --max-bytes. Ours is then the exported folder. --work keeps everything, result.json too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import common  # noqa: F401  the repository on Python's path
import numpy as np
import torch
import training
from common_judge import Held, bits_per_byte, draw, print_table, read_held

from eval.model_bits import open_model
from mindllm.config import load
from mindllm.models import MODELS
from mindllm.shards import Shards, list_split
from mindllm.tokenizer import load_tokenizer

MODES = ("fp32", "bf16", "fp32-compiled", "bf16-compiled")
Point = tuple[float, Path]  # minutes of steps until a checkpoint, its folder


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    first, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder with tokenizer/ and shards/")
    for name, default, text in (
        ("config", "configs/pretrain/base-small.yaml", "of ours"),
        ("minutes", 15.0, "of each training"),
        ("measure", 30.0, "seconds of each measurement of speed"),
        ("hf-lr", "2e-3", "one, or several to try"),
        ("hf-mode", "bf16", f"one, or several to try, of {', '.join(MODES)}"),
        ("hf-batch", 0, "sequences of a step; 0: as ours"),
        ("peer", sys.executable, "the peer's interpreter"),
        ("points", 8, "checkpoints of the curve"),
        ("curve-bytes", 4000, "of held-out text a source, for the curve"),
        ("max-bytes", 50000, "of held-out text a source, at the end"),
        ("threads", 2, "of both"),
        ("work", "", "RUN/quality by default; must not exist"),
        ("out", "", "PNG of the curve"),
    ):
        parser.add_argument(f"--{name}", default=default, type=type(default), help=f"{text} (default {default!r})")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of our config")
    options = parser.parse_args(arguments)
    options.work = Path(options.work or f"{options.run}/quality").resolve()
    options.hf_lr = [float(rate) for rate in options.hf_lr.split(",")]
    options.hf_mode = options.hf_mode.split(",")
    if unknown := set(options.hf_mode) - set(MODES):
        parser.error(f"--hf-mode: unknown {', '.join(sorted(unknown))}; there are {', '.join(MODES)}")
    if options.work.exists():
        parser.error(f"{options.work} exists; remove it or choose another --work")
    return options


def steps_in(seconds: Sequence[float], minutes: float) -> int:
    """Steps that fit into the minutes, by the seconds of measured ones, of which the first is slower (it compiles)."""
    return max(1, int((minutes * 60 - seconds[0]) / float(np.median(seconds[1:]))) + 1)


def minutes_of(seconds: Sequence[float], step: int) -> float:
    """Minutes of the first `step` steps."""
    return sum(seconds[:step]) / 60


def checkpoints(out: Path, name: str, seconds: Sequence[float]) -> list[Point]:
    """All of a run, by their steps: folders NAME-STEP."""
    folders = {int(folder.name.rpartition("-")[2]): folder for folder in out.glob(f"{name}-*") if folder.is_dir()}
    return [(minutes_of(seconds, step), folders[step]) for step in sorted(folders)]


class Ours:
    """Our recipe through its command line."""

    def __init__(self, options: argparse.Namespace):
        from mindllm.pretrain import PretrainConfig  # slow: DeepSpeed; --help does without

        self.options, self.sets = options, [f"run={options.run}", *options.set, f"train.num_threads={options.threads}"]
        self.config = load(PretrainConfig, options.config, self.sets)
        self.config.model.vocab_size = self.config.model.vocab_size or load_tokenizer(self.config.tokenizer).vocab_size

    def start(self, out: Path, steps: int, every: int) -> subprocess.Popen[bytes]:
        """A training in `out`; its schedule is stretched to the steps, the warm-up with it."""
        warmup = min(steps, round(self.config.train.warmup_steps * steps / self.config.train.steps))
        sets = {
            "out": out, "train.steps": steps, "train.warmup_steps": warmup, "train.eval_every": steps,
            "train.samples_every": 0, "train.save_every": every, "train.keep_every": every, "max_epochs": 1e9,
        }  # fmt: skip
        words = [sys.executable, "-m", "mindllm.pretrain", self.options.config, *self.sets]
        words += [f"{key}={value}" for key, value in sets.items()]
        return subprocess.Popen(words, cwd=common.ROOT, stdout=(self.options.work / f"{out.name}.log").open("wb"))

    def seconds(self, out: Path) -> list[float]:
        """Of every step so far: tokens by tokens a second."""
        path = out / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        rows = [row for row in rows if "tokens_per_second" in row]
        tokens = np.diff([0, *(row["tokens"] for row in rows)])
        return [float(n / row["tokens_per_second"]) for n, row in zip(tokens, rows, strict=True)]

    def measure(self) -> list[float]:
        """Seconds of steps, until there are --measure of them beside the first."""
        out = self.options.work / "ours-speed"
        process = self.start(out, 1_000_000, 1_000_000)
        while process.poll() is None and sum(self.seconds(out)[1:]) < self.options.measure:
            time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        if process.wait() or len(self.seconds(out)) < 3:
            raise SystemExit(f"{out}.log: our training failed, or made fewer than 3 steps in {self.options.measure} s")
        return self.seconds(out)

    def train(self, minutes: float) -> list[Point]:
        """The run; its checkpoints."""
        out, steps = self.options.work / "ours", steps_in(self.measure(), minutes)
        every = max(1, steps // self.options.points)
        if self.start(out, steps, every).wait():
            raise SystemExit(f"{out}.log: our training failed")
        words = [f"model={out}", f"out={out}-export", f"tokenizer={self.config.tokenizer}"]
        subprocess.run([sys.executable, "-m", "mindllm.export", "configs/export/default.yaml", *words], check=True,
                       cwd=common.ROOT, stdout=subprocess.DEVNULL)  # fmt: skip
        return checkpoints(out, "step", self.seconds(out))

    def open(self, folder: Path) -> Any:
        """A checkpoint as model_bits asks for it."""
        from mindllm.engine import load_weights

        model = MODELS[self.config.model.model_type](self.config.model)
        model.load_state_dict(load_weights(folder))
        return AsHuggingFace(model.eval())


class AsHuggingFace:
    """Our model, called as transformers' are."""

    def __init__(self, model: Any):
        self.model, self.device = model, torch.device("cpu")
        self.config = SimpleNamespace(get_text_config=lambda: model.config)

    def __call__(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
        return SimpleNamespace(logits=self.model(input_ids))

    def get_output_embeddings(self) -> None:
        """None: logits are taken as they come."""


class Theirs:
    """Hugging Face's Llama with the Trainer, in the peer's interpreter."""

    def __init__(self, options: argparse.Namespace, ours: Any):
        model = ours.model
        self.options, self.batch, self.recipe = options, options.hf_batch or ours.train.batch_size, ours.train
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                 "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings")  # fmt: skip
        self.shape = {name: getattr(model, name) for name in names} | {"use_cache": False}
        self.blocks = options.work / "blocks.npy"
        tokens = [
            np.asarray(d) for folder in list_split(Path(ours.shards), "train") for d in Shards(folder).documents()
        ]
        flat = np.concatenate(tokens)
        np.save(self.blocks, flat[: len(flat) // ours.seq_len * ours.seq_len].reshape(-1, ours.seq_len))

    def run(self, name: str, mode: str, rate: float, steps: int, limit: float = 0.0) -> tuple[Path, list[float]]:
        """A training; its folder and the seconds of its steps."""
        out = self.options.work / name
        out.mkdir(parents=True)
        trainer = {
            "per_device_train_batch_size": self.batch, "max_steps": steps, "learning_rate": rate,
            "warmup_steps": max(1, round(self.recipe.warmup_steps * steps / self.recipe.steps)) if not limit else 1,
            "lr_scheduler_type": "cosine", "weight_decay": 0.1, "adam_beta2": 0.95, "max_grad_norm": 1.0,
            "bf16": mode.startswith("bf16"), "torch_compile": mode.endswith("compiled"), "logging_steps": 10,
            "save_strategy": "no" if limit else "steps", "save_steps": max(1, steps // self.options.points),
        }  # fmt: skip
        settings = {"shape": self.shape, "trainer": trainer, "out": str(out), "blocks": str(self.blocks),
                    "threads": self.options.threads, "limit": limit}  # fmt: skip
        path = out / "settings.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        with (self.options.work / f"{name}.log").open("wb") as log:
            words = [self.options.peer, str(Path(__file__).with_name("quality_peer.py")), str(path)]
            if subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
                raise SystemExit(f"{log.name}: the peer failed (it needs torch, transformers and accelerate)")
        return out, json.loads((out / "times.json").read_text(encoding="utf-8"))["seconds"]

    def train(self, minutes: float, held: Held, eos: int) -> tuple[list[Point], dict[str, Any]]:
        """The run with the fastest mode and the best rate; its checkpoints and what was tried."""
        speeds = {mode: self.run(f"theirs-{mode}", mode, self.options.hf_lr[0], 1_000_000, self.options.measure)[1]
                  for mode in self.options.hf_mode}  # fmt: skip
        mode = max(speeds, key=lambda name: steps_in(speeds[name], minutes))
        tried = {}
        for rate in self.options.hf_lr if len(self.options.hf_lr) > 1 else []:
            out, seconds = self.run(f"theirs-{rate:g}", mode, rate, steps_in(speeds[mode], minutes / 8))
            tried[rate] = bits_per_byte(self.open(checkpoints(out, "checkpoint", seconds)[-1][1]), held, eos)["total"]
            print(f"theirs: learning rate {rate:g}: {tried[rate]:.4f} bits per byte", flush=True)
        rate = min(tried, key=lambda value: tried[value]) if tried else self.options.hf_lr[0]
        out, seconds = self.run("theirs", mode, rate, steps_in(speeds[mode], minutes))
        points = checkpoints(out, "checkpoint", seconds)
        return points, {"mode": mode, "rate": rate, "tried": tried}

    def open(self, folder: Path) -> Any:
        """A checkpoint of the Trainer."""
        import transformers

        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def main(options: argparse.Namespace) -> None:
    """Train both, one after the other; then judge."""
    options.work.mkdir(parents=True)
    ours = Ours(options)
    theirs = Theirs(options, ours.config)
    our_points = ours.train(options.minutes)
    exported, tokenizer = open_model(options.work / "ours-export")
    eos = tokenizer.eos_token_id
    curve_text = read_held(ours.config, tokenizer, options.curve_bytes)
    their_points, chosen = theirs.train(options.minutes, curve_text, eos)
    shutil.rmtree(options.work / "ours-speed", ignore_errors=True)
    curves = {
        name: [(when, bits_per_byte(side.open(folder), curve_text, eos)["total"]) for when, folder in points]
        for name, side, points in (("ours", ours, our_points), ("Llama, Trainer", theirs, their_points))
    }
    text = read_held(ours.config, tokenizer, options.max_bytes)
    final = bits_per_byte(exported, text, eos), bits_per_byte(theirs.open(their_points[-1][1]), text, eos)
    print_table(*final)
    for name, batch, points, model in (
        ("ours", ours.config.train.batch_size, our_points, exported),
        ("theirs", theirs.batch, their_points, theirs.open(their_points[-1][1])),
    ):
        steps = int(points[-1][1].name.rpartition("-")[2])
        tokens = steps * batch * ours.config.seq_len
        print(f"{name:6} {points[-1][0]:.1f} minutes, {steps} steps, {tokens:,} tokens, "
              f"{model.num_parameters() / 1e6:.2f}M parameters")  # fmt: skip
    print(f"theirs: {chosen['mode']}, learning rate {chosen['rate']:g}")
    record = {"ours": final[0], "theirs": final[1], "curves": curves, "chosen": chosen}
    (options.work / "result.json").write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
    if options.out:
        draw(options.out, curves)


if __name__ == "__main__":
    _options = parse()
    if any(os.environ.get(name) != value for name, value in training.TUNED.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | training.TUNED)
    main(_options)
