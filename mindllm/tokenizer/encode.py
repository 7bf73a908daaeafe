"""Tokenizer: text to token ids and back, the one interface to all kinds (SentencePiece, byte-level BPE, adopted ones).

A folder is opened in 30 ms for 125,700 entries, and checked: a file that is damaged, does not fit to the others or is
another project's is named before any text is encoded. What only reports need (the tokens' bytes and names, 0.1 s more)
is made when it is asked for. memory: 55 MB, and what chunks.py remembers.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mindllm.config import UserError
from mindllm.tokenizer.bytelevel import ByteLevel, read_fast
from mindllm.tokenizer.chunks import Chunks
from mindllm.tokenizer.config import ADOPTED
from mindllm.tokenizer.fast import FAST_FILE, LENGTHS_FILE
from mindllm.tokenizer.foreign import Foreign, is_ours
from mindllm.tokenizer.pieces import MODEL_FILE, Pieces
from mindllm.tokenizer.special import CONTROL, EOS, MASKS, PAD

_PROBE = f" 天 \u2581 b\n\n\tＡ１{MASKS[1]}。{EOS}\u3000"  # what tokenizers with other settings change, or lack


class Tokenizer:
    """A tokenizer folder; text never yields a control token, and every text comes back byte for byte.

    An adopted tokenizer (foreign.py) may change texts before it encodes them: `exact` says whether it cannot.
    folder.  kind: sentencepiece, byte-level (enlarged ones, too) or adopted.  exact: the bytes of a text's tokens are
    those of the text, for every text.  vocab_size: entries, all of which a model needs rows for.  eos_id, pad_id:
    document end, padding.  fingerprint: 16 hex digits of SHA-256 of the whole model file (of an adopted one with its
    eos_id and pad_id), so that it changes with every change of an id.
    token_bytes: uint16 (vocab_size,), UTF-8 bytes of text that each token stands for; 0 for control tokens.
    Raises UserError for a tokenizer that is not this project's, RuntimeError for damaged files.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._file, self.kind, self._model = _open(self.folder)
        self.exact = not isinstance(self._model, Foreign) or self._model.exact
        self._chunks = Chunks(self._model.boundary, self._model.encode_all)
        self.vocab_size: int = self._model.vocab_size
        self.eos_id, self.pad_id = self.token_id(EOS), self.token_id(PAD)
        self.token_bytes = _read_lengths(self.folder / LENGTHS_FILE, self.vocab_size)
        self._check()

    def _check(self) -> None:
        """One text there and back. Raises UserError when it is not what it was, or holds a control token.

        Of an adopted one, whose changes of text are its own affair, the lengths of all tokens.
        """
        if isinstance(self._model, Foreign):
            if self.token_bytes.tolist() != [len(token) for token in self._model.token_bytes()]:
                raise RuntimeError(f"{self.folder / LENGTHS_FILE}: does not fit to {self._file}; adopt it again")
            return
        ids = np.array(self._model.encode(_PROBE), dtype=np.uint32)
        same = self._model.decode(ids.tolist()) == _PROBE and int(self.token_bytes[ids].sum()) == len(_PROBE.encode())
        if not same or not self.token_bytes[ids].all():
            cause = f"does not give back every text as it was, or does not fit to {LENGTHS_FILE} beside it"
            raise UserError(f"{self._file}: {cause}; it is damaged or none of this project's tokenizers")

    @functools.cached_property
    def fingerprint(self) -> str:
        """The same file content, the same fingerprint, wherever it lies."""
        content = self._model.identity() if isinstance(self._model, Foreign) else self._file.read_bytes()
        return hashlib.sha256(content).hexdigest()[:16]

    @functools.cached_property
    def special_ids(self) -> dict[str, int]:
        """The ids of the control tokens and of the masks, by name; of an adopted tokenizer those that it has."""
        names = [n for n in (*CONTROL, *MASKS) if self.kind != ADOPTED or self._model.token_id(n) is not None]
        return {name: self.token_id(name) for name in names}

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Token ids of each text, uint32 (num_tokens,), without document ends; read-only.

        The same for every order and grouping of texts. Raises UnicodeEncodeError (a ValueError) for a text that holds
        half a surrogate pair, which is no text.
        """
        return self._chunks.encode(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, a list or an array of one dimension; control tokens are nothing.

        Bytes that are no UTF-8 become U+FFFD. Raises IndexError for an id that no token has.
        """
        found = ids.tolist() if isinstance(ids, np.ndarray) else [int(i) for i in ids]
        if found and not (min(found) >= 0 and max(found) < self.vocab_size):
            wrong = next(i for i in found if not 0 <= i < self.vocab_size)
            raise IndexError(f"{self.folder}: no token has the id {wrong}; there are {self.vocab_size}")
        return self._model.decode(found)

    def token_id(self, token: str) -> int:
        """The id of a special token such as <|user|>. Raises UserError when the tokenizer lacks it."""
        found = self._model.token_id(token)
        if found is None:
            raise UserError(f"{self.folder}: this tokenizer has no token {token}")
        return found

    def token_text(self, id: int) -> str:
        """What a token is called in reports: its text, with bytes as <0xE4> where they are no whole character or one
        that does not print; the name of a control token. Raises IndexError for an id that no token has."""
        if not 0 <= id < self.vocab_size:
            raise IndexError(f"{self.folder}: no token has the id {id}; there are {self.vocab_size}")
        text = self._bytes[id].decode(errors="surrogateescape")
        return "".join(c if c.isprintable() else _hex(c) for c in text) or self._names[id]

    @functools.cached_property
    def _bytes(self) -> list[bytes]:
        return self._model.token_bytes()

    @functools.cached_property
    def _names(self) -> list[str]:
        return self._model.names()


def _open(folder: Path) -> tuple[Path, str, Pieces | ByteLevel | Foreign]:
    """The file that decides about ids, the kind of the tokenizer, and the tokenizer."""
    if (folder / MODEL_FILE).exists():
        return folder / MODEL_FILE, "sentencepiece", Pieces(folder)
    path = folder / FAST_FILE
    fast = read_fast(path)
    if is_ours(fast):
        return path, "byte-level", ByteLevel(folder, fast)
    if not (folder / LENGTHS_FILE).exists():
        way_out = f"adopt it first: python -m mindllm.tokenizer train CONFIG kind=adopted base={folder}"
        raise UserError(f"{folder}: a tokenizer of another project, without {LENGTHS_FILE}; {way_out}")
    return path, ADOPTED, Foreign(folder, fast)


def _hex(character: str) -> str:
    return "".join(f"<0x{byte:02X}>" for byte in character.encode(errors="surrogateescape"))


def _read_lengths(path: Path, vocab_size: int) -> np.ndarray:
    """The array of token_bytes.npy. Raises RuntimeError when it is damaged, or of another tokenizer."""
    way_out = "make the tokenizer again, or copy its whole folder"
    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RuntimeError(f"{path}: cannot be read ({error}); {way_out}") from None
    if found.dtype != np.uint16 or found.shape != (vocab_size,):
        there = f"{found.dtype} of shape {found.shape}"
        raise RuntimeError(f"{path}: {there} where uint16 of shape ({vocab_size},) belongs; {way_out}")
    return found


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in a complete tokenizer or export folder. Raises UserError when there is none."""
    if not (Path(folder) / FAST_FILE).exists():
        raise UserError(f"{folder}: no tokenizer here; make it first: python -m mindllm.tokenizer train CONFIG")
    return Tokenizer(folder)
