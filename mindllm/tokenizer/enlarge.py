"""A byte-level tokenizer enlarged for Chinese: GPT-2's ids as they are, and after them tokens for characters and words.

SentencePiece learns characters and words from the Chinese lines of the sample. As merges of bytes they are put so:
  1. first of all merges, a character's first two bytes, then the third: characters come together before any merge of
     the base can join halves of two of them;
  2. then the base's merges, in their order;
  3. then the words, in the order they were learned, each by every cut into two tokens: what SentencePiece does.
Why text without Chinese keeps its ids: two bytes that begin a merge of 1 only occur in Han, in U+3000 to U+303F and in
U+FF00 to U+FF7F (wide forms); a merge of 3 joins such characters; and where there is no Han, none is split off.
Cost: 25,000 tokens from 70 MB of Chinese take half a minute and 1.4 GB, of which building and checking are 3 s.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mindllm.config import UserError
from mindllm.stage import atomic, write_text
from mindllm.text import is_chinese, language
from mindllm.tokenizer.base import MERGES, VOCAB, Base, open_base
from mindllm.tokenizer.bytelevel import HAN_RUNS, Fast, Splitting, bytes_of, make, name_of, write_byte_level
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.fast import REPLACED_FILE, add_special
from mindllm.tokenizer.pieces import TooFewPieces, learn_pieces
from mindllm.tokenizer.special import CONTROL, MASKS

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # of three bytes; rarer ones stay bytes
_PUNCTUATION = "\u3001-\u3003\u3008-\u3020\u3030\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_WIDE = "\u3000-\u303f\uff01-\uff65"  # punctuation, letters and digits as wide as a Han character
CHINESE = f"[{_HAN}{_WIDE}]"
# What is learned from, each a text of its own: runs that one token may lie in; wide letters and digits stand alone.
_RUN = re.compile(f"[{_HAN}]{{1,200}}|[{_PUNCTUATION}]+|\u3000+|[{_WIDE}]")
_IS_CHINESE = re.compile(f"{CHINESE}+")
_SOME_HAN = re.compile(f"[{_HAN}]")
_NUM_PREFIXES = 450  # two-byte beginnings of Chinese characters, at most: tokens, too
_KNOWN = 1000  # Chinese characters and words that a base has, about


def train_enlarged(folder: Path, lines: Iterable[str], config: TokenizerConfig) -> None:
    """Enlarge config.base by exactly config.new_tokens for Chinese, and the control tokens and masks that it lacks.

    Writes tokenizer.json (last), tokenizer_config.json, token_bytes.npy, replaced.npz (see `write_replaced`), and
    vocab.json with merges.txt for older code. Those two leave out that Han runs are split off, and which entries are
    special tokens: Chinese beside Latin letters may come out otherwise there. split_digits is the base's business.
    Raises UserError when the text does not have so many words.
    """
    base = open_base(config.base)
    characters, words = learn(lines, config.new_tokens, config.character_coverage)
    fast, merges = enlarge(base, characters, words, config.new_tokens)
    add_special(fast, list(dict.fromkeys([*base.control, *CONTROL])), list(dict.fromkeys([*base.words, *MASKS])))
    vocab = fast.get_vocab(with_added_tokens=True)
    write_replaced(folder / REPLACED_FILE, base, sorted(vocab, key=vocab.__getitem__))
    write_text(folder / VOCAB, json.dumps(dict(sorted(vocab.items(), key=lambda item: item[1])), ensure_ascii=False))
    write_text(folder / MERGES, "\n".join(["#version: 0.2", *map(" ".join, merges), ""]))
    write_byte_level(folder, fast)


def learn(lines: Iterable[str], num_new: int, character_coverage: float) -> tuple[list[str], list[str]]:
    """Chinese characters, most frequent first, and words, in the order of learning: some more than `num_new`, or fewer.

    Raises UserError when there is no Chinese in the lines, or when its characters alone are more.
    """
    runs = _chinese_runs(lines)
    if (first := next(runs, None)) is None:
        raise UserError("documents: no line of Chinese in the sample; an enlarged tokenizer is learned from Chinese")
    wanted = num_new + num_new // 20 + _KNOWN  # the base has some, and some may be unreachable
    try:
        pieces = learn_pieces(itertools.chain([first], runs), wanted, character_coverage)
    except TooFewPieces as error:  # each character, and the byte pairs that they begin with
        raise _too_few(num_new, error.needed + _NUM_PREFIXES) from None
    pieces = [piece for piece in pieces if _IS_CHINESE.fullmatch(piece)]
    return [p for p in pieces if len(p) == 1], [p for p in pieces if len(p) > 1]


def _too_few(num_new: int, needed: int) -> UserError:
    return UserError(
        f"new_tokens: {num_new} is too small for this text's characters; use more than {needed}, "
        "or a lower character_coverage (rarer characters are then written as bytes)"
    )


def _chinese_runs(lines: Iterable[str]) -> Iterator[str]:
    """The runs of Chinese characters and punctuation in the lines that are Chinese, Simplified or Traditional."""
    for line in lines:
        if _SOME_HAN.search(line) and is_chinese(language(line)):
            yield from _RUN.findall(line)


def enlarge(
    base: Base, characters: Sequence[str], words: Sequence[str], num_new: int
) -> tuple[Fast, list[tuple[str, str]]]:
    """The enlarged BPE without special tokens, and its merges. Each new word is what its own text is encoded to.

    Raises UserError when characters and words are fewer than num_new, or the characters alone more.
    """
    known = dict.fromkeys([*map(name_of, characters), *(n for n in base.vocab if _is_character(n))])
    front = list(dict.fromkeys([(n[0], n[1]) for n in known] + [(n[:2], n[2]) for n in known]))
    new = [name for name in map("".join, front) if name not in base.vocab]
    if len(new) >= num_new:
        raise _too_few(num_new, len(new))
    candidates = {name_of(word): word for word in words if all(name_of(c) in known for c in word)}
    while True:
        chosen = _first(candidates, base.vocab, num_new, len(new))
        added = [*new, *(name for name in chosen if name not in base.vocab)]
        vocab = {**base.vocab, **{name: i for i, name in enumerate(added, len(base.vocab))}}
        merges = list(dict.fromkeys([*front, *base.merges, *_word_merges(chosen, vocab)]))
        fast = make(vocab, merges, Splitting(HAN_RUNS, base.splitting.digits))
        lost = [n for n in added[len(new) :] if fast.encode(candidates[n]).ids != [vocab[n]]]
        if not lost:
            return fast, merges
        for name in lost:  # a merge of the base comes between; the next words take their places
            del candidates[name]


def _is_character(name: str) -> bool:
    """Whether a token of the base is one Chinese character."""
    return len(name) == 3 and bool(_IS_CHINESE.fullmatch(_decoded(name)))


def _decoded(name: str) -> str:
    try:
        return bytes_of(name).decode()
    except (KeyError, UnicodeDecodeError):
        return ""


def _first(candidates: dict[str, str], old: dict[str, int], num_new: int, num_characters: int) -> list[str]:
    """The words, by name, from the best on, until those that the base lacks fill the room beside the characters."""
    chosen: list[str] = []
    room = num_new - num_characters
    for name in candidates:
        if room == 0:
            return chosen
        chosen.append(name)
        room -= name not in old
    if room:
        limit = num_new - room
        raise UserError(f"new_tokens: {num_new} is more than this text's words and characters; use at most {limit}")
    return chosen


def _word_merges(names: Iterable[str], vocab: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Every way to put each word together from two tokens, cut between characters (of three bytes each)."""
    for name in names:
        for cut in range(3, len(name), 3):
            if name[:cut] in vocab and name[cut:] in vocab:
                yield name[:cut], name[cut:]


def write_replaced(path: Path, base: Base, names: Sequence[str]) -> None:
    """For every token beyond the base's, the ids that the base gave its text; a control token's text is its name.

    replaced.npz: base_vocab_size int64 (); ids int32 (n,), those of token base_vocab_size + i are
    ids[offsets[i] : offsets[i + 1]]; offsets int64 (num_new + 1,). Rows of embeddings are made of it.
    """
    old = make(base.vocab, base.merges, base.splitting)
    replaced = [_old_ids(old, base.vocab, name) for name in names[len(base.vocab) :]]
    offsets = np.cumsum([0, *map(len, replaced)], dtype=np.int64)
    ids = np.concatenate([np.array(r, dtype=np.int32) for r in replaced])
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, base_vocab_size=np.int64(len(base.vocab)), offsets=offsets, ids=ids)


def _old_ids(old: Fast, vocab: dict[str, int], name: str) -> list[int]:
    text = _decoded(name)
    found: list[int] = old.encode(text).ids if text else [vocab[byte] for byte in name]  # two bytes are no text
    return found
