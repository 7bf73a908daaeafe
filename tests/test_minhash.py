"""data_pipeline.minhash against plain Python: shingles, brute-force Jaccard, union-find, a greedy choice by hand."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import minhash
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


def test_bands_find_similar_documents_and_only_those() -> None:
    """Recall by true similarity is the published curve; what is confirmed is truly similar."""
    rng = random.Random(4)
    texts: list[str] = []
    for language in VOCABULARY:
        for rate in (0.002, 0.004, 0.01, 0.05, 0.2):
            for _ in range(12):
                document = make(language, 300, rng)
                texts += [write(document, language), write(edit(document, rate, language, rng), language)]
    signatures = minhash.sketch(texts, **DEFAULTS).signatures
    keys = minhash.band_keys(signatures, 14, 8)

    def similar(pairs: np.ndarray) -> np.ndarray:
        return minhash.similarity(signatures[pairs[:, 0]], signatures[pairs[:, 1]]) >= 0.75

    found = {tuple(p) for band in keys for pairs in minhash.candidate_pairs(band, similar) for p in pairs.tolist()}
    true = {(i, i + 1): jaccard(texts[i], texts[i + 1]) for i in range(0, len(texts), 2)}
    assert found <= set(true)
    assert all(pair in found for pair, similarity in true.items() if similarity > 0.9)
    assert sum(similarity > 0.9 for similarity in true.values()) >= 60
    assert not any(true[pair] < 0.6 for pair in found)


def test_unlike_documents_in_a_bucket_do_not_hide_copies() -> None:
    groups = np.array([0, 1, 1, 2, 0, 2, 3])  # all in one bucket, similar where the group is the same

    def similar(pairs: np.ndarray) -> np.ndarray:
        return groups[pairs[:, 0]] == groups[pairs[:, 1]]

    keys = np.full(7, 9, dtype=np.uint64)
    assert [p.tolist() for p in minhash.candidate_pairs(keys, similar)] == [[[0, 4]], [[1, 2]], [[3, 5]]]


def test_a_bucket_of_unlike_documents_ends() -> None:
    asked: list[int] = []

    def similar(pairs: np.ndarray) -> np.ndarray:
        asked.append(len(pairs))
        return np.zeros(len(pairs), dtype=bool)

    assert sum(len(p) for p in minhash.candidate_pairs(np.zeros(100, dtype=np.uint64), similar)) == 0
    assert asked == [99 - i for i in range(minhash.MAX_LEADERS)]


@given(st.lists(st.integers(0, 4), max_size=12))
def test_candidates_are_each_with_the_first_of_its_key(values: list[int]) -> None:
    keys = np.array(values, dtype=np.uint64)
    found = [
        tuple(p) for pairs in minhash.candidate_pairs(keys, lambda p: np.ones(len(p), bool)) for p in pairs.tolist()
    ]
    assert sorted(found) == sorted((values.index(v), i) for i, v in enumerate(values) if values.index(v) != i)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=12))
def test_originals_are_the_first_of_their_hash(rows: list[tuple[int, int, bool]]) -> None:
    exact = np.array([(a, b) for a, b, _ in rows], dtype=np.uint64).reshape(-1, 2)
    num_units = np.array([a + b for a, b, _ in rows], dtype=np.int64)
    first: dict[tuple[int, int], int] = {}
    expected = [i if a + b == 0 else first.setdefault((a, b), i) for i, (a, b, _) in enumerate(rows)]
    assert minhash.find_originals(exact, num_units).tolist() == expected


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=5), max_size=4))
def test_components_are_those_of_union_find(batches: list[list[tuple[int, int]]]) -> None:
    parent = list(range(10))

    def find(node: int) -> int:
        return node if parent[node] == node else find(parent[node])

    for a, b in itertools.chain(*batches):
        parent[find(a)] = find(b)
    labels = minhash.connect(10, [np.array(b, dtype=np.int64).reshape(-1, 2) for b in batches])
    for a, b in itertools.combinations(range(10), 2):
        assert (labels[a] == labels[b]) == (find(a) == find(b))
    assert minhash.connect(0, []).tolist() == []


def plain_choice(
    labels: list[int], num_units: list[int], rows: list[list[int]], threshold: float
) -> dict[int, tuple[int, float]]:
    """Document -> (kept document, similarity), by the rule as it is written, one document at a time."""
    kept: list[int] = []
    out: dict[int, tuple[int, float]] = {}
    for i in sorted(range(len(labels)), key=lambda i: (-num_units[i], i)):
        near = [
            (sum(a == b for a, b in zip(rows[i], rows[k], strict=True)) / len(rows[i]), k)
            for k in kept
            if labels[k] == labels[i]
        ]
        best = max(near, key=lambda pair: pair[0], default=(0.0, i))
        if best[0] >= threshold:
            out[i] = (best[1], best[0])
        else:
            kept.append(i)
            out[i] = (i, 1.0)
    return out


@settings(max_examples=60)
@given(st.data(), st.integers(0, 14), st.integers(1, 5))
def test_what_is_kept_is_what_the_rule_says(data: st.DataObject, n: int, rows_at_once: int) -> None:
    labels = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    num_units = data.draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    rows = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=n, max_size=n))
    table = np.array(rows, dtype=np.uint32).reshape(n, 4)
    members, first = minhash.by_quality(np.array(labels, dtype=np.int32), np.array(num_units, dtype=np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhash, "ROWS_AT_ONCE", rows_at_once)
        closest, reached = minhash.choose(members, first, lambda numbers: table[numbers], 0.75)
    expected = plain_choice(labels, num_units, rows, 0.75)
    assert sorted(members.tolist()) == [i for i in range(n) if labels.count(labels[i]) > 1]
    for member, kept, similarity in zip(members.tolist(), closest.tolist(), reached.tolist(), strict=True):
        assert (kept, similarity) == expected[member]


def test_a_chain_does_not_swallow_unlike_documents() -> None:
    """0 - 1 - 2 - 3 with neighbours at .75 and others at .5 or less: every second one stays."""
    table = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=np.uint32)
    members, first = minhash.by_quality(np.zeros(4, dtype=np.int32), np.array([9, 9, 9, 9], dtype=np.int64))
    closest, reached = minhash.choose(members, first, lambda numbers: table[numbers], 0.75)
    assert closest.tolist() == [0, 0, 2, 2] and reached.tolist() == [1, 0.75, 1, 0.75]
