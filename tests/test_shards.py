"""Token shards: what goes in comes out, samples tile the stream, and damage is found and named."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.shards import Shards, ShardWriter, token_dtype

EOS = 1
DOCUMENTS = st.lists(st.lists(st.integers(0, 299), max_size=12), max_size=12)


def write(
    folder: Path, documents: list[list[int]], max_tokens: int = 1 << 30, vocab_size: int = 300, eos_id: int = EOS
) -> Shards:
    """A complete shard folder of these documents, opened."""
    writer = ShardWriter(folder, vocab_size, eos_id, "tokenizer-1", max_tokens)
    for document in documents:
        writer.add(document, text_bytes=3 * len(document))
    writer.finish()
    return Shards(folder)


@settings(max_examples=60, deadline=None)
@given(documents=DOCUMENTS, max_tokens=st.integers(1, 20), seq_len=st.integers(1, 9), buffer=st.integers(1, 30))
def test_documents_and_samples_come_back(
    documents: list[list[int]], max_tokens: int, seq_len: int, buffer: int
) -> None:
    stream = [token for document in documents for token in (*document, EOS)]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardWriter, "BUFFER_TOKENS", buffer)
        patch.setattr("os.fsync", lambda handle: None)  # slow, and nothing of it is tested here
        write(Path(name), documents, max_tokens)
        shards = Shards(name, seq_len, "web")
        shards.verify()
        assert [d.tolist() for d in shards.documents()] == [[*d, EOS] for d in documents]
        assert shards.all_ends().tolist() == np.cumsum([len(d) + 1 for d in documents]).tolist()
        assert (shards.num_tokens, shards.num_documents) == (len(stream), len(documents))
        assert shards.meta["bytes"] == 3 * (len(stream) - len(documents))
        sizes = [f["tokens"] for f in shards.meta["files"]]
        assert sum(sizes) == len(stream) and all(s <= max(max_tokens, 13) for s in sizes)
        for start in range(len(stream) + 1):
            stop = min(len(stream), start + max_tokens + 2)
            assert shards.read(start, stop).tolist() == stream[start:stop]
            assert shards.read(start, start).tolist() == []
        # Samples tile the stream: every token but the first is a target once, up to what fills no sample.
        samples = [shards[k] for k in range(len(shards))]
        assert len(samples) == max(0, len(stream) - 1) // seq_len
        assert [t for s in samples for t in s.tokens[1:].tolist()] == stream[1 : 1 + len(samples) * seq_len]
        assert all(a.tokens[-1] == b.tokens[0] for a, b in zip(samples, samples[1:], strict=False))
        assert all(s.tokens.dtype == np.int64 and s.source == "web" for s in samples)


def test_the_border_of_the_token_type(tmp_path: Path) -> None:
    assert token_dtype(65_536) == np.uint16 and token_dtype(65_537) == np.uint32
    for vocab_size, itemsize in ((65_536, 2), (65_537, 4)):
        largest = vocab_size - 1
        shards = write(tmp_path / str(vocab_size), [[largest, 0]], vocab_size=vocab_size, eos_id=largest)
        assert shards.read(0, 3).tolist() == [largest, 0, largest]
        assert (shards.folder / "00000.bin").stat().st_size == 3 * itemsize


@pytest.mark.parametrize("wrong", [300, -1])
def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path, wrong: int) -> None:
    writer = ShardWriter(tmp_path, 300, EOS, "tokenizer-1")
    with pytest.raises(RuntimeError, match=f"token id {wrong} is outside the vocabulary of 300"):
        writer.add([5, wrong, 7])
    assert not (tmp_path / "meta.json").exists()


def test_the_same_documents_give_the_same_fingerprint(tmp_path: Path) -> None:
    documents = [[2, 3], [4], []]
    shards = [write(tmp_path / name, documents) for name in ("a", "b")]
    assert shards[0].fingerprint == shards[1].fingerprint
    assert (tmp_path / "a" / "00000.bin").read_bytes() == (tmp_path / "b" / "00000.bin").read_bytes()
    assert write(tmp_path / "c", [[2, 3], [5], []]).fingerprint != shards[0].fingerprint
    assert write(tmp_path / "d", [[2], [3, 4], []]).fingerprint != shards[0].fingerprint  # other ends only


def test_damage_is_found_and_named(tmp_path: Path) -> None:
    documents = [[k, k + 1, k + 2] for k in range(20)]
    flips = {"00001.bin": 3, "00000.ends": 0}
    for name, place in flips.items():
        write(tmp_path / name, documents, max_tokens=30)
        path = tmp_path / name / name
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(RuntimeError, match=f"{name}: content does not match"):
            Shards(path.parent).verify()
    write(tmp_path / "cut", documents, max_tokens=30)
    path = tmp_path / "cut" / "00002.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match=r"00002.bin: 47 bytes instead of 48"):
        Shards(tmp_path / "cut")
    path.unlink()
    with pytest.raises(RuntimeError, match=r"00002.bin: -1 bytes instead of 48"):
        Shards(tmp_path / "cut")


def test_a_folder_without_meta_is_not_shards(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "begun", 300, EOS, "tokenizer-1")
    writer.add([2, 3])
    for name in ("begun", "absent"):
        with pytest.raises(RuntimeError, match=f"{name}: no complete token shards"):
            Shards(tmp_path / name)
    writer.finish()
    assert Shards(tmp_path / "begun").num_tokens == 3


def test_a_sample_outside_is_an_index_error(tmp_path: Path) -> None:
    write(tmp_path, [[2, 3, 4, 5]])
    shards = Shards(tmp_path, seq_len=2)
    assert len(shards) == 2 and [k.tokens.tolist() for k in shards] == [[2, 3, 4], [4, 5, 1]]  # type: ignore[attr-defined]
    for k in (-1, 2):
        with pytest.raises(IndexError):
            shards[k]
