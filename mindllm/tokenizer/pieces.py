"""SentencePiece models, and the only file that imports sentencepiece: BPE over characters, bytes where one is unknown.

Identity normalisation and single digits, so that every text comes back byte for byte. SentencePiece writes a blank as
U+2581; a text that has that character itself gets it as its three bytes, by hand. Loads in a few ms; encodes 4 MB/s of
English and 17 MB/s of Chinese a process (its threads gain nothing).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece as spm

from mindllm.config import UserError
from mindllm.tokenizer.special import EOS, MASKS, PAD, ROLES, SPARE, UNK

MODEL_FILE = "tokenizer.model"
MAX_LINE_BYTES = 65536  # SentencePiece leaves longer lines out of its training, silently
_BLANK = "▁"  # how SentencePiece writes a blank inside pieces
_LONG = 200  # characters from which ids as an array are faster than as a list
_RESERVED = "▅"  # U+2585 is how its training writes a character that gets no piece


class TooFewPieces(UserError):
    """The characters of a text alone are `needed` pieces."""

    def __init__(self, message: str, needed: int):
        super().__init__(message)
        self.needed = needed


class Pieces:
    """A SentencePiece model. `boundary` cuts a text at line breaks and before blanks that follow something else.

    Why the cuts change no id. (1) Line breaks and masks are matched before anything else, from left to right; none
    holds a blank, and a line break stands in none but its own: no match lies across a cut. (2) BPE joins two
    neighbours only if together they are a piece, and no piece has a blank after another character (`train_model` makes
    sure): no merge goes across a cut. (3) Which merge is next within a chunk depends on scores and positions within it
    alone. Chinese has no more cuts to offer that are worth it: a piece joins no Han with punctuation, but chunks of a
    clause seldom come again, and encoding them one by one takes twice as long.
    """

    boundary = re.compile(r"\n| *[^ \n]+| +")

    def __init__(self, folder: Path):
        path = folder / MODEL_FILE
        try:
            self._model = spm.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise RuntimeError(f"{path}: cannot be read as a SentencePiece model ({error}); make it again") from None
        self.vocab_size: int = self._model.vocab_size()
        self._unknown: int = self._model.unk_id()
        self._blank_bytes = [self._model.piece_to_id(f"<0x{b:02X}>") for b in _BLANK.encode()]

    def encode(self, text: str) -> list[int]:
        """Token ids; text never yields a control token."""
        first, *others = text.split(_BLANK)
        ids: list[int] = self._model.encode(first)
        for part in others:
            ids += self._blank_bytes + self._model.encode(part)
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int] | np.ndarray]:
        """Token ids of each text as they come fastest: lists, or int32 (num_tokens,) where texts are long."""
        plain = [text for text in texts if _BLANK not in text]
        long = sum(map(len, plain)) > _LONG * len(plain)
        found = iter(self._model.encode(plain, num_threads=1, return_type="numpy" if long else int) if plain else [])
        return [self.encode(text) if _BLANK in text else next(found) for text in texts]

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; control tokens are nothing, bytes that are no UTF-8 U+FFFD each."""
        text: str = self._model.decode([i for i in ids if i != self._unknown])
        return text

    def token_id(self, token: str) -> int | None:
        """The id of a token that has this very text (blanks as U+2581), or None."""
        found: int = self._model.piece_to_id(token)
        return None if found == self._unknown and token != UNK else found

    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of text behind each token; empty for control tokens. slow: 0.1 s for 125,700."""
        found = [name.replace(_BLANK, " ").encode() for name in self.names()]
        for i in filter(self._is_control, range(self.vocab_size)):
            found[i] = b""
        for byte, i in enumerate(self.byte_ids()):
            if self._model.is_byte(i):  # a model of others may have none
                found[i] = bytes([byte])
        return found

    def _is_control(self, i: int) -> bool:
        return bool(self._model.is_control(i) or self._model.is_unknown(i))

    def byte_ids(self) -> list[int]:
        """Ids of the 256 tokens that stand for single bytes, by byte."""
        return [self._model.piece_to_id(f"<0x{b:02X}>") for b in range(256)]

    def learned(self) -> dict[str, float]:
        """piece -> score of the pieces that were learned (no control tokens, masks, line breaks, bytes)."""
        others = {*self.byte_ids(), *filter(self._is_control, range(self.vocab_size))}
        return {
            piece: self._model.get_score(i)
            for i, piece in enumerate(self.names())
            if i not in others and piece not in (*MASKS, "\n")
        }

    def names(self) -> list[str]:
        """What each token is called in the model file, by id."""
        found: list[str] = self._model.id_to_piece(list(range(self.vocab_size)))
        return found


def train_model(lines: Iterable[str], vocab_size: int, character_coverage: float, **settings: Any) -> bytes:
    """A SentencePiece BPE model of exactly `vocab_size` entries as bytes. Lines must have <= MAX_LINE_BYTES.

    The same lines give the same bytes, in every process: the number of threads is part of the file, and one is as fast
    as more. The blank always gets a piece: without one, text learned from Chinese alone would come back with U+2581.
    Raises UserError when the text cannot support the size; what the iterator raises comes through as it is.
    memory and time: estimate.py.
    """
    model, raised = io.BytesIO(), list[BaseException]()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=_acceptable(lines, raised), model_writer=model, model_type="bpe", vocab_size=vocab_size,
            normalization_rule_name="identity", byte_fallback=True, add_dummy_prefix=False,
            remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, max_sentence_length=MAX_LINE_BYTES,
            character_coverage=character_coverage, required_chars=_BLANK, unk_id=0, eos_id=1, pad_id=2, bos_id=-1,
            unk_piece=UNK, eos_piece=EOS, pad_piece=PAD, control_symbols=[*ROLES, *SPARE],
            user_defined_symbols=[*MASKS, "\n"], minloglevel=2, num_threads=1, **settings,
        )  # fmt: skip
    except RuntimeError as error:
        raise (raised[0] if raised else _explained(error, vocab_size)) from None
    _check(model.getvalue(), vocab_size if settings.get("hard_vocab_limit", True) else None)
    return model.getvalue()


def _acceptable(lines: Iterable[str], raised: list[BaseException]) -> Iterator[str]:
    """Lines without the one character for which SentencePiece leaves out a whole line, silently. An error is noted, for
    SentencePiece makes a RuntimeError of all."""
    try:
        for line in lines:
            yield line.replace(_RESERVED, " ")
    except (Exception, KeyboardInterrupt) as error:
        raised.append(error)
        raise


def _check(model: bytes, vocab_size: int | None) -> None:
    """What the rest relies on: the exact size, and that blanks stand only at the beginning of pieces (`boundary`)."""
    found = spm.SentencePieceProcessor(model_proto=model)
    names = [found.id_to_piece(i) for i in range(found.vocab_size())]
    wrong = [name for name in names if _BLANK in name.lstrip(_BLANK)]
    if len(names) != (vocab_size or len(names)) or wrong or _BLANK not in names:
        what = f"{len(names)} pieces of {vocab_size}, {len(wrong)} with blanks inside {wrong[:3]}"
        raise RuntimeError(f"SentencePiece {spm.__version__} made {what}; this project knows other releases of it")


def _explained(error: RuntimeError, vocab_size: int) -> Exception:
    limit = re.search(r"value <= (\d+)", str(error))
    if limit:
        return UserError(f"vocab_size: {vocab_size} is more than this text supports; use at most {limit[1]}")
    needed = re.search(r"smaller than required_chars\. (\d+) vs (\d+)", str(error))
    if needed:
        return TooFewPieces(
            f"vocab_size: {vocab_size} is too small for this text's characters; use more than {needed[2]}, "
            "or a lower character_coverage (rarer characters are then written as bytes)",
            int(needed[2]),
        )
    return error


def learn_pieces(lines: Iterable[str], num_pieces: int, character_coverage: float) -> list[str]:
    """At most `num_pieces` words and characters of BPE over the lines: words in the order of learning, then characters,
    the most frequent first. Fewer where the text has no more pairs.

    Raises UserError when the characters alone are more. memory and time: as train_model.
    """
    model, raised = io.BytesIO(), list[BaseException]()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=_acceptable(lines, raised), model_writer=model, model_type="bpe",
            vocab_size=num_pieces + 1, hard_vocab_limit=False, normalization_rule_name="identity",
            add_dummy_prefix=False, remove_extra_whitespaces=False, max_sentence_length=MAX_LINE_BYTES,
            character_coverage=character_coverage, unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, unk_piece=UNK,
            minloglevel=2, num_threads=1,
        )  # fmt: skip
    except RuntimeError as error:
        raise (raised[0] if raised else _explained(error, num_pieces)) from None
    found = spm.SentencePieceProcessor(model_proto=model.getvalue())
    names: list[str] = found.id_to_piece(list(range(1, found.vocab_size())))
    return names
