"""eval.ngram against a slow dictionary version of the same formulas, and as a probability distribution."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.ngram import Counts, Table, Trigram, bucket, contexts, fit_weights
from mindllm.config import UserError

EOS, VOCAB = 0, 7
DOCUMENTS = st.lists(st.lists(st.integers(1, VOCAB - 2), max_size=12), min_size=2, max_size=25)


def arrays(documents: list[list[int]]) -> list[np.ndarray]:
    return [np.array(d, dtype=np.int64) for d in documents]


def characters(texts: list[str]) -> list[list[int]]:
    known = {c: i + 1 for i, c in enumerate(sorted(set("".join(texts))))}
    return [[known[c] for c in text] for text in texts]


@given(st.lists(st.integers(0, 2**62), max_size=50), st.lists(st.integers(0, 2**62), max_size=10))
def test_table_counts_like_a_counter(values: list[int], others: list[int]) -> None:
    table, counter = Table.of(np.array(values, dtype=np.int64)), Counter(values)
    asked = [*values, *others]
    assert table[np.array(asked, dtype=np.int64)].tolist() == [counter[v] for v in asked]


def test_contexts_start_and_end_every_document() -> None:
    before, previous, token = contexts(arrays([[5, 6], []]), eos=9)
    assert list(zip(before.tolist(), previous.tolist(), token.tolist(), strict=True)) == [
        (9, 9, 5),
        (9, 5, 6),
        (5, 6, 9),
        (9, 9, 9),
    ]
    assert [len(column) for column in contexts([], eos=9)] == [0, 0, 0]


@given(DOCUMENTS, st.lists(st.integers(1, VOCAB - 1), max_size=10))
@settings(max_examples=50, deadline=None)
def test_probabilities_equal_the_slow_version(documents: list[list[int]], asked: list[int]) -> None:
    model = Trigram.fit(arrays(documents), VOCAB, EOS)
    padded = [[EOS, EOS, *d, EOS] for d in documents]
    triples = Counter(t for p in padded for t in zip(p, p[1:], p[2:], strict=False))
    pairs: Counter[tuple[int, int]] = Counter()
    singles: Counter[int] = Counter()
    for (_, v, w), n in triples.items():
        pairs[v, w] += n
        singles[w] += n

    def probability(u: int, v: int, w: int) -> float:
        after_v = sum(n for (a, _), n in pairs.items() if a == v)
        after_uv = sum(n for (a, b, _), n in triples.items() if (a, b) == (u, v))
        p1 = (singles[w] + 1) / (sum(singles.values()) + VOCAB)
        b = model.pair_weights[after_v.bit_length()]
        p2 = b * (pairs[v, w] / after_v if after_v else 0) + (1 - b) * p1
        a = model.triple_weights[after_uv.bit_length()]
        return float(a * (triples[u, v, w] / after_uv if after_uv else 0) + (1 - a) * p2)

    before, previous, token = contexts(arrays([asked]), EOS)
    expected = [probability(*map(int, t)) for t in zip(before, previous, token, strict=True)]
    assert model.probabilities(before, previous, token) == pytest.approx(expected, rel=1e-12)
    assert model.bits(np.array(asked, dtype=np.int64)) == pytest.approx(-np.log2(expected).sum(), rel=1e-12)


@given(DOCUMENTS)
@settings(max_examples=50, deadline=None)
def test_probabilities_of_all_tokens_sum_to_one_after_any_context(documents: list[list[int]]) -> None:
    model = Trigram.fit(arrays(documents), VOCAB, EOS)
    before, previous, token = (a.ravel() for a in np.meshgrid(*[np.arange(VOCAB)] * 3, indexing="ij"))
    found = model.probabilities(before, previous, token)
    assert found.min() > 0  # also of token VOCAB - 1, which never occurs
    assert found.reshape(-1, VOCAB).sum(1) == pytest.approx(1, abs=1e-12)
    assert model.counts.unigram(np.arange(VOCAB)).sum() == pytest.approx(1, abs=1e-12)


def test_weights_make_held_out_tokens_most_probable() -> None:
    rng = np.random.default_rng(1)
    high, low = rng.random(300) * (rng.random(300) < 0.6), rng.random(300) * 0.5
    weights = fit_weights(high, low, np.full(300, 2))
    grid = np.linspace(0, 1, 2001)[1:-1]
    scores = [np.log(w * high + (1 - w) * low).sum() + np.log(1 - w) for w in grid]  # the imagined token: 1 - w
    assert weights[2] == pytest.approx(grid[int(np.argmax(scores))], abs=1e-3)
    assert weights[[0, 1, 3]].tolist() == [0, 0, 0]  # nothing seen there: the lower order alone


def test_weights_never_reach_one() -> None:
    weights = fit_weights(np.ones(10), np.full(10, 1e-9), np.ones(10, dtype=np.int64))
    assert 0.8 < weights[1] < 1


def test_bucket_is_the_bit_length() -> None:
    counts = [0, 1, 2, 3, 4, 7, 8, 2**40 - 1, 2**40]
    assert bucket(np.array(counts)).tolist() == [c.bit_length() for c in counts]


@pytest.mark.parametrize("text", ["the cat sat on the mat. ", "床前明月光，疑是地上霜。", "舉頭望明月，低頭思故鄉。"])
def test_a_trigram_knows_repeated_text_and_a_unigram_does_not(text: str) -> None:
    documents = arrays(characters([text * 4] * 20))
    model = Trigram.fit(documents, 64, EOS)
    assert model.bits(documents[0]) < 0.3 * model.unigram_bits(documents[0])


def test_weights_are_fitted_on_documents_that_the_counts_do_not_see() -> None:
    rng = np.random.default_rng(1)
    noise = [rng.integers(1, 500, 30) for _ in range(20)]  # every triple is new: memory of them is worth nothing
    model = Trigram.fit(noise, 500, EOS)
    assert model.triple_weights[1] < 0.2
    assert model.bits(rng.integers(1, 500, 30)) < 1.1 * model.unigram_bits(rng.integers(1, 500, 30))


def test_one_document_is_too_few() -> None:
    with pytest.raises(UserError, match="2, one to fit its weights"):
        Trigram.fit(arrays([[1, 2]]), VOCAB, EOS)


def test_ids_outside_the_vocabulary_are_our_mistake() -> None:
    with pytest.raises(AssertionError, match="outside the vocabulary"):
        Counts(arrays([[1, VOCAB]]), VOCAB, EOS)
