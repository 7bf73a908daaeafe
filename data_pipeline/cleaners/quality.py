"""Optional: drops documents that a linear classifier, trained by the user on two folders of examples, scores low.

The score is the logistic function of the mean weight of all character n-grams of the text, plus a bias. Characters, so
that one rule serves Chinese (in both scripts, which are folded into one) and English; a mean, so that length does not
matter; hashed into one table of weights, so that the model is 1 MB and numpy alone can read and apply it. The verb
train-quality makes the model. Cost: 30 to 80 MB/s of text. memory: 5 MB for a model, 100 bytes a
character of a piece of 65,536.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data_pipeline.document import Document, Drop, Measure
from mindllm.config import UserError
from mindllm.stage import atomic
from mindllm.text import LANGUAGES, language_group

MAX_SIZE = 8  # characters of an n-gram
MIN_BITS, MAX_BITS = 8, 24  # of the table's index
_FORMAT = "mindllm quality 1"
_MAX_MODEL_BYTES = 200_000_000
_PIECE = 1 << 16  # characters hashed at once: what that needs stays in the processor's cache
_NUM_POINTS = 0x110000


def fold(text: str, table: np.ndarray) -> np.ndarray:
    """uint32 (num_chars,): code points after `table` (see train_quality.folds), each run of blanks made one."""
    points = table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)]
    blank = points == 32
    return points[~(blank & np.concatenate(([False], blank[:-1])))] if len(points) else points


def gram_rows(points: np.ndarray, sizes: Sequence[int], bits: int) -> Iterator[np.ndarray]:
    """The table rows (uint32, < 2^bits) of all n-grams of folded `points`: one array per size and piece of the text.

    A polynomial of the code points modulo 2^32, then the upper bits of its product with the golden ratio (Knuth, The
    Art of Computer Programming 3, 6.4): the same on every machine, each size made from the one before.
    """
    for start in range(0, len(points), _PIECE):
        piece = points[start : start + _PIECE + sizes[-1] - 1]
        codes = piece * np.uint32(0x85EBCA6B)
        codes ^= codes >> np.uint32(15)
        hashes = codes
        for size in range(1, min(sizes[-1], len(piece)) + 1):
            if size > 1:
                hashes = hashes[:-1] * np.uint32(0x01000193) + codes[size - 1 :]
            if size in sizes:  # those that begin in this piece; the last ones reach into the next
                yield (hashes[:_PIECE] * np.uint32(0x9E3779B1)) >> np.uint32(32 - bits)


@dataclass(frozen=True)
class Model:
    """A trained classifier.

    weights: float32 (2^bits,), of a row of n-grams each.  bias: of the whole.  sizes: of the n-grams, ascending.
    folds: uint32 (2, n), code points and what they are read as.  groups: languages that it was trained on, of zh, en,
    other (mindllm.text.language_group).  report: what training measured; kept for people.
    """

    weights: np.ndarray
    bias: float
    sizes: tuple[int, ...]
    folds: np.ndarray
    groups: tuple[str, ...]
    report: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def table(self) -> np.ndarray:
        """uint32 (0x110000,): every code point's folded one. memory: 4.5 MB."""
        table = np.arange(_NUM_POINTS, dtype=np.uint32)
        table[self.folds[0]] = self.folds[1]
        return table

    @property
    def bits(self) -> int:
        """The table has 2^bits rows."""
        return len(self.weights).bit_length() - 1

    def score(self, text: str) -> float:
        """The probability, in [0, 1], that `text` is like the good examples; of a text too short for any n-gram: 0.

        The weights are whole multiples of one small step (see `rounded`), so their sum is exact in any order.
        """
        total, count = 0.0, 0
        for rows in gram_rows(fold(text, self.table), self.sizes, self.bits):
            total += float(self.weights[rows].sum(dtype=np.float64))
            count += len(rows)
        return logistic(total / count + self.bias) if count else 0.0


def logistic(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def rounded(weights: np.ndarray) -> np.ndarray:
    """float32: weights as multiples of a power of two, 22 bits below the largest: sums of 2^30 of them are exact."""
    largest = float(np.abs(weights).max(initial=0))
    step = 2.0 ** (math.frexp(largest)[1] - 22)
    return (np.round(weights.astype(np.float64) / step) * step).astype(np.float32)


def save_model(path: str | Path, model: Model) -> None:
    """Write one safetensors file, complete or not at all; the same model gives the same bytes."""
    settings = {"format": _FORMAT, "bias": model.bias, "sizes": model.sizes, "groups": model.groups}
    text = json.dumps({**settings, "report": model.report}, ensure_ascii=False)
    with atomic(path) as temporary:
        tensors = {"weights": model.weights, "folds": model.folds.astype(np.uint32)}
        temporary.write_bytes(save(tensors, metadata={"settings": text}))  # one key: their order is not fixed


def load_model(path: str | Path) -> Model:
    """The model in a file. Raises UserError for one that is missing, damaged or something else."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _MAX_MODEL_BYTES:
            raise UserError(f"{path}: {size:,} bytes are too many for a quality model")
        with safe_open(path, "np") as file:
            settings = json.loads((file.metadata() or {})["settings"])
            model = _model(settings, file.get_tensor("weights"), file.get_tensor("folds"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        why = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: no quality model ({why}); make one with train-quality") from None
    return model


def _model(settings: dict[str, Any], weights: np.ndarray, folds: np.ndarray) -> Model:
    """Check what a file holds, so that nothing in it can fail later. Raises ValueError."""
    sizes, groups, bias = tuple(settings["sizes"]), tuple(settings["groups"]), float(settings["bias"])
    bits = len(weights).bit_length() - 1
    good = {
        "format": settings["format"] == _FORMAT,
        "sizes": bool(sizes) and sizes == tuple(sorted(set(sizes))) and {type(n) for n in sizes} == {int},
        "range of sizes": 1 <= min(sizes, default=0) <= max(sizes, default=0) <= MAX_SIZE,
        "groups": set(groups) <= {language_group(lang) for lang in LANGUAGES},
        "weights": weights.shape == (1 << bits,) and MIN_BITS <= bits <= MAX_BITS and weights.dtype == np.float32,
        "numbers": bool(np.isfinite(weights).all()) and math.isfinite(bias),
        "folds": folds.dtype == np.uint32
        and folds.ndim == 2
        and len(folds) == 2
        and folds.max(initial=0) < _NUM_POINTS,
    }
    wrong = [name for name, fine in good.items() if not fine]
    if wrong:
        raise ValueError(f"unexpected {', '.join(wrong)}")
    return Model(weights, bias, sizes, folds, groups, settings.get("report") or {})


@dataclass(frozen=True)
class Quality:
    """Drops quality:low_score; writes the score into meta["quality"] (probability of good, 4 digits).

    model: file that train-quality wrote.  min_score: documents below it go.  languages: zh-Hans, zh-Hant, en, other ->
    own min_score, 0 to drop none. A document in a language of which the model has seen no examples passes without a
    score.
    """

    model: str
    min_score: float = 0.5
    languages: dict[str, float] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each; the model is read and checked."""
        for name, value in {"min_score": self.min_score, **self.languages}.items():
            where = name if name == "min_score" else f"languages.{name}"
            if not 0 <= value <= 1:
                yield f"{where}: {value} is not in [0, 1]"
            if name != "min_score" and name not in LANGUAGES:
                yield f"{where}: unknown language; there are {', '.join(LANGUAGES)}"
        try:
            known = self._model.groups
        except UserError as error:
            yield f"model: {error}"
            return
        for lang in self.languages:
            if lang in LANGUAGES and language_group(lang) not in known:
                yield f"languages.{lang}: {self.model} was trained on {', '.join(known)} only"

    def __call__(self, document: Document) -> Document | Drop:
        """The document with its score, or why it goes."""
        if language_group(document.lang) not in self._model.groups:
            return document
        score = round(self._model.score(document.text), 4)
        document.meta["quality"] = score
        if score < self._min_score(document.lang):
            return Drop("quality:low_score")
        return document

    def measures(self, document: Document) -> Iterator[Measure]:
        """The score against the limit for the document's language."""
        if language_group(document.lang) not in self._model.groups:
            yield Measure("quality score", f"none: the model does not know the language {document.lang or '?'}")
            return
        score, limit = round(self._model.score(document.text), 4), self._min_score(document.lang)
        yield Measure("quality score", score, f"at least {limit:g}", score >= limit)

    def _min_score(self, lang: str) -> float:
        return self.languages.get(lang, self.min_score)

    @functools.cached_property
    def _model(self) -> Model:
        path = Path(self.model)
        try:
            found = path.stat()
        except (OSError, ValueError):
            return load_model(path)  # which says what is wrong
        return _cached(self.model, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=2)  # cleaners are built anew for every shard
def _cached(path: str, changed: int, size: int) -> Model:
    return load_model(path)
