"""The tokenizer: SentencePiece BPE trained on clean text, and its exact twin as a fast Hugging Face tokenizer.

Identity normalisation, byte fallback and single digits, so that every text comes back byte for byte. Line breaks and
the PII masks are tokens of their own; document end, padding and chat roles are control tokens that text can never
produce. Training takes about 22 MB of memory and .3 s per MB of sample; encoding runs at 3 to 13 MB/s a process.
"""

from __future__ import annotations

import functools
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import sentencepiece as spm
import tokenizers
import xxhash

from mindllm.cli import Verb, main
from mindllm.config import UserError
from mindllm.stage import Stage, atomic, hash_file, require, write_json
from mindllm.text import PII_MASKS, language_group

EOS, PAD, UNK = "<|endoftext|>", "<|pad|>", "<unk>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SPARE = tuple(f"<|spare_{i}|>" for i in range(8))
_SPACE = "▁"  # how SentencePiece writes a blank inside pieces


@dataclass
class TokenizerConfig:
    """A SentencePiece BPE tokenizer from clean text.

    documents: a complete stage folder of Parquet shards.  out: where the tokenizer goes.
    vocab_size: exact number of entries.  sample_bytes: how much text of each language (zh, en, other) is learned from,
    at most.  seed: which documents those are.
    """

    run: str = "runs/demo"
    documents: str = "{run}/refine"
    out: str = "{run}/tokenizer"
    vocab_size: int = 4096
    sample_bytes: dict[str, int] = field(
        default_factory=lambda: {"zh": 500_000_000, "en": 500_000_000, "other": 50_000_000}
    )
    character_coverage: float = 0.9995
    seed: int = 1
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        fixed = 3 + len(ROLES) + len(SPARE) + len(PII_MASKS) + 1 + 256
        if self.vocab_size <= fixed:
            yield f"vocab_size: {self.vocab_size} leaves no room beside {fixed} special and byte tokens"
        for name in self.sample_bytes:
            if name not in ("zh", "en", "other"):
                yield f"sample_bytes.{name}: the languages are zh, en, other"
        if not 0.9 <= self.character_coverage <= 1:
            yield f"character_coverage: {self.character_coverage} is not in [.9, 1]"


class Tokenizer:
    """encode_batch and decode over a SentencePiece model; text never yields a control token. Loads in a few ms."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._model = spm.SentencePieceProcessor(model_file=str(self.folder / "tokenizer.model"))
        self.vocab_size: int = self._model.vocab_size()
        self.eos_id: int = self._model.piece_to_id(EOS)
        self.pad_id: int = self._model.piece_to_id(PAD)
        self.fingerprint: str = hash_file(self.folder / "tokenizer.model").partition(":")[2]

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """uint16 (vocab_size,): UTF-8 bytes of text that each token stands for; 0 for control tokens."""
        found: np.ndarray = np.load(self.folder / "token_bytes.npy", allow_pickle=False)
        return found

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without document ends."""
        return self._model.encode(texts, num_threads=1)  # its threads gain nothing: use processes

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; control tokens are nothing."""
        return self._model.decode([int(i) for i in ids])

    def token_id(self, piece: str) -> int:
        """The id of a special token such as <|user|>. Raises UserError when the tokenizer lacks it."""
        found: int = self._model.piece_to_id(piece)
        if found == self._model.unk_id():
            raise UserError(f"{self.folder}: this tokenizer has no token {piece}")
        return found


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in a complete tokenizer or export folder. Raises UserError when there is none."""
    if not (Path(folder) / "tokenizer.model").exists():
        raise UserError(f"{folder}: no tokenizer.model here; make it first: python -m mindllm.tokenizer train CONFIG")
    return Tokenizer(folder)


def train(config: TokenizerConfig) -> int:
    """Train the tokenizer on clean text and write it for SentencePiece and for Hugging Face."""
    before = require(config.documents, "python -m data_pipeline refine CONFIG")
    settings = {k: getattr(config, k) for k in ("vocab_size", "sample_bytes", "character_coverage", "seed")}
    stage = Stage(config.out, "tokenizer", settings, {"documents": before["hash"]})
    if not stage.start(config.force):
        return 0
    shards = sorted(Path(config.documents).glob("*.parquet"))
    fractions, chosen = _plan_sample(shards, config.sample_bytes)
    print(f"tokenizer: learning {config.vocab_size} pieces from {chosen / 1e6:.1f} MB, about "
          f"{0.1 + chosen * 22e-9:.1f} GB of memory and {1 + chosen * 0.3e-6:.0f} s", flush=True)  # fmt: skip
    with atomic(stage.folder / "tokenizer.model") as path:
        path.write_bytes(_train_model(_sample_lines(shards, fractions, config.seed), config))
    write_huggingface(stage.folder)
    stage.finish(**{"in": chosen, "out": config.vocab_size, "unit": "bytes -> pieces"})
    return 0


def _plan_sample(shards: list[Path], limits: dict[str, int]) -> tuple[dict[str, float], int]:
    """Share of the documents to take by language, and the bytes that will be."""
    totals = {"zh": 0, "en": 0, "other": 0}
    for lang, _, text in _documents(shards):
        totals[language_group(lang)] += len(text.encode())
    fractions = {k: min(1.0, limits.get(k, 0) / n) if n else 0.0 for k, n in totals.items()}
    chosen = sum(int(totals[k] * fractions[k]) for k in totals)
    if chosen == 0:
        folder = shards[0].parent if shards else "documents"
        raise UserError(f"{folder}: no text to learn a tokenizer from; bytes by language: {totals}")
    return fractions, chosen


def _sample_lines(shards: list[Path], fractions: dict[str, float], seed: int) -> Iterator[str]:
    """Lines of the documents whose keyed hash falls below their language's share: the same ones every time."""
    for lang, id, text in _documents(shards):
        if xxhash.xxh3_64_intdigest(id.encode(), seed=seed) < fractions[language_group(lang)] * 2.0**64:
            yield from filter(None, text.split("\n"))


def _documents(shards: list[Path]) -> Iterator[tuple[str, str, str]]:
    for path in shards:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000, columns=["lang", "id", "text"]):
                yield from zip(*(batch.column(c).to_pylist() for c in ("lang", "id", "text")), strict=True)


def _train_model(lines: Iterator[str], config: TokenizerConfig) -> bytes:
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=lines, model_writer=model, model_type="bpe", vocab_size=config.vocab_size,
            normalization_rule_name="identity", byte_fallback=True, split_digits=True, add_dummy_prefix=False,
            remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, max_sentence_length=65536,
            character_coverage=config.character_coverage, unk_id=0, eos_id=1, pad_id=2, bos_id=-1,
            unk_piece=UNK, eos_piece=EOS, pad_piece=PAD, control_symbols=[*ROLES, *SPARE],
            user_defined_symbols=[*PII_MASKS, "\n"], minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        limit = re.search(r"value <= (\d+)", str(error))
        if limit:
            raise UserError(
                f"vocab_size: {config.vocab_size} is more than this text supports; use at most {limit[1]}"
            ) from None
        needed = re.search(r"smaller than required_chars\. (\d+) vs (\d+)", str(error))
        if needed:
            raise UserError(
                f"vocab_size: {config.vocab_size} is too small for this text's characters; use more than {needed[2]}, "
                "or a lower character_coverage (rarer characters are then written as bytes)"
            ) from None
        raise
    return model.getvalue()


def _token_bytes(model: Any) -> np.ndarray:
    """uint16 (vocab_size,): UTF-8 bytes of text behind each token; 0 for control tokens. Bits per byte needs it."""
    lengths = np.zeros(model.vocab_size(), dtype=np.uint16)
    for i in range(model.vocab_size()):
        if model.is_byte(i):
            lengths[i] = 1
        elif not model.is_control(i) and not model.is_unknown(i):
            lengths[i] = len(model.id_to_piece(i).replace(_SPACE, " ").encode())
    return lengths


def write_huggingface(folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json beside tokenizer.model, and token_bytes.npy."""
    model = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    with atomic(folder / "tokenizer.json") as path:
        path.write_text(_fast_tokenizer(model).to_str(pretty=False), encoding="utf-8")
    names = {"eos_token": EOS, "pad_token": PAD, "unk_token": UNK, "extra_special_tokens": [*ROLES, *PII_MASKS]}
    settings = {"clean_up_tokenization_spaces": False, "add_bos_token": False, "add_eos_token": False}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names, **settings})
    with atomic(folder / "token_bytes.npy") as path, open(path, "wb") as file:
        np.save(file, _token_bytes(model))


def _fast_tokenizer(model: Any) -> tokenizers.Tokenizer:
    """The same BPE for the tokenizers library: merges by the pieces' scores, no pre-tokenizer, byte fallback."""
    size = model.vocab_size()
    pieces = [model.id_to_piece(i) for i in range(size)]
    special = [i for i in range(size) if model.is_control(i) or model.is_unknown(i) or pieces[i] in (*PII_MASKS, "\n")]
    learned = set(range(size)) - set(special) - {i for i in range(size) if model.is_byte(i)}
    merges = list(_merges({pieces[i]: model.get_score(i) for i in sorted(learned)}))
    vocab = {piece: i for i, piece in enumerate(pieces)}
    fast = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges, unk_token=UNK, byte_fallback=True, fuse_unk=False))
    fast.normalizer = tokenizers.normalizers.Replace(" ", _SPACE)
    decoders = tokenizers.decoders
    fast.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    marks = [(pieces[i], not (pieces[i] in PII_MASKS or pieces[i] == "\n")) for i in special]
    fast.add_special_tokens(
        [tokenizers.AddedToken(p, normalized=False, special=True) for p, control in marks if control]
    )
    fast.add_tokens([tokenizers.AddedToken(p, normalized=False, special=False) for p, control in marks if not control])
    return fast


def _merges(scores: dict[str, float]) -> Iterator[tuple[str, str]]:
    """Every way to put a piece together from two others, best-scored piece first, then by the split's position."""
    for piece in sorted((p for p in scores if len(p) > 1), key=lambda p: -scores[p]):
        for cut in range(1, len(piece)):
            if piece[:cut] in scores and piece[cut:] in scores:
                yield piece[:cut], piece[cut:]


VERBS = {"train": Verb(TokenizerConfig, train)}

if __name__ == "__main__":
    sys.exit(main("python -m mindllm.tokenizer", VERBS))
