"""Text that follows text: prompts to token ids, and the drawn tokens back to text as soon as that is certain.

A prompt begins a document, so the token that ends documents stands before it, as in training. Text is made token by
token on the way (3 microseconds each, nothing beside a forward pass), so that what a stream gives is what the whole
text is, and a stop string ends the work when it is complete, wherever the borders of tokens are.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mindllm.config import UserError
from mindllm.generate.sampling import Settings
from mindllm.generate.tokens import Reason, context_size, draw_tokens
from mindllm.generate.vocabulary import Vocabulary, open_vocabulary
from mindllm.hf import load_model, read_config
from mindllm.models import LanguageModel
from mindllm.stage import require


class Piece(NamedTuple):
    """What comes next after the prompt of that number. num_tokens: drawn so far.  reason: not "" in the last piece."""

    number: int
    text: str
    num_tokens: int
    reason: Reason


class Continuation(NamedTuple):
    """The text after a prompt. num_tokens: drawn, with the ending one.  reason: why there are no more (see Drawn)."""

    prompt: str
    text: str
    num_tokens: int
    reason: Reason


class Writer:
    """The text of tokens that come one by one, given out as soon as it is certain: whole characters, no beginning of
    what may become a stop string.

    Of the stop strings the one that is complete first counts (of those the longest), so the text does not depend on how
    it is cut into tokens. Bytes that are no UTF-8 become U+FFFD, as in Python's own decoding.
    """

    def __init__(self, stop: Sequence[str] = ()):
        self._stop, self._longest = stop, max(map(len, stop), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False  # a stop string is complete: the text is what was given out

    def add(self, data: bytes, last: bool = False) -> str:
        """Text that is certain after another token's bytes; `last`: nothing follows it."""
        assert not self.stopped, "nothing follows a stop string"
        text = self._held + self._decoder.decode(data, last)
        ends = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        self.stopped = bool(ends)
        certain = min(ends)[1] if ends else len(text) if last else len(text) - self._uncertain(text)
        self._held = "" if ends else text[certain:]
        return text[:certain]

    def cut_off(self) -> str:
        """The rest of a text that was not ended by the model but by a limit: half a character is left out."""
        rest, self._held = self._held, ""
        return rest

    def _uncertain(self, text: str) -> int:
        """How many characters at the end of `text` may yet become a stop string."""
        sizes = range(min(self._longest - 1, len(text)), 0, -1)
        return next((n for n in sizes if any(stop.startswith(text[-n:]) for stop in self._stop)), 0)


def stream_texts(
    model: LanguageModel, vocabulary: Vocabulary, prompts: Sequence[str], settings: Settings
) -> Iterator[Piece]:
    """The text after each prompt, in pieces that join to what continue_texts returns; those of a batch take turns.

    Raises UserError at once, not with the first piece, for a prompt that leaves no room in the model's context.
    """
    limit = context_size(model)
    starts = [[vocabulary.start, *ids.tolist()] for ids in vocabulary.encode(prompts)]
    for prompt, start in zip(prompts, starts, strict=True):
        if len(start) >= limit:
            raise UserError(f"prompts: {prompt[:40]!r} has {len(start)} tokens; the model reads {limit}")
    return _pieces(model, vocabulary, starts, settings)


def _pieces(
    model: LanguageModel, vocabulary: Vocabulary, starts: Sequence[Sequence[int]], settings: Settings
) -> Iterator[Piece]:
    """See stream_texts. starts: the prompts as token ids."""
    writers, new, counts = [Writer(settings.stop) for _ in starts], [""] * len(starts), [0] * len(starts)

    def stopped(number: int, token: int) -> bool:
        new[number] += writers[number].add(vocabulary.tokens[token])
        return writers[number].stopped

    for number, _, reason in draw_tokens(model, starts, settings, vocabulary.ends, len(vocabulary.tokens), stopped):
        counts[number] += 1
        if reason == "end":
            new[number] += writers[number].add(b"", last=True)
        elif reason in ("max_new_tokens", "context"):
            new[number] += writers[number].cut_off()
        if new[number] or reason:
            yield Piece(number, new[number], counts[number], reason)
            new[number] = ""


def continue_texts(
    model: LanguageModel, vocabulary: Vocabulary, prompts: Sequence[str], settings: Settings
) -> list[Continuation]:
    """The text after each prompt, up to its end, a stop string or a limit. Raises UserError, see stream_texts."""
    pieces: list[list[Piece]] = [[] for _ in prompts]
    for piece in stream_texts(model, vocabulary, prompts, settings):
        pieces[piece.number].append(piece)
    return [
        Continuation(prompt, "".join(piece.text for piece in found), found[-1].num_tokens, found[-1].reason)
        for prompt, found in zip(prompts, pieces, strict=True)
    ]


def open_model(folder: str | Path, dtype: str = "float32") -> tuple[LanguageModel, Vocabulary]:
    """The model of a folder (eval mode, on a GPU where there is one) and its tokenizer.

    Raises UserError for a class that we do not compute, an export that is not complete, and where model and tokenizer
    do not fit together. slow: some seconds.  memory: the model in fp32 on the CPU first, whatever dtype is.
    """
    if not Path(folder).exists():
        raise UserError(f"{folder}: no such folder; a run's own model is made by: python -m mindllm.export CONFIG")
    if Path(folder, "plan.json").exists():  # of ours: without its meta.json it was cut off, or failed its comparison
        require(folder, "python -m mindllm.export CONFIG")
    read_config(folder)  # first, for what it has to say is plainer than that there is no tokenizer
    vocabulary = open_vocabulary(folder)
    model = load_model(folder)
    if (rows := len(model.lm_head.weight)) < len(vocabulary.tokens):
        raise UserError(f"{folder}: the model has {rows} tokens, its tokenizer {len(vocabulary.tokens)}")
    return model.to("cuda" if torch.cuda.is_available() else "cpu", getattr(torch, dtype)), vocabulary
