"""Bits that an exported model needs to tell documents: windows over long ones, batches by length, the head in parts.

Logits of a whole window are the largest thing here (32,768 positions and 150,000 tokens: 20 GB), so where the head
is a function of the last states alone, which a trial shows, it is applied to some positions at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

_POSITIONS = 1_024  # of which there are logits at a time; memory: this * V * 8 bytes
_TRIAL = 8  # positions
_NO_LIMIT = 2_048  # lm-eval's window for models without a limit
Head = Callable[[torch.Tensor], torch.Tensor]


class Window(NamedTuple):
    """Inputs begin..end-1 of one document's sequence; predictions from `first` on count, earlier ones did before."""

    document: int
    begin: int
    first: int
    end: int


def open_model(folder: str | Path) -> tuple[Any, Any]:
    """The exported model (eval mode, fp32, on a GPU where there is one) and its tokenizer. slow: some seconds."""
    from mindllm.hf.export import load_exported, quiet  # here, so that `report` does not wait for transformers

    quiet()
    model, tokenizer = load_exported(Path(folder))
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def list_windows(document: int, num_inputs: int, size: int) -> Iterator[Window]:
    """Windows of at most `size` inputs, half a window apart; together they predict each of the positions once."""
    stride, done = max(size // 2, 1), 0
    for begin in range(0, num_inputs, stride):
        end = min(begin + size, num_inputs)
        yield Window(document, begin, done, end)
        done = end
        if end == num_inputs:
            return


@torch.inference_mode()
def model_bits(
    model: Any, documents: Sequence[np.ndarray], eos: int, batch_size: int, begin: int | None = None
) -> np.ndarray:
    """float64 (num_documents,): bits to tell each document's tokens and its end, the first one after `begin` (None:
    `eos`).

    Windows are batched by length, so padding is short; it stands right of the text, where no prediction looks.
    """
    size, begin, head = context(model), eos if begin is None else begin, find_head(model)
    sequences = [torch.from_numpy(np.concatenate(([begin], d, [eos])).astype(np.int64)) for d in documents]
    windows = [w for i, s in enumerate(sequences) for w in list_windows(i, len(s) - 1, size)]
    windows.sort(key=lambda w: w.begin - w.end)  # longest first: the largest batch comes first, and fails first
    bits = np.zeros(len(documents))
    for start in range(0, len(windows), batch_size):
        batch = windows[start : start + batch_size]
        for window, value in zip(batch, _window_bits(model, head, batch, sequences), strict=True):
            bits[window.document] += value
    return bits


def context(model: Any) -> int:
    """How many positions a model has; of one without a limit as many as lm-eval takes."""
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or _NO_LIMIT)


@torch.inference_mode()
def find_head(model: Any) -> Head | None:
    """What makes logits of the base model's last states, some positions at a time; None where there is more to it.

    Some models scale or cap their logits afterwards: a trial on a few tokens tells.
    """
    head = model.get_output_embeddings()
    if head is None:
        return None
    tokens = torch.arange(_TRIAL, device=model.device)[None]
    states = getattr(model.base_model(input_ids=tokens, use_cache=False), "last_hidden_state", None)
    same = states is not None and torch.equal(head(states), model(input_ids=tokens, use_cache=False).logits)
    return head if same else None


def _window_bits(
    model: Any, head: Head | None, batch: Sequence[Window], sequences: Sequence[torch.Tensor]
) -> Iterator[float]:
    rows = [sequences[w.document][w.begin : w.end] for w in batch]
    inputs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)  # (B, T)
    if head is not None:
        found = model.base_model(input_ids=inputs, use_cache=False).last_hidden_state  # (B, T, H)
    else:
        found = model(input_ids=inputs, use_cache=False).logits  # (B, T, V)  memory: B*T*V*4 bytes
    for window, row in zip(batch, found, strict=True):
        states = row[window.first - window.begin : window.end - window.begin]
        targets = sequences[window.document][window.first + 1 : window.end + 1].to(row.device)
        yield sum(map(_nats, _logits(head, states), targets.split(_POSITIONS))) / float(np.log(2))


def _logits(head: Head | None, states: torch.Tensor) -> Iterator[torch.Tensor]:
    """float32 logits of positions, some at a time."""
    for some in states.split(_POSITIONS):
        yield (some if head is None else head(some)).float()


def _nats(logits: torch.Tensor, targets: torch.Tensor) -> float:
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return float(loss.double().sum())
