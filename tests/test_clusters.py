"""duplicates.clusters against plain Python: originals, buckets, union-find, and the greedy choice one by one."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.duplicates import clusters, minhash


def candidates(values: list[int], similar: object = None) -> list[list[list[int]]]:
    keys = np.array(values, dtype=np.uint64)
    order = clusters.sharing(keys)
    confirm = similar or (lambda pairs: np.ones(len(pairs), dtype=bool))
    return [order[pairs].tolist() for pairs in clusters.candidate_pairs(keys[order], confirm)]  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 5), max_size=12))
def test_what_shares_a_key_with_others(values: list[int]) -> None:
    found = clusters.sharing(np.array(values, dtype=np.uint64)).tolist()
    assert found == sorted((i for i, v in enumerate(values) if values.count(v) > 1), key=lambda i: (values[i], i))


@given(st.lists(st.integers(0, 4), max_size=12))
def test_candidates_are_each_with_the_first_of_its_key(values: list[int]) -> None:
    found = [tuple(pair) for pairs in candidates(values) for pair in pairs]
    assert sorted(found) == sorted((values.index(v), i) for i, v in enumerate(values) if values.index(v) != i)


def test_unlike_documents_in_a_bucket_do_not_hide_copies() -> None:
    groups = np.array([0, 1, 1, 2, 0, 2, 3])  # all in one bucket, similar where the group is the same

    def similar(pairs: np.ndarray) -> np.ndarray:
        return groups[pairs[:, 0]] == groups[pairs[:, 1]]

    assert candidates([9] * 7, similar) == [[[0, 4]], [[1, 2]], [[3, 5]]]


def test_a_bucket_of_unlike_documents_ends() -> None:
    asked: list[int] = []

    def similar(pairs: np.ndarray) -> np.ndarray:
        asked.append(len(pairs))
        return np.zeros(len(pairs), dtype=bool)

    assert sum(map(len, candidates([0] * 100, similar))) == 0
    assert asked == [99 - i for i in range(clusters.MAX_LEADERS)]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12), st.randoms(use_true_random=False))
def test_copies_have_the_first_of_their_hash(rows: list[tuple[int, int]], rng: random.Random) -> None:
    order = rng.sample(range(len(rows)), len(rows))
    values = np.array([rows[i] for i in order], dtype=np.uint64).reshape(-1, 2)
    table = clusters.find_copies(values[:, 0], values[:, 1], np.array(order, dtype=np.int64))
    assert table.T.tolist() == [[i, rows.index(row)] for i, row in enumerate(rows) if rows.index(row) != i]


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=15), max_size=4), st.integers(1, 25)
)
def test_components_are_those_of_union_find(batches: list[list[tuple[int, int]]], at_once: int) -> None:
    parent = list(range(20))

    def find(node: int) -> int:
        return node if parent[node] == node else find(parent[node])

    for a, b in itertools.chain(*batches):
        parent[find(a)] = find(b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "NODES_AT_ONCE", at_once)
        labels = clusters.connect(20, [np.array(b, dtype=np.int64).reshape(-1, 2) for b in batches])
    assert labels.tolist() == [min(i for i in range(20) if find(i) == find(node)) for node in range(20)]
    assert clusters.connect(0, []).tolist() == []


@pytest.mark.parametrize("shuffled", [False, True])
def test_long_paths_are_one_component(shuffled: bool) -> None:
    """A chain of 30,000, in order and not, in one batch and in many, and a star around its last node."""
    rng = np.random.default_rng(1)
    nodes = rng.permutation(30_000) if shuffled else np.arange(30_000)
    chain = np.stack([nodes[:-1], nodes[1:]], axis=1)
    star = np.stack([np.full(29_999, 29_999), np.arange(29_999)], axis=1)
    for pairs in ([chain], np.array_split(chain[rng.permutation(len(chain))], 20), [star], [star[:, ::-1]]):
        assert not clusters.connect(30_000, pairs).any()


def rank(labels: list[int], fixed: list[bool], num_units: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Members in their order, where components begin, which are fixed."""
    parts = np.array(labels, dtype=np.int64), np.array(fixed, dtype=bool), np.array(num_units, dtype=np.int64)
    order = clusters.ranked(*parts, np.arange(len(labels)))
    first = np.ones(len(order), dtype=bool)
    first[1:] = np.diff(parts[0][order]) != 0
    return order, first, parts[1][order]


def plain_choice(
    labels: list[int], fixed: list[bool], num_units: list[int], rows: list[list[int]], threshold: float
) -> dict[int, tuple[int, float]]:
    """Document -> (kept document, similarity), by the rule as it is written, one document at a time."""
    kept: list[int] = []
    out: dict[int, tuple[int, float]] = {}
    for i in sorted(range(len(labels)), key=lambda i: (not fixed[i], -num_units[i], i)):
        near = [
            (sum(a == b for a, b in zip(rows[i], rows[k], strict=True)) / len(rows[i]), k)
            for k in kept
            if labels[k] == labels[i]
        ]
        best = max(near, key=lambda pair: pair[0], default=(0.0, i))
        if best[0] >= threshold and not fixed[i]:
            out[i] = (best[1], best[0])
        else:
            kept.append(i)
            out[i] = (i, 1.0)
    return out


@settings(max_examples=150)
@given(st.data(), st.integers(0, 16), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9), st.integers(1, 9))
def test_what_is_kept_is_what_the_rule_says(
    data: st.DataObject, n: int, block: int, blocks: int, few: int, columns: int
) -> None:
    """However members are cut into blocks and spans."""
    labels = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    num_units = data.draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    fixed = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    rows = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=n, max_size=n))
    table = np.array(rows, dtype=np.uint32).reshape(n, 4)
    members, first, stays = rank(labels, fixed, num_units)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("BLOCK", block), ("ROWS_AT_ONCE", block * blocks), ("_FEW", few), ("_COLUMNS", columns)):
            patch.setattr(clusters, name, value)
        closest, reached = clusters.choose(first, stays, lambda rows: table[members[rows]], 0.75)
    expected = plain_choice(labels, fixed, num_units, rows, 0.75)
    for place, member in enumerate(members.tolist()):
        assert (members[closest[place]], reached[place]) == expected[member]


def test_a_chain_does_not_swallow_unlike_documents() -> None:
    """0 - 1 - 2 - 3 with neighbours at .75 and others at .5 or less: every second one stays."""
    table = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=np.uint32)
    first = np.array([True, False, False, False])
    closest, reached = clusters.choose(first, np.zeros(4, dtype=bool), lambda rows: table[rows], 0.75)
    assert closest.tolist() == [0, 0, 2, 2] and reached.tolist() == [1, 0.75, 1, 0.75]


def test_only_the_latest_kept_ones_count_in_an_endless_component(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "MAX_KEPT", 6)
    monkeypatch.setattr(clusters, "BLOCK", 2)
    table = np.repeat(np.arange(20, dtype=np.uint32)[:, None], 8, axis=1)
    rows = np.concatenate([table, table[[0, 13, 14, 19]]])  # unlike pages, then copies of the first and of late ones
    first = np.arange(len(rows)) == 0
    closest, _ = clusters.choose(first, np.zeros(len(rows), dtype=bool), lambda places: rows[places], 0.75)
    assert closest[:20].tolist() == list(range(20))
    assert closest[20] == 20 and closest[23] == 19


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 8, 128, 300]), st.integers(0, 9))
def test_equal_entries_are_counted(n: int, k: int, num_hashes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 2, (m, num_hashes), dtype=np.uint32) for m in (n, k))
    expected = minhash.similarity(a[:, None], b[None]) * num_hashes
    assert np.array_equal(clusters.count_equal(a, b.T), np.rint(expected))
