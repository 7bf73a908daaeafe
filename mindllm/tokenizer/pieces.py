"""SentencePiece models, and the only file that imports sentencepiece: BPE over characters, bytes where one is unknown.

Identity normalisation and single digits, so that every text comes back byte for byte. SentencePiece writes a blank as
U+2581; a text that has that character itself gets it as its three bytes, by hand. Loads in a few ms; encodes 4 MB/s of
English and 17 MB/s of Chinese a process (its threads gain nothing).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece as spm

from mindllm.config import UserError
from mindllm.tokenizer.special import EOS, MASKS, PAD, ROLES, SPARE, UNK

MODEL_FILE = "tokenizer.model"
MAX_LINE_BYTES = 65536  # SentencePiece leaves longer lines out of its training, silently
_BLANK = "▁"  # how SentencePiece writes a blank inside pieces


class Pieces:
    """A SentencePiece model. `boundary` cuts a text where no piece can span: pieces hold blanks only at their
    beginning, and a line break is a piece of its own."""

    boundary = re.compile(r"\n| *[^ \n]+| +")

    def __init__(self, folder: Path):
        self._model = spm.SentencePieceProcessor(model_file=str(folder / MODEL_FILE))
        self.vocab_size: int = self._model.vocab_size()
        self._blank_bytes = [self._model.piece_to_id(f"<0x{b:02X}>") for b in _BLANK.encode()]

    def encode(self, text: str) -> list[int]:
        """Token ids; text never yields a control token."""
        if _BLANK not in text:
            ids: list[int] = self._model.encode(text)
            return ids
        first, *others = text.split(_BLANK)
        ids = self._model.encode(first)
        for part in others:
            ids += self._blank_bytes + self._model.encode(part)
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; control tokens are nothing."""
        text: str = self._model.decode(ids)
        return text

    def token_id(self, token: str) -> int | None:
        """The id of a token that has this very text (blanks as U+2581), or None."""
        found: int = self._model.piece_to_id(token)
        return None if found == self._model.unk_id() and token != UNK else found

    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of text behind each token; empty for control tokens."""
        return [self._bytes(i) for i in range(self.vocab_size)]

    def _bytes(self, i: int) -> bytes:
        if self._model.is_control(i) or self._model.is_unknown(i):
            return b""
        piece: str = self._model.id_to_piece(i)
        return bytes([int(piece[3:5], 16)]) if self._model.is_byte(i) else piece.replace(_BLANK, " ").encode()

    def byte_ids(self) -> list[int]:
        """Ids of the 256 tokens that stand for single bytes, by byte."""
        return [self._model.piece_to_id(f"<0x{b:02X}>") for b in range(256)]

    def learned(self) -> dict[str, float]:
        """piece -> score of the pieces that were learned (no control tokens, masks, line breaks, bytes)."""
        return {
            piece: self._model.get_score(i)
            for i in range(self.vocab_size)
            if not (self._model.is_control(i) or self._model.is_unknown(i) or self._model.is_byte(i))
            and (piece := self._model.id_to_piece(i)) not in (*MASKS, "\n")
        }

    def names(self) -> list[str]:
        """What each token is called in the model file, by id."""
        return [self._model.id_to_piece(i) for i in range(self.vocab_size)]


def train_model(lines: Iterable[str], vocab_size: int, character_coverage: float, **settings: Any) -> bytes:
    """A SentencePiece BPE model of exactly `vocab_size` entries as bytes. Lines must have <= MAX_LINE_BYTES.

    Raises UserError when the text cannot support the size. memory and time: sample.py estimates them.
    """
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=vocab_size,
            normalization_rule_name="identity", byte_fallback=True, add_dummy_prefix=False,
            remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, max_sentence_length=MAX_LINE_BYTES,
            character_coverage=character_coverage, unk_id=0, eos_id=1, pad_id=2, bos_id=-1,
            unk_piece=UNK, eos_piece=EOS, pad_piece=PAD, control_symbols=[*ROLES, *SPARE],
            user_defined_symbols=[*MASKS, "\n"], minloglevel=2, **settings,
        )  # fmt: skip
    except RuntimeError as error:
        raise _explained(error, vocab_size) from None
    return model.getvalue()


def _explained(error: RuntimeError, vocab_size: int) -> Exception:
    limit = re.search(r"value <= (\d+)", str(error))
    if limit:
        return UserError(f"vocab_size: {vocab_size} is more than this text supports; use at most {limit[1]}")
    needed = re.search(r"smaller than required_chars\. (\d+) vs (\d+)", str(error))
    if needed:
        return UserError(
            f"vocab_size: {vocab_size} is too small for this text's characters; use more than {needed[2]}, "
            "or a lower character_coverage (rarer characters are then written as bytes)"
        )
    return error
