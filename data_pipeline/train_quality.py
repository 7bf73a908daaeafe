"""Trains the optional quality classifier (data_pipeline/cleaners/quality.py) on two folders of examples.

Logistic regression on the frequencies of hashed character n-grams. Good and bad weigh the same within each language, so
that the model cannot pass off a language as quality; a language that has examples of one kind only is left out, and
said so. A keyed hash of the text decides what is held out: the same folders give the same file, byte for byte. Cost:
minutes for 20,000 documents a folder. memory: 12 bytes per different n-gram of each document, some 30 KB a document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_matrix

from data_pipeline.cleaners.html import Html
from data_pipeline.cleaners.quality import MAX_BITS, MAX_SIZE, MIN_BITS, Model, fold, gram_rows, rounded, save_model
from data_pipeline.config import Source
from data_pipeline.document import Document, Drop
from data_pipeline.reading.files import read
from data_pipeline.reading.inputs import list_shards
from mindllm.config import UserError
from mindllm.language import simplified_characters
from mindllm.text import LANGUAGES, language_group

MIN_EXAMPLES = 20  # of either kind, in a language that the model is to judge
SHARES_KEPT = (0.99, 0.95, 0.9, 0.8, 0.7)  # of good held-out examples: for the table of thresholds
_SHARD_BYTES = 16_000_000
_FREQUENCY = 1e-4  # added to an n-gram's frequency before its root: rarer ones weigh as if they were so frequent
_MAX_ITERATIONS = 300


@dataclass
class TrainQualityConfig:
    """Two folders of examples to one model file.

    good, bad: files or folders of html, txt, jsonl, parquet, warc.  sizes: of the n-grams, in characters.  bits: the
    table has 2^bits rows.  strength: of the fit, against the penalty on large weights (scikit-learn's C).
    valid_fraction: share held out to measure on.  max_documents: of each folder, chosen by hash.  max_chars: of each
    document, from its beginning.
    """

    good: str
    bad: str
    run: str = "runs/quality"
    model: str = "{run}/quality.safetensors"
    text_field: str = "text"
    html_field: str = "html"
    sizes: list[int] = field(default_factory=lambda: [1, 2, 3])
    bits: int = 18
    strength: float = 10.0
    valid_fraction: float = 0.2
    max_documents: int = 20_000
    max_chars: int = 10_000
    seed: int = 1
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if (
            not self.sizes
            or self.sizes != sorted(set(self.sizes))
            or not 1 <= self.sizes[0] <= self.sizes[-1] <= MAX_SIZE
        ):
            yield f"sizes: {self.sizes} are not ascending numbers from 1 to {MAX_SIZE}"
        if not MIN_BITS <= self.bits <= MAX_BITS:
            yield f"bits: {self.bits} is not from {MIN_BITS} to {MAX_BITS}"
        if not 0 < self.strength < 1e9:
            yield f"strength: {self.strength} is not above 0 (and below 1e9)"
        if not 0 < self.valid_fraction < 1:
            yield f"valid_fraction: {self.valid_fraction} is not between 0 and 1"
        if self.max_documents < MIN_EXAMPLES or self.max_chars < 1:
            yield f"max_documents must be {MIN_EXAMPLES} or more, max_chars 1 or more"
        if not 0 <= self.seed < 1 << 64:
            yield f"seed: {self.seed} is not from 0 to 2^64 - 1"


@dataclass(frozen=True)
class Example:
    """One text, its language, whether it is good, and a keyed 64-bit hash of the text.

    The hashes put examples in order, the upper bits first; their lower halves, as a share, say which are held out.
    """

    text: str
    lang: str
    good: bool
    hash: int

    def is_held_out(self, fraction: float) -> bool:
        """True for `fraction` of all texts."""
        return (self.hash & 0xFFFFFFFF) / 2**32 < fraction


def train_quality(config: TrainQualityConfig) -> int:
    """Train the classifier of the quality cleaner on good=FOLDER bad=FOLDER; writes model=FILE, prints its measures."""
    if Path(config.model).exists() and not config.force:
        raise UserError(f"model: {config.model} exists; choose another file, or add force=true to replace it")
    examples = _without_contradictions(_examples(config, config.good, True), _examples(config, config.bad, False))
    held_out = [e for e in examples if e.is_held_out(config.valid_fraction)]
    training = [e for e in examples if not e.is_held_out(config.valid_fraction)]
    groups = _groups(training)
    model = fit([e for e in training if language_group(e.lang) in groups], config, groups)
    report = measure([e for e in held_out if language_group(e.lang) in groups], model)
    settings = {k: v for k, v in vars(config).items() if k not in ("run", "model", "force")}
    save_model(config.model, replace(model, report={"settings": settings, **report}))
    _print(report, config.model)
    return 0


def _examples(config: TrainQualityConfig, folder: str, good: bool) -> list[Example]:
    """Different texts of a folder, the first `max_documents` by hash; tells how many could not be used."""
    name = "good" if good else "bad"
    source = Source(folder, text_field=config.text_field, html_field=config.html_field)
    html, dropped, found = Html(), Counter[str](), dict[str, Example]()
    for shard in list_shards({name: source}, _SHARD_BYTES):
        for document in read(shard):
            text, reason = _text(document, html)
            if reason:
                dropped[reason] += 1
                continue
            text = text[: config.max_chars]
            found[text] = Example(text, document.lang, good, _hash(text, config.seed))
            if len(found) >= 2 * config.max_documents:  # memory: twice what is kept
                found = {e.text: e for e in _first(found, config.max_documents)}
    if dropped:
        print(f"{name}: {sum(dropped.values())} not used: {', '.join(f'{r} {n}' for r, n in dropped.most_common(5))}")
    if not found:
        raise UserError(f"{name}: {folder} holds no text")
    return _first(found, config.max_documents)


def _first(found: dict[str, Example], number: int) -> list[Example]:
    return sorted(found.values(), key=lambda e: (e.hash, e.text))[:number]


def _hash(text: str, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"), seed=seed)


def _text(document: Document, html: Html) -> tuple[str, str]:
    """(main text, why there is none)."""
    if "broken" in document.meta:
        return "", str(document.meta["broken"])
    result = html(document)
    return ("", result.reason) if isinstance(result, Drop) else (result.text, "")


def _without_contradictions(good: list[Example], bad: list[Example]) -> list[Example]:
    both = {e.text for e in good} & {e.text for e in bad}
    if both:
        print(f"{len(both)} texts are in both folders: left out")
    return [e for e in [*good, *bad] if e.text not in both]


def _groups(examples: list[Example]) -> tuple[str, ...]:
    """The languages (zh, en, other) with enough examples of both kinds. Raises UserError if there is none."""
    counts = Counter((language_group(e.lang), e.good) for e in examples)
    enough = []
    for group in ("zh", "en", "other"):
        good, bad = counts[group, True], counts[group, False]
        if min(good, bad) >= MIN_EXAMPLES:
            enough.append(group)
        elif good or bad:
            print(
                f"{group}: only {good} good and {bad} bad examples to train on: the model will not judge this language"
            )
    if not enough:
        raise UserError(f"good, bad: no language has {MIN_EXAMPLES} examples of both kinds to train on; add some")
    return tuple(enough)


def folds() -> np.ndarray:
    """uint32 (2, n): code points that are read as others: lower case, plain width, 0 for digits, blank, Simplified.

    Quality is no matter of script, and a model that saw one of the Chinese scripts serves the other. New lines stay:
    how text is broken into lines tells menus from paragraphs.
    """
    points = [p for p in range(0x30000) if not 0xD800 <= p < 0xE000]
    simplified = simplified_characters("".join(chr(p) for p in points if p > 0x2E80))
    by_point = dict(zip((p for p in points if p > 0x2E80), simplified, strict=True))
    pairs = []
    for point in points:
        char = chr(point - 0xFEE0) if 0xFF01 <= point <= 0xFF5E else by_point.get(point, chr(point))
        char = " " if char.isspace() and char != "\n" else "0" if char.isdecimal() else char.lower()
        if len(char) == 1 and ord(char) != point:
            pairs.append((point, ord(char)))
    return np.array(pairs, dtype=np.uint32).T.copy()


def fit(examples: list[Example], config: TrainQualityConfig, groups: tuple[str, ...]) -> Model:
    """Logistic regression on n-gram frequencies, each divided by the root of its mean: rare n-grams count, too."""
    from sklearn.linear_model import LogisticRegression  # slow: 0.8 s and 90 MB that no other verb needs
    from threadpoolctl import threadpool_limits

    empty = Model(np.zeros(1 << config.bits, np.float32), 0.0, tuple(config.sizes), folds(), groups)
    matrix = _frequencies([e.text for e in examples], empty)
    scale = 1 / np.sqrt(np.asarray(matrix.mean(axis=0)).ravel() + _FREQUENCY)
    matrix.data *= scale[matrix.indices]
    regression = LogisticRegression(C=config.strength, solver="lbfgs", max_iter=_MAX_ITERATIONS)
    with threadpool_limits(1):  # sums in another order, on other numbers of cores, would give other weights
        regression.fit(matrix, [e.good for e in examples], sample_weight=_balance(examples))
    return replace(empty, weights=rounded(regression.coef_[0] * scale), bias=float(regression.intercept_[0]))


def _balance(examples: list[Example]) -> np.ndarray:
    """float64 (num_examples,): weights by which good and bad weigh the same within each language, 1 on average."""
    kinds = [(language_group(e.lang), e.good) for e in examples]
    counts, totals = Counter(kinds), Counter(group for group, _ in kinds)
    return np.array([totals[group] / (2 * counts[group, good]) for group, good in kinds])


def _frequencies(texts: list[str], model: Model) -> csr_matrix:
    """float64 (num_texts, 2^bits): the share of each n-gram among those of its text."""
    columns, values, ends = [], [], [0]
    for text in texts:
        rows = np.concatenate([np.zeros(0, np.uint32), *gram_rows(fold(text, model.table), model.sizes, model.bits)])
        found, counts = np.unique(rows, return_counts=True)
        columns.append(found.astype(np.int32))
        values.append(counts / max(1, len(rows)))
        ends.append(ends[-1] + len(found))
    shape = (len(texts), 1 << model.bits)
    return csr_matrix((np.concatenate(values), np.concatenate(columns), np.array(ends)), shape=shape)


def measure(examples: list[Example], model: Model) -> dict[str, Any]:
    """By language: examples, accuracy at .5, area under the ROC curve, thresholds that keep given shares of the good.

    A language without held-out examples of both kinds has counts only.
    """
    scores = np.array([model.score(e.text) for e in examples])
    good = np.array([e.good for e in examples], dtype=bool)
    report = {}
    for lang in ("all", *LANGUAGES):
        chosen = np.array([lang in ("all", e.lang) for e in examples], dtype=bool)
        if chosen.any():
            report[lang] = _measure(scores[chosen], good[chosen])
    return {"held_out": report}


def _measure(scores: np.ndarray, good: np.ndarray) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score  # slow: see fit

    counts = {"good": int(good.sum()), "bad": int((~good).sum())}
    if not all(counts.values()):
        return counts
    thresholds = []
    for share in SHARES_KEPT:
        limit = float(np.quantile(scores[good], 1 - share, method="lower"))
        limit = int(limit * 10_000) / 10_000  # scores have four digits
        row = {"min_score": limit, "good_kept": float((scores[good] >= limit).mean())}
        thresholds.append({**row, "bad_kept": float((scores[~good] >= limit).mean())})
    accuracy = float(((scores >= 0.5) == good).mean())
    return {**counts, "accuracy": accuracy, "auc": float(roc_auc_score(good, scores)), "thresholds": thresholds}


def _print(report: dict[str, Any], path: str) -> None:
    table = Table("held out", "good", "bad", "accuracy", "AUC", "min_score: good kept, bad kept", title="train-quality")
    for lang, row in report["held_out"].items():
        shown = [
            f"{t['min_score']:.4f}: {t['good_kept']:.1%}, {t['bad_kept']:.1%}" for t in row.get("thresholds", [])
        ] or ["examples of both kinds are needed"]
        measures = (f"{row['accuracy']:.3f}", f"{row['auc']:.4f}") if "auc" in row else ("-", "-")
        table.add_row(lang, str(row["good"]), str(row["bad"]), *measures, "\n".join(shown))
    Console().print(table)
    print(f"train-quality: wrote {path}")
