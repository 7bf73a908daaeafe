"""Whether a model can be run as one row in which tokens see what they are told to: by its settings, then by trying.

Positions and a mask must be all that tells tokens apart. That fails for layers that look back a fixed distance, for
recurrent layers, for positions that are counted from the mask (ALiBi) and for rotary scaling that changes with the
length. What settings do not tell is found by scoring a few tokens both ways, which takes some milliseconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from eval.scorer.row_model import RowModel
from eval.scorer.totals import NO_NUMBERS
from mindllm.config import RunFailed

_NEEDED = ("input_ids", "position_ids", "attention_mask", "past_key_values")
_ALIBI = ("bloom", "mpt")
_CHANGING_ROPE = ("dynamic", "longrope")
_MASKED_BY_US = ("eager", "sdpa")
_PROBE_TOKENS = 12
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError,
             ValueError)  # fmt: skip


def open_rows(model: Any, max_length: int, max_tokens: int | None) -> tuple[RowModel | None, str]:
    """The model for rows; or None, and a sentence for why tokens of several requests cannot share a row of it.

    Raises RunFailed for a model that does not compute numbers.
    """
    reason = _by_settings(model, max_length)
    if reason:
        return None, reason
    length = min(_PROBE_TOKENS, max_length)
    tokens = np.random.default_rng(1).integers(0, model.get_input_embeddings().weight.shape[0], (3, length))
    tokens[:, : length // 2] = tokens[0, : length // 2]
    whole, reason = _try(RowModel(model, max_tokens), tokens)
    if whole is None or _differs(model, whole, tokens):
        return None, reason or f"{type(model).__name__} computes other log-probabilities in our rows"
    parted, _ = _try(RowModel(model, max_tokens, parted=True), tokens)
    return RowModel(model, max_tokens, parted is not None and torch.equal(parted, whole)), ""


def _by_settings(model: Any, max_length: int) -> str | None:
    config = model.config.get_text_config()
    missing = [name for name in _NEEDED if name not in inspect.signature(model.forward).parameters]
    if missing or config.is_encoder_decoder:
        return f"{type(model).__name__} takes no {', '.join(missing) or 'single sequence'}"
    if config.model_type in _ALIBI or getattr(config, "alibi", False):
        return f"{config.model_type} counts positions from the mask (ALiBi)"
    if config._attn_implementation not in _MASKED_BY_US:
        return f"attention by {config._attn_implementation} takes no mask of our own; load with sdpa"
    if config.model_type == "gpt_neo":
        return None  # windows.py
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and window < max_length:
        return f"its layers look back {window} positions only"
    if kinds - ({"sliding_attention"} if window is not None else set()):
        return f"it has layers of {', '.join(sorted(kinds))}"
    rope = set(_rope_types(getattr(config, "rope_parameters", None))) & set(_CHANGING_ROPE)
    return f"its rotary positions change with the length ({', '.join(rope)})" if rope else None


def _rope_types(settings: Any) -> Iterator[str]:
    """Every rope_type in the settings, which may be one for each kind of layer."""
    if isinstance(settings, Mapping):
        yield from (str(value) for key, value in settings.items() if key == "rope_type")
        for value in settings.values():
            yield from _rope_types(value)


def _try(rows: RowModel, tokens: np.ndarray) -> tuple[torch.Tensor | None, str]:
    """Logits (3 * own, vocabulary) of sequences (3, length) that begin alike: the beginning goes into the cache, then
    all others stand side by side. Or None, and what went wrong."""
    shared, (num, length) = tokens.shape[1] // 2, tokens.shape
    own = length - shared
    block = torch.block_diag(*[torch.ones(own, own, device=rows.device).tril()] * num).bool()
    visible = torch.nn.functional.pad(block, (shared, 0), value=True)
    positions = np.tile(np.arange(shared, length), num)
    try:
        if shared:
            first = torch.ones(shared, shared, dtype=torch.bool, device=rows.device).tril()
            rows.run(tokens[0, :shared], np.arange(shared), first, np.zeros(0), 0)
        found = rows.run(tokens[:, shared:].reshape(-1), positions, visible, np.arange(len(positions)), shared)
        return rows.logits(found), ""
    except _FAILURES as error:  # any foreign model's code may run here
        return None, f"{type(rows.model).__name__} does not take our mask and cache: {type(error).__name__}: {error}"


def _differs(model: Any, found: torch.Tensor, tokens: np.ndarray) -> bool:
    """Whether the model alone, one sequence a pass, has other log-probabilities, beyond rounding. Raises RunFailed."""
    with torch.inference_mode():
        inputs = [torch.from_numpy(row)[None].to(model.device) for row in tokens]
        alone = torch.cat([model(ids).logits[0, tokens.shape[1] // 2 :] for ids in inputs]).float()
    if bool(alone.isnan().any()):
        raise RunFailed(NO_NUMBERS)
    difference = (found.log_softmax(-1) - alone.log_softmax(-1)).abs().max().item()
    exact = model.get_input_embeddings().weight.dtype in (torch.float32, torch.float64)
    return not difference < (1e-4 if exact else 0.1) * max(1.0, alone.abs().max().item())
