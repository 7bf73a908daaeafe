"""Pre-training: a MindLLM decoder on a mixture of token shards, under DeepSpeed.

Start it as `python -m mindllm.pretrain CONFIG` for one process, or for several as `deepspeed --num_gpus N
--no_local_rank --module mindllm.pretrain CONFIG`. It resumes by itself from what the run folder holds.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mindllm import attention, training_data
from mindllm import engine as door
from mindllm import loss as loss_head
from mindllm.checkpoint import folder_name
from mindllm.cli import Verb, main
from mindllm.config import UserError
from mindllm.hf import start_from, weights_fingerprint
from mindllm.host import has_bf16
from mindllm.metrics.board import require_wandb
from mindllm.metrics.flops import flops_per_token
from mindllm.mixture import Mixture, MixtureBatches, PhaseConfig
from mindllm.mixture.phases import sequence_problems
from mindllm.models import MODELS
from mindllm.models.gpt_neo import GPTNeoConfig
from mindllm.models.mindllm import MindLLMConfig
from mindllm.plan import HardwareConfig, check_batches, print_plan, with_vocabulary
from mindllm.stage import Stage, differences, held, indented, read_json, require
from mindllm.tokenizer import Tokenizer, load_tokenizer
from mindllm.train import NextToken, TrainConfig, changes, train, write_config
from mindllm.train.rehearsal import REHEARSAL_STEPS
from mindllm.train.samples import Samples, SamplesConfig
from mindllm.train.validation import validator
from mindllm.training_data import open_sources

LONG_RUN = 1000  # steps from which on a run rehearses saving, loading and validating after its first two


@dataclass
class PretrainConfig:
    """A pre-training run.

    shards: the shard stage's folder.  more_shards: prefix -> another one, whose sources are called PREFIX-SOURCE.
    out: the run folder.  seq_len: tokens a sample predicts.  phases: mixture weights over time.
    max_epochs: a source that would be repeated more often is an error.  max_epochs_by_source: for single ones.
    valid_samples: validation samples per source, at most.  mask_documents: a token sees its own document only, and
    positions begin anew in each.  init_from: a folder of a Hugging Face model whose weights the run starts from.
    samples: texts that the model continues every train.samples_every steps.  plan: show what the run needs, by the
    figures of `hardware`, and do nothing.  dry_run: two steps, one save and load, one validation in a folder that is
    removed again.  accept_changes: go on although sources,
    later phases, the length, the schedule or later batch sizes have changed; what was done before the newest checkpoint
    must not have.
    """

    run: str = "runs/demo"
    shards: str = "{run}/shards"
    more_shards: dict[str, str] = field(default_factory=dict)
    tokenizer: str = "{run}/tokenizer"
    out: str = "{run}/pretrain"
    seq_len: int = 256
    max_epochs: float = 4.0
    max_epochs_by_source: dict[str, float] = field(default_factory=dict)
    valid_samples: int = 64
    mask_documents: bool = False
    init_from: str = ""
    phases: list[PhaseConfig] = field(default_factory=lambda: [PhaseConfig()])
    model: MindLLMConfig | GPTNeoConfig = field(default_factory=MindLLMConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    plan: bool = False
    dry_run: bool = False
    accept_changes: bool = False
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work together, a line each."""
        if not 1 <= self.seq_len <= self.model.max_position_embeddings:
            limit = self.model.max_position_embeddings
            yield f"seq_len: {self.seq_len} is not between 1 and model.max_position_embeddings {limit}"
        if self.valid_samples < 1:
            yield "valid_samples: must be at least 1"
        for prefix in self.more_shards:
            if not re.fullmatch(r"[\w.-]+", prefix):
                yield f"more_shards: {prefix!r} is no name; letters of any script, digits, _ . and - are"
        limits = {f"max_epochs_by_source.{name}": limit for name, limit in self.max_epochs_by_source.items()}
        for key, epochs in {"max_epochs": self.max_epochs, **limits}.items():
            if not epochs > 0:
                yield f"{key}: {epochs} is not above 0"
        if self.force and self.accept_changes:
            yield "accept_changes and force: one goes on with what is there, the other throws it away; give one of them"
        yield from sequence_problems(self.phases)


def pretrain(config: PretrainConfig) -> int:
    """Pre-train a model on token shards (under the deepspeed launcher, or as one process)."""
    if config.plan:
        return print_plan(
            config,
            lambda tokenizer: open_mixture(config, tokenizer, show=True),
            lambda mixture: mixture.check_epochs(config.max_epochs, config.max_epochs_by_source),
        )
    if config.dry_run:  # a folder of its own, thrown away; nothing of it goes to a board elsewhere
        out = f"{config.out.rstrip('/')}.dry-run"
        config = replace(config, out=out, force=True, train=replace(config.train, wandb=""))
    for folder in shard_folders(config).values():
        require(folder, "python -m data_pipeline shard CONFIG")
    tokenizer = load_tokenizer(config.tokenizer)
    rank, world, device = door.init_distributed(config.train.hang_after)
    try:
        with contextlib.ExitStack() as until_end:
            return _run(config, tokenizer, rank, world, device, until_end)
    finally:
        door.shutdown()


def shard_folders(config: PretrainConfig) -> dict[str, str]:
    """Prefix of their sources -> shard stage folders; the first one's have none."""
    return {"": config.shards, **config.more_shards}


def _run(
    config: PretrainConfig, tokenizer: Tokenizer, rank: int, world: int, device: torch.device,
    until_end: contextlib.ExitStack,
) -> int:  # fmt: skip
    out = Path(config.out)
    _check(config, tokenizer, world)
    mixture = open_mixture(config, tokenizer, show=rank == 0)
    valid = open_sources(shard_folders(config), "valid", config.seq_len, tokenizer, show=rank == 0)
    mixture.check_epochs(config.max_epochs, config.max_epochs_by_source)
    record = json.loads(json.dumps(mixture.record()))
    prints = training_data.fingerprints
    inputs = {"sources": prints(mixture.sources), "valid": prints(valid), "tokenizer": tokenizer.fingerprint}
    if config.init_from:
        inputs["init_from"] = weights_fingerprint(config.init_from)
    stage = Stage(out, "pretrain", identity(config), inputs, place="out=... (or run=...)")
    sample = _sampler(config, tokenizer)
    if not _start(stage, record, config, rank, world, until_end):
        return 0
    if sample is not None and rank == 0:
        sample.open(out, changes.newest_progress(out).step)
    torch.manual_seed(config.train.seed)
    model = MODELS[config.model.model_type](config.model)
    if config.init_from:
        start_from(model, config.init_from, config.tokenizer)
    if rank == 0:
        write_config(out, config)
        training_data.write_record(out, mixture, record, valid)
        training_data.print_mixture(mixture)
        _print_start(config, model.num_parameters(), world, device)
        if not valid:
            print("pretrain: no source holds a sample of held-out text; nothing will be validated", flush=True)
    batches = MixtureBatches(mixture, config.train.micro_batch_size, tokenizer.vocab_size)
    loss = next_token(config, tokenizer)
    validate = validator(
        valid, config.valid_samples, config.train.micro_batch_size, loss, tokenizer, rank, world, device,
        mixture=mixture, one_shape=config.train.compile,
    )  # fmt: skip
    result = train(
        model, batches, config.train, out,
        rank=rank, world=world, device=device,
        fingerprints={"model": asdict(config.model), "data": record},
        flops_per_token=flops_per_token(config.model, config.seq_len),
        validate=validate, sample=sample, loss=loss,
        rehearse=config.train.steps >= LONG_RUN, dry_run=config.dry_run,
    )  # fmt: skip
    if config.dry_run:
        if rank == 0:
            shutil.rmtree(out)
            through = result.progress.step >= min(REHEARSAL_STEPS, config.train.steps)
            state = "dry run done" if through else "stopped on request before the dry run was through"
            print(f"pretrain: {state}, {out} is removed; without dry_run=true the run begins", flush=True)
    elif rank == 0 and result.finished:
        stage.finish(**{"in": result.progress.tokens, "out": result.progress.step, "unit": "tokens -> steps",
                        "parameters": model.num_parameters(), "world": world, "zero_stage": config.train.zero_stage,
                        "checkpoint": folder_name(result.progress.step), **result.last_valid})  # fmt: skip
    elif rank == 0:
        print(f"pretrain: stopped on request and saved at step {result.progress.step}; "
              "the same command goes on from there", flush=True)  # fmt: skip
    return 0


def open_mixture(config: PretrainConfig, tokenizer: Tokenizer, show: bool) -> Mixture:
    """The run's data, in its order. Raises UserError where there is none."""
    sources = open_sources(shard_folders(config), "train", config.seq_len, tokenizer, show=show)
    if not sources:
        raise UserError(f"{config.shards}: no source holds a sample of {config.seq_len} tokens to train on")
    return Mixture(sources, config.phases, config.train.sizes_of_steps(), config.train.steps, config.train.seed)


def _check(config: PretrainConfig, tokenizer: Tokenizer, world: int) -> None:
    """What only the number of processes and the tokenizer decide. Takes the tokenizer's size for a vocabulary of 0."""
    check_batches(config.train, world)
    require_wandb(config.train.wandb)
    if config.train.compile and not torch.cuda.is_available() and shutil.which("g++") is None:
        raise UserError("train.compile: torch.compile needs g++ on a CPU, which is not here; set it to false")
    config.model = with_vocabulary(config.model, tokenizer.vocab_size, tokenizer.folder)


def identity(config: PretrainConfig) -> dict[str, Any]:
    """The settings that decide what comes out; not those about logging, saving and where things lie."""
    settings = {
        k: v
        for k, v in asdict(config).items()
        if k in ("seq_len", "mask_documents", "phases", "model", "train", "valid_samples")
    }
    for name in ("log_every", "eval_every", "save_every", "keep_last", "num_threads", "compile", "recompute_layers",
                 "peak_tflops", "prefetch", "samples_every", "keep_every", "keep_best", "async_save", "profile_step",
                 "wandb", "hang_after"):  # fmt: skip
        del settings["train"][name]
    for name in ("batch_ramp", "guard", "skip_steps"):  # a run from before there were these is the same run
        if settings["train"][name] == asdict(TrainConfig())[name]:
            del settings["train"][name]
    return settings


def _start(
    stage: Stage, record: dict[str, Any], config: PretrainConfig, rank: int, world: int,
    until_end: contextlib.ExitStack,
) -> bool:  # fmt: skip
    """Rank 0 looks at the folder for all, and holds it; every rank gets its answer, or its error.

    Raises UserError, too, on a rank that sees other data than rank 0: machines may hold copies of their own.
    """
    answer: bool | str = True
    if rank == 0:
        try:
            with contextlib.suppress(OSError):  # what is wrong with the place, Stage says better
                stage.folder.mkdir(parents=True, exist_ok=True)
                until_end.enter_context(held(stage.folder))
            answer = changes.start(stage, record, world, config.force, config.accept_changes)
        except UserError as error:
            answer = str(error)
    answer, theirs = door.from_rank_zero((answer, record))
    if isinstance(answer, str):
        raise UserError(answer if rank == 0 else "stopped, see rank 0")
    if theirs != record:
        lines = indented(list(differences(theirs, record)))
        raise UserError(f"rank {rank} finds other data in the shard folders than rank 0 (rank 0 -> here):\n{lines}")
    if answer:
        sees = (read_json(stage.folder / "plan.json") or {}).get("hash") == stage.plan["hash"]
        blind = [str(number) for number, seen in enumerate(door.from_every_rank(sees)) if not seen]
        if blind:
            raise UserError(
                f"{stage.folder}: rank {', '.join(blind)} does not see what rank 0 has written there; every process "
                "writes its part of a checkpoint into it, so it has to be on a file system that all machines share"
            )
    return answer


def _sampler(config: PretrainConfig, tokenizer: Tokenizer) -> Samples | None:
    """What writes texts on the way, where any are asked for."""
    if not config.train.samples_every or not config.samples.prompts:
        return None
    return Samples(config.samples, tokenizer, config.model.max_position_embeddings)


def next_token(config: PretrainConfig, tokenizer: Tokenizer) -> NextToken:
    """The loss of a run, in training and in validation."""
    return NextToken(tokenizer.eos_id if config.mask_documents else None)


def _print_start(config: PretrainConfig, parameters: int, world: int, device: torch.device) -> None:
    tokens = config.train.batch_size * config.seq_len
    print(f"pretrain: {parameters / 1e6:.2f}M parameters, {config.train.steps} steps of {tokens:,} tokens, "
          f"{world} process(es) on {device.type}, ZeRO-{config.train.zero_stage}, {config.train.precision}",
          flush=True)  # fmt: skip
    print(f"pretrain: attention by {attention.describe()}; loss by {loss_head.describe()}", flush=True)
    if device.type == "cpu" and config.train.precision == "bf16" and not has_bf16():
        print("pretrain: WARNING: this processor has no bf16 products and emulates them, many times slower than fp32; "
              "stop, and set train.precision=fp32", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main("python -m mindllm.pretrain", Verb(PretrainConfig, pretrain)))
