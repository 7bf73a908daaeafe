"""Fast Hugging Face tokenizers: the exact twin of a SentencePiece model, and what transformers needs beside it.

The twin has the same merges in the order of the pieces' scores and blanks as blanks, so that no character of a text
means something else: ids, and texts that come back, equal ours (`twin` says why). One difference is meant: as every
Hugging Face tokenizer it reads control tokens that a text spells out as control tokens, for chat templates are written
so; with split_special_tokens=True they are text, as for us. Writing takes 1 s and 0.2 GB for 125,700 entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tokenizers

from mindllm.stage import atomic, write_json
from mindllm.tokenizer.pieces import Pieces
from mindllm.tokenizer.special import CONTROL, EOS, MASKS, PAD, ROLES, UNK

FAST_FILE = "tokenizer.json"
LENGTHS_FILE = "token_bytes.npy"
REPLACED_FILE = "replaced.npz"  # of an enlarged tokenizer (enlarge.py writes it, models/vocabulary.py reads it)


def write_twin(folder: Path) -> None:
    """Beside a folder's tokenizer.model: tokenizer_config.json, token_bytes.npy, and last tokenizer.json."""
    pieces = Pieces(folder)
    write_files(folder, twin(pieces), [len(b) for b in pieces.token_bytes()])


def write_files(folder: Path, fast: tokenizers.Tokenizer, lengths: list[int]) -> None:
    """What transformers (4.5x and 5) loads a fast tokenizer from, and the UTF-8 bytes behind each token (uint16).

    The masks are no special tokens there: they are text, and skip_special_tokens must leave them. No model_max_length:
    the model knows how far it sees.
    """
    assert len(lengths) == fast.get_vocab_size(), "a length for every token"
    names = {"eos_token": EOS, "pad_token": PAD, "additional_special_tokens": list(ROLES)}  # version 5 takes this, too
    settings = {"clean_up_tokenization_spaces": False, "add_bos_token": False, "add_eos_token": False}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names, **settings})
    with atomic(folder / LENGTHS_FILE) as path, open(path, "wb") as file:
        np.save(file, np.array(lengths, dtype=np.uint16))
    with atomic(folder / FAST_FILE) as path:
        path.write_text(fast.to_str(pretty=False), encoding="utf-8")


def twin(pieces: Pieces) -> tokenizers.Tokenizer:
    """The same BPE for the tokenizers library: merges by the pieces' scores, no pre-tokenizer, byte fallback.

    Why its ids are the same. Both libraries join, again and again, the best pair of neighbours, among equals the
    leftmost; a pair is as good as the piece it makes for SentencePiece, and has a rank of its own here. The order of
    two pairs that make different pieces is the same, for no two pieces have the same score. Two different pairs never
    make the same piece: while the parts of a piece come together, no merge reaches beyond it, so that they come
    together as in the piece alone, and the last pair is always the same one. The other cuts of the piece into two,
    which `_merges` lists as well, never stand side by side.
    """
    names = [name.replace("▁", " ") for name in pieces.names()]
    scores = {piece.replace("▁", " "): score for piece, score in pieces.learned().items()}
    vocab = {name: i for i, name in enumerate(names)}
    assert len(vocab) == len(names) and len(set(scores.values())) == len(scores), "pieces and scores must be unique"
    fast = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab, list(_merges(scores)), unk_token=UNK, byte_fallback=True, fuse_unk=False)
    )
    fast.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()])
    control = [name for name in (UNK, *CONTROL) if name in vocab]
    add_special(fast, control, [name for name in (*MASKS, "\n") if name in vocab])
    return fast


def add_special(fast: tokenizers.Tokenizer, control: Sequence[str], words: Sequence[str]) -> None:
    """Control tokens, and words of text that are one token each."""
    added = tokenizers.AddedToken
    fast.add_special_tokens([added(token, normalized=False, special=True) for token in control])
    fast.add_tokens([added(word, normalized=False, special=False) for word in words])


def _merges(scores: dict[str, float]) -> Iterator[tuple[str, str]]:
    """Every way to put a piece together from two others, best-scored piece first, then by the split's position."""
    for piece in sorted((p for p in scores if len(p) > 1), key=lambda p: -scores[p]):
        for cut in range(1, len(piece)):
            if piece[:cut] in scores and piece[cut:] in scores:
                yield piece[:cut], piece[cut:]
