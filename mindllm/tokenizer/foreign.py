"""Another project's tokenizer, from its tokenizer.json: same ids, whatever its model, its splitting, its normaliser.

tokenizer_config.json beside it says which token ends a document and which one pads. Control tokens never come from
text: where the tokenizer would make one of a text that spells its name, that text is encoded without the name. Texts
are encoded whole, for no cut is known to be harmless for every tokenizer: 1 MB/s of English and 2.5 of Chinese a
process, a sixth of what ours do. Opening takes 0.6 s and 130 MB for 150,000 tokens, whose bytes their names tell.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from mindllm.config import UserError
from mindllm.tokenizer.bytelevel import Fast, byte_names, read_fast
from mindllm.tokenizer.config import MAX_ENTRIES
from mindllm.tokenizer.fast import FAST_FILE
from mindllm.tokenizer.special import CONTROL, EOS, MASKS, PAD

SETTINGS_FILE = "tokenizer_config.json"
MAX_SETTINGS_BYTES = 16 << 20  # of SETTINGS_FILE; those of known models have 0.1 MB at most
_BYTE_NAME = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BLANK = "▁"  # how SentencePiece writes a blank inside tokens
_PREFIX = "##"  # how WordPiece marks a token inside a word
_ROLES = ("eos_token", "pad_token", "bos_token", "unk_token")  # keys of SETTINGS_FILE
_NO_TEXT = "\U0010fffe"  # a code point that is no character: what control tokens are called where text is encoded
_SPLITTERS = ("ByteLevel", "Digits", "Punctuation", "Split", "UnicodeScripts")  # may cut text and lose none of it


class _Whole:
    """The cut that is harmless for every tokenizer: none. memory: 280 bytes a token of the longest text."""

    def findall(self, text: str, /) -> list[str]:
        """The text, as the only chunk."""
        return [text]


class Foreign:
    """A tokenizer of the tokenizers library that this project did not make.

    vocab_size: rows that a model needs, ids that nothing has among them.  eos_id, pad_id: as SETTINGS_FILE says;
    without a pad_token, pad_id is eos_id.  kind: in words.  exact: the bytes of a text's tokens are provably its own.
    special, single_bytes: ids of control tokens, and of tokens that are bytes by name (<0xE4>).
    Raises UserError for a tokenizer without a token that ends documents, RuntimeError for damaged files.
    """

    boundary = _Whole()

    def __init__(self, folder: Path, fast: Fast | None = None):
        self._file = folder / FAST_FILE
        self._fast = read_fast(self._file) if fast is None else fast
        self._settings = read_settings(folder / SETTINGS_FILE)
        if getattr(self._fast.model, "dropout", None):
            raise UserError(f"{self._file}: its model has dropout: the same text has other ids each time")
        plain(self._fast)
        named = {role: self._named(role) for role in _ROLES}
        self.eos = named["eos_token"] or (EOS if EOS in _special_names(self._fast) else "")
        self._fast.add_special_tokens([n for n in (self.eos, *named.values(), *self._listed()) if self._has(n)])
        self.eos_id = self._eos_id()
        pad = self._fast.token_to_id(named["pad_token"])
        self.pad_id: int = self.eos_id if pad is None else pad
        self._tokens, self.special, self.single_bytes = read_vocabulary(self._fast)
        self.vocab_size, self.kind = len(self._tokens), kind_of(self._fast)
        self._control = (self.special - {_unknown_id(self._fast)}) | {self.eos_id}
        self.exact = _is_exact(self._fast, self._tokens)

    def _named(self, role: str) -> str:
        value = self._settings.get(role) or ""
        name = value.get("content") if isinstance(value, dict) else value
        if not isinstance(name, str):
            raise UserError(f"{self._file.with_name(SETTINGS_FILE)}: {role} is no token: {json.dumps(value)[:80]}")
        return name

    def _listed(self) -> list[str]:
        """Further control tokens, as transformers takes them from there."""
        found = self._settings.get("additional_special_tokens")
        names = [n.get("content") if isinstance(n, dict) else n for n in (found if isinstance(found, list) else [])]
        return [name for name in names if isinstance(name, str)]

    def _has(self, name: str) -> bool:
        return bool(name) and self._fast.token_to_id(name) is not None

    def _eos_id(self) -> int:
        settings = self._file.with_name(SETTINGS_FILE)
        if not self.eos:
            raise UserError(f'{settings}: names no eos_token, which ends every document; add it: "eos_token": "..."')
        if not self._has(self.eos):
            raise UserError(f"{settings}: eos_token is {self.eos!r}, which {self._file.name} beside it does not have")
        found = self._fast.token_to_id(self.eos)
        assert found is not None, "a token that it has, has an id"
        return int(found)

    def encode(self, text: str) -> list[int]:
        """Token ids; text never yields a control token, and nothing is added before or after it."""
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        if self.special.isdisjoint(ids):
            return ids
        ids = self._nameless.encode(text, add_special_tokens=False).ids
        return [i for i in ids if i not in self._control]  # all, unless a text spells names of _NO_TEXT on purpose

    @functools.cached_property
    def _nameless(self) -> Fast:
        """The same tokenizer, but its control tokens have names that no text has, and no merge makes them.

        slow: 1 s for 150,000 tokens, when the first text needs it.
        """
        state = json.loads(self._fast.to_str())
        names = {str(self._fast.id_to_token(i)): f"{_NO_TEXT}{i}{_NO_TEXT}" for i in self.special}
        for token in state["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        _rename(state["model"], names)
        fast = tokenizers.Tokenizer.from_str(json.dumps({**state, "post_processor": None}))
        plain(fast)
        return fast

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; control tokens are nothing."""
        text: str = self._fast.decode(ids, skip_special_tokens=True)
        return text

    def token_id(self, token: str) -> int | None:
        """The id of a token, or None; EOS and PAD stand for the tokens that end a document and pad, whatever their
        names."""
        found: int | None = {EOS: self.eos_id, PAD: self.pad_id}.get(token, self._fast.token_to_id(token))
        return found

    def names(self) -> list[str]:
        """What each token is called in the model file, by id; <no token 7> for an id that nothing has."""
        return [self._fast.id_to_token(i) or f"<no token {i}>" for i in range(self.vocab_size)]

    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of text behind each token; empty for control tokens. Where the tokenizer changes text before
        it encodes, of the changed text; a blank that it puts before a text counts."""
        return self._tokens

    def identity(self) -> bytes:
        """What ids depend on: the whole tokenizer.json, the ends of documents and the padding."""
        return self._file.read_bytes() + f"\neos {self.eos_id} pad {self.pad_id}".encode()


def is_ours(fast: Fast) -> bool:
    """Whether a tokenizer.json is one of this project's: it has all of our control tokens and masks."""
    return all(fast.token_to_id(name) is not None for name in (*CONTROL, *MASKS))


def plain(fast: Fast) -> None:
    """Switch off what would add to a text's ids or take from them: padding, truncation, control tokens from text."""
    fast.encode_special_tokens = True  # literal control tokens are text
    fast.no_padding()
    fast.no_truncation()


def read_settings(path: Path) -> dict[str, Any]:
    """A tokenizer_config.json; {} where there is none. Raises UserError for a damaged one."""
    if not path.exists():
        return {}
    if path.stat().st_size > MAX_SETTINGS_BYTES:
        raise UserError(f"{path}: larger than {MAX_SETTINGS_BYTES >> 20} MiB, which is no config")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: damaged (no keys and values)")
    return found


def read_vocabulary(fast: Fast) -> tuple[list[bytes], frozenset[int], frozenset[int]]:
    """Bytes of text by id; ids of control tokens; ids of tokens that are bytes by name.

    What a name in the file means depends on the decoder: letters that stand for bytes, a sign for a blank, <0xE4>.
    """
    vocab: dict[str, int] = fast.get_vocab(with_added_tokens=True)
    if (last := max(vocab.values(), default=-1)) >= MAX_ENTRIES:
        raise UserError(f"a token has the id {last}; more than {MAX_ENTRIES:,} ids are no tokenizer")
    added = fast.get_added_tokens_decoder()
    steps = _steps(_state(fast.decoder), "decoders")
    types = {step["type"] for step in steps}
    tokens, single = [b""] * (last + 1), set()
    letters = {letter: byte for byte, letter in enumerate(byte_names())}
    for name, i in vocab.items():
        if i in added:
            tokens[i] = b"" if added[i].special else name.encode()
        elif "ByteFallback" in types and (byte := _BYTE_NAME.fullmatch(name)):
            tokens[i] = bytes([int(byte[1], 16)])
            single.add(i)
        elif "ByteLevel" in types and all(letter in letters for letter in name):
            tokens[i] = bytes(letters[letter] for letter in name)
        else:
            tokens[i] = _text(name, steps).encode()
    return tokens, frozenset(i for i, token in added.items() if token.special), frozenset(single)


def kind_of(fast: Fast) -> str:
    """What the tokenizer is, in words."""
    levels = {step["type"] for step in _steps(_state(fast.decoder), "decoders")}
    return f"{'byte-level ' if 'ByteLevel' in levels else ''}{type(fast.model).__name__}"


def _text(name: str, steps: Sequence[dict[str, Any]]) -> str:
    """The text behind a token's name where the decoder does not work on bytes."""
    for step in steps:
        if step["type"] == "Metaspace":
            name = name.replace(step.get("replacement", _BLANK), " ")
        elif step["type"] == "Replace" and isinstance(step["pattern"].get("String"), str):
            name = name.replace(step["pattern"]["String"], step["content"])
        elif step["type"] == "WordPiece":
            name = name.removeprefix(step.get("prefix", _PREFIX))
        elif step["type"] == "BPEDecoder":
            name = name.replace(step.get("suffix", "</w>"), " ")
    return name


def _state(part: Any) -> dict[str, Any] | None:
    """A part of a tokenizer (decoder, pre-tokenizer) as in its file."""
    found: dict[str, Any] | None = json.loads(part.__getstate__()) if part is not None else None
    return found


def _steps(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """The steps of a part, sequences taken apart."""
    if part is None:
        return []
    if part["type"] == "Sequence":
        return [step for one in part[inner] for step in _steps(one, inner)]
    return [part]


def _special_names(fast: Fast) -> set[str]:
    return {token.content for token in fast.get_added_tokens_decoder().values() if token.special}


def _unknown_id(fast: Fast) -> int:
    """The id that stands for text that nothing else stands for; -1: none. Text may yield it."""
    if isinstance(fast.model, tokenizers.models.Unigram):
        found = json.loads(fast.model.__getstate__()).get("unk_id")
    else:
        name = getattr(fast.model, "unk_token", None)
        found = fast.token_to_id(name) if name else None
    return -1 if found is None else int(found)


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """Other names for some entries of a model's state, in place; merges that make or need them go."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(name, name): i for name, i in vocab.items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocab]
    if model.get("unk_token"):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [pair for pair in pairs if names.keys().isdisjoint((*pair, "".join(pair)))]


def _is_exact(fast: Fast, tokens: Sequence[bytes]) -> bool:
    """Whether the bytes of a text's tokens are the text's, for every text: a BPE over all 256 bytes, which nothing
    comes before but cutting, and whose added words take no blanks around them."""
    before, after = _steps(_state(fast.pre_tokenizer), "pretokenizers"), _steps(_state(fast.decoder), "decoders")
    model = fast.model
    if fast.normalizer is not None or not isinstance(model, tokenizers.models.BPE):
        return False
    if model.continuing_subword_prefix or model.end_of_word_suffix or [step["type"] for step in after] != ["ByteLevel"]:
        return False
    if not all(step["type"] in _SPLITTERS and step.get("behavior") != "Removed" for step in before):
        return False
    levels = [step for step in before if step["type"] == "ByteLevel"]
    if not levels or any(step.get("add_prefix_space", True) for step in levels):
        return False
    words = [token for token in fast.get_added_tokens_decoder().values() if not token.special]
    added = {token.content.encode() for token in words}
    whole = {token for token in tokens if len(token) == 1 and token not in added}
    return len(whole) == 256 and not any(token.lstrip or token.rstrip for token in words)
