"""The data order: fixed shares in every block, no repeat inside an epoch, the same for any number of processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import UserError, parse
from mindllm.hashing import mix
from mindllm.mixture import BLOCK, Mixture, MixtureBatches, Permutation, PhaseConfig, quotas
from mindllm.shards import Shards, ShardWriter

SIZES = {"en": 700, "web": 333, "zh": 1500}  # samples of two tokens
SEED = 7


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shards]:
    """Three sources whose sample k is tokens [2k, 2k + 1, 2k + 2]: a sample says where it is from."""
    found = {}
    for name, size in SIZES.items():
        writer = ShardWriter(tmp_path_factory.mktemp(name) / "train", 5000, 2 * size, "tokenizer-1")
        writer.add(np.arange(2 * size))
        writer.finish()
        found[name] = Shards(writer.folder, seq_len=2, source=name)
        assert len(found[name]) == size
    return found


def mixture(sources: dict[str, Shards], *phases: PhaseConfig, batch_size: int = 8, seed: int = SEED) -> Mixture:
    """A mixture of all sources; without phases, by size."""
    return Mixture(sources, phases or [PhaseConfig()], batch_size, seed)


# A second implementation, written for plainness: no cache, no numpy, from the description in the docstrings.


def plain_mix(*words: int) -> int:
    """Fold words into 64 bits; after each, splitmix64's finaliser (Steele et al. 2014, figure 17)."""
    z = 0x9E3779B97F4A7C15
    for word in words:
        z = (z + word % 2**64 + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z // 2**30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z // 2**27) * 0x94D049BB133111EB % 2**64
        z = z ^ z // 2**31
    return z


def plain_permutation(n: int, key: int) -> list[int]:
    """The images of 0 ... n - 1: four Feistel rounds on two halves of the bits, again until the image is below n."""
    bits = 1
    while 4**bits < n:
        bits += 1
    images = []
    for i in range(n):
        while True:
            left, right = divmod(i, 2**bits)
            for r in range(4):
                left, right = right, left ^ plain_mix(plain_mix(key, r) ^ right) % 2**bits
            i = left * 2**bits + right
            if i < n:
                break
        images.append(i)
    return images


def plain_places(key: int, number: int, counts: list[int]) -> list[int]:
    """The source of every place of a block: sources in order, sorted by a mixed number of each place."""
    start = plain_mix(key, number)
    order = []
    for place in range(BLOCK):
        z = (place * 0x9E3779B97F4A7C15 + start) % 2**64
        z = (z ^ z // 2**30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z // 2**27) * 0x94D049BB133111EB % 2**64
        order.append((z ^ z // 2**31, place))
    listed = [source for source, count in enumerate(counts) for _ in range(count)]
    return [listed[place] for _, place in sorted(order)]


def test_the_order_equals_a_plain_implementation(sources: dict[str, Shards]) -> None:
    assert [mix(*w) for w in [(0,), (1, 2), (2**64 - 1, -1)]] == [
        plain_mix(*w) for w in [(0,), (1, 2), (-1, 2**64 - 1)]
    ]
    weights = {"en": 0.6, "web": 0.1, "zh": 0.3}
    switch = 150  # steps of 8: inside the second block
    found = mixture(sources, PhaseConfig(weights, until_step=switch), PhaseConfig({"zh": 1.0}))
    seen, expected = Counter[int](), []
    for phase, (start, stop, counts) in enumerate([(0, switch * 8, [614, 103, 307]), (switch * 8, 4000, [0, 0, 1024])]):
        places = [s for b in range(4) for s in plain_places(plain_mix(SEED, 1, phase), b, counts)]
        for source in places[: stop - start]:
            size = list(SIZES.values())[source]
            epoch, index = divmod(seen[source], size)
            expected.append((source, epoch, index))
            seen[source] += 1
    keys = sorted({(s, e) for s, e, _ in expected})
    orders = {(s, e): plain_permutation(list(SIZES.values())[s], plain_mix(SEED, 2, s, e)) for s, e in keys}
    assert {e for _, e in keys} == {0, 1, 2}
    assert [found.locate(i) for i in range(4000)] == [(s, e, orders[s, e][k]) for s, e, k in expected]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 700), key=st.integers(0, 2**64 - 1))
def test_permutation(n: int, key: int) -> None:
    permutation = Permutation(n, key)
    images = [permutation[i] for i in range(n)]
    assert sorted(images) == list(range(n))
    assert images == plain_permutation(n, key)


@settings(max_examples=100, deadline=None)
@given(weights=st.lists(st.floats(0, 1e6), min_size=1, max_size=6).filter(lambda w: sum(w) > 1e-3))
def test_quotas_are_within_one_of_the_share(weights: list[float]) -> None:
    counts = quotas(weights, BLOCK)
    assert sum(counts) == BLOCK
    assert all(abs(c - w / sum(weights) * BLOCK) < 1 + 1e-6 for c, w in zip(counts, weights, strict=True))


def test_shares_hold_in_every_block(sources: dict[str, Shards]) -> None:
    found = mixture(sources, PhaseConfig({"en": 2, "web": 1, "zh": 7}))
    for block in range(3):
        counts = Counter(found[i].source for i in range(block * BLOCK, (block + 1) * BLOCK))
        assert counts == {"en": 205, "web": 102, "zh": 717}  # 204.8, 102.4, 716.8
    assert found.served(2 * BLOCK) == {"en": 410, "web": 204, "zh": 1434}
    places = [found.locate(i)[0] for i in range(BLOCK)]
    assert max(len(list(run)) for run in np.split(places, np.flatnonzero(np.diff(places)) + 1)) < 60  # shuffled


def test_every_sample_of_a_source_comes_once_an_epoch(sources: dict[str, Shards]) -> None:
    """Also when phases with other weights follow each other: a source goes on where it was."""
    phases = [PhaseConfig({"en": 1}, 40), PhaseConfig({"en": 1, "web": 3, "zh": 2}, 201), PhaseConfig()]
    found = mixture(sources, *phases)
    drawn: dict[str, list[int]] = {name: [] for name in sources}
    for i in range(6000):
        sample = found[i]
        drawn[sample.source].append(int(sample.tokens[0]) // 2)
        if i in (319, 1607, 1608, 4000):
            assert found.served(i + 1) == {name: len(rows) for name, rows in drawn.items()}
    for name, rows in drawn.items():
        size = SIZES[name]
        epochs = [rows[k : k + size] for k in range(0, len(rows), size)]
        assert len(epochs) >= 2 and epochs[0] != epochs[1]
        assert all(len(set(epoch)) == len(epoch) for epoch in epochs)
        assert sorted(epochs[0]) == list(range(size))


def test_all_ranks_together_see_the_same_batch_from_any_step(sources: dict[str, Shards]) -> None:
    for step in (0, 85, 400):
        batches = MixtureBatches(mixture(sources, batch_size=24), 24, 2)  # made anew: nothing is remembered
        alone = np.concatenate(batches(step, 0, 1))
        rows = [mixture(sources, batch_size=24)[i].tokens for i in range(step * 24, (step + 1) * 24)]
        np.testing.assert_array_equal(alone, rows)
        for world in (2, 3, 4):
            parts = [batches(step, rank, world) for rank in range(world)]
            assert all(b.shape == (2, 3) and b.dtype == np.int64 for part in parts for b in part)
            together = np.stack([np.concatenate(part) for part in parts], axis=1).reshape(24, 3)
            np.testing.assert_array_equal(together, alone)


def test_another_seed_is_another_order(sources: dict[str, Shards]) -> None:
    orders = [[mixture(sources, seed=seed).locate(i) for i in range(50)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_shares_and_epochs_are_added_up(sources: dict[str, Shards]) -> None:
    found = mixture(sources, PhaseConfig({"en": 1, "zh": 1}))
    rows = {row["source"]: row for row in found.table(2 * BLOCK, 4)}
    assert rows["en"] == {"source": "en", "share": 0.5, "tokens": 2048, "epochs": 1.46}  # 1024 of 700 samples
    assert rows["web"] == {"source": "web", "share": 0.0, "tokens": 0, "epochs": 0.0}
    with pytest.raises(UserError) as error:
        found.table(4 * BLOCK, 2)
    assert "source en: 4,096 tokens are asked of 1,401, which is 2.9 epochs, more than max_epochs=2." in str(
        error.value
    )


def test_wrong_weights_are_refused(sources: dict[str, Shards], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weights name wbe; the shards hold en, web, zh"):
        mixture(sources, PhaseConfig({"wbe": 1}))
    assert mixture(sources, PhaseConfig({"en": 2047, "zh": 1.001})).served(BLOCK)["zh"] == 1
    with pytest.raises(UserError, match=r"share of zh rounds to no.* 1/2048"):
        mixture(sources, PhaseConfig({"en": 2047, "zh": 0.99}))
    writer = ShardWriter(tmp_path / "short", 300, 0, "tokenizer-1")
    writer.finish()
    with pytest.raises(UserError, match="short holds less than one sample"):
        mixture(sources | {"short": Shards(tmp_path / "short", 2)}, PhaseConfig({"short": 1}))
    problems: list[str] = []
    parse(PhaseConfig, {"weights": {"en": -1, "zh": float("nan")}, "until_step": 0}, problems)
    assert [p.partition(":")[0] for p in problems] == ["weights.en", "weights.zh", "weights", "until_step"]
