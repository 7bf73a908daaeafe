"""A training that starts from the weights of a Hugging Face folder, with its tokenizer or with that one enlarged.

The shape has to be the folder's; the rows of the embedding and of the head follow the tokenizer: rows of old tokens are
the folder's, bit by bit, rows of tokens that an enlarged tokenizer added are means of them (models/vocabulary.py), and
rows that only pad the table stay as they were initialised. Which tokens the weights were trained with cannot be seen
from the numbers, so ids are compared where the folder has a tokenizer, and it is said loudly where it has none.
memory: the table once more, in fp32.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindllm.config import UserError
from mindllm.hf.load import fill, folder_weights
from mindllm.hf.names import HEAD, embedding_name
from mindllm.hf.shape import read_config, read_limited
from mindllm.models import GPTNeoConfig, LanguageModel, MindLLMConfig, ModelConfig
from mindllm.models.vocabulary import Replaced, grown_rows, load_replaced
from mindllm.stage import differences
from mindllm.tokenizer import load_tokenizer
from mindllm.tokenizer.fast import FAST_FILE, REPLACED_FILE

_FREE = ("vocab_size", "vocab_multiple", "initializer_range", "tie_word_embeddings")  # may differ; see _shape
_MAX_PADDING = 1024  # a table of as many more rows than the tokenizer has entries may be a padded one


def start_from(model: LanguageModel, folder: str | Path, tokenizer_folder: str | Path) -> None:
    """Fill `model` with a folder's weights; rows of new tokens as the enlarged tokenizer says.

    Raises UserError when the model has another shape, or the tokenizer is not (an enlarged form of) the folder's.
    """
    ours: Any = model.config
    theirs = read_config(folder)
    _check_shape(ours, theirs, folder)
    size, replaced = _tokens(theirs, folder, tokenizer_folder)
    fill(model, _with_rows(model, ours, theirs, folder, size, replaced), str(folder))


def _with_rows(
    model: LanguageModel,
    ours: ModelConfig,
    theirs: ModelConfig,
    folder: str | Path,
    size: int,
    replaced: Replaced | None,
) -> Iterator[tuple[str, Tensor]]:
    """The folder's weights with tables as long as the model's; a head of its own from a tied one is a copy."""
    table, room = embedding_name(theirs), dict(model.named_parameters())
    for name, tensor in folder_weights(folder, theirs):
        if name not in (table, HEAD):
            yield name, tensor
            continue
        rows = tensor.float()
        if replaced is not None:
            rows = grown_rows(rows[: replaced.base_vocab_size], replaced)
        for target in (name, HEAD) if theirs.tie_word_embeddings and not ours.tie_word_embeddings else (name,):
            own = room[target].detach()
            assert len(own) >= size, "the model has fewer rows than the tokenizer has entries"
            yield target, torch.cat([rows[: len(own)], own[len(rows) :].float()])


def _check_shape(ours: ModelConfig, theirs: ModelConfig, folder: str | Path) -> None:
    """Raises UserError that lists all differences and shows what to write instead."""
    lines = list(differences(_shape(theirs), _shape(ours)))
    if theirs.model_type == ours.model_type and ours.tie_word_embeddings and not theirs.tie_word_embeddings:
        lines.append("tie_word_embeddings: false -> true")
    if lines:
        listed = "\n".join(f"  {line}" for line in lines)
        raise UserError(
            f"init_from: {folder} has another shape than the config's model (there -> here):\n{listed}\n"
            f"This is the folder's, for the config (vocab_size 0: the tokenizer's):\n{model_block(theirs)}"
        )


def _shape(config: ModelConfig) -> dict[str, Any]:
    """All that has to be the same, without what stands for something else."""
    values = {name: value for name, value in asdict(config).items() if name not in _FREE}
    if isinstance(config, MindLLMConfig):
        del values["max_position_embeddings"]  # no weights belong to rotary positions
        values["head_dim"] = config.head_size
        scaling = {k: v if isinstance(v, str) else float(v) for k, v in sorted(values["rope_scaling"].items())}
        values["rope_scaling"] = {} if scaling.get("rope_type") == "default" else scaling
    elif isinstance(config, GPTNeoConfig):
        values["intermediate_size"] = config.intermediate_size or 4 * config.hidden_size
        kinds = config.attention_types
        values["attention_types"] = ", ".join(kinds[i % len(kinds)] for i in range(config.num_layers))
    return values


def model_block(config: ModelConfig) -> str:
    """The `model:` block of a config for this shape; vocab_size 0 stands for the tokenizer's."""
    values = {**asdict(config), "vocab_size": 0}
    return "\n".join(["model:", *(f"  {name}: {json.dumps(value)}" for name, value in values.items())])


def _tokens(theirs: ModelConfig, folder: str | Path, tokenizer_folder: str | Path) -> tuple[int, Replaced | None]:
    """Entries of the tokenizer, and how its new ones are made (None: it has no others than the weights)."""
    size = load_tokenizer(tokenizer_folder).vocab_size
    known, enlarged = token_names(Path(folder)), (Path(tokenizer_folder) / REPLACED_FILE).exists()
    replaced = load_replaced(tokenizer_folder) if enlarged else None
    if replaced is not None and known is None and theirs.vocab_size >= size:
        raise UserError(
            f"init_from: {folder} has {theirs.vocab_size} rows and no {FAST_FILE}, so nobody can tell whether they are "
            f"of the enlarged tokenizer {tokenizer_folder} or padding; put the tokenizer of the weights beside them"
        )
    if replaced is not None and (theirs.vocab_size >= size if known is None else len(known) >= size):
        replaced = None  # the weights know all of its tokens
    wanted = replaced.base_vocab_size if replaced else size
    if theirs.vocab_size < wanted or (known is None and theirs.vocab_size - wanted >= _MAX_PADDING):
        raise UserError(
            f"init_from: {folder} has rows for {theirs.vocab_size} tokens, but {tokenizer_folder} "
            f"{'was enlarged from' if replaced else 'has'} {wanted}: the weights belong to another tokenizer. Train on "
            "the tokens of theirs, or enlarge it (kind: enlarged, base: FOLDER)"
        )
    if known is not None:
        _check_ids(known, wanted, folder, tokenizer_folder)
    if os.environ.get("RANK", "0") == "0":  # the launcher's; one message is enough
        _say(theirs, folder, tokenizer_folder, size, wanted, known is not None)
    return size, replaced


def _check_ids(known: dict[int, str], wanted: int, folder: str | Path, tokenizer_folder: str | Path) -> None:
    """Raises UserError when the first `wanted` ids do not stand for the same tokens in both folders."""
    ours = token_names(Path(tokenizer_folder)) or {}
    wrong = [i for i in range(wanted) if known.get(i) != ours.get(i)]
    wrong += sorted(i for i in known if i >= wanted)
    if wrong:
        i = wrong[0]
        raise UserError(
            f"init_from: {len(wrong)} ids stand for other tokens in {folder} than in {tokenizer_folder}; the first, "
            f"{i}, for {known.get(i)!r} there and {ours.get(i)!r} here. The weights were trained with another tokenizer"
        )


def _say(
    theirs: ModelConfig, folder: str | Path, tokenizer_folder: str | Path, size: int, wanted: int, compared: bool
) -> None:
    new = f", {size - wanted} new ones start as means of old rows" if size > wanted else ""
    padded = f", {theirs.vocab_size - wanted} rows of padding are not used" if theirs.vocab_size > wanted else ""
    print(f"init_from: weights of {folder}; {wanted} tokens of {tokenizer_folder}{new}{padded}", flush=True)
    if not compared:
        print(
            f"init_from: WARNING: {folder} holds no {FAST_FILE} or vocab.json, so nobody can tell whether its weights "
            f"were trained with the tokenizer in {tokenizer_folder}, which is taken",
            flush=True,
        )


def token_names(folder: Path) -> dict[int, str] | None:
    """id -> token of the tokenizer.json in a folder, else of its vocab.json; None without both. Raises UserError."""
    fast, vocab = folder / FAST_FILE, folder / "vocab.json"
    try:
        if fast.exists():
            state = read_limited(fast)
            entries, added = state["model"]["vocab"], state.get("added_tokens") or []
            names = {i: token for token, i in entries.items()} if isinstance(entries, dict) else dict(
                enumerate(piece for piece, _ in entries))  # fmt: skip
            return {**names, **{token["id"]: token["content"] for token in added}}
        if vocab.exists():
            more = folder / "added_tokens.json"
            found = {**read_limited(vocab), **(read_limited(more) if more.exists() else {})}
            return {i: token for token, i in found.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{fast if fast.exists() else vocab}: damaged ({type(error).__name__}: {error})") from None
    return None
