"""The order: shares within one block and exact over a super-block, each kind of order, places and counts that agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_order import plain_block, plain_counts, plain_mix, plain_permutation, plain_uniform

from mindllm.hashing import mix
from mindllm.mixture.order import (
    BLOCK,
    SHARES,
    Blocked,
    Chain,
    Interleaved,
    Order,
    Permutation,
    Uniform,
    annealed,
    quotas,
)

KEYS = st.integers(0, 2**64 - 1)
# weights over ten orders of size, so that some sources are rare
WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(-5, 5).map(lambda x: 10**x)), min_size=1, max_size=7).filter(any)
SHARES_OF_2_20 = WEIGHTS.map(lambda weights: quotas(weights, SHARES))


def agree(order: Order, first: int, count: int) -> list[int]:
    """The sources of places first ... first + count - 1, after a look at whether `at` and `before` tell the same."""
    counts, found = order.before(first), []
    for i in range(first, first + count):
        source, rank = order.at(i)
        assert rank == counts[source], i
        counts[source] += 1
        found.append(source)
        if i % 97 == 0:
            assert order.before(i + 1) == counts, i
    assert order.before(first + count) == counts
    return found


def counted(sources: Sequence[int], num_sources: int) -> list[int]:
    return [sources.count(source) for source in range(num_sources)]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 700), key=KEYS)
def test_permutation(n: int, key: int) -> None:
    permutation = Permutation(n, key)
    images = [permutation[i] for i in range(n)]
    assert sorted(images) == list(range(n))
    assert images == plain_permutation(n, key)


def test_permutation_of_a_large_range() -> None:
    permutation = Permutation(10**12, 5)
    images = {permutation[i] for i in range(3000)}
    assert len(images) == 3000 and max(images) < 10**12 and min(images) < 10**10  # spread over all of it


def test_mixed_numbers_equal_a_plain_implementation() -> None:
    for words in [(0,), (1, 2), (2**64 - 1, -1), (7, 2, *"书-zh".encode())]:
        assert mix(*words) == plain_mix(*words)


@settings(max_examples=100, deadline=None)
@given(weights=WEIGHTS, total=st.integers(0, 5000))
def test_quotas_are_within_one_of_the_share(weights: list[float], total: int) -> None:
    counts, whole = quotas(weights, total), sum(map(Fraction, weights))
    assert sum(counts) == total
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - Fraction(weight) / whole * total) < 1
        assert weight or not count
    assert quotas([w * 2**30 for w in weights], total) == counts  # the scale does not matter
    shares = quotas(weights, SHARES)
    assert quotas(shares, SHARES) == quotas([float(s) for s in shares], SHARES) == shares  # shares are their own shares


def test_quotas_in_numbers() -> None:
    assert quotas([0.6, 0.3, 0.1], BLOCK) == [614, 307, 103]  # 614.4, 307.2, 102.4
    assert quotas([1, 1, 1], 4) == [2, 1, 1]  # a tie: to the earlier source
    assert quotas([0.1] * 10, 10) == [1] * 10
    assert quotas([10**12, 1], 2**20) == [2**20, 0]


@settings(max_examples=20, deadline=None)
@given(shares=SHARES_OF_2_20, key=KEYS, number=st.integers(0, 5000))
def test_uniform_order_equals_a_plain_implementation(shares: list[int], key: int, number: int) -> None:
    order = Uniform(shares, key)
    before = [sum(counts) for counts in zip([0] * len(shares), *(plain_counts(shares, k) for k in range(number)),
                                            strict=True)]  # fmt: skip
    assert order.before(number * BLOCK) == before
    assert [order.at(number * BLOCK + place)[0] for place in range(BLOCK)] == plain_block(shares, key, number)


@settings(max_examples=20, deadline=None)
@given(shares=SHARES_OF_2_20, key=KEYS, start=st.integers(0, 3 * SHARES))
def test_uniform_places_and_counts_agree(shares: list[int], key: int, start: int) -> None:
    agree(Uniform(shares, key), start, 1500)


@settings(max_examples=50, deadline=None)
@given(shares=SHARES_OF_2_20, key=KEYS, number=st.integers(0, 10**6))
def test_shares_hold_within_one_in_a_block_and_exactly_in_a_super_block(
    shares: list[int], key: int, number: int
) -> None:
    order = Uniform(shares, key)
    begin, end = (order.before(k * BLOCK) for k in (number, number + 1))
    for share, a, b in zip(shares, begin, end, strict=True):
        assert abs(b - a - share / BLOCK) < 1
        assert abs(b - share * (number + 1) / BLOCK) <= 4  # and evenly: never far from the share so far
    assert order.before(SHARES) == shares
    assert order.before(7 * SHARES) == [7 * share for share in shares]


def test_a_super_block_counted_place_by_place() -> None:
    """Slowly, without `before`: a million places hold each source's share, the rarest one its one place."""
    shares = [SHARES - 5000 - 33 - 1, 5000, 33, 1]
    found = Uniform(shares, 3)
    assert counted([found.at(i)[0] for i in range(SHARES)], 4) == shares


def test_rare_sources_are_served_evenly() -> None:
    shares = quotas([1.0, *[2.0**-k for k in range(11, 20)], 2**-20], SHARES)
    order = Uniform(shares, 1)
    assert min(shares) == 1
    for blocks in (64, 512, 1024):
        for share, count in zip(shares, order.before(blocks * BLOCK), strict=True):
            assert abs(count - share * blocks / BLOCK) <= 2


def test_a_source_without_a_share_has_no_influence() -> None:
    some = Uniform([600 * BLOCK + 7, 424 * BLOCK - 7], 9)
    more = Uniform([0, 600 * BLOCK + 7, 0, 424 * BLOCK - 7, 0], 9)
    names = {1: 0, 3: 1}
    for i in [*range(3000), *range(SHARES - 100, SHARES + 1500)]:
        source, rank = more.at(i)
        assert (names[source], rank) == some.at(i)


def test_a_block_is_shuffled() -> None:
    order = [Uniform([SHARES // 4, SHARES // 4 * 3], key).at(i)[0] for key in (1, 1, 2) for i in range(BLOCK)]
    assert order[:BLOCK] == order[BLOCK : 2 * BLOCK] != order[2 * BLOCK :]
    assert max(len(list(run)) for _, run in groupby(order[:BLOCK])) < 60


@settings(max_examples=50, deadline=None)
@given(shares=SHARES_OF_2_20, num_samples=st.integers(0, 4000), rng=st.randoms(use_true_random=False))
def test_blocked_order_is_source_after_source(shares: list[int], num_samples: int, rng: Random) -> None:
    listing = [s for s, share in enumerate(shares) if share]
    rng.shuffle(listing)
    order = Blocked(shares, num_samples, listing)
    counts = quotas([shares[s] for s in listing], num_samples)
    expected = [s for s, count in zip(listing, counts, strict=True) for _ in range(count)]
    assert agree(order, 0, num_samples) == expected
    last = expected[-1] if expected else listing[0]
    assert agree(order, num_samples, 5) == [last] * 5  # goes on, should a run do so


@settings(max_examples=40, deadline=None)
@given(
    shares=SHARES_OF_2_20, key=KEYS, fraction=st.integers(1, SHARES - 1), num_samples=st.integers(1, 3000),
    start=st.integers(0, 2**40),
)  # fmt: skip
def test_interleaved_orders_keep_their_own_order(
    shares: list[int], key: int, fraction: int, num_samples: int, start: int
) -> None:
    listing = [s for s, share in enumerate(shares) if share]
    num_blocked = num_samples * fraction // SHARES
    blocked, uniform = Blocked(shares, num_blocked, listing), Uniform(shares, key)
    order = Interleaved(blocked, uniform, fraction)
    found = agree(order, 0, num_samples)
    is_blocked = [(i + 1) * fraction // SHARES - i * fraction // SHARES for i in range(num_samples)]
    assert sum(is_blocked) == num_blocked
    assert [s for s, b in zip(found, is_blocked, strict=True) if b] == [blocked.at(i)[0] for i in range(num_blocked)]
    rest = [s for s, b in zip(found, is_blocked, strict=True) if not b]
    assert rest == [uniform.at(i)[0] for i in range(num_samples - num_blocked)]
    for stop in range(0, num_samples, 200):  # evenly spread
        assert abs(sum(is_blocked[:stop]) - stop * fraction / SHARES) < 1
    agree(order, start, 20)


def test_a_chain_goes_on_counting() -> None:
    a, b = SHARES // 4, SHARES // 4 * 3
    first, second, third = Uniform([a, b], 1), Blocked([a, b], 100, [1, 0]), Uniform([b, a], 2)
    found = agree(Chain([0, 1500, 1600], [first, second, third]), 0, 4000)
    assert found[:1500] == [first.at(i)[0] for i in range(1500)]
    assert found[1500:1600] == [1] * 75 + [0] * 25
    assert found[1600:] == [third.at(i)[0] for i in range(2400)]
    with pytest.raises(AssertionError, match="orders need places"):
        Chain([0, 0], [first, third])


@settings(max_examples=25, deadline=None)
@given(data=st.data(), num_sources=st.integers(1, 5), num_samples=st.integers(1, 300_000), key=KEYS)
def test_annealing_is_monotone_and_reaches_its_end(
    data: st.DataObject, num_sources: int, num_samples: int, key: int
) -> None:
    weights = st.lists(st.floats(0, 1), min_size=num_sources, max_size=num_sources).filter(lambda w: sum(w) > 1e-6)
    start, end = (quotas(data.draw(weights), SHARES) for _ in range(2))
    order = annealed(start, end, num_samples, key)
    stairs = [stair._shares.tolist() for stair in order._orders]  # type: ignore[attr-defined]
    assert len(stairs) == min(64, num_samples) and stairs[-1] == end
    if num_samples > 1:
        assert stairs[0] == start
    for source in range(num_sources):
        shares = [stair[source] for stair in stairs]
        steps = [b - a for a, b in zip(shares, shares[1:], strict=False)]
        direction = 1 if end[source] >= start[source] else -1
        assert all(step * direction >= -1 for step in steps)  # rounding of a 2^-20th is all that goes back
    lengths = [b - a for a, b in zip(order._starts, [*order._starts[1:], num_samples], strict=True)]
    assert max(lengths) - min(lengths) <= (1 if num_samples < 64 * BLOCK else 2 * BLOCK)
    agree(order, max(0, num_samples - 700), 900)


def test_annealing_equals_a_plain_implementation() -> None:
    start, end, num_samples, key = [SHARES, 0, 0], [0, SHARES - 5, 5], 3000, 11
    expected: list[int] = []
    first = 0
    for stair in range(64):
        shares = quotas([Fraction(a * (63 - stair) + b * stair, 63) for a, b in zip(start, end, strict=True)], SHARES)
        length = (stair + 1) * 3000 // 64 - stair * 3000 // 64
        expected += plain_uniform(shares, key, length, first)
        first += 1  # each stair is shorter than a block
    assert agree(annealed(start, end, num_samples, key), 0, num_samples) == expected


def test_annealing_serves_as_much_as_the_mean_of_start_and_end() -> None:
    start, end, num_samples = quotas([9, 1], SHARES), quotas([1, 9], SHARES), 640 * BLOCK
    order = annealed(start, end, num_samples, 1)
    assert abs(order.before(num_samples)[0] - num_samples / 2) < 64
    tenth = num_samples // 10
    shares = [order.before((k + 1) * tenth)[0] - order.before(k * tenth)[0] for k in range(10)]
    assert sorted(shares, reverse=True) == shares
    rare = annealed(quotas([2**15, 1], SHARES), quotas([2**15, 1], SHARES), num_samples, 1)
    assert abs(rare.before(num_samples)[1] - num_samples / 2**15) <= 4  # 20: though no stair is a super-block


def test_one_sample_of_annealing_is_the_end() -> None:
    assert Counter(agree(annealed([SHARES, 0], [0, SHARES], 1, 1), 0, 50)) == {1: 50}
    assert annealed([SHARES, 0], [0, SHARES], 0, 1).before(0) == [0, 0]
