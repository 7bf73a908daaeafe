"""duplicates.minhash against plain Python: shingles, brute-force Jaccard, union-find, a greedy choice by hand."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.duplicates import minhash
from mindllm.text import unit_hashes, units

VOCABULARY = {
    "zh-Hans": [chr(0x4E00 + 7 * i) for i in range(500)],
    "zh-Hant": [chr(0x7000 + 5 * i) for i in range(500)],
    "en": [
        a + b + c
        for a, b, c in itertools.product("bdfglmnprst", "aeiou", ("n", "rk", "st", "ll", "ther", "m", "", "d", "ck"))
    ],
}
DEFAULTS = {"num_hashes": 128, "shingle_units": 5, "seed": 1}


def make(language: str, num_units: int, rng: random.Random) -> list[str]:
    return [rng.choice(VOCABULARY[language]) for _ in range(num_units)]


def edit(document: list[str], rate: float, language: str, rng: random.Random) -> list[str]:
    """Each unit is replaced, removed or doubled with probability `rate`."""
    out: list[str] = []
    for unit in document:
        kept = [unit] if rng.random() >= rate else rng.choice(([], [unit, unit], make(language, 1, rng)))
        out.extend(kept)
    return out


def write(document: list[str], language: str) -> str:
    return ("" if language.startswith("zh") else " ").join(document)


def shingles(text: str, size: int = 5) -> set[tuple[str, ...]]:
    found = units(text.lower())
    return {tuple(found[i : i + size]) for i in range(max(len(found) - size + 1, min(len(found), 1)))}


def jaccard(a: str, b: str, size: int = 5) -> float:
    one, other = shingles(a, size), shingles(b, size)
    return len(one & other) / len(one | other)


def plain_shingle_hashes(hashes: list[int], size: int) -> list[int]:
    def mix(value: int) -> int:
        value ^= value >> 32
        value = value * 0xD6E8FEB86659FD93 % 2**64
        return value ^ value >> 32

    runs = [hashes[i : i + size] for i in range(max(len(hashes) - size + 1, min(len(hashes), 1)))]
    padded = [run + [0] * (size - len(run)) for run in runs]
    return [mix(sum(u * 0x9E3779B97F4A7C15 ** (size - 1 - j) for j, u in enumerate(run)) % 2**64) for run in padded]


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=9), max_size=6), st.integers(1, 6))
def test_shingle_hashes_are_those_of_a_plain_loop(documents: list[list[int]], size: int) -> None:
    flat = np.array([h for d in documents for h in d], dtype=np.uint64)
    offsets = np.cumsum([0, *map(len, documents)])
    found, starts = minhash.shingle_hashes(flat, offsets, size)
    expected = [plain_shingle_hashes(d, size) for d in documents]
    assert [found[a:b].tolist() for a, b in itertools.pairwise(starts)] == expected


def test_a_sketch_depends_on_its_own_text_only() -> None:
    rng = random.Random(1)
    texts = [write(make(lang, n, rng), lang) for lang in VOCABULARY for n in (0, 1, 4, 5, 6, 300)]
    together = minhash.sketch(texts, **DEFAULTS)
    for row, text in enumerate(texts):
        alone = minhash.sketch([text], **DEFAULTS)
        for one, many in zip(alone, together, strict=True):
            assert np.array_equal(one[0], many[row])
    assert together.num_units.tolist() == [len(unit_hashes(t)) for t in texts]
    assert minhash.sketch([], **DEFAULTS).signatures.shape == (0, 128)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("今天，天气很好。", "今天天气\n很好！", True),
        ("今天，天氣很好。", "  今天天氣　很好", True),
        ("The cat sat; on the mat.", "the CAT sat\n\non the mat", True),
        ("今天天气很好", "今天天氣很好", False),  # the two scripts are different texts
        ("the cats at", "the cat sat", False),
        ("cat the sat", "the cat sat", False),
    ],
)
def test_the_exact_hash_sees_units_only(a: str, b: str, same: bool) -> None:
    exact = minhash.sketch([a, b], **DEFAULTS).exact
    assert np.array_equal(exact[0], exact[1]) == same


@pytest.mark.parametrize("language", VOCABULARY)
def test_estimates_follow_the_true_similarity(language: str) -> None:
    rng = random.Random(2)
    errors = []
    for rate in (0.005, 0.01, 0.03, 0.06, 0.12):
        for _ in range(12):
            document = make(language, 400, rng)
            a, b = write(document, language), write(edit(document, rate, language, rng), language)
            one, other = minhash.sketch([a, b], **DEFAULTS).signatures
            true, estimated = jaccard(a, b), float(minhash.similarity(one, other))
            assert abs(true - estimated) < 4.5 * (true * (1 - true) / 128) ** 0.5 + 1 / 128
            errors.append(estimated - true)
    assert abs(np.mean(errors)) < 0.012  # no bias: 60 estimates with a standard error of about .035 each


def pairs(language: str, rates: tuple[float, ...], count: int, num_units: int, seed: int) -> list[tuple[str, str]]:
    """Documents and their copies, `count` of each edit rate."""
    rng = random.Random(seed)
    documents = [(make(language, num_units, rng), rate) for rate in rates for _ in range(count)]
    return [(write(d, language), write(edit(d, rate, language, rng), language)) for d, rate in documents]


def estimates(texts: list[tuple[str, str]]) -> np.ndarray:
    signatures = minhash.sketch([text for pair in texts for text in pair], **DEFAULTS).signatures
    return minhash.similarity(signatures[::2], signatures[1::2])


@pytest.mark.parametrize("num_units", [30, 100, 600])
def test_the_error_is_that_of_independent_hashes(num_units: int) -> None:
    """Fewer shingles than entries, as many, several times as many; 240 pairs: the mean square is within a third."""
    texts = [pair for lang in VOCABULARY for pair in pairs(lang, (0.01, 0.04), 40, num_units, 5)]
    true = np.array([jaccard(*pair) for pair in texts])
    texts = [pair for pair, value in zip(texts, true, strict=True) if 0 < value < 1]
    true = true[(0 < true) & (true < 1)]
    errors = (estimates(texts) - true) / np.sqrt(true * (1 - true) / 128)
    assert len(true) > 120 and np.mean(errors**2) < 1.33
    assert abs(np.mean(errors)) < 4.5 / len(true) ** 0.5


def reference(text: str) -> MinHash:
    """datasketch's sketch of the same shingles."""
    out = MinHash(num_perm=128)
    out.update_batch(["\t".join(shingle).encode() for shingle in sorted(shingles(text))])
    return out


@pytest.mark.parametrize("language", VOCABULARY)
def test_estimates_agree_with_datasketch(language: str) -> None:
    texts = pairs(language, (0.005, 0.02, 0.05, 0.12), 15, 300, 6)
    true = np.array([jaccard(*pair) for pair in texts])
    theirs = np.array([reference(a).jaccard(reference(b)) for a, b in texts])
    difference = estimates(texts) - theirs
    errors = np.sqrt(2 * true * (1 - true) / 128)  # both have one
    assert np.all(np.abs(difference) <= 4.5 * errors + 1 / 128)
    assert abs(difference.mean()) < 4.5 * errors.mean() / len(texts) ** 0.5
    assert true.min() < 0.4 and np.count_nonzero(true < 1) > 50


def test_candidates_are_those_of_datasketch() -> None:
    """Copies of a Jaccard similarity above .93 and documents below .3: between them, chance decides on both sides."""
    texts: list[str] = []
    for language in VOCABULARY:
        near, far = pairs(language, (0.002,), 20, 500, 7), pairs(language, (0.3,), 20, 500, 8)
        texts += [text for pair in near + far for text in pair]
    true = {(i, i + 1): jaccard(texts[i], texts[i + 1]) for i in range(0, len(texts), 2)}
    assert not any(0.3 < value < 0.93 for value in true.values())

    theirs, index = set(), MinHashLSH(num_perm=128, params=(14, 8))
    for number, sketch in enumerate(map(reference, texts)):
        theirs |= {(other, number) for other in index.query(sketch)}
        index.insert(number, sketch)
    keys = minhash.band_keys(minhash.sketch(texts, **DEFAULTS).signatures, 14, 8)
    ours = {(i, j) for i, j in itertools.combinations(range(len(texts)), 2) if np.any(keys[:, i] == keys[:, j])}
    assert ours == theirs == {pair for pair, value in true.items() if value > 0.9}
    assert len(ours) == 60


def test_short_texts_are_one_shingle() -> None:
    signatures = minhash.sketch(["你好", "你好！", "你们好", "good day", "Good, day", "good"], **DEFAULTS).signatures
    assert minhash.similarity(signatures[0], signatures[1]) == 1 == minhash.similarity(signatures[3], signatures[4])
    assert minhash.similarity(signatures[0], signatures[2]) < 0.1 > minhash.similarity(signatures[3], signatures[5])


def test_band_keys_are_equal_where_all_entries_are() -> None:
    rng = np.random.default_rng(3)
    signatures = rng.integers(0, 2, (400, 13), dtype=np.uint32)
    keys = minhash.band_keys(signatures, 4, 3)
    assert keys.shape == (4, 400) and keys.dtype == np.uint64
    for band in range(4):
        values = [tuple(row) for row in signatures[:, 3 * band : 3 * band + 3].tolist()]
        pairs = set(zip(values, keys[band].tolist(), strict=True))
        assert len(pairs) == len(set(values)) == len(set(keys[band].tolist())) == 8
