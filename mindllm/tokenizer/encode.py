"""Tokenizer: text to token ids and back, the one interface to both kinds (SentencePiece, byte-level BPE)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mindllm.config import UserError
from mindllm.tokenizer.bytelevel import ByteLevel
from mindllm.tokenizer.chunks import Chunks
from mindllm.tokenizer.fast import FAST_FILE, LENGTHS_FILE
from mindllm.tokenizer.pieces import MODEL_FILE, Pieces
from mindllm.tokenizer.special import CONTROL, EOS, MASKS, PAD


class Tokenizer:
    """A tokenizer folder; text never yields a control token, and every text comes back byte for byte.

    vocab_size: entries, all of which a model needs rows for.  eos_id, pad_id: document end, padding.  fingerprint:
    changes with every change of an id.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        sentencepiece = (self.folder / MODEL_FILE).exists()
        self._model: Pieces | ByteLevel = Pieces(self.folder) if sentencepiece else ByteLevel(self.folder)
        self._chunks = Chunks(self._model.boundary, self._model.encode)
        self.vocab_size: int = self._model.vocab_size
        self.eos_id, self.pad_id = self.token_id(EOS), self.token_id(PAD)
        content = (self.folder / (MODEL_FILE if sentencepiece else FAST_FILE)).read_bytes()
        self.fingerprint: str = hashlib.sha256(content).hexdigest()[:16]

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """uint16 (vocab_size,): UTF-8 bytes of text that each token stands for; 0 for control tokens."""
        found: np.ndarray = np.load(self.folder / LENGTHS_FILE, allow_pickle=False)
        return found

    @functools.cached_property
    def special_ids(self) -> dict[str, int]:
        """The ids of the control tokens and of the masks, by name."""
        return {name: self.token_id(name) for name in (*CONTROL, *MASKS)}

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Token ids of each text, uint32 (num_tokens,), without document ends."""
        return [self._chunks.ids(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; control tokens are nothing."""
        return self._model.decode([int(i) for i in ids])

    def token_id(self, token: str) -> int:
        """The id of a special token such as <|user|>. Raises UserError when the tokenizer lacks it."""
        found = self._model.token_id(token)
        if found is None:
            raise UserError(f"{self.folder}: this tokenizer has no token {token}")
        return found


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in a complete tokenizer or export folder. Raises UserError when there is none."""
    if not (Path(folder) / FAST_FILE).exists():
        raise UserError(f"{folder}: no tokenizer here; make it first: python -m mindllm.tokenizer train CONFIG")
    return Tokenizer(folder)
