"""Encoding by chunks: a text is cut where no token can span, and what short chunks become is remembered.

English and code are the same few hundred thousand words over and over: looked up instead of computed they cost 200 ns
each. Chinese has no such cuts inside a sentence, its chunks are long and seldom come again: such a text is encoded as
one. The cuts are a property of the kind of tokenizer (`boundary` in pieces.py and bytelevel.py, proven there), so the
ids are the same with any cuts, any memory, any order of texts. Against a SentencePiece model alone: new texts like the
last 1.5 to 2.4 times as fast in English and code, those that are known 4 times, Chinese .8 to 1 (bench/encode.py).
memory: about 150 bytes a remembered chunk, 600 at most; MAX_CHUNKS of them and those of one GROUP: some 50 MB.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

MAX_CHUNKS = 300_000
MAX_LENGTH = 64  # characters of a chunk that is worth remembering
LONG_BYTES = 16  # mean bytes of a text's chunks from which looking them up costs more than it saves
MAX_WHOLE = 1 << 20  # characters of a text that is encoded as one; memory: 35 bytes a character meanwhile
GROUP = 1 << 20  # characters from which on texts are not gathered any further; memory: 70 bytes a character meanwhile

Ids = list[int] | np.ndarray
EncodeAll = Callable[[list[str]], Sequence[Ids]]


class Boundary(Protocol):
    """What cuts a text: a compiled pattern, or anything else with its `findall`."""

    def findall(self, text: str, /) -> list[str]:
        """The chunks of a text, in order; joined, they are the text."""


class Chunks(dict[str, bytes]):
    """chunk -> its token ids (uint32, as bytes), filled as it is asked, emptied when it is full.

    Emptied, because the words of today's texts matter, and they are back after a second. `encode_all` gives the ids of
    several texts: one call for many chunks costs half of as many calls.
    """

    def __init__(self, boundary: Boundary, encode_all: EncodeAll):
        super().__init__()
        self._split, self._encode_all = boundary.findall, encode_all

    def encode(self, texts: Iterable[str]) -> list[np.ndarray]:
        """uint32 (num_tokens,) each: the token ids of texts. Raises UnicodeEncodeError for half a surrogate pair."""
        found: list[np.ndarray] = []
        group: list[str] = []
        size = 0
        for text in texts:
            group.append(text)
            size += len(text)
            if size >= GROUP:
                found += self._encode_group(group)
                group, size = [], 0
        return found + self._encode_group(group)

    def _encode_group(self, texts: list[str]) -> list[np.ndarray]:
        if len(self) > MAX_CHUNKS:
            self.clear()
        whole: dict[int, str] = {}
        cut: dict[int, list[str]] = {}
        for number, text in enumerate(texts):
            num_bytes = len(text.encode())
            parts = self._split(text)
            if num_bytes > LONG_BYTES * len(parts) and len(text) <= MAX_WHOLE:
                whole[number] = text
            else:
                cut[number] = parts
        unknown = [chunk for chunk in set().union(*cut.values()) if chunk not in self]  # in any order
        self.update(zip(unknown, map(_packed, self._encode_all(unknown)), strict=True))
        found = {
            number: np.frombuffer(b"".join(map(self.__getitem__, parts)), np.uint32) for number, parts in cut.items()
        }
        for chunk in unknown:
            if len(chunk) > MAX_LENGTH:
                del self[chunk]
        encoded = self._encode_all(list(whole.values()))
        found |= {number: np.array(ids, np.uint32) for number, ids in zip(whole, encoded, strict=True)}
        return [found[number] for number in range(len(texts))]


def _packed(ids: Ids) -> bytes:
    """uint32 ids as bytes; for the few of a chunk, three times as fast as numpy."""
    return array.array("I", ids).tobytes() if isinstance(ids, list) else ids.astype(np.uint32).tobytes()
