"""What generation has to know of a tokenizer, ours or any other that a folder holds: bytes by token, where texts end.

Bytes, because a token may be a part of a character; decoding them one token after another is exact for every kind of
tokenizer, and costs nothing. Opening takes what mindllm/tokenizer/others.py takes: 0.3 s for 125,700 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindllm.config import UserError
from mindllm.tokenizer.foreign import read_settings
from mindllm.tokenizer.others import Absent, open_tokenizer


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as generation sees it.

    tokens: the UTF-8 bytes of text behind every id, b"" for control tokens.  encode: texts to token ids (num_tokens,)
    each, nothing added.  start: the id that every text begins with.  ends: ids that end a text.
    """

    tokens: Sequence[bytes]
    encode: Callable[[Sequence[str]], list[np.ndarray]]
    start: int
    ends: frozenset[int]


def open_vocabulary(folder: str | Path) -> Vocabulary:
    """The tokenizer of a model's folder, and what its config.json and generation_config.json say of ids.

    A text begins with bos_token_id, which is the token that ends documents where the model is ours; eos_token_id may be
    several. Raises UserError where there is no tokenizer, or no such id.
    """
    folder = Path(folder)
    opened = open_tokenizer(str(folder))
    assert not isinstance(opened, Absent), "a folder holds a tokenizer, or opening it raises"
    config, later = read_settings(folder / "config.json"), read_settings(folder / "generation_config.json")
    begin, end = (later.get(key, config.get(key)) for key in ("bos_token_id", "eos_token_id"))
    ends: list[Any] = end if isinstance(end, list) else [end]
    start: Any = ends[0] if begin is None and ends else begin
    if any(type(id) is not int or not 0 <= id < len(opened.tokens) for id in (start, *ends)):
        raise UserError(
            f"{folder}: config.json must name the token that ends a text (eos_token_id), one of the tokenizer's "
            f"{len(opened.tokens)}; it has {end!r} (bos_token_id {begin!r})"
        )
    return Vocabulary(opened.tokens, opened.encode, start, frozenset(ends))
