"""64-bit hashes of whole arrays in numpy, the same in every process, release and machine (Python's hash() is not).

A stretch c[a..b) of a long sequence hashes to sum code(c[i]) * ODD^(i-a) mod 2^64: a difference of running sums, times
an inverse power that takes the stretch back to its own beginning. So all stretches of a text cost a few operations on
arrays, without a loop over them. Cost: 1 ns a value and operation. Memory: what `powers` says.
"""

from __future__ import annotations

import functools

import numpy as np

ODD = 0x9E3779B97F4A7C15  # the golden ratio times 2^64; odd, so that it has an inverse
_MASK = (1 << 64) - 1
_SHIFTS_AND_FACTORS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
_MAX_KEPT = 1 << 17  # places of the largest table that is kept: for texts in pieces that stay in the processor's cache


def mix(*words: int) -> int:
    """64 bits that depend on every word and on their order (splitmix64's finaliser): our hash for orders, anywhere."""
    state = ODD
    for word in words:
        state = (state + (word & _MASK) + ODD) & _MASK
        for shift, factor in _SHIFTS_AND_FACTORS:
            state = ((state ^ (state >> shift)) * factor) & _MASK
    return state


def mix_array(values: np.ndarray) -> np.ndarray:
    """uint64, same shape: every bit spread over the word (splitmix64's finaliser, Steele et al. 2014; a bijection)."""
    for shift, factor in _SHIFTS_AND_FACTORS:
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values


def powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    """ODD^0 ... ODD^(size-1) or further, and their inverses (uint64).

    memory: 16 bytes a place; tables of up to _MAX_KEPT places are kept, 4 MB in all.
    """
    return _kept_powers(1 << size.bit_length()) if size < _MAX_KEPT else _make_powers(size)


def _make_powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    table = np.ones((2, size), dtype=np.uint64)
    table[:, 1:] = [[ODD], [pow(ODD, -1, 1 << 64)]]
    np.cumprod(table, axis=1, out=table)
    return table[0], table[1]


_kept_powers = functools.lru_cache(maxsize=None)(_make_powers)
