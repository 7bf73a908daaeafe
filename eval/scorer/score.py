"""Log-likelihoods of continuations after contexts, in token ids, by a transformers causal model: the scorer itself.

Every distinct token of the requests, seen as a tree (tree.py), is run once where the model's architecture lets us
(row_model.py), else each distinct request once (plain.py). The numbers are those of one forward pass a request, up to
rounding: about 1e-6 a token in float32. Time: on a CPU 2 to 20 times less than a pass a request, by how much is shared.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from eval.scorer.plain import plain_batches, run_plain
from eval.scorer.row_model import RowModel, default_tokens
from eval.scorer.support import open_rows
from eval.scorer.totals import Scored, Totals
from eval.scorer.tree import Pass, build_tree, passes

Tokens = Sequence[int] | np.ndarray
Request = tuple[Tokens, Tokens]  # token ids of the context and of the continuation


class Inputs(NamedTuple):
    """The tokens of one pass: ids, positions, and for each the end of the tokens below it, in the pass."""

    tokens: np.ndarray
    positions: np.ndarray
    ends: np.ndarray


class _Left:
    """What passes have found and is not scored yet: the head takes those of several passes together."""

    def __init__(self, rows: RowModel | None, totals: Totals) -> None:
        assert rows is not None, "no pass without a model for rows"
        self.rows, self.totals, self.num_wanted = rows, totals, 0
        self._found: list[tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, found: torch.Tensor, places: np.ndarray, targets: np.ndarray, requests: np.ndarray) -> None:
        """One pass."""
        self._found.append((found, places + self.num_wanted, targets, requests))
        self.num_wanted += len(found)

    def score(self) -> None:
        """Add all to the totals."""
        if self.num_wanted:
            found, *others = zip(*self._found, strict=True)
            self.totals.add(self.rows.logits(torch.cat(found)), *(np.concatenate(part) for part in others))
        self.num_wanted, self._found = 0, []


class Scorer:
    """Scores requests with one model. `rows` is None where the architecture cannot share; `reason` then says why."""

    def __init__(self, model: Any, max_length: int, max_tokens: int | None = None) -> None:
        """model: transformers causal model in eval mode, on its device.  max_length: tokens that it may be given.

        max_tokens: tokens a pass; None: 256 on a CPU, 4,096 on a GPU.
        """
        self.model, self.max_length = model, max_length
        self.max_tokens = max_tokens or default_tokens(model)
        self.rows, self.reason = open_rows(model, max_length, self.max_tokens)
        if self.reason:
            print(f"scoring WITHOUT shared prefixes, several times slower: {self.reason}", file=sys.stderr, flush=True)

    def score(self, requests: Sequence[Request], progress: Callable[[int], Any] | None = None) -> list[Scored]:
        """One result a request, in their order; what is too long loses tokens of its context from the left.

        progress: called with numbers of tokens scored since the last call.
        Raises ValueError for an empty context or continuation, and a continuation longer than `max_length`.
        """
        full = [self._whole(i, *request) for i, request in enumerate(requests)]
        lengths = [len(continuation) for _, continuation in requests]
        totals = Totals(len(requests), sum(lengths), self.model.device)
        for scored in self._by_tree(full, lengths, totals) if self.rows else self._plainly(full, lengths, totals):
            if progress is not None:
                progress(scored)
        return totals.result()

    def _whole(self, index: int, context: Tokens, continuation: Tokens) -> np.ndarray:
        """Context and continuation: the last token is no input, so one more than `max_length` fits."""
        if not len(context) or not len(continuation) or len(continuation) > self.max_length:
            raise ValueError(
                f"request {index}: {len(context)} tokens of context, {len(continuation)} of continuation; both need "
                f"one or more, the continuation at most {self.max_length}"
            )
        parts = [np.asarray(part, dtype=np.int32) for part in (context, continuation)]
        return np.concatenate(parts)[-(self.max_length + 1) :]

    def _by_tree(self, full: list[np.ndarray], lengths: list[int], totals: Totals) -> Iterator[int]:
        rows = [tokens[:-1] for tokens in full]
        left = _Left(self.rows, totals)
        for one in passes(build_tree(rows, lengths), self.max_tokens):
            found, places, targets, requests = self._run(one, full)
            left.add(found, places, targets, requests)
            if not left.rows.parted or left.num_wanted >= self.max_tokens // 2:
                left.score()
            yield len(places)
        left.score()

    def _run(self, one: Pass, full: list[np.ndarray]) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
        """One pass of the model: what it found for its wanted tokens, and places there, targets, requests."""
        assert self.rows is not None, "no pass without a model for rows"
        inputs = lay_out(one, full)
        where, targets, requests = wanted(one, full)
        places, index = np.unique(where, return_inverse=True)
        visible = self._visible(one.keep, inputs.ends)
        return self.rows.run(inputs.tokens, inputs.positions, visible, places, one.keep), index, targets, requests

    def _visible(self, keep: int, ends: np.ndarray) -> torch.Tensor:
        """All of the cache, and those of the pass that stand before a token and have it below them."""
        end, at = torch.from_numpy(ends).to(self.model.device), torch.arange(len(ends), device=self.model.device)
        own = (at[None, :] <= at[:, None]) & (at[:, None] < end[None, :])
        return torch.nn.functional.pad(own, (keep, 0), value=True)

    def _plainly(self, full: list[np.ndarray], lengths: list[int], totals: Totals) -> Iterator[int]:
        for batch in plain_batches(full, lengths, self.max_tokens):
            yield run_plain(self.model, batch, full, lengths, totals)


def lay_out(one: Pass, full: Sequence[np.ndarray]) -> Inputs:
    """The pieces of a pass one behind the other."""
    tokens, positions, ends, at = [], [], [], 0
    for piece in one.pieces:
        tokens.append(full[piece.node.row][piece.first : piece.last])
        positions.append(np.arange(piece.first, piece.last))
        ends.append(np.full(piece.last - piece.first, at + piece.below))
        at += piece.last - piece.first
    return Inputs(*(np.concatenate(part) for part in (tokens, positions, ends)))


def wanted(one: Pass, full: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each token that a pass predicts for a request: place of its predictor in the pass, its id, the request."""
    places, targets, requests, at = [], [], [], 0
    for node, first, last, _ in one.pieces:
        for request, begin, end in node.wanted:
            begin, end = max(begin, first), min(end, last)
            if begin < end:
                places.append(np.arange(begin, end) - first + at)
                targets.append(full[request][begin + 1 : end + 1])
                requests.append(np.full(end - begin, request))
        at += last - first
    empty = np.zeros(0, dtype=np.int64)
    found = (np.concatenate([empty, *part]).astype(np.int64) for part in (places, targets, requests))
    return next(found), next(found), next(found)
