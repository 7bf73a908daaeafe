"""The mixture: tokens of every sample, epochs without repeats, tables, the same in every process and for all ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_order import plain_epoch_key, plain_mix, plain_permutation, plain_uniform

from mindllm.config import UserError
from mindllm.mixture import Mixture, MixtureBatches, PhaseConfig, Place
from mindllm.mixture.order import BLOCK, SHARES, quotas
from mindllm.shards import Shards, ShardWriter

SIZES = {"en": 1401, "书-zh": 667, "網-zh": 3003}  # tokens; samples of two: one token of each is left by an epoch
SEED = 7


class FakeShards(Shards):
    """A source whose tokens are 0, 1, 2 ... : a sample says where it is from."""

    def __init__(self, source: str, num_tokens: int, seq_len: int, num_documents: int = 1, **languages: Any):
        self.source, self.num_tokens, self.seq_len, self.num_documents = source, num_tokens, seq_len, num_documents
        self.fingerprint = f"{source}:{num_tokens}"
        self.meta = {"languages": languages} if languages else {}

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= self.num_tokens
        return np.arange(start, stop)


def fakes(sizes: Mapping[str, int], seq_len: int = 2) -> dict[str, Shards]:
    return {name: FakeShards(name, size, seq_len) for name, size in sizes.items()}


def mixture(
    *phases: PhaseConfig, sizes: Mapping[str, int] = SIZES, seq_len: int = 2, batch_size: int = 8, steps: int = 750,
    seed: int = SEED,
) -> Mixture:  # fmt: skip
    """A mixture of fakes; without phases, by size."""
    return Mixture(fakes(sizes, seq_len), phases or [PhaseConfig()], batch_size, steps, seed)


def starts(found: Mixture, num_samples: int) -> Iterator[tuple[str, int]]:
    """(source, its first token) of the first samples, each checked to be one stretch of the circle."""
    for i in range(num_samples):
        tokens, source = found[i]
        size = found.sources[source].num_tokens
        assert tokens.dtype == np.int64
        assert tokens.tolist() == [(int(tokens[0]) + k) % size for k in range(found.seq_len + 1)]
        yield source, int(tokens[0])


# some phases of every kind, of steps of 8 samples
PHASES = [
    PhaseConfig({"*-zh": 1}, until_step=50),
    PhaseConfig(until_step=150),
    PhaseConfig({"en": 1, "书-zh": 1}, until_step=200, order="blocked"),
    PhaseConfig(factors={"书*": 3}, until_step=330, blocked_share=0.2),
    PhaseConfig({"en": 1}, anneal_to={"*-zh": 3, "en": 1}, until_step=600),
    PhaseConfig({"網-zh": 5, "en": 1}),
]


def test_the_order_equals_a_plain_implementation() -> None:
    weights = {"en": 0.6, "书-zh": 0.3, "網-zh": 0.1}
    switch = 150  # steps of 8: inside the second block
    found = mixture(PhaseConfig(weights, until_step=switch), PhaseConfig({"en": 1.0}))
    names, seen, expected = sorted(SIZES), Counter[str](), []
    first = quotas([weights[name] for name in names], SHARES)
    places = plain_uniform(first, plain_mix(SEED, 1, 0), switch * 8)
    places += plain_uniform([SHARES, 0, 0], plain_mix(SEED, 1, 1), 4000 - switch * 8)
    for name in (names[place] for place in places):
        expected.append((name, *divmod(seen[name], SIZES[name] // 2)))
        seen[name] += 1
    keys = sorted({(name, epoch) for name, epoch, _ in expected})
    assert {epoch for _, epoch in keys} == {0, 1, 2, 3, 4, 5}
    orders = {(n, e): plain_permutation(SIZES[n] // 2, plain_epoch_key(SEED, n, e)) for n, e in keys}
    assert [found.locate(i) for i in range(4000)] == [Place(n, e, orders[n, e][k]) for n, e, k in expected]
    for i, (name, epoch, k) in enumerate(expected):
        start = (epoch * (SIZES[name] // 2) + orders[name, epoch][k]) * 2 % SIZES[name]
        assert found[i].source == name and found[i].tokens[0] == start


def test_no_token_comes_twice_in_an_epoch_through_all_kinds_of_phases() -> None:
    found = mixture(*PHASES)
    tokens: dict[str, list[int]] = {name: [] for name in SIZES}
    for i, (name, start) in enumerate(starts(found, 6000)):
        assert found.locate(i)[:2] == (name, len(tokens[name]) // 2 // (SIZES[name] // 2))
        tokens[name] += [start, (start + 1) % SIZES[name]]
        if i % 389 == 0 or i in (1199, 1200):
            assert found.served(i + 1) == {name: len(rows) // 2 for name, rows in tokens.items()}
    for name, rows in tokens.items():
        size = SIZES[name] - 1
        epochs = [rows[k : k + size] for k in range(0, len(rows), size)]
        assert len(epochs) >= 2 and epochs[0] != epochs[1]
        assert all(len(set(epoch)) == len(epoch) for epoch in epochs)


@settings(max_examples=60, deadline=None)
@given(num_tokens=st.integers(1, 90), seq_len=st.integers(1, 9), epochs=st.integers(1, 6), seed=st.integers(0, 2**64))
def test_every_token_is_served_once_an_epoch_but_for_the_rest_that_opens_the_next(
    num_tokens: int, seq_len: int, epochs: int, seed: int
) -> None:
    """After k epochs every token was served k times or, where the rests add up to it, k - 1 times (in turn)."""
    if num_tokens < seq_len:
        with pytest.raises(UserError, match="书-zh holds less than one sample"):
            mixture(sizes={"书-zh": num_tokens}, seq_len=seq_len)
        return
    found = mixture(sizes={"书-zh": num_tokens}, seq_len=seq_len, seed=seed)
    samples, counts = num_tokens // seq_len, np.zeros(num_tokens, dtype=int)
    for epoch in range(epochs):
        inside = np.zeros(num_tokens, dtype=int)
        for i in range(epoch * samples, (epoch + 1) * samples):
            assert found.locate(i).epoch == epoch
            np.add.at(inside, found[i].tokens[:-1], 1)
        assert inside.max() == 1 and inside.sum() == samples * seq_len
        counts += inside
        # an epoch goes round from where the one before stopped
        left = np.flatnonzero(inside == 0)
        assert set(left) == {((epoch + 1) * samples * seq_len + k) % num_tokens for k in range(num_tokens % seq_len)}
        assert counts.max() - counts.min() <= 1


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=30), seq_len=st.integers(1, 8), data=st.data())
def test_documents_of_real_shards_are_served_once_an_epoch(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seq_len: int, data: st.DataObject
) -> None:
    """Over files and their borders: each document's tokens once an epoch, but for less than seq_len of the stream."""
    writer = ShardWriter(tmp_path_factory.mktemp("shards") / "train", 70_000, 69_999, "tokenizer-1", 40)
    position = 0
    for length in lengths:  # token = its place in the stream, an eos its own
        writer.add(np.arange(position, position + length))
        position += length + 1
    writer.finish()
    shards = Shards(writer.folder, seq_len, "书-zh")
    if shards.num_tokens < seq_len:
        return
    found = Mixture({"书-zh": shards}, [PhaseConfig()], 4, 100, data.draw(st.integers(0, 99)))
    stream = np.concatenate(list(shards.documents()))
    samples = len(stream) // seq_len
    served = [found[i].tokens for i in range(2 * samples)]
    for epoch in range(2):
        tokens = np.concatenate([t[:-1] for t in served[epoch * samples : (epoch + 1) * samples]])
        assert all(count == 1 for token, count in Counter(tokens.tolist()).items() if token != 69_999)
        assert set(stream) >= set(tokens) and len(stream) - len(tokens) < seq_len
    followers = {(int(a), int(b)) for a, b in zip(stream, np.roll(stream, -1), strict=True)}
    assert all((int(a), int(b)) in followers for t in served for a, b in zip(t, t[1:], strict=False))


def test_shares_hold_in_every_block() -> None:
    found = mixture(PhaseConfig({"en": 2, "书-zh": 1, "網-zh": 7}))
    for block in range(3):
        counts = Counter(found[i].source for i in range(block * BLOCK, (block + 1) * BLOCK))
        assert all(abs(counts[n] - s) < 1 for n, s in {"en": 204.8, "书-zh": 102.4, "網-zh": 716.8}.items())
    assert sum(found.served(5000).values()) == 5000
    assert list(found.served(1)) == list(SIZES)


def test_a_rare_source_is_served() -> None:
    sizes = {"web-en": 10**9, "web-zh": 10**9, "诗-zh": 5000}
    found = mixture(sizes=sizes, seq_len=16, steps=1 << 17)
    assert found.phases[0].shares["诗-zh"] == 2
    assert [found.served(k << 20)["诗-zh"] for k in range(4)] == [0, 2, 4, 6]


def test_a_source_that_comes_later_changes_nothing_before() -> None:
    early, late = PhaseConfig({"en": 2, "*-zh": 1}, until_step=100), PhaseConfig({"en": 1, "*-zh": 1})
    before = mixture(early, late)
    pinned = PhaseConfig({name: float(share) for name, share in before.phases[0].shares.items()}, until_step=100)
    more = {"aa": 5000, **dict(reversed(SIZES.items())), "新-zh": 900}
    after = mixture(pinned, PhaseConfig({"新-zh": 1, "aa": 1, "en": 1}), sizes=more)
    assert [after.locate(i) for i in range(800)] == [before.locate(i) for i in range(800)]
    seen = {(p.source, p.epoch, p.sample) for p in map(after.locate, range(1500))}
    assert len(seen) == 1500  # "en" goes on where it was
    assert {p[0] for p in seen} == {"en", "书-zh", "網-zh", "新-zh", "aa"}


def test_after_its_last_step_a_run_can_go_on() -> None:
    assert [mixture(steps=1).locate(i) for i in range(300)] == [mixture(steps=99).locate(i) for i in range(300)]
    found = mixture(PhaseConfig(order="blocked"), steps=10)
    assert [found.locate(i).source for i in (0, 79, 80, 10_000)] == ["en", "網-zh", "網-zh", "網-zh"]
    later = mixture(PhaseConfig(until_step=20), PhaseConfig({"en": 1}, anneal_to={"书-zh": 1}), steps=10)
    assert later.served(80) == mixture(steps=10).served(80)  # the second phase never begins


def test_a_file_name_that_is_no_text_is_a_name() -> None:
    name = os.fsdecode(b"\xe9-zh")
    assert mixture(sizes={name: 100, "书-zh": 100}).served(BLOCK)[name] == BLOCK // 2


def test_another_seed_is_another_order() -> None:
    orders = [[mixture(seed=seed).locate(i) for i in range(50)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_a_fresh_process_has_the_same_order() -> None:
    """Python's own hashes differ from process to process; ours must not."""
    found = mixture(*PHASES)
    here = [list(found.locate(i)) for i in range(0, 6000, 7)]
    code = (
        "import json, sys; sys.path[:0] = json.loads(sys.argv[1]); from test_mixture import PHASES, mixture\n"
        "found = mixture(*PHASES)\n"
        "print(json.dumps([list(found.locate(i)) for i in range(0, 6000, 7)]), json.dumps(found.record()))"
    )
    tests = Path(__file__).resolve().parent
    paths = json.dumps([str(tests), str(tests.parent)])
    for hash_seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"}
        out = subprocess.run([sys.executable, "-c", code, paths], env=environment, capture_output=True, check=True)
        assert out.stdout.decode().strip() == f"{json.dumps(here)} {json.dumps(found.record())}"


@settings(max_examples=10, deadline=None)
@given(step=st.integers(0, 740), batch_size=st.sampled_from([24, 48]), micro=st.integers(1, 4))
def test_all_ranks_together_see_the_same_batch_from_any_step(step: int, batch_size: int, micro: int) -> None:
    found = mixture(*PHASES, batch_size=batch_size)
    rows = [found[i].tokens for i in range(step * batch_size, (step + 1) * batch_size)]
    for world in (1, 2, 3, 8):
        batches = MixtureBatches(mixture(*PHASES, batch_size=batch_size), micro)  # nothing is remembered
        parts = [batches(step, rank, world) for rank in range(world)]
        assert all(b.shape[1] == 3 and len(b) <= micro and b.dtype == np.int64 for part in parts for b in part)
        together = np.stack([np.concatenate(part) for part in parts], axis=1).reshape(batch_size, 3)
        np.testing.assert_array_equal(together, rows)


def test_an_id_beyond_the_vocabulary_names_its_source() -> None:
    found = mixture(PhaseConfig({"en": 1}, until_step=5), PhaseConfig({"網-zh": 1}))
    largest = [int(found[i].tokens.max()) for i in range(48)]
    batches = MixtureBatches(found, 4, vocab_size=1401)
    assert all(len(batch) == 4 for step in range(5) for batch in batches(step, 0, 1))
    bad = next(i for i in range(40, 48) if largest[i] >= 1401)
    for world in (1, 2):
        with pytest.raises(RuntimeError, match="source 網-zh: token id .* vocabulary of 1401; .* data_pipeline verify"):
            batches(bad // 8, bad % world, world)
    assert len(MixtureBatches(found, 4)(5, 0, 1)) == 2  # without its size nobody looks


def test_table() -> None:
    sources = {
        "en": FakeShards("en", 1400, 2, 100),
        "书-zh": FakeShards("书-zh", 3000, 2, 30),
        "web": FakeShards("web", 1000, 2, 10, **{
            "zh-Hant": {"documents": 4, "tokens": 250, "bytes": 9}, "en": {"documents": 6, "tokens": 750, "bytes": 30},
        }),
        "unused": FakeShards("unused", 500, 2, 7),
    }  # fmt: skip
    phases = [PhaseConfig({"en": 1}, until_step=128), PhaseConfig({"en": 1, "书-zh": 2, "web": 1}, until_step=384),
              PhaseConfig({"unused": 1})]  # fmt: skip
    found = Mixture(sources, phases, 8, 384, 1)
    rows = {row.source: row for row in found.table()}
    assert list(rows) == list(sources)
    en, book, web, unused = rows.values()
    assert (en.languages, en.documents, en.tokens, en.served_tokens) == ({"en": 1400}, 100, 1400, 2 * (1024 + 512))
    assert en.share == 0.5 and en.epochs == 3072 / 1400 and en.served_documents == 219  # 219.4
    assert book.languages == {"zh": 3000} and book.served_tokens == 2048 and book.note == ""
    assert web.languages == {"zh-Hant": 250, "en": 750} and web.served_tokens == 1024
    assert unused.served_tokens == 0 and unused.epochs == 0 and "the run ends at step 384" in unused.note
    by_phase = found.table(by_phase=True)
    assert by_phase[:4] == found.table()
    shares = {(row.phase, row.source): row.share for row in by_phase[4:]}
    assert [shares[f"phases.{k}", "en"] for k in range(3)] == [1, 0.25, 0]
    assert [row.served_tokens for row in by_phase[4:] if row.source == "书-zh"] == [0, 2048, 0]
    assert sum(shares.values()) == 2  # the third phase never begins
    languages = {row.source: row for row in found.language_table()}
    assert list(languages) == ["en", "other", "zh", "zh-Hant"]
    assert (languages["en"].tokens, languages["en"].served_tokens, languages["en"].documents) == (2150, 3840, 106)
    assert languages["zh-Hant"].served_tokens == 256 and languages["zh-Hant"].epochs == 256 / 250
    assert sum(row.share for row in languages.values()) == pytest.approx(1)
    assert languages["other"].tokens == 500 and languages["zh"].share == 1 / 3


def test_a_language_is_known_by_the_end_of_a_name() -> None:
    found = mixture(sizes={"web-en": 10, "书-zh": 20, "x-other": 30, "a-zh-x": 40, "zh": 50})
    assert {row.source: row.tokens for row in found.language_table()} == {"en": 10, "zh": 70, "other": 70}


def test_record_is_json_and_holds_what_the_order_depends_on() -> None:
    record = mixture(*PHASES).record()
    assert json.loads(json.dumps(record)) == record
    assert {k: record[k] for k in ("seed", "batch_size", "seq_len", "num_steps")} == {
        "seed": 7, "batch_size": 8, "seq_len": 2, "num_steps": 750,
    }  # fmt: skip
    assert record["sources"]["书-zh"] == {"fingerprint": "书-zh:667", "tokens": 667, "documents": 1}
    assert record["phases"][2] == {
        "from_step": 150, "until_step": 200, "order": "blocked", "blocked_share": 0.0,
        "shares": {"en": SHARES // 2, "书-zh": SHARES // 2}, "anneal_to": {}, "listing": ["en", "书-zh"],
    }  # fmt: skip


def test_wrong_mixtures_are_refused() -> None:
    with pytest.raises(UserError, match="短-zh, short hold"):
        mixture(sizes=SIZES | {"短-zh": 1, "short": 1})
    assert mixture(PhaseConfig({"en": 1}), sizes=SIZES | {"短-zh": 1}).served(9)["en"] == 9
    with pytest.raises(UserError, match="'wbe' matches no source"):
        mixture(PhaseConfig({"wbe": 1}))
    with pytest.raises(UserError, match="no sources"):
        mixture(sizes={})
