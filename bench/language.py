"""Accuracy and speed of mindllm.language on labelled texts, beside py3langid where it is installed; fits its weights.

    python bench/language.py en=texts/en other=texts/fr.jsonl zh-Hant=tw.txt
    python bench/language.py --fit mindllm/english_trigrams.bin en=... other=...

A path is a .jsonl file (key "text", a text a line), any other file (one text), or a folder of either. Labels are the
four of mindllm.language. Fitting takes half a minute and 2 GB for 30,000 texts; give it other texts than you measure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import text_files
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from mindllm.language import LANGUAGES, SYMBOLS, language, trigram_shares

LENGTHS = (120, 500, 2500)  # characters of the pieces of each text that the weights are fitted on
MIXED = 0.4  # share of English put before a foreign piece to make a page with an English menu, which is still foreign
RANDOM = 400  # pieces of random letters (keys, hashes): foreign
PENALTY = 0.1  # weight of the squared norm against the mean loss times the number of pieces (scikit-learn's 1 / C)


class Texts(NamedTuple):
    """The texts of one file or folder, and the language that they all have."""

    label: str
    name: str
    texts: list[str]


def read_texts(argument: str) -> Texts:
    """The texts behind one LABEL=PATH."""
    label, _, path = argument.partition("=")
    if label not in LANGUAGES or not Path(path).exists():
        raise SystemExit(f"{argument}: give LABEL=PATH with a label of {', '.join(LANGUAGES)} and a path that exists")
    return Texts(label, Path(path).stem, [text for file in text_files([path]) for text in _texts_of(file)])


def _texts_of(file: Path) -> Iterator[str]:
    content = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix != ".jsonl":
        yield content
        return
    for line in content.split("\n"):
        if line.strip():
            yield json.loads(line)["text"]


def langid() -> Callable[[str], str] | None:
    """py3langid with our four answers (it does not tell the Chinese scripts apart: zh-Hans stands for both)."""
    if importlib.util.find_spec("py3langid") is None:
        return None
    import py3langid

    return lambda text: {"zh": "zh-Hans", "en": "en"}.get(py3langid.classify(text)[0], "other")


def measure(groups: list[Texts], identify: Callable[[str], str]) -> tuple[dict[tuple[str, str], float], float]:
    """Share of right answers by (label, name), and the speed in MB of UTF-8 a second of processor time."""
    right: dict[tuple[str, str], float] = {}
    identify("warm up: load what is loaded once, 两种语言")
    begin = time.process_time()
    answers = [[identify(text) for text in group.texts] for group in groups]
    seconds = time.process_time() - begin
    for group, found in zip(groups, answers, strict=True):
        wanted = {group.label, "zh-Hans"} if identify is not language and group.label == "zh-Hant" else {group.label}
        right[group.label, group.name] = sum(answer in wanted for answer in found) / max(1, len(found))
    size = sum(len(text.encode()) for group in groups for text in group.texts)
    return right, size / 1e6 / max(seconds, 1e-9)


def compare(groups: list[Texts], verbose: bool) -> None:
    """Print both accuracies by path, over all texts of a label, and the speeds."""
    ours, speed = measure(groups, language)
    other = langid()
    theirs, their_speed = measure(groups, other) if other else ({}, 0.0)
    print(f"{'label':8} {'texts':>7} {'mindllm':>8} {'py3langid':>9}  name")
    for group in groups:
        key = group.label, group.name
        print(
            f"{group.label:8} {len(group.texts):7} {ours[key]:8.2%} {theirs.get(key, float('nan')):9.2%}  {group.name}"
        )
        for text in group.texts if verbose else ():
            if language(text) != group.label:
                print(f"    {language(text)}: {text[:150]!r}")
    for label in LANGUAGES:
        sizes = [
            (len(g.texts), ours[label, g.name], theirs.get((label, g.name), 0.0)) for g in groups if g.label == label
        ]
        total = sum(n for n, _, _ in sizes)
        if total:
            shown = [sum(entry[0] * entry[k] for entry in sizes) / total for k in (1, 2)]
            print(f"{label:8} {total:7} {shown[0]:8.2%} {shown[1]:9.2%}  all")
    print(f"{'MB/s':8} {'':7} {speed:8.1f} {their_speed:9.1f}")


def fit(groups: list[Texts], out: Path) -> None:
    """Logistic regression of English against the rest over roots of trigram shares; one byte a weight.

    Every path counts the same within its label, and both labels count the same.
    """
    rng = random.Random(1)
    english = [text for group in groups if group.label == "en" for text in group.texts]
    rows, signs, weights = [], [], []
    for group in [*groups, Texts("other", "random", [_gibberish(rng) for _ in range(RANDOM)])]:
        sign = 1.0 if group.label == "en" else -1.0
        pieces = [piece for text in group.texts for piece in _pieces(text, rng)]
        if sign < 0:
            pieces += [_with_menu(piece, rng.choice(english), rng) for piece in pieces[:: len(LENGTHS)]]
        for row in map(trigram_shares, pieces):
            if len(row[0]):
                rows.append(row)
                signs.append(sign)
                weights.append(1 / len(pieces))
    sign_array, weight = np.array(signs), np.array(weights)
    for sign in (1.0, -1.0):
        weight[sign_array == sign] *= len(signs) / 2 / weight[sign_array == sign].sum()
    fitted = _regress(_matrix(rows), sign_array, weight)
    limit = np.percentile(np.abs(fitted[fitted != 0]), 99.8)  # a few larger weights are cut for the sake of the rest
    np.clip(np.round(fitted * 127 / limit), -127, 127).astype(np.int8).tofile(out)
    print(f"{out}: {len(rows):,} pieces, weights up to {np.abs(fitted).max():.2f}, cut at {limit:.2f}")


def _pieces(text: str, rng: random.Random) -> Iterator[str]:
    for length in LENGTHS:
        start = rng.randrange(max(1, len(text) - length))
        yield text[start : start + length]


def _with_menu(text: str, english: str, rng: random.Random) -> str:
    start = rng.randrange(max(1, len(english) - 1000))
    return english[start : start + int(len(text) * MIXED / (1 - MIXED))] + "\n" + text


def _gibberish(rng: random.Random) -> str:
    letters = rng.choice(
        [
            "abcdefghijklmnopqrstuvwxyz",
            "abcdef0123456789",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        ]
    )
    return " ".join("".join(rng.choices(letters, k=rng.randrange(4, 65))) for _ in range(60))


def _matrix(rows: list[tuple[np.ndarray, np.ndarray]]) -> csr_matrix:
    starts = np.cumsum([0, *(len(found) for found, _ in rows)])
    found, shares = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    matrix = csr_matrix((shares, found, starts), shape=(len(rows), SYMBOLS**3))
    matrix.sum_duplicates()
    return matrix


def _regress(matrix: csr_matrix, signs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights of logistic regression without a constant: a text without letters must score 0."""

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signs * (matrix @ w)
        gradient = matrix.T @ (-weight * signs / (1 + np.exp(np.clip(margin, -50, 50)))) + PENALTY * w
        return float(weight @ np.logaddexp(0, -margin) + PENALTY / 2 * w @ w), gradient

    return minimize(loss, np.zeros(matrix.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x


def main() -> None:
    """Read the paths, then fit or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="LABEL=PATH")
    parser.add_argument("--fit", type=Path, metavar="FILE", help="fit the weights of English and write them")
    parser.add_argument("--verbose", action="store_true", help="print the beginning of every text that is wrong")
    arguments = parser.parse_args()
    groups = [read_texts(argument) for argument in arguments.paths]
    if arguments.fit:
        fit(groups, arguments.fit)
    else:
        compare(groups, arguments.verbose)


if __name__ == "__main__":
    main()
