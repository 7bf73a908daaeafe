"""Greedy continuations of prompts in token ids: the beginning that prompts share is run once, then many are written.

Prompts are taken in the order of their ids, some at a time. What those begin with alike goes into the cache once and
stays there for the next ones as far as they share it (few-shot examples). Behind it lie the prompts' own tokens, and
what is written, all in one row of the cache: a token sees the shared ones and its own prompt's. Nothing is padded or
copied. Memory: slots of the cache for the shared tokens, and for each prompt its own and `max_new_tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from eval.scorer.row_model import RowModel
from eval.scorer.totals import NO_NUMBERS
from eval.scorer.tree import common
from mindllm.config import RunFailed

_SHARED = -1  # owner of the slots that every prompt sees
_NONE = -1  # place of the best logit among such as are no numbers
CPU_ROWS, GPU_ROWS = 8, 64  # prompts at a time: each sees its own tokens only, but is compared with all


class _Row:
    """The cache of a RowModel with an owner for every slot."""

    def __init__(self, model: RowModel) -> None:
        self.model = model
        self.shared = np.zeros(0, dtype=np.int32)  # tokens that all see
        self.owners = np.zeros(0, dtype=np.int64)

    def share(self, tokens: np.ndarray) -> None:
        """Make `tokens` what all prompts see, keeping what is there already, and nothing else."""
        kept = common(self.shared, tokens)
        self.shared, self.owners = tokens, self.owners[:kept]
        for at in range(kept, len(tokens), self.model.max_tokens):
            part = tokens[at : at + self.model.max_tokens]
            self.append(part, np.arange(at, at + len(part)), np.full(len(part), _SHARED), np.zeros(0, dtype=np.int64))

    def append(self, tokens: np.ndarray, positions: np.ndarray, owners: np.ndarray, wanted: np.ndarray) -> list[int]:
        """Run tokens of some owners behind the cache; the likeliest next token after each wanted one."""
        keep = len(self.owners)
        before = self.model.positions[:keep]
        self.owners = np.concatenate([self.owners, owners])
        own = (self.owners[None, :] == owners[:, None]) | (self.owners[None, :] == _SHARED)
        visible = own & (np.concatenate([before, positions])[None, :] <= positions[:, None])
        states = self.model.run(tokens, positions, torch.from_numpy(visible).to(self.model.device), wanted, keep)
        best, places = self.model.logits(states).max(dim=-1)  # of logits with a nan the best is one
        found: list[int] = places.masked_fill(best.isnan(), _NONE).tolist()  # sync: once a pass
        if _NONE in found:
            raise RunFailed(NO_NUMBERS)
        return found


def write_greedy(
    model: RowModel, prompts: Sequence[Sequence[int] | np.ndarray], max_new_tokens: int,
    done: Callable[[list[int]], bool], num_rows: int | None = None,
) -> list[list[int]]:  # fmt: skip
    """What the model writes after each prompt, in their order: up to `max_new_tokens` ids.

    done: whether a continuation, not empty, is at its end; its last token is kept.  num_rows: prompts at a time; None:
    8 on a CPU, 64 on a GPU.  Raises ValueError for an empty prompt, RunFailed where the model computes no numbers.
    """
    rows = [np.asarray(prompt, dtype=np.int32) for prompt in prompts]
    if not all(len(row) for row in rows):
        raise ValueError("an empty prompt has no token to continue from")
    order = sorted(range(len(rows)), key=lambda i: rows[i].astype(">i4").tobytes())
    step = num_rows or (CPU_ROWS if model.device.type == "cpu" else GPU_ROWS)
    row = _Row(model)
    written: dict[int, list[int]] = {}
    for at in range(0, len(order), step):
        chosen = order[at : at + step]
        found = _write(row, [rows[i] for i in chosen], max_new_tokens, done)
        written.update(zip(chosen, found, strict=True))
    return [written[i] for i in range(len(rows))]


def _write(
    row: _Row, prompts: list[np.ndarray], max_new_tokens: int, done: Callable[[list[int]], bool]
) -> list[list[int]]:
    """Continuations of sorted prompts."""
    num_shared = min(common(prompts[0], prompts[-1]), min(map(len, prompts)) - 1)
    row.share(prompts[0][:num_shared])
    texts = [[token] for token in _read(row, prompts, num_shared)] if max_new_tokens else [[] for _ in prompts]
    active = [i for i, text in enumerate(texts) if text and not done(text) and len(text) < max_new_tokens]
    while active:
        last = np.array([texts[i][-1] for i in active])
        positions = np.array([len(prompts[i]) + len(texts[i]) - 1 for i in active])
        for i, token in zip(active, row.append(last, positions, np.array(active), np.arange(len(active))), strict=True):
            texts[i].append(token)
        active = [i for i in active if not done(texts[i]) and len(texts[i]) < max_new_tokens]
    return texts


def _read(row: _Row, prompts: list[np.ndarray], num_shared: int) -> list[int]:
    """Run the prompts' own tokens; the likeliest first token after each."""
    own = [prompt[num_shared:] for prompt in prompts]
    tokens = np.concatenate(own)
    positions = np.concatenate([np.arange(num_shared, len(prompt)) for prompt in prompts])
    owners = np.repeat(np.arange(len(prompts)), [len(part) for part in own])
    last = np.cumsum([len(part) for part in own]) - 1
    found: list[int] = []
    for at in range(0, len(tokens), row.model.max_tokens):
        here = slice(at, at + row.model.max_tokens)
        wanted = last[(last >= at) & (last < at + row.model.max_tokens)] - at
        found += row.append(tokens[here], positions[here], owners[here], wanted)
    return found
