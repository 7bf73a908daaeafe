"""How well tokenizers cut text: bytes, characters and units a token, bytes that are no characters, round trip, speed.

Every tokenizer gets the same texts, by language and source. A sum over cells is a sum of bytes and of tokens, so the
ratios of a language are weighted by text, not means of ratios. Speed is the processor time of one core, which others on
the machine disturb least; it is the only number that another run changes.
Cost: the time of encoding and decoding. memory: a byte for every token of a vocabulary, by language and by source.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mindllm.text import units
from mindllm.tokenizer.others import Opened
from mindllm.tokenizer.unseen import Cell
from mindllm.tokenizer.vocabulary import examples, show, text_of

NUM_FAILURES = 3  # texts that did not come back, which are shown
_AROUND = 24  # characters shown on each side of the first difference
_WARM_UP = "The first text takes longer. 第一段文字比较慢，第一段文字比較慢。"


@dataclass
class Text:
    """Sums over texts; `a + b` is the sum of both."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    units: int = 0

    def __add__(self, other: Text) -> Text:
        return Text(
            self.documents + other.documents,
            self.bytes + other.bytes,
            self.characters + other.characters,
            self.units + other.units,
        )


@dataclass
class Counts:
    """What one tokenizer made of some texts. partial: tokens that are no whole characters.  exact: texts that came
    back as they were.  seconds: of encoding, on one core."""

    tokens: int = 0
    partial: int = 0
    exact: int = 0
    seconds: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.tokens + other.tokens,
            self.partial + other.partial,
            self.exact + other.exact,
            self.seconds + other.seconds,
        )


@dataclass
class Meter:
    """One tokenizer and its sums by cell; which ids were used, by language and by source (bool, one an id)."""

    opened: Opened
    cells: dict[Cell, Counts] = field(default_factory=dict)
    used: dict[str, np.ndarray] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._partial = np.array([text_of(token) is None for token in self.opened.tokens])
        self.opened.encode([_WARM_UP])

    def add(self, cell: Cell, texts: Sequence[str]) -> None:
        """Encode and decode texts of one cell."""
        start = time.process_time()
        encoded = self.opened.encode(texts)
        seconds = time.process_time() - start
        ids = np.concatenate(encoded)
        exact = 0
        for text, its_ids in zip(texts, encoded, strict=True):
            back = self.opened.decode(its_ids)
            exact += back == text
            if back != text and len(self.failures) < NUM_FAILURES:
                self.failures.append({"language": cell.language, "source": cell.source, **difference(text, back)})
        found = Counts(len(ids), int(self._partial[ids].sum()), exact, seconds)
        self.cells[cell] = self.cells.get(cell, Counts()) + found
        for key in (f"language {cell.language}", f"source {cell.source}"):
            if key not in self.used:
                self.used[key] = np.zeros(len(self._partial), dtype=bool)
            self.used[key][ids] = True

    @property
    def used_at_all(self) -> np.ndarray:
        """bool (vocab_size,): ids that any text has."""
        return np.logical_or.reduce([used for key, used in self.used.items() if key.startswith("language ")])

    def unused(self) -> dict[str, Any]:
        """How many ids with text no text has, and some of them."""
        has_text = np.array([bool(token) for token in self.opened.tokens])
        has_text[sorted(self.opened.special)] = False
        ids = np.flatnonzero(has_text & ~self.used_at_all)
        return {"tokens": len(ids), "examples": examples(self.opened.tokens, ids.tolist())}


@dataclass
class Measured:
    """Sums by cell: of the texts, and of every tokenizer."""

    texts: dict[Cell, Text]
    meters: dict[str, Meter]

    def row(self, name: str, language: str | None = None, source: str | None = None) -> dict[str, float]:
        """The numbers of one tokenizer over the cells of a language, of a source, of both, or of all."""
        cells = [c for c in self.texts if language in (None, c.language) and source in (None, c.source)]
        meter = self.meters[name]
        used = None
        if language is None or source is None:
            key = f"language {language}" if language is not None else f"source {source}"
            used = meter.used_at_all if language is None and source is None else meter.used[key]
        text, counts = sum((self.texts[c] for c in cells), Text()), sum((meter.cells[c] for c in cells), Counts())
        return ratios(text, counts, used)


def measure(opened: Mapping[str, Opened], batches: Iterable[tuple[Cell, Sequence[str]]]) -> Measured:
    """Run every tokenizer over every text; empty texts count nowhere."""
    meters = {name: Meter(tokenizer) for name, tokenizer in opened.items()}
    sums: dict[Cell, Text] = {}
    for cell, texts in batches:
        texts = [text for text in texts if text]
        if not texts:
            continue
        lengths = sum(len(text.encode()) for text in texts), sum(map(len, texts))
        added = Text(len(texts), *lengths, sum(len(units(text)) for text in texts))
        sums[cell] = sums.get(cell, Text()) + added
        for meter in meters.values():
            meter.add(cell, texts)
    return Measured(sums, meters)


def ratios(text: Text, counts: Counts, used: np.ndarray | None) -> dict[str, float]:
    """The numbers that the report shows; megabytes a second apart from the others, for they change."""
    tokens = max(counts.tokens, 1)  # a tokenizer of others can make nothing of a text
    found = {
        "tokens": counts.tokens,
        "bytes_per_token": text.bytes / tokens,
        "characters_per_token": text.characters / tokens,
        "tokens_per_unit": counts.tokens / text.units if text.units else 0.0,
        "partial_share": counts.partial / tokens,
        "round_trip": counts.exact / text.documents,
        "mb_per_second": text.bytes / 1e6 / max(counts.seconds, 1e-9),
    }
    if used is not None:
        found["vocabulary_share"] = float(used.mean())
    return found


def difference(text: str, back: str) -> dict[str, str]:
    """Where a text that came back differs first: what was there and what came, with a little around it."""
    place = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    start = max(0, place - _AROUND)
    wanted, got = (show(part[start : place + _AROUND].encode(errors="replace")) for part in (text, back))
    return {"wanted": wanted, "got": got}
