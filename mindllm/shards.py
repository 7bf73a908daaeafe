"""Token shards: flat files of token ids with the ends of documents, written once, read through memory maps.

A folder holds 00000.bin (uint16, or uint32 above 65,536 entries; an eos after each document), 00000.ends (uint64, one
past each eos) and meta.json, written last, with counts, hashes, dtype and the tokenizer's fingerprint. Reading costs
a page fault: some 400 million tokens a second; opening a corpus of any size costs one meta.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from mindllm.stage import atomic, hash_json, read_json, write_json


class Sample(NamedTuple):
    """What a model trains on: seq_len + 1 token ids (int64), and the source that they come from."""

    tokens: np.ndarray
    source: str


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 where every id fits, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


class ShardWriter:
    """Writes documents of token ids into a folder; `finish` makes it complete. memory: one file's buffer of 64 MB."""

    BUFFER_TOKENS = 1 << 24

    def __init__(
        self, folder: str | Path, vocab_size: int, eos_id: int, tokenizer: str, max_tokens_per_file: int = 1 << 30
    ):
        self.folder, self.vocab_size, self.eos_id, self.tokenizer = Path(folder), vocab_size, eos_id, tokenizer
        self.dtype, self.max_tokens = token_dtype(vocab_size), max_tokens_per_file
        self.files: list[dict[str, Any]] = []
        self.text_bytes = 0
        self._start_file()

    def add(self, tokens: Sequence[int] | np.ndarray, text_bytes: int = 0) -> None:
        """Append one document (without eos). Raises RuntimeError for an id that the vocabulary does not have."""
        ids = np.asarray(tokens, dtype=np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= self.vocab_size):
            worst = int(ids.max() if ids.max() >= self.vocab_size else ids.min())
            raise RuntimeError(
                f"{self.folder}: token id {worst} is outside the vocabulary of {self.vocab_size}; wrong tokenizer?"
            )
        if self._file_tokens and self._file_tokens + len(ids) + 1 > self.max_tokens:
            self._end_file()
            self._start_file()
        self._buffer.append(np.append(ids, self.eos_id).astype(self.dtype))
        self._buffered += len(ids) + 1
        self._file_tokens += len(ids) + 1
        self._ends.append(self._file_tokens)
        self.text_bytes += text_bytes
        if self._buffered >= self.BUFFER_TOKENS:
            self._flush()

    def finish(self) -> dict[str, Any]:
        """Close the last file and write meta.json; returns it."""
        self._end_file()
        meta = {
            "files": self.files,
            "dtype": self.dtype.name,
            "vocab_size": self.vocab_size,
            "tokenizer": self.tokenizer,
            "tokens": sum(f["tokens"] for f in self.files),
            "documents": sum(f["documents"] for f in self.files),
            "bytes": self.text_bytes,
        }
        meta["fingerprint"] = hash_json(meta)
        write_json(self.folder / "meta.json", meta)
        return meta

    def _start_file(self) -> None:
        self._name = f"{len(self.files):05d}"
        self._atomic = atomic(self.folder / f"{self._name}.bin")
        self._out = open(self._atomic.__enter__(), "wb")
        self._hash = xxhash.xxh3_128()
        self._buffer: list[np.ndarray] = []
        self._ends: list[int] = []
        self._buffered = self._file_tokens = 0

    def _flush(self) -> None:
        if self._buffer:
            data = np.concatenate(self._buffer).tobytes()
            self._out.write(data)
            self._hash.update(data)
            self._buffer, self._buffered = [], 0

    def _end_file(self) -> None:
        self._flush()
        self._out.close()
        self._atomic.__exit__(None, None, None)
        ends = np.asarray(self._ends, dtype=np.uint64).tobytes()
        with atomic(self.folder / f"{self._name}.ends") as path:
            path.write_bytes(ends)
        counts = {"tokens": self._file_tokens, "documents": len(self._ends)}
        hashes = {"hash": self._hash.hexdigest(), "ends_hash": xxhash.xxh3_128_hexdigest(ends)}
        self.files.append({"name": self._name, **counts, **hashes})


class Shards:
    """A complete shard folder as a sequence of samples: `shards[k]` is tokens [k * seq_len, (k + 1) * seq_len] of the
    stream, both ends included.

    Consecutive samples share one token, so that every token but the first is predicted exactly once an epoch; the last
    tokens that fill no sample are left over. `len` is the number of samples.
    """

    def __init__(self, folder: str | Path, seq_len: int = 0, source: str = ""):
        self.folder, self.seq_len = Path(folder), seq_len
        meta = read_json(self.folder / "meta.json")
        if meta is None:
            raise RuntimeError(f"{self.folder}: no complete token shards here (no meta.json); run the shard stage")
        self.meta: dict[str, Any] = meta
        self.source = source or self.folder.parent.name
        self.num_tokens: int = meta["tokens"]
        self.num_documents: int = meta["documents"]
        self.fingerprint: str = meta["fingerprint"]
        self._starts = np.cumsum([0] + [f["tokens"] for f in meta["files"]])
        self._files = [self._open(f) for f in meta["files"]]

    def __len__(self) -> int:
        return max(0, (self.num_tokens - 1) // self.seq_len) if self.seq_len else 0

    def __getitem__(self, k: int) -> Sample:
        if not 0 <= k < len(self):
            raise IndexError(f"{self.folder}: sample {k} of {len(self)}")
        return Sample(self.read(k * self.seq_len, (k + 1) * self.seq_len + 1), self.source)

    def read(self, start: int, stop: int) -> np.ndarray:
        """int64 (stop - start,): tokens of the stream, across file borders."""
        assert 0 <= start <= stop <= self.num_tokens, f"{self.folder}: no tokens {start} to {stop} of {self.num_tokens}"
        if start == stop:
            return np.empty(0, dtype=np.int64)
        first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
        parts = [
            self._files[f][max(0, start - self._starts[f]) : stop - self._starts[f]] for f in range(first, last + 1)
        ]
        return np.concatenate(parts).astype(np.int64)

    def documents(self) -> Iterator[np.ndarray]:
        """The token ids of each document, in the order of the files, its eos included."""
        for file, tokens in zip(self.meta["files"], self._files, strict=True):
            begin = 0
            for end in self._ends(file).tolist():
                yield tokens[begin:end].astype(np.int64)
                begin = end

    def all_ends(self) -> np.ndarray:
        """int64 (num_documents,): where each document ends in the whole stream, one past its eos."""
        parts = [
            self._ends(f).astype(np.int64) + start
            for f, start in zip(self.meta["files"], self._starts[:-1], strict=True)
        ]
        return np.concatenate(parts)

    def verify(self) -> None:
        """Recompute every hash and count. Raises RuntimeError naming the file and the cause. slow: reads everything."""
        for file, tokens in zip(self.meta["files"], self._files, strict=True):
            if xxhash.xxh3_128_hexdigest(np.ascontiguousarray(tokens).data) != file["hash"]:
                raise RuntimeError(
                    f"{self.folder}/{file['name']}.bin: content does not match its hash in meta.json; damaged"
                )
            if xxhash.xxh3_128_hexdigest(self._ends(file).tobytes()) != file["ends_hash"]:
                raise RuntimeError(
                    f"{self.folder}/{file['name']}.ends: content does not match its hash in meta.json; damaged"
                )

    def _ends(self, file: dict[str, Any]) -> np.ndarray:
        return np.fromfile(self.folder / f"{file['name']}.ends", dtype=np.uint64)

    def _open(self, file: dict[str, Any]) -> np.ndarray:
        path = self.folder / f"{file['name']}.bin"
        dtype = np.dtype(self.meta["dtype"])
        size = path.stat().st_size if path.exists() else -1
        if size != file["tokens"] * dtype.itemsize:
            raise RuntimeError(
                f"{path}: {size} bytes instead of {file['tokens'] * dtype.itemsize}; damaged, run the shard stage again"
            )
        return np.memmap(path, dtype=dtype, mode="r") if size else np.empty(0, dtype)
