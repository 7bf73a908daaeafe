"""A refined shard becomes runs and a summary: every document with its key, cluster, language, tokens and bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_export
from test_shard import LANGUAGES, documents

from data_pipeline.clean import StageShard
from data_pipeline.config import ShardConfig
from data_pipeline.document import Document
from data_pipeline.parquet import SCHEMA, write_rows
from data_pipeline.tokens import encode, runs
from data_pipeline.tokens.encode import RUNS, cluster_hash, document_key, encode_shard, source_name, valid_limit
from data_pipeline.tokens.runs import SPLITS, Stretch, read_rows, read_tokens
from mindllm.text import LANGUAGES as NAMES
from mindllm.tokenizer import Tokenizer

SETTINGS = ShardConfig(valid_fraction=0.3)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tiny_export.write_tokenizer(tmp_path_factory.mktemp("run") / "tokenizer")


def refined(folder: Path, some: list[Document]) -> StageShard:
    with write_rows(folder / "web-00000.parquet", SCHEMA) as rows:
        for document in some:
            rows.add_document(document)
    return StageShard("web-00000", ("web-00000.parquet",), "", str(folder))


@pytest.mark.parametrize("small", [False, True])
def test_every_document_is_in_its_place(
    tmp_path: Path, tokenizer: Tokenizer, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:
        monkeypatch.setattr(runs, "RUN_TOKENS", 90)
        monkeypatch.setattr(runs, "RUN_DOCUMENTS", 7)
        monkeypatch.setattr(encode, "BATCH", 4)
    shard = refined(tmp_path, list(documents()))
    summary = encode_shard(shard, str(tokenizer.folder), tokenizer.fingerprint, tmp_path, SETTINGS)
    assert (len({s.run for row in summary.values() for s in row["stretches"]}) > 9) == small
    by_key = {document_key(d.id, 1): d for d in documents()}
    found: list[str] = []
    for name, row in summary.items():
        clusters = []
        for split in SPLITS:
            lengths = []
            for stretch in row["stretches"]:
                rows = read_rows(tmp_path / RUNS, stretch.run, *stretch.rows(split), 0, 1 << 64)
                tokens = np.empty(int(rows["length"].sum()), dtype=np.uint16)
                read_tokens(tmp_path / RUNS, stretch.run, rows, tokens)
                for key, cluster, start, length, size, language in rows.tolist():
                    d = by_key[key]
                    found.append(d.id)
                    ids = tokens[start - int(rows["start"][0]) :][:length].tolist()
                    assert tokenizer.decode(ids[:-1]) == d.text and ids[-1] == tokenizer.eos_id
                    assert (size, NAMES[language]) == (len(d.text.encode()), d.lang)
                    assert name == f"{d.source}-{LANGUAGES[d.lang]}"
                    assert cluster == cluster_hash(d.meta.get("cluster", d.id), 1)
                    assert (cluster < valid_limit(0.3)) == (split == "valid")
                    clusters.append(cluster)
                    lengths.append(length)
            assert row[split] == [len(lengths), sum(lengths), sum(n * n for n in lengths)]
        assert (row["lowest"], row["highest"]) == (min(clusters), max(clusters))
    assert sorted(found) == sorted(d.id for d in documents())


def test_what_is_complete_is_not_done_again(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = refined(tmp_path, list(documents()))
    half = tmp_path / RUNS / shard.name / "00007.tokens"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"of a kill")
    first = encode_shard(shard, str(tokenizer.folder), tokenizer.fingerprint, tmp_path, SETTINGS)
    assert not half.exists()
    monkeypatch.setattr(Tokenizer, "encode_batch", None)
    again = encode_shard(shard, str(tokenizer.folder), tokenizer.fingerprint, tmp_path, SETTINGS)
    assert [Stretch(*s) for row in again.values() for s in row["stretches"]] == [
        s for row in first.values() for s in row["stretches"]
    ]
    assert list(again) == list(first) == sorted(first)


def test_a_shard_without_documents(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shard = refined(tmp_path, [])
    assert encode_shard(shard, str(tokenizer.folder), tokenizer.fingerprint, tmp_path, SETTINGS) == {}


def test_a_tokenizer_that_has_changed_meanwhile_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shard = refined(tmp_path, list(documents()))
    with pytest.raises(RuntimeError, match="the tokenizer has changed while it was in use"):
        encode_shard(shard, str(tokenizer.folder), "another", tmp_path, SETTINGS)


def test_an_id_beyond_the_vocabulary_is_refused(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is made smaller: 65,538 would become the id 2."""
    shard = refined(tmp_path, [Document("山 a", "1", lang="en", source="web")])
    monkeypatch.setattr(Tokenizer, "encode_batch", lambda self, texts: [np.array([65_538], np.uint32) for _ in texts])
    with pytest.raises(RuntimeError, match=f"token id 65538 is outside the vocabulary of {tokenizer.vocab_size}"):
        encode_shard(shard, str(tokenizer.folder), tokenizer.fingerprint, tmp_path, SETTINGS)


def test_source_names() -> None:
    assert [source_name("web", lang, True) for lang in LANGUAGES] == ["web-zh", "web-zh", "web-en", "web-other"]
    assert {source_name("网", lang, False) for lang in LANGUAGES} == {"网"}


def test_keys_and_clusters_depend_on_the_seed_and_not_on_each_other() -> None:
    names = [f"网/{i}" for i in range(4000)]
    for function in (document_key, cluster_hash):
        assert [function(name, 1) for name in names] != [function(name, 2) for name in names]
    held = [name for name in names if cluster_hash(name, 1) < valid_limit(0.25)]
    assert abs(len(held) / 4000 - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5  # four standard deviations of a binomial
    low = sum(document_key(name, 1) < 1 << 63 for name in held) / len(held)  # of training text, too, keys are uniform
    assert abs(low - 0.5) < 4 * (0.25 / len(held)) ** 0.5
    assert valid_limit(0) == 0 and valid_limit(0.5) == 1 << 63


def test_only_a_cluster_makes_meta_be_read() -> None:
    assert encode._cluster('{"cluster": "网/7", "a": 1}', "x") == "网/7"
    assert encode._cluster('{"cluster": 7}', "x") == "7"
    assert encode._cluster('{"title": "\\"cluster\\": 3"}', "x") == "x"
    assert encode._cluster("{not read", "x") == encode._cluster("", "x") == "x"
