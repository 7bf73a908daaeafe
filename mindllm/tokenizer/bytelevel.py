"""Byte-level BPE after GPT-2 (Radford et al. 2019): every byte is a token, so nothing is ever unknown.

Text is split before merging: runs of Han characters on their own (so that no token joins Chinese with what stands
beside it), single digits where asked, then GPT-2's pattern. Training is Hugging Face tokenizers' and gives
the same file whatever the number of threads. Encoding with the cuts below and the memory of chunks.py is three
times as fast as without them, in English and in Chinese, 6 MB/s a process; a model of 75,000 tokens loads in 0.2 s.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import pre_tokenizers

from mindllm.config import UserError
from mindllm.text import HAN
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.fast import FAST_FILE, add_special, write_files
from mindllm.tokenizer.hancuts import HanCuts
from mindllm.tokenizer.special import CONTROL, MASKS

Fast = tokenizers.Tokenizer  # what `make` makes
HAN_RUNS = f"[{HAN}]+"
# White space as the pattern's engine knows it (Unicode's White_Space); Python's \s has U+001C to U+001F besides.
_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_MIN_COUNT = 2  # a pair of tokens that was seen once is no word
_MASK = re.compile("|".join(map(re.escape, MASKS)))


class Splitting(NamedTuple):
    """How text is split before bytes are merged. han: the pattern of runs that stand alone, or "" (as in GPT-2)."""

    han: str = HAN_RUNS
    digits: bool = False


class ByteLevel:
    """A byte-level BPE tokenizer from its tokenizer.json. `boundary` cuts a text where no token can span.

    Why the cuts change no id. (1) Han runs are split off before anything else, so both ends of one are cuts already,
    and what lies between two runs is looked at alone. (2) Inside such a part GPT-2's pattern is matched from left to
    right, without looking back. Each of its alternatives ends before a white space that follows something else, for
    only white space goes on over white space, with at most one blank before the rest. So a match always begins there,
    and what follows is the same as in a text that begins there. (3) Nothing before such a place depends on what comes
    after it: the one alternative that looks ahead, `\\s+(?!\\S)`, asks what follows a run of white space, and the cuts
    leave every run with what follows it, or at the end of its part. (4) Single digits only split further. (5) Masks,
    found before everything else, hold neither white space nor Han characters, so no cut lies in one. (6) What is cut
    inside a run of Han besides, hancuts.py proves.
    """

    def __init__(self, folder: Path, fast: Fast | None = None):
        path = folder / FAST_FILE
        self._fast = read_fast(path) if fast is None else fast
        state = self._fast.pre_tokenizer.__getstate__() if self._fast.pre_tokenizer else b"{}"
        splitting = read_splitting(json.loads(state))
        if splitting is None:
            raise UserError(f"{path}: does not split text as GPT-2 or this project does; it is none of our tokenizers")
        self.boundary: Any = _boundary(splitting.han)  # what has findall(text) -> parts
        if splitting.han:
            self.boundary = HanCuts(self.boundary, splitting.han[1:-2], _SPACE, self.token_bytes)
        self._fast.encode_special_tokens = True  # text never yields a control token
        self.vocab_size: int = self._fast.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Token ids; text never yields a control token."""
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [self.encode(text) for text in texts]  # its own batches take all cores: processes share them out better

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; control tokens are nothing."""
        text: str = self._fast.decode(ids, skip_special_tokens=True)
        return text

    def token_id(self, token: str) -> int | None:
        """The id of a token, or None."""
        found: int | None = self._fast.token_to_id(token)
        return found

    def names(self) -> list[str]:
        """What each token is called in the model file, by id: a character for each byte (`bytes_of` undoes it)."""
        return _names(self._fast)

    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of text behind each token; empty for control tokens."""
        control = {i for i, token in self._fast.get_added_tokens_decoder().items() if token.special}
        return [b"" if i in control else bytes_of(name) for i, name in enumerate(_names(self._fast))]


def read_fast(path: Path) -> Fast:
    """A tokenizer.json. Raises RuntimeError for a damaged one."""
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more exact
        raise RuntimeError(f"{path}: cannot be read as a tokenizer ({error}); make it again") from None


def _boundary(han: str) -> re.Pattern[str]:
    """Han runs; other text up to the next white space, with the white space before it; white space before Han."""
    if not han:
        return re.compile(f"[{_SPACE}]*[^{_SPACE}]+|[{_SPACE}]+")
    inside = han[1:-2]
    return re.compile(f"[{inside}]+|[{_SPACE}]*[^{_SPACE}{inside}]+|[{_SPACE}]+")


def read_splitting(state: dict[str, Any]) -> Splitting | None:
    """What a pre-tokenizer of a tokenizer.json does, if it is GPT-2's or one that `make` makes; else None."""
    steps = state.get("pretokenizers", []) if state.get("type") == "Sequence" else [state]
    han, digits = "", False
    if steps and steps[0].get("type") == "Split":
        han = (steps[0].get("pattern") or {}).get("Regex", "")
        isolated = steps[0].get("behavior") == "Isolated" and not steps[0].get("invert")
        if not isolated or not re.fullmatch(r"\[[^\[\]\\^]+\]\+", han):
            return None
        steps = steps[1:]
    if steps and steps[0].get("type") == "Digits":
        digits = bool(steps[0].get("individual_digits"))
        steps = steps[1:] if digits else []
    last = steps[0] if len(steps) == 1 else {}
    plain = last.get("type") == "ByteLevel" and not last.get("add_prefix_space", True) and last.get("use_regex", True)
    return Splitting(han, digits) if plain else None


def make(vocab: dict[str, int], merges: Sequence[tuple[str, str]], splitting: Splitting) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer without special tokens; merges are best first."""
    fast = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, list(merges)))
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=True)]
    if splitting.digits:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    if splitting.han:
        steps.insert(0, pre_tokenizers.Split(tokenizers.Regex(splitting.han), "isolated"))
    fast.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    fast.decoder = tokenizers.decoders.ByteLevel()
    return fast


def train_byte_level(folder: Path, lines: Iterable[str], config: TokenizerConfig) -> None:
    """Learn a byte-level BPE of exactly config.vocab_size entries, and write its files: bytes, merges, special tokens.

    Raises UserError when the text does not have so many pairs. slow: 1.3 s a MB of text, half Chinese. memory:
    every different word and Han run of the text, 37 MB a MB of text.
    """
    num_learned = config.vocab_size - len(CONTROL) - len(MASKS)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=num_learned, min_frequency=_MIN_COUNT, initial_alphabet=sorted(byte_names()), show_progress=False
    )
    fast = make({}, [], Splitting(HAN_RUNS, config.split_digits))
    fast.train_from_iterator(_without_masks(lines), trainer)
    if (found := fast.get_vocab_size()) < num_learned:
        limit = found + len(CONTROL) + len(MASKS)
        raise UserError(f"vocab_size: {config.vocab_size} is more than this text supports; use at most {limit}")
    add_special(fast, CONTROL, MASKS)
    assert fast.get_vocab_size() == config.vocab_size, "the special tokens were not all new"
    write_byte_level(folder, fast)


def write_byte_level(folder: Path, fast: tokenizers.Tokenizer) -> None:
    """The files of a byte-level tokenizer; tokenizer.json is last."""
    control = {i for i, token in fast.get_added_tokens_decoder().items() if token.special}
    write_files(folder, fast, [0 if i in control else len(name) for i, name in enumerate(_names(fast))])


def _without_masks(lines: Iterable[str]) -> Iterator[str]:
    """What is left of lines beside the masks, which are tokens anyway."""
    for line in lines:
        yield from filter(None, _MASK.split(line)) if "<|" in line else (line,)


def _names(fast: tokenizers.Tokenizer) -> list[str]:
    ids = fast.get_vocab(with_added_tokens=True)
    names = sorted(ids, key=ids.__getitem__)
    assert len(names) == max(ids.values()) + 1, "ids of a tokenizer have gaps"
    return names


@functools.cache
def byte_names() -> str:
    """256 characters: how vocabularies after GPT-2 write each byte; those that print stand for themselves."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(b if b in shown else next(others)) for b in range(256))


@functools.cache
def _bytes_by_name() -> dict[str, int]:
    return {name: byte for byte, name in enumerate(byte_names())}


def name_of(text: str | bytes) -> str:
    """How the vocabulary writes a text, or bytes of one: a character for each byte."""
    names = byte_names()
    return "".join(names[b] for b in (text.encode() if isinstance(text, str) else text))


def bytes_of(name: str) -> bytes:
    """The bytes behind a token's name. Raises KeyError for a name that is not made of bytes' names."""
    table = _bytes_by_name()
    return bytes(table[c] for c in name)
