"""Any tokenizer that a user can name, ours or not, behind one record: what the tokenizer report compares.

A folder of ours, a Hugging Face folder (tokenizer.json), GPT-2's two files (vocab.json, merges.txt), a SentencePiece
model (tokenizer.model), or an encoding of tiktoken whose file is on this machine. Nothing is downloaded and no code of
a folder is run. What all have in common is the bytes of text behind each token: every other number follows from them.
Cost: reading the file, at most 2 s and 300 MB for the largest vocabularies.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from mindllm.config import UserError
from mindllm.tokenizer.bytelevel import ByteLevel
from mindllm.tokenizer.config import ADOPTED
from mindllm.tokenizer.encode import Tokenizer
from mindllm.tokenizer.fast import FAST_FILE, LENGTHS_FILE
from mindllm.tokenizer.foreign import Foreign, kind_of, plain, read_vocabulary
from mindllm.tokenizer.pieces import MODEL_FILE, Pieces

TIKTOKEN = "tiktoken:"
VOCAB_FILE, MERGES_FILE = "vocab.json", "merges.txt"  # as GPT-2 came
MAX_FILE_BYTES = 256 << 20  # of one file of a tokenizer; the largest known vocabularies need 40 MB
_BYTE_NAME = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_CONTROL_NAME = re.compile(r"<\|[^<>|]*\|>")


@dataclass(frozen=True)
class Opened:
    """A tokenizer that can be measured.

    kind: what it is, in words.  tokens: the UTF-8 bytes of text behind every id, empty for control tokens and ids that
    nothing has; its length is the rows that a model needs.  special: ids of control tokens, and of words with a meaning
    of their own such as masks.  single_bytes: ids that stand for one byte by name (<0x41>), whole character or not.
    encode: texts to token ids (num_tokens,) each, on one core; text yields no control token.  decode: ids to text.
    fingerprint: changes with the content of its files.
    """

    kind: str
    tokens: Sequence[bytes]
    special: frozenset[int]
    single_bytes: frozenset[int]
    encode: Callable[[Sequence[str]], list[np.ndarray]]
    decode: Callable[[np.ndarray], str]
    fingerprint: str


@dataclass(frozen=True)
class Absent:
    """Why a tokenizer that needs a package or a file of elsewhere is left out."""

    reason: str


def open_tokenizer(what: str) -> Opened | Absent:
    """The tokenizer that `what` names: a folder, or tiktoken:ENCODING.

    Raises UserError for a folder that does not exist, holds no tokenizer, or a damaged one.
    """
    if what.startswith(TIKTOKEN):
        return _open_tiktoken(what.removeprefix(TIKTOKEN))
    folder = Path(what)
    if not folder.is_dir():
        raise UserError(f"{what}: no such folder; name a folder with a tokenizer in it, or {TIKTOKEN}ENCODING")
    has = {name for name in (LENGTHS_FILE, FAST_FILE, VOCAB_FILE, MERGES_FILE, MODEL_FILE) if (folder / name).is_file()}
    for name in sorted(has):
        if (folder / name).stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{folder / name}: larger than {MAX_FILE_BYTES >> 20} MiB, which is no tokenizer")
    if {LENGTHS_FILE, FAST_FILE} <= has:
        with _explained(folder):
            return _open_ours(folder)
    if FAST_FILE in has:
        with _explained(folder / FAST_FILE):
            fast = tokenizers.Tokenizer.from_file(str(folder / FAST_FILE))
        return _open_fast(fast, "Hugging Face", _fingerprint(folder / FAST_FILE))
    if {VOCAB_FILE, MERGES_FILE} <= has:
        return _open_fast(_gpt2(folder), "Hugging Face", _fingerprint(folder / VOCAB_FILE, folder / MERGES_FILE))
    if MODEL_FILE in has:
        return _open_pieces(folder)
    needed = f"{FAST_FILE}, or {VOCAB_FILE} and {MERGES_FILE}, or {MODEL_FILE}"
    raise UserError(f"{what}: no tokenizer in this folder (it has none of {needed})")


def _open_ours(folder: Path) -> Opened:
    tokenizer = Tokenizer(folder)
    if (folder / MODEL_FILE).exists():
        pieces = Pieces(folder)
        kind, tokens, single = "ours, SentencePiece BPE", pieces.token_bytes(), frozenset(pieces.byte_ids())
    elif tokenizer.kind == ADOPTED:
        foreign = Foreign(folder)
        kind, tokens, single = f"adopted, {foreign.kind}", foreign.token_bytes(), foreign.single_bytes
    else:
        kind, tokens, single = "ours, byte-level BPE", ByteLevel(folder).token_bytes(), frozenset()
    lengths = [len(token) for token in tokens]
    if lengths != tokenizer.token_bytes.tolist():
        raise UserError(f"{folder / LENGTHS_FILE}: does not fit to the tokenizer beside it; make the tokenizer again")
    special = frozenset([*tokenizer.special_ids.values(), *(i for i, token in enumerate(tokens) if not token)])
    return Opened(
        kind, tokens, special, single, tokenizer.encode_batch, lambda ids: tokenizer.decode(ids.tolist()),
        tokenizer.fingerprint,
    )  # fmt: skip


def _open_pieces(folder: Path) -> Opened:
    with _explained(folder / MODEL_FILE):
        pieces = Pieces(folder)
    tokens, names = pieces.token_bytes(), pieces.names()
    special = frozenset(i for i, token in enumerate(tokens) if not token)
    single = frozenset(i for i, name in enumerate(names) if _BYTE_NAME.fullmatch(name) and len(tokens[i]) == 1)
    return Opened(
        "SentencePiece", tokens, special, single, lambda texts: [_ids(pieces.encode(text)) for text in texts],
        lambda ids: pieces.decode(ids.tolist()), _fingerprint(folder / MODEL_FILE),
    )  # fmt: skip


def _open_fast(fast: tokenizers.Tokenizer, library: str, fingerprint: str) -> Opened:
    """A tokenizer of the tokenizers library; texts one by one, for that keeps it on one core."""
    plain(fast)
    tokens, special, single = read_vocabulary(fast)

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        return [_ids(fast.encode(text, add_special_tokens=False).ids) for text in texts]

    def decode(ids: np.ndarray) -> str:
        text: str = fast.decode(ids.tolist(), skip_special_tokens=True)
        return text

    return Opened(f"{library}, {kind_of(fast)}", tokens, special, single, encode, decode, fingerprint)


def _gpt2(folder: Path) -> tokenizers.Tokenizer:
    """Byte-level BPE from the two files that GPT-2 came in; names such as <|endoftext|> are control tokens."""
    with _explained(folder):
        model = tokenizers.models.BPE.from_file(str(folder / VOCAB_FILE), str(folder / MERGES_FILE))
    fast = tokenizers.Tokenizer(model)
    fast.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = tokenizers.decoders.ByteLevel()
    names = sorted(fast.get_vocab().items(), key=lambda item: item[1])
    fast.add_special_tokens([name for name, _ in names if _CONTROL_NAME.fullmatch(name)])
    return fast


def _open_tiktoken(name: str) -> Opened | Absent:
    try:
        import tiktoken  # an extra: the report works without
    except ImportError:
        return Absent("the package tiktoken is not installed (pip install tiktoken)")
    if name not in tiktoken.list_encoding_names():
        raise UserError(f"{TIKTOKEN}{name}: no such encoding; there are {', '.join(tiktoken.list_encoding_names())}")
    try:
        with _without_network():
            encoding = tiktoken.get_encoding(name)
    except FileNotFoundError as error:
        return Absent(
            f"its file is not on this machine, and nothing is downloaded; on a machine with network, set "
            f"TIKTOKEN_CACHE_DIR to a folder, call tiktoken.get_encoding({name!r}), and bring the folder here ({error})"
        )
    return from_tiktoken(encoding)


def from_tiktoken(encoding: Any) -> Opened:
    """A tiktoken.Encoding as it is in memory."""
    tokens, special = [b""] * encoding.n_vocab, set()
    names = {encoding.encode_single_token(name) for name in encoding.special_tokens_set}
    for i in range(encoding.n_vocab):
        with contextlib.suppress(KeyError):  # an id that nothing has
            tokens[i] = b"" if i in names else encoding.decode_single_token_bytes(i)
    special |= names
    digest = hashlib.sha256(b"".join(len(token).to_bytes(4, "little") + token for token in tokens))
    return Opened(
        "tiktoken, byte-level BPE", tokens, frozenset(special), frozenset(),
        lambda texts: [_ids(encoding.encode_ordinary(text)) for text in texts],
        lambda ids: encoding.decode(ids.tolist()), digest.hexdigest()[:16],
    )  # fmt: skip


@contextlib.contextmanager
def _without_network() -> Iterator[None]:
    """tiktoken finds files in its cache only; it has no switch for that, so its one function that fetches is replaced.

    Inside, a file that is not there is a FileNotFoundError.
    """
    import tiktoken.load

    def refuse(blobpath: str) -> bytes:
        raise FileNotFoundError(blobpath.rsplit("/", 1)[-1])

    fetch = tiktoken.load.read_file
    tiktoken.load.read_file = refuse
    try:
        yield
    finally:
        tiktoken.load.read_file = fetch


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of the libraries (tokenizers raises plain Exception) become one that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a tokenizer ({' '.join(str(error).split())[:200]})") from None


def _fingerprint(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _ids(ids: Sequence[int]) -> np.ndarray:
    return np.array(ids, dtype=np.uint32)
