"""What is held out, and into which files a source goes: no key without a file, no file much larger than it may be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.config import ShardConfig
from data_pipeline.tokens.encode import valid_limit
from data_pipeline.tokens.plan import KEYS, FilePlan, extra_clusters, list_files, num_files, total_of

NONE = [0, 0, 0]


def test_names_of_files_go_on_with_another_digit() -> None:
    names = [FilePlan("书-zh", "train", number, 0, 1, 1, 1).file for number in (0, 7, 99_999, 100_000, 1_234_567)]
    assert names == ["00000", "00007", "99999", "100000", "1234567"] and sorted(names, key=int) == names


def source(train: list[int] = NONE, valid: list[int] = NONE, lowest: int = 0, highest: int = 1) -> dict[str, object]:
    return {"train": train, "valid": valid, "lowest": lowest, "highest": highest, "stretches": []}


def test_sums_keep_the_order_of_the_shards() -> None:
    shards = [
        {"书-zh": source([1, 5, 25], lowest=7, highest=7) | {"stretches": ["a"]}},
        {"web-en": source(valid=[1, 2, 4], lowest=1) | {"stretches": ["b"]}},
        {"书-zh": source([2, 6, 20], [1, 1, 1], lowest=3, highest=9) | {"stretches": ["c", "d"]}},
    ]
    total = total_of(shards)
    assert list(total) == ["web-en", "书-zh"]
    assert total["书-zh"] == source([3, 11, 45], [1, 1, 1], 3, 9) | {"stretches": ["a", "c", "d"]}
    assert shards[0]["书-zh"]["stretches"] == ["a"], "what comes in stays as it is"


def test_a_small_source_gives_its_lowest_cluster_and_one_of_a_single_cluster_none() -> None:
    settings = ShardConfig(valid_fraction=0.25)
    limit = valid_limit(0.25)
    sources = {
        "large": source(lowest=limit - 1, highest=limit + 5),
        "小": source(lowest=limit, highest=limit + 5),
        "tiny": source(lowest=limit + 2, highest=limit + 3),
        "same": source(lowest=limit + 2, highest=limit + 9),
        "single": source(lowest=limit + 1, highest=limit + 1),
    }
    assert extra_clusters(sources, settings) == (limit, limit + 2)
    assert extra_clusters(sources, ShardConfig(valid_fraction=0)) == ()


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50), st.integers(1, 30_000))
def test_the_number_of_files_is_the_least_that_is_safe(lengths: list[int], most: int) -> None:
    documents, tokens, squares = len(lengths), sum(lengths), sum(n * n for n in lengths)
    count = num_files(documents, tokens, squares, most)

    def safe(files: int) -> bool:
        return tokens / files + 5 * math.sqrt(squares / files) <= most * (1 + 1e-9)

    assert 1 <= count <= documents
    assert count == 1 if tokens <= most else safe(count) or count == documents
    assert count == 1 or not safe(count - 1) or count - 1 == 1 and tokens > most


def test_files_of_uniform_keys_stay_below_the_limit() -> None:
    """A corpus of 200,000 documents of very different lengths in some hundred files."""
    rng = np.random.default_rng(1)
    lengths = np.ceil(rng.lognormal(6, 1, 200_000)).astype(np.int64)
    most = int(lengths.sum()) // 100
    count = num_files(len(lengths), int(lengths.sum()), int((lengths * lengths).sum()), most)
    sizes = np.bincount(rng.integers(0, count, len(lengths)), weights=lengths)
    assert 100 < count < 130 and sizes.max() <= most


def test_files_cover_all_keys_once() -> None:
    sources = {"web-zh": source([1000, 70_000, 7_000_000], [50, 3500, 350_000]), "书-en": source([10, 100, 1000])}
    settings = ShardConfig(max_tokens_per_file=10_000)
    files = list(list_files(sources, settings, extra=False))
    splits = [("web-zh", "train"), ("web-zh", "valid"), ("书-en", "train")]
    assert list(dict.fromkeys((f.source, f.split) for f in files)) == splits
    for name in splits:
        mine = [f for f in files if (f.source, f.split) == name]
        assert [f.number for f in mine] == list(range(len(mine))) and mine[0].file == "00000"
        assert [f.low for f in mine] + [KEYS] == [0] + [f.high for f in mine]
        widths = [f.high - f.low for f in mine]
        assert max(widths) - min(widths) <= 1
    train = [f for f in files if f.split == "train" and f.source == "web-zh"]
    assert 8 <= len(train) <= 20 and train[0].tokens == 70_000 // len(train)
    assert files[-1].name == "书-en/train/00000" and files[-1].rows == 10


def test_extra_clusters_make_every_source_be_searched() -> None:
    sources = {"web-zh": source([1000, 70_000, 7_000_000]), "书-en": source(valid=[10, 100, 1000])}
    files = list(list_files(sources, ShardConfig(), extra=True))
    assert [(f.source, f.split, f.rows) for f in files] == [
        ("web-zh", "train", 1000),
        ("web-zh", "valid", 1000),
        ("书-en", "valid", 10),
    ]


@pytest.mark.parametrize("documents", [1, 3])
def test_there_are_never_more_files_than_documents(documents: int) -> None:
    assert num_files(documents, 300, 30_000, 10) == documents
