"""Verb train: learn a tokenizer from clean text (or adopt one), and write it for us and for Hugging Face.

The sample is counted, what learning will need is said and refused where the machine lacks it, then the kind's own
function learns. tokenizer.json is the last of the tokenizer's files: a folder that has it, or the model that it is made
from, is gone on with; a folder in which nothing has been learned yet is left empty by a refusal.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mindllm.config import UserError
from mindllm.stage import Stage, atomic, hash_file, is_temporary, require
from mindllm.tokenizer.adopt import adopt, adopted_plan
from mindllm.tokenizer.base import FILES, open_base
from mindllm.tokenizer.bytelevel import train_byte_level
from mindllm.tokenizer.config import ADOPTED, TokenizerConfig
from mindllm.tokenizer.encode import load_tokenizer
from mindllm.tokenizer.enlarge import train_enlarged
from mindllm.tokenizer.estimate import Needs, estimate, free_memory, peak_memory, refuse_too_much
from mindllm.tokenizer.fast import FAST_FILE, write_twin
from mindllm.tokenizer.pieces import MAX_LINE_BYTES, MODEL_FILE, train_model
from mindllm.tokenizer.sample import Sample, draw

SETTINGS = (
    "kind", "base", "new_tokens", "vocab_size", "sample_bytes", "character_coverage", "split_digits", "seed",
)  # fmt: skip  # all that the tokenizer's bytes depend on, besides the text


def train(config: TokenizerConfig) -> int:
    """Learn a tokenizer from clean text, or adopt one, and write it for us and for Hugging Face."""
    stage = Stage(config.out, "tokenizer", *(adopted_plan(config) if config.kind == ADOPTED else _plan(config)))
    if not stage.start(config.force):
        return 0
    with _nothing_left_of_a_refusal(stage.folder):
        counts = adopt(config.base, stage.folder) if config.kind == ADOPTED else _train(config, stage.folder)
    stage.finish(**counts)
    return 0


def _plan(config: TokenizerConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a tokenizer that is learned is made from: settings and inputs."""
    before = require(config.documents, "python -m data_pipeline refine CONFIG")
    settings = {key: getattr(config, key) for key in SETTINGS}
    return settings, {"documents": before["hash"], **_base_files(config)}


def _train(config: TokenizerConfig, folder: Path) -> dict[str, Any]:
    """Learn a tokenizer; the counts of meta.json."""
    if config.kind == "enlarged":
        open_base(config.base)  # a mistake in it is found before the text is read
    sample = draw(config)
    sample.print_table()
    needs = estimate(config.kind, sample.planned(), config.vocab_size or config.new_tokens)
    if not _is_learned(folder, config.kind):
        _announce(config, sample, needs)
    measured = _learn(folder, sample, config)
    tokenizer = load_tokenizer(folder)
    if config.vocab_size and tokenizer.vocab_size != config.vocab_size:
        raise RuntimeError(f"{folder}: {tokenizer.vocab_size} entries were made of {config.vocab_size}")
    counts = {"sample": sample.counts(), "cut_lines": sample.cut_lines, "estimate": vars(needs), "measured": measured}
    return {"in": sample.taken_bytes, "out": tokenizer.vocab_size, "unit": "bytes -> pieces", **counts}


def _is_learned(folder: Path, kind: str) -> bool:
    return (folder / (MODEL_FILE if kind == "sentencepiece" else FAST_FILE)).exists()


def _announce(config: TokenizerConfig, sample: Sample, needs: Needs) -> None:
    """Print what learning will need; raise UserError where there is less memory."""
    size, planned = config.vocab_size or config.new_tokens, sample.planned()
    print(f"tokenizer: learning {size:,} pieces from {sample.planned_bytes / 1e6:.1f} MB, about {needs}", flush=True)
    refuse_too_much(config.kind, planned, size, config.max_memory_gb, free_memory())


def _learn(folder: Path, sample: Sample, config: TokenizerConfig) -> dict[str, Any]:
    """Make the tokenizer's files where they are not there yet. What it took, if so; {} if they are."""
    if _is_learned(folder, config.kind):
        print(f"tokenizer: {folder} holds what was learned before; going on with it", flush=True)
        for _ in sample:  # only to count what it was learned from
            pass
        if config.kind == "sentencepiece":
            write_twin(folder)
        return {}
    start, start_cpu = time.perf_counter(), time.process_time()
    with _interruptible():
        _learner(config.kind)(folder, sample.texts() if config.kind == "byte-level" else iter(sample), config)
    sample.print_taken()
    took = Needs(peak_memory(), round(time.process_time() - start_cpu, 1))
    seconds = round(time.perf_counter() - start, 1)
    print(f"tokenizer: learned from {sample.taken_bytes / 1e6:.1f} MB, with {took}, {seconds:.0f} s by the clock")
    if sample.cut_lines:
        print(f"tokenizer: {sample.cut_lines:,} lines of more than {MAX_LINE_BYTES:,} bytes were cut", flush=True)
    return {**vars(took), "wall_seconds": seconds}


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the process at once. The libraries that learn would not hear of it until they are done, and what they
    learned would be lost then; files are written whole or not at all, so nothing half-made is left."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _learner(kind: str) -> Callable[[Path, Iterator[str], TokenizerConfig], None]:
    if kind == "sentencepiece":
        return _train_pieces
    return train_byte_level if kind == "byte-level" else train_enlarged


def _train_pieces(folder: Path, lines: Iterator[str], config: TokenizerConfig) -> None:
    model = train_model(lines, config.vocab_size, config.character_coverage, split_digits=config.split_digits)
    with atomic(folder / MODEL_FILE) as path:
        path.write_bytes(model)
    write_twin(folder)


def _base_files(config: TokenizerConfig) -> dict[str, Any]:
    """What a base in a folder holds, so that another one is seen; of a base on the hub the name has to do."""
    folder = Path(config.base).expanduser()
    files = {name: folder / name for name in FILES if config.base and (folder / name).is_file()}
    return {"base": {name: hash_file(path) for name, path in files.items()}} if files else {}


@contextlib.contextmanager
def _nothing_left_of_a_refusal(folder: Path) -> Iterator[None]:
    """Where the user has to change the config, the folder must not insist on the old one: if nothing was learned, its
    plan goes."""
    try:
        yield
    except UserError:
        if all(path.name == "plan.json" or is_temporary(path) for path in folder.iterdir()):
            (folder / "plan.json").unlink()
        raise
