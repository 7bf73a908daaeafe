"""Pre-training: a MindLLM decoder on a mixture of token shards, under DeepSpeed.

Start it as `python -m mindllm.pretrain CONFIG` for one process, or for several as `deepspeed --num_gpus N
--no_local_rank --module mindllm.pretrain CONFIG`. It resumes by itself from what the run folder holds.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from mindllm import attention, loss
from mindllm import engine as door
from mindllm.checkpoint import folder_name
from mindllm.cli import Verb, main
from mindllm.config import UserError
from mindllm.loss import IGNORED, num_targets
from mindllm.metrics import flops_per_token
from mindllm.mixture import Mixture, MixtureBatches, PhaseConfig
from mindllm.models import MODELS
from mindllm.models.mindllm import MindLLMConfig
from mindllm.shards import Shards
from mindllm.stage import Stage, require
from mindllm.tokenizer import Tokenizer, load_tokenizer
from mindllm.train import NextToken, TrainConfig, train, write_config


@dataclass
class PretrainConfig:
    """A pre-training run.

    shards: the shard stage's folder.  out: the run folder.  seq_len: tokens a sample predicts.
    phases: mixture weights over time.  max_epochs: a source that would be repeated more often is an error.
    valid_samples: validation samples per source, at most.
    """

    run: str = "runs/demo"
    shards: str = "{run}/shards"
    tokenizer: str = "{run}/tokenizer"
    out: str = "{run}/pretrain"
    seq_len: int = 256
    max_epochs: float = 4.0
    valid_samples: int = 64
    phases: list[PhaseConfig] = field(default_factory=lambda: [PhaseConfig()])
    model: MindLLMConfig = field(default_factory=MindLLMConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work together, a line each."""
        if not 1 <= self.seq_len <= self.model.max_position_embeddings:
            limit = self.model.max_position_embeddings
            yield f"seq_len: {self.seq_len} is not between 1 and model.max_position_embeddings {limit}"
        if self.valid_samples < 1:
            yield "valid_samples: must be at least 1"
        if not self.phases:
            yield "phases: at least one"
        ends = [p.until_step for p in self.phases]
        if any(e is None for e in ends[:-1]) or ends[-1:] != [None]:
            yield "phases: every phase but the last needs until_step, the last must not have one"
        elif sorted(set(ends[:-1])) != ends[:-1]:  # type: ignore[type-var]
            yield "phases: until_step must grow"


def pretrain(config: PretrainConfig) -> int:
    """Pre-train a model on token shards (under the deepspeed launcher, or as one process)."""
    before = require(config.shards, "python -m data_pipeline shard CONFIG")
    tokenizer = load_tokenizer(config.tokenizer)
    rank, world, device = door.init_distributed()
    try:
        return _run(config, before, tokenizer, rank, world, device)
    finally:
        door.shutdown()


def _run(
    config: PretrainConfig, before: dict[str, Any], tokenizer: Tokenizer, rank: int, world: int, device: torch.device
) -> int:
    out = Path(config.out)
    if config.train.batch_size % (config.train.micro_batch_size * world):
        raise UserError(
            f"train.batch_size {config.train.batch_size} is no multiple of micro_batch_size x {world} processes"
        )
    config.model.vocab_size = config.model.vocab_size or tokenizer.vocab_size
    if config.model.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"model.vocab_size {config.model.vocab_size} is less than the {tokenizer.vocab_size} tokens of "
            f"{tokenizer.folder}; 0 takes the tokenizer's"
        )
    sources = open_sources(Path(config.shards), "train", config.seq_len, tokenizer)
    mixture = Mixture(sources, config.phases, config.train.batch_size, config.train.seed)
    table = mixture.table(config.train.steps * config.train.batch_size, config.max_epochs)
    stage = Stage(out, "pretrain", identity(config), {"shards": before["hash"], "tokenizer": tokenizer.fingerprint})
    if not _start(stage, config.force, rank):
        return 0
    torch.manual_seed(config.train.seed)
    model = MODELS[config.model.model_type](config.model)
    if rank == 0:
        write_config(out, config)
        _print_start(config, model.num_parameters(), table, world, device)
    fingerprints = {"model": asdict(config.model), "sources": {n: s.fingerprint for n, s in sources.items()},
                    "world": world, "seed": config.train.seed, "seq_len": config.seq_len,
                    "batch_size": config.train.batch_size, "phases": [asdict(p) for p in config.phases]}  # fmt: skip
    valid = open_sources(Path(config.shards), "valid", config.seq_len, tokenizer)
    if not valid and rank == 0:
        print("pretrain: no source holds a sample of held-out text; nothing will be validated", flush=True)
    shape = config.model
    embedding = 0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size
    flops = flops_per_token(
        model.num_parameters(), embedding, shape.num_hidden_layers, shape.hidden_size, config.seq_len
    )
    result = train(
        model, MixtureBatches(mixture, config.train.batch_size, config.train.micro_batch_size), config.train, out,
        rank=rank, world=world, device=device, fingerprints=fingerprints, flops_per_token=flops,
        validate=validator(valid, config, tokenizer.token_bytes, rank, world, device),
    )  # fmt: skip
    if rank == 0 and result.finished:
        stage.finish(**{"in": result.progress.tokens, "out": result.progress.step, "unit": "tokens -> steps",
                        "parameters": model.num_parameters(), "world": world, "zero_stage": config.train.zero_stage,
                        "checkpoint": folder_name(result.progress.step), **result.last_valid})  # fmt: skip
    elif rank == 0:
        print(f"pretrain: stopped on request and saved at step {result.progress.step}; "
              "the same command goes on from there", flush=True)  # fmt: skip
    return 0


def identity(config: PretrainConfig) -> dict[str, Any]:
    """The settings that decide what comes out; not those about logging, saving and where things lie."""
    settings = {
        k: v for k, v in asdict(config).items() if k in ("seq_len", "phases", "model", "train", "valid_samples")
    }
    for name in ("log_every", "eval_every", "save_every", "keep_last", "num_threads"):
        del settings["train"][name]
    return settings


def _start(stage: Stage, force: bool, rank: int) -> bool:
    """Rank 0 looks at the folder for all; every rank gets its answer, or its error."""
    answer: bool | str = True
    if rank == 0:
        try:
            answer = stage.start(force)
        except UserError as error:
            answer = str(error)
    answer = door.from_rank_zero(answer)
    if isinstance(answer, str):
        raise UserError(answer if rank == 0 else "stopped, see rank 0")
    return answer


def open_sources(folder: Path, split: str, seq_len: int, tokenizer: Tokenizer) -> dict[str, Shards]:
    """The sources of a shard folder that hold at least one sample of `split`.

    Raises UserError for shards that another tokenizer made.
    """
    found = {p.parent.name: Shards(p, seq_len) for p in sorted(folder.glob(f"*/{split}")) if (p / "meta.json").exists()}
    for name, shards in found.items():
        if shards.meta["tokenizer"] != tokenizer.fingerprint:
            raise UserError(
                f"{shards.folder}: written with tokenizer {shards.meta['tokenizer']}, not {tokenizer.fingerprint} "
                f"({tokenizer.folder})"
            )
        if len(shards) == 0:
            print(
                f"{split}: source {name} has {shards.num_tokens} tokens, less than one sample of {seq_len}; left out",
                flush=True,
            )
    return {name: shards for name, shards in found.items() if len(shards)}


def validator(
    sources: dict[str, Shards],
    config: PretrainConfig,
    token_bytes: np.ndarray,
    rank: int,
    world: int,
    device: torch.device,
) -> Callable[[nn.Module], dict[str, float]]:
    """A function of the model: loss (nats per token) and bits per UTF-8 byte of held-out samples.

    Bits per byte also for each source. An eos counts in the nats and in the tokens, and stands for no byte.
    """
    next_token = NextToken()
    size = config.train.micro_batch_size

    def validate(model: nn.Module) -> dict[str, float]:
        model.eval()
        sums: list[float] = []
        for shards in sources.values():
            count = min(len(shards), config.valid_samples)
            mine = range(rank, -(-count // world) * world, world)  # as many on every rank: ZeRO-3 needs all for a pass
            nats, tokens, text = 0.0, 0, 0
            for start in range(0, len(mine), size):
                part = mine[start : start + size]
                batch = next_token.prepare(np.stack([shards[min(k, count - 1)].tokens for k in part]), device)
                labels = batch["labels"].cpu().numpy().copy()
                if part[-1] >= count:
                    labels[-1] = IGNORED  # a repeat that only fills up this rank's part
                    batch["labels"] = torch.from_numpy(labels).to(device)
                with torch.no_grad():
                    nats += float(next_token(model, batch)["loss"])
                tokens += num_targets(batch["labels"])
                text += int(token_bytes[labels[labels != IGNORED]].sum(dtype=np.int64))
            sums += [nats, tokens, text]
        model.train()
        totals = np.array(door.sum_over_processes(sums, device)).reshape(-1, 3)
        return _validation_lines(list(sources), totals)

    return validate


def _validation_lines(names: list[str], totals: np.ndarray) -> dict[str, float]:
    if not len(totals):
        return {}
    nats, tokens, text = totals.sum(axis=0)
    values = {"valid_loss": nats / tokens, "valid_bpb": nats / math.log(2) / text}
    return values | {
        f"valid_bpb/{name}": row[0] / math.log(2) / row[2] for name, row in zip(names, totals, strict=True)
    }


def _print_start(
    config: PretrainConfig, parameters: int, rows: list[dict[str, Any]], world: int, device: torch.device
) -> None:
    table = Table("source", "share", "tokens", "epochs", title="mixture")
    for row in rows:
        table.add_row(row["source"], f"{row['share']:.3f}", f"{row['tokens']:,}", f"{row['epochs']:.2f}")
    Console().print(table)
    tokens = config.train.batch_size * config.seq_len
    print(f"pretrain: {parameters / 1e6:.2f}M parameters, {config.train.steps} steps of {tokens:,} tokens, "
          f"{world} process(es) on {device.type}, ZeRO-{config.train.zero_stage}, {config.train.precision}",
          flush=True)  # fmt: skip
    print(f"pretrain: attention by {attention.describe()}; loss by {loss.describe()}", flush=True)


if __name__ == "__main__":
    sys.exit(main("python -m mindllm.pretrain", Verb(PretrainConfig, pretrain)))
