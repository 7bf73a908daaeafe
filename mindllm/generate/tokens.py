"""Token ids that follow token ids: a batch of prompts, one forward pass a token, keys and values kept in a cache.

Prompts of different length are padded on the left, so that all sequences grow at the same place; those of a batch are
of similar length. A finished sequence leaves the batch, and with it its work. The head reads the last position only.
memory: the cache of batch_size sequences of the longest prompt and max_new_tokens.  sync: one a token, for its id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mindllm.attention import CAUSAL, Mask
from mindllm.config import RunFailed, UserError
from mindllm.generate.sampling import Settings, best, draw, shape_scores, uniforms
from mindllm.models import LanguageModel
from mindllm.models.cache import Cache

# B batch, T time, V vocab

Reason = Literal["", "end", "stop", "max_new_tokens", "context"]


class Drawn(NamedTuple):
    """A token of the prompt of that number. reason: why it is the last one, or "".

    end: it ends documents.  stop: the caller has enough.  max_new_tokens: as many as were asked for.  context: the
    model reads no more (max_position_embeddings).
    """

    number: int
    token: int
    reason: Reason


class Written(NamedTuple):
    """What follows a prompt: the ids, the ending one too, and why there are no more (see Drawn)."""

    ids: list[int]
    reason: Reason


def generate(
    model: LanguageModel, prompts: Sequence[Sequence[int]], settings: Settings, ends: Collection[int] = (),
    num_tokens: int = 0,
) -> list[Written]:  # fmt: skip
    """Continue prompts of token ids; see draw_tokens. `settings.stop` is text, and so the business of text.py."""
    ids: list[list[int]] = [[] for _ in prompts]
    reasons: list[Reason] = [""] * len(prompts)
    for drawn in draw_tokens(model, prompts, settings, ends, num_tokens):
        ids[drawn.number].append(drawn.token)
        reasons[drawn.number] = drawn.reason
    return [Written(*written) for written in zip(ids, reasons, strict=True)]


@torch.no_grad()  # inference mode would leave tensors that training cannot use: ZeRO-3 keeps small gathered weights
def draw_tokens(
    model: LanguageModel, prompts: Sequence[Sequence[int]], settings: Settings, ends: Collection[int] = (),
    num_tokens: int = 0, stopped: Callable[[int, int], bool] = lambda number, token: False,
) -> Iterator[Drawn]:  # fmt: skip
    """The tokens after each prompt as they are drawn; those of a batch take turns.

    ends: tokens that end a text.  num_tokens: of the tokenizer; rows of the head beyond them are never drawn; 0: there
    are none.  stopped(number, token): asked for every token but those of `ends`, whether the caller has enough.
    Raises UserError for a prompt that is empty or leaves no room, RunFailed when the model gives no numbers.
    """
    limit = context_size(model)
    for number, prompt in enumerate(prompts):
        if not 0 < len(prompt) < limit:
            raise UserError(f"prompt {number} has {len(prompt)} tokens; the model reads {limit}, the answer included")
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    for start in range(0, len(order), settings.batch_size):
        live = order[start : start + settings.batch_size]
        room = {number: min(settings.max_new_tokens, limit - len(prompts[number])) for number in live}
        batch = _Batch(model, [prompts[number] for number in live], settings, num_tokens, max(room.values()))
        for count in range(1, max(room.values()) + 1):
            going = []
            for row, (number, token) in enumerate(zip(live, batch.step(), strict=True)):
                reason = _reason(token, ends, count, room[number], settings.max_new_tokens)
                if reason != "end" and stopped(number, token):
                    reason = "stop"
                if not reason:
                    going.append(row)
                yield Drawn(number, token, reason)
            if not going:
                break
            if len(going) < len(live):
                batch.keep(going)
                live = [live[row] for row in going]


def context_size(model: LanguageModel) -> int:
    """How many tokens the model reads, the answer included."""
    config: Any = model.config
    return int(config.max_position_embeddings)


def _reason(token: int, ends: Collection[int], count: int, room: int, max_new_tokens: int) -> Reason:
    """Why token number `count` of a sequence is its last one, or ""."""
    if token < 0:
        raise RunFailed("the model's logits are nan: its weights are damaged, or too large for its precision")
    if token in ends:
        return "end"
    if count < room:
        return ""
    return "max_new_tokens" if count == max_new_tokens else "context"


class _Batch:
    """Sequences that grow together, on the model's device."""

    def __init__(
        self, model: LanguageModel, prompts: Sequence[Sequence[int]], settings: Settings, num_tokens: int, num_new: int
    ):
        self.model, self.settings = model, settings
        self.device, self.num_tokens = model.lm_head.weight.device, num_tokens or len(model.lm_head.weight)
        longest = max(map(len, prompts))
        ids = np.zeros((len(prompts), longest), dtype=np.int64)
        for row, prompt in zip(ids, prompts, strict=True):
            row[longest - len(prompt) :] = prompt
        self.padding = [longest - len(prompt) for prompt in prompts]
        self.inputs = torch.from_numpy(ids).to(self.device)  # (B, T): what the model has not read yet
        self.cache = Cache(longest + num_new - 1)  # the last token is never read
        self.mask, self.positions = self._place()
        self.seen = self._seen(prompts) if settings.repetition_penalty != 1 else None
        self.chances: Tensor | None = None  # (B, num_new)
        if settings.temperature:
            chances = np.stack([uniforms(settings.seed, prompt, num_new) for prompt in prompts])
            self.chances = torch.from_numpy(chances).to(self.device)

    def step(self) -> list[int]:
        """The next token of every sequence; -1 where the logits are nan."""
        hidden = self.model.hidden_states(self.inputs, self.mask, self.positions, self.cache)
        logits = self.model.lm_head(hidden[:, -1])[:, : self.num_tokens].float()  # (B, V)
        scores = shape_scores(logits, self.seen, self.settings)
        if self.chances is None:
            tokens = best(scores)
        else:
            tokens = draw(scores, self.chances[:, 0])
            self.chances = self.chances[:, 1:]
        if self.seen is not None:
            self.seen.scatter_(1, tokens.clamp(min=0)[:, None], True)
        self.inputs = tokens[:, None]
        self.positions = self.positions[:, -1:] + 1 if self.positions is not None else None
        return tokens.tolist()  # sync: here the host waits for the device

    def keep(self, rows: list[int]) -> None:
        """Go on with these sequences alone."""
        kept = torch.tensor(rows, device=self.device)
        self.cache.reorder(kept)
        self.inputs = self.inputs[kept]
        self.padding = [self.padding[row] for row in rows]
        self.mask, self.positions = self._place()
        self.seen = self.seen[kept] if self.seen is not None else None
        self.chances = self.chances[kept] if self.chances is not None else None

    def _place(self) -> tuple[Mask, Tensor | None]:
        """Mask and positions (B, T) of the inputs: the model's own where no sequence is padded, for they cost least."""
        if not any(self.padding):
            return CAUSAL, None
        padding = torch.tensor(self.padding, device=self.device)
        columns = torch.arange(self.cache.length, self.cache.length + self.inputs.shape[1], device=self.device)
        return Mask(padding=padding), (columns - padding[:, None]).clamp(min=0)

    def _seen(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """bool (B, V): the tokens of each prompt."""
        seen = np.zeros((len(prompts), self.num_tokens), dtype=bool)
        for row, prompt in zip(seen, prompts, strict=True):
            row[list(prompt)] = True
        return torch.from_numpy(seen).to(self.device)
