"""The order of samples as arithmetic: which source sample i comes from, how many of that source came before it.

Three orders over places 0, 1, 2 ...: `Uniform` (every block of 1024 places holds every source's share, shuffled by a
keyed sort), `Blocked` (source after source) and `Interleaved` (some places in blocks, the rest uniform); `Chain` puts
orders one after another. Each has at(i) -> (source, its samples before i) and before(i) -> samples of every source
before i; sources are numbers, shares are whole 2^-20ths. So nothing is stored and any i can be asked for. Cost: 5
microseconds a sample, 100 for each new block. memory: 2 MB for one table, 3 MB for the blocks used last.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np

from mindllm.hashing import ODD, mix, mix_array

BLOCK = 1024
SHARES = BLOCK * BLOCK  # a share is a number of these, and a super-block has as many places: shares are exact over one
_STRIDE = 399  # turns 0, 399, 798 ... (mod 1024) fill every stretch of 0 ... 1023 to within 4 of evenly, at any time


def percent(share: int) -> str:
    """A share for people: exact to a ten-thousandth of a percent, which is about 2^-20."""
    return f"{100 * share / SHARES:.6g} %"


class Permutation:
    """A keyed permutation of range(n), one element at a time: a four-round Feistel network with cycle walking.

    Black and Rogaway 2002, "Ciphers with arbitrary finite domains". Needs no memory; about 10 microseconds an element.
    """

    def __init__(self, n: int, key: int):
        assert n > 0, "a permutation needs at least one element"
        self.n = n
        self._half = max(1, ((n - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._keys = [mix(key, r) for r in range(4)]

    def __getitem__(self, i: int) -> int:
        assert 0 <= i < self.n, f"{i} is not in a permutation of {self.n}"
        while True:  # the network permutes at most 4n values: walk on until the image is one of the n
            left, right = i >> self._half, i & self._mask
            for key in self._keys:
                left, right = right, left ^ (mix(key ^ right) & self._mask)
            i = left << self._half | right
            if i < self.n:
                return i


class Order(Protocol):
    """What the orders have in common."""

    def at(self, i: int) -> tuple[int, int]:
        """(source, how many samples of it came before) for place i."""

    def before(self, i: int) -> list[int]:
        """How many samples of each source are at the places before i."""


class Uniform:
    """Every source in every block by its share.

    A source's share of a block is a whole number and a rest. The rests add up to as many free places in each block,
    which the sources take in turn: 1024 blocks, a super-block, give each source its share to the last 2^-20th, and a
    source of one 2^-20th its one place. `first`: the number of the first block, for one that goes on where another
    stopped.
    """

    def __init__(self, shares: Sequence[int], key: int, first: int = 0):
        assert sum(shares) == SHARES, f"shares of a uniform order add up to {SHARES}"
        self._shares, self._key, self._first = np.array(shares, dtype=np.int64), key, first
        self._whole = self._shares // BLOCK
        rests = np.concatenate([[0], np.cumsum(self._shares % BLOCK)])
        self._turns, self._points = np.divmod(rests, BLOCK)
        self._skipped = self._before_block(first)

    def at(self, i: int) -> tuple[int, int]:
        number, place = divmod(i, BLOCK)
        counts, order, ranks = self._block(number)
        source = order[place]
        return source, counts[source] + ranks[place]

    def before(self, i: int) -> list[int]:
        number, place = divmod(i, BLOCK)
        if not place:  # no need to shuffle a block for it
            return (self._before_block(self._first + number) - self._skipped).tolist()
        counts, order, _ = self._block(number)
        return (np.array(counts) + np.bincount(order[:place], minlength=len(counts))).tolist()

    def _before_block(self, number: int) -> np.ndarray:
        """How many samples of each source are in the first `number` blocks, as numbered from the first super-block.

        Sources own stretches of a circle of points, as long as their rests; each block gives a free place to whoever
        owns its point, 1024 points further, and so on. `_points_passed` counts points without a loop over blocks.
        """
        supers, blocks = divmod(number, BLOCK)
        passed = _points_passed()[blocks].take(self._points) + blocks * self._turns
        whole: np.ndarray = supers * self._shares + blocks * self._whole + np.diff(passed)
        return whole

    @functools.lru_cache(maxsize=64)  # noqa: B019  orders live as long as their mixture
    def _block(self, number: int) -> tuple[list[int], list[int], list[int]]:
        """Samples of each source before a block; for each of its places the source, and its rank among that source's
        places in the block.
        """
        number += self._first
        start = self._before_block(number)
        counts = self._before_block(number + 1) - start
        order = np.repeat(np.arange(len(counts)), counts)[np.argsort(_keys(self._key, number), kind="stable")]
        ranks = np.empty(BLOCK, dtype=np.int64)
        ranks[np.argsort(order, kind="stable")] = np.arange(BLOCK) - np.repeat(np.cumsum(counts) - counts, counts)
        return (start - self._skipped).tolist(), order.tolist(), ranks.tolist()


class Blocked:
    """Source after source, in the order `listing`, each by its share of `num_samples`; the last one goes on after."""

    def __init__(self, shares: Sequence[int], num_samples: int, listing: Sequence[int]):
        counts = quotas([shares[s] for s in listing], num_samples)
        self._num_sources = len(shares)
        self._listing = [s for s, count in zip(listing, counts, strict=True) if count] or list(listing[:1])
        self._starts = [0]
        for count in [c for c in counts if c][:-1]:
            self._starts.append(self._starts[-1] + count)

    def at(self, i: int) -> tuple[int, int]:
        k = bisect.bisect_right(self._starts, i) - 1
        return self._listing[k], i - self._starts[k]

    def before(self, i: int) -> list[int]:
        counts = [0] * self._num_sources
        ends: list[int] = [*self._starts[1:], i]
        for source, start, end in zip(self._listing, self._starts, ends, strict=True):
            counts[source] = max(0, min(i, end) - start)
        return counts


class Interleaved:
    """A fraction of the places, evenly spread, from one order, and the rest from another."""

    def __init__(self, blocked: Order, uniform: Order, fraction: int):
        self._blocked, self._uniform, self._fraction = blocked, uniform, fraction

    def at(self, i: int) -> tuple[int, int]:
        num_blocked = i * self._fraction // SHARES
        if (i + 1) * self._fraction // SHARES > num_blocked:
            source, rank = self._blocked.at(num_blocked)
            return source, rank + self._uniform.before(i - num_blocked)[source]
        source, rank = self._uniform.at(i - num_blocked)
        return source, rank + self._blocked.before(num_blocked)[source]

    def before(self, i: int) -> list[int]:
        num_blocked = i * self._fraction // SHARES
        return _sums(self._blocked.before(num_blocked), self._uniform.before(i - num_blocked))


class Chain:
    """Orders one after another: order k has the places from starts[k] on, the last one to the end."""

    def __init__(self, starts: Sequence[int], orders: Sequence[Order]):
        assert starts[0] == 0 and all(a < b for a, b in zip(starts, starts[1:], strict=False)), "orders need places"
        self._starts, self._orders = list(starts), list(orders)
        self._before = [[0] * len(orders[0].before(0))]
        for start, stop, order in zip(starts, starts[1:], orders, strict=False):
            self._before.append(_sums(self._before[-1], order.before(stop - start)))

    def at(self, i: int) -> tuple[int, int]:
        k = bisect.bisect_right(self._starts, i) - 1
        source, rank = self._orders[k].at(i - self._starts[k])
        return source, self._before[k][source] + rank

    def before(self, i: int) -> list[int]:
        k = bisect.bisect_right(self._starts, i) - 1
        return _sums(self._before[k], self._orders[k].before(i - self._starts[k]))


def annealed(start: Sequence[int], end: Sequence[int], num_samples: int, key: int, max_stairs: int = 64) -> Chain:
    """Uniform order with shares that go from `start` to `end` in a straight line, in up to 64 stairs of equal length.

    The first stair has the shares `start`, the last one `end`; long ones are whole blocks. Blocks are numbered through,
    so that a rare source gets its place also where no stair has a super-block.
    """
    num_stairs = max(1, min(max_stairs, num_samples))
    unit = BLOCK if num_samples >= max_stairs * BLOCK else 1  # whole blocks are counted ten times as fast
    starts = [k * (num_samples // unit) // num_stairs * unit for k in range(num_stairs)]
    orders, first = [], 0
    for k, (begin, stop) in enumerate(zip(starts, [*starts[1:], num_samples], strict=True)):
        done, left = (k, num_stairs - 1 - k) if num_stairs > 1 else (1, 0)
        orders.append(Uniform(quotas([a * left + b * done for a, b in zip(start, end, strict=True)], SHARES),
                              key, first))  # fmt: skip
        first += -(-(stop - begin) // BLOCK)
    return Chain(starts, orders)


def quotas(weights: Sequence[float | Fraction], total: int) -> list[int]:
    """`total` places shared out by weight with the largest-remainder rule; ties go to the earlier source.

    In whole numbers and fractions, so that no release of Python and no machine rounds another way.
    """
    parts = [w if isinstance(w, int) else Fraction(w) for w in weights]
    whole = sum(parts)
    exact = [divmod(part * total, whole) for part in parts]
    counts = [int(count) for count, _ in exact]
    by_remainder = sorted(range(len(parts)), key=lambda k: (-exact[k][1], k))
    for k in by_remainder[: total - sum(counts)]:
        counts[k] += 1
    return counts


def _sums(a: Sequence[int], b: Sequence[int]) -> list[int]:
    return [x + y for x, y in zip(a, b, strict=True)]


def _keys(key: int, number: int) -> np.ndarray:
    """uint64 (BLOCK,): mixed numbers to sort by, for one block."""
    with np.errstate(over="ignore"):
        return mix_array(np.arange(BLOCK, dtype=np.uint64) * np.uint64(ODD) + np.uint64(mix(key, number)))


@functools.lru_cache(maxsize=1)
def _points_passed() -> np.ndarray:
    """int16 (BLOCK, BLOCK + 1): [j, x] is how many of the points of the blocks before j (of a super-block) are below x.

    memory: 2 MB, for all orders together.
    """
    points = np.arange(BLOCK) * _STRIDE % BLOCK
    table = np.zeros((BLOCK, BLOCK + 1), dtype=np.int16)
    np.cumsum(points[:-1, None] < np.arange(BLOCK + 1), axis=0, out=table[1:])
    return table
