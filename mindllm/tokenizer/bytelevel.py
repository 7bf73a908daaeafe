"""Byte-level BPE after GPT-2: every byte is a token, so nothing is ever unknown."""

from __future__ import annotations

import re
from pathlib import Path

import tokenizers

from mindllm.tokenizer.fast import FAST_FILE


class ByteLevel:
    """A byte-level BPE tokenizer from its tokenizer.json. `boundary` cuts a text where no token can span: tokens that
    hold something else than white space hold it only before, never after it."""

    boundary = re.compile(r"\s*\S+|\s+")

    def __init__(self, folder: Path):
        self._fast = tokenizers.Tokenizer.from_file(str(folder / FAST_FILE))
        self._fast.encode_special_tokens = True  # text never yields a control token
        self.vocab_size: int = self._fast.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Token ids; text never yields a control token."""
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; control tokens are nothing."""
        text: str = self._fast.decode(ids, skip_special_tokens=True)
        return text

    def token_id(self, token: str) -> int | None:
        """The id of a token, or None."""
        found: int | None = self._fast.token_to_id(token)
        return found
