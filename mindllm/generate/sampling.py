"""How the next token is chosen from the logits: what shapes them, and the draw.

Repetition penalty, temperature, top-k and top-p come in this order and with the numbers of Hugging Face's logits
processors (of equal scores at the edge of top-p, the higher ids stay). The draw inverts the cumulative distribution at
a number that is a function of the seed, the prompt and the token's place alone: not of torch's generator, nor of the
other sequences of the batch. slow: top_p below 1 sorts the vocabulary for every token. memory: B*V*24 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mindllm.hashing import ODD, mix, mix_array

# B batch, V vocab

# Logits over less than this may be beyond fp32; as a temperature, the draw is the best token anyway.
COLDEST = 1e-3


@dataclass
class Settings:
    """How to continue texts.

    max_new_tokens: at most so many a prompt.  temperature: logits are divided by it; 0: always the best token.
    top_k: only the so many best (and their equals); 0: all.  top_p: only the most probable that together reach this
    probability; 1: all.  repetition_penalty: makes tokens that were there before, in the prompt too, less probable (or
    more, below 1); 1: off.  stop: a text ends before the first of these.  seed: of the draws.
    batch_size: sequences that are written at the same time.
    """

    max_new_tokens: int = 128
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: list[str] = field(default_factory=list)
    seed: int = 1
    batch_size: int = 8

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        for key in ("max_new_tokens", "batch_size"):
            if getattr(self, key) < 1:
                yield f"{key}: {getattr(self, key)} must be at least 1"
        for key in ("top_k", "seed"):
            if getattr(self, key) < 0:
                yield f"{key}: {getattr(self, key)} must not be negative"
        if self.temperature != 0 and not COLDEST <= self.temperature < math.inf:
            yield f"temperature: {self.temperature} must be 0 (always the best token) or at least {COLDEST}"
        if not 0 < self.top_p <= 1:
            yield f"top_p: {self.top_p} must be above 0 and at most 1 (all tokens)"
        if not COLDEST <= self.repetition_penalty <= 1 / COLDEST:
            yield f"repetition_penalty: {self.repetition_penalty} must be {COLDEST} to {1 / COLDEST:g}; 1 is off"
        yield from (f"stop.{i}: is empty" for i, text in enumerate(self.stop) if not text)


def shape_scores(logits: Tensor, seen: Tensor | None, settings: Settings) -> Tensor:
    """Scores (B, V) whose softmax is drawn from, -inf where never; fp32. logits (B, V) fp32, seen (B, V) bool: tokens
    that the repetition penalty is for.

    Penalty: CTRL's (Keskar et al. 2019, arXiv 1909.05858, section 4.1) as Hugging Face has it, l / p for l > 0 and
    l * p below. top_p: Holtzman et al. 2020, arXiv 1904.09751.
    """
    scores, penalty = logits, settings.repetition_penalty
    if seen is not None and penalty != 1:
        scores = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
    if settings.temperature == 0:
        return scores
    scores = scores / settings.temperature
    if 0 < settings.top_k < scores.shape[-1]:
        least = torch.topk(scores, settings.top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, -math.inf)
    if settings.top_p < 1:
        ordered, ids = torch.sort(scores, stable=True)
        rare = ordered.softmax(-1).cumsum(-1) <= 1 - settings.top_p
        rare[:, -1] = False  # the best one stays, whatever top_p is
        scores = scores.masked_fill(rare.scatter(1, ids, rare), -math.inf)
    return scores


def best(scores: Tensor) -> Tensor:
    """The token of the highest score (the first of equals), int64 (B,); -1 for a row that holds a nan."""
    top = scores.max(-1)
    return torch.where(top.values.isnan(), -1, top.indices)


def draw(scores: Tensor, uniform: Tensor) -> Tensor:
    """Tokens int64 (B,) with the probabilities softmax(scores), at `uniform` (B,) float64 of [0, 1); -1: see `best`.

    A token of probability 0 is none: its stretch of the cumulative distribution is empty.
    """
    below = scores.double().softmax(-1).cumsum(-1)  # memory: B*V*8; fp64, or rare tokens would vanish in the sum
    total = below[:, -1:]
    tokens = torch.searchsorted(below, uniform[:, None] * total, right=True)
    return torch.where(total.isnan(), -1, tokens)[:, 0]


def uniforms(seed: int, prompt: Sequence[int], num: int) -> np.ndarray:
    """float64 (num,) of [0, 1): the numbers that the tokens after `prompt` are drawn with (splitmix64)."""
    places = np.arange(num, dtype=np.uint64) * np.uint64(ODD) + np.uint64(mix(seed, len(prompt), *prompt))
    found: np.ndarray = (mix_array(places) >> np.uint64(11)) * 2.0**-53
    return found
