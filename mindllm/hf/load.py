"""A Hugging Face folder as one of our models: Llama, Mistral without a window, Qwen2, Gemma, our MiniMax, GPT-Neo.

transformers is not imported. Every weight of the model has to be in the files, with its shape, and nothing else: all
that does not fit is named at once. memory: the model in fp32, and one tensor. slow: as the disk, 1 GB/s or so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mindllm.config import UserError
from mindllm.hf.names import HEAD, embedding_name, to_ours
from mindllm.hf.shape import read_config, read_values
from mindllm.hf.weights import read_weights, weight_files
from mindllm.models import MODELS, LanguageModel, MindLLMConfig, ModelConfig

_SMALL = 10_000_000  # weights that may be made whatever the files hold
_SHOWN = 8  # weights that do not fit, in a message
_DRAWS = ("normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_",
          "xavier_normal_")  # fmt: skip


def load_model(folder: str | Path) -> LanguageModel:
    """The model in a folder: fp32, CPU, eval mode. Raises UserError where it cannot be computed or does not fit."""
    config = read_config(folder)
    _check_size(folder, config)
    model = empty_model(config)
    fill(model, folder_weights(folder, config), str(folder))
    return model.eval()


def _check_size(folder: str | Path, config: ModelConfig) -> None:
    """Raises UserError where the files cannot hold such a model, before memory is taken for what config.json claims."""
    if isinstance(config, MindLLMConfig):
        layer = 3 * config.intermediate_size * config.hidden_size
    else:
        layer = 2 * (config.intermediate_size or 4 * config.hidden_size) * config.hidden_size
    least = config.vocab_size * config.hidden_size + config.num_hidden_layers * layer  # weights, of a byte or more
    size = sum(path.stat().st_size for path in weight_files(folder))
    if size < least and least > _SMALL:  # of a small one, `fill` names the weights that are missing
        raise UserError(
            f"{folder}: config.json is of a model of more than {least:,} weights, but the weight files have {size:,} "
            "bytes; they do not belong together, or a file is not complete (a pointer of Git LFS?)"
        )


def folder_weights(folder: str | Path, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """A folder's weights by our names; a tied head is left out. Raises UserError for one that is not its embedding."""
    head: Tensor | None = None
    table: Tensor | None = None
    for name, tensor in to_ours(read_values(folder)["model_type"], config, read_weights(folder)):
        if config.tie_word_embeddings and name == HEAD:
            head = tensor
            continue
        if name == embedding_name(config):
            table = tensor
        yield name, tensor
    if head is not None and table is not None and not torch.equal(head, table):
        raise UserError(
            f"{folder}: tie_word_embeddings is true, but {HEAD} and {embedding_name(config)} are different; "
            "if the head is meant, set it to false in config.json"
        )


@torch.no_grad()
def fill(model: LanguageModel, weights: Iterable[tuple[str, Tensor]], where: str) -> None:
    """Copy weights into a model, by name. Raises UserError, which names all that is missing, strange or misshapen."""
    room = dict(model.named_parameters())  # a tied head is not listed again
    filled: set[str] = set()
    problems: list[str] = []
    for name, tensor in weights:
        if name not in room:
            problems.append(f"{name}: the model has no such weight")
        elif tensor.shape != room[name].shape:
            problems.append(f"{name}: {tuple(tensor.shape)}, where the model has {tuple(room[name].shape)}")
        elif not tensor.is_floating_point():
            problems.append(f"{name}: {tensor.dtype}, which is no floating point (quantised?)")
        else:
            room[name].copy_(tensor)
        filled.add(name)
    problems += [f"{name}: missing" for name in room if name not in filled]
    if problems:
        lines = [*problems[:_SHOWN], *([f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else [])]
        raise UserError(f"{where}: the weights do not fit the model\n" + "\n".join(f"  {line}" for line in lines))


def empty_model(config: ModelConfig) -> LanguageModel:
    """A model (fp32, CPU) whose weights hold anything: made at once, to be filled."""
    with _Undrawn():
        model: LanguageModel = MODELS[config.model_type](config)
    return model


class _Undrawn(TorchFunctionMode):
    """Inside, weights are not drawn at random: that takes 10 s for a billion, and they are about to be replaced."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
