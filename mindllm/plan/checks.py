"""What would stop a run at its start, so that a plan and the run refuse the same things with the same words."""

from __future__ import annotations

from dataclasses import replace

from mindllm.config import UserError
from mindllm.models import ModelConfig
from mindllm.train.config import TrainConfig


def check_batches(train: TrainConfig, world: int) -> None:
    """Raises UserError, with the arithmetic and the ways out, where a batch cannot be dealt out evenly."""
    together = train.micro_batch_size * world
    for size in train.batch_sizes():
        if size % together:
            fitting = [n for n in range(1, world + 1) if size % (train.micro_batch_size * n) == 0]
            micro = [n for n in range(1, train.micro_batch_size + 1) if size % (n * world) == 0]
            below, above = size // together * together, -(-size // together) * together
            ways = [f"batches of {below} or {above}" if below else f"batches of {above}"]
            ways += [f"micro_batch_size {micro[-1]}"] if micro else []
            ways += [f"{fitting[-1]} processes"] if fitting else []
            raise UserError(
                f"train.batch_size {size} is no multiple of micro_batch_size {train.micro_batch_size} x {world} "
                f"processes = {together}; what would do: {', or '.join(ways)}"
            )


def with_vocabulary(model: ModelConfig, num_tokens: int, folder: object) -> ModelConfig:
    """The model with a vocabulary for so many tokens (of the tokenizer in `folder`), where it says 0.

    Raises UserError where it says too few.
    """
    size = model.vocab_size or -(-num_tokens // model.vocab_multiple) * model.vocab_multiple
    if size < num_tokens:
        raise UserError(
            f"model.vocab_size {size} is less than the {num_tokens} tokens of {folder}; 0 takes the tokenizer's"
        )
    return replace(model, vocab_size=size)
