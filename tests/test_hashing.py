"""Hashes: words mix as written down, arrays as words, and powers have their inverses at every size of the tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm import hashing
from mindllm.hashing import ODD, mix, mix_array, powers

WORDS = st.integers(0, 2**64 - 1)


def splitmix(z: int) -> int:
    """splitmix64's finaliser in plain arithmetic (Steele et al. 2014, figure 17)."""
    z = (z ^ z // 2**30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z // 2**27) * 0x94D049BB133111EB % 2**64
    return z ^ z // 2**31


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_arrays_mix_as_single_words(words: list[int]) -> None:
    assert mix_array(np.array(words, dtype=np.uint64)).tolist() == list(map(splitmix, words))
    assert mix(words[0]) == splitmix((2 * ODD + words[0]) % 2**64)


def test_order_and_number_of_words_matter() -> None:
    found = [mix(), mix(0), mix(0, 0), mix(1, 2), mix(2, 1), mix(-1)]
    assert len(set(found)) == len(found) and mix(-1) == mix(2**64 - 1) == mix(2**65 - 1)


@pytest.mark.parametrize("size", [1, 2, 1000, hashing._MAX_KEPT - 1, hashing._MAX_KEPT, hashing._MAX_KEPT + 1])
def test_powers_and_their_inverses(size: int) -> None:
    forward, back = powers(size)
    assert len(forward) == len(back) >= size and forward.dtype == np.uint64
    assert forward[0] == 1 and np.array_equal(forward[1:], forward[:-1] * np.uint64(ODD))
    assert np.all(forward * back == 1)


@given(st.lists(WORDS, max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_a_stretch_hashes_the_same_in_every_place(codes: list[int], before: int, after: int) -> None:
    forward, back = powers(60)

    def stretch(sequence: list[int], start: int) -> int:
        values = np.array(sequence, dtype=np.uint64) * forward[: len(sequence)]
        sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)))
        return int(((sums[start + len(codes) :] - sums[start]) * back[start])[0])

    assert stretch([7] * before + codes + [9] * after, before) == stretch(codes, 0)
