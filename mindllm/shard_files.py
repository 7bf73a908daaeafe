"""Writing token shards: one file at a time, or a folder of them, document by document.

A file is 00000.bin (uint16, or uint32 above 65,536 entries; an eos after each document) with 00000.ends (uint64, one
past each eos); both appear when they are complete, and the folder's meta.json, written last, has their counts and
hashes. Ids are checked before they are made smaller. Memory: what is handed in, and BUFFER_TOKENS in a ShardWriter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xxhash

from mindllm.stage import atomic, hash_json, write_json

META = "meta.json"
COUNTS = ("documents", "tokens", "bytes")
Languages = dict[str, dict[str, int]]  # language -> documents, tokens (ends included), bytes


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 where every id fits, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def check_ids(ids: np.ndarray, vocab_size: int, where: Path) -> None:
    """Raises RuntimeError for an id that the vocabulary does not have."""
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        worst = int(ids.max() if ids.max() >= vocab_size else ids.min())
        raise RuntimeError(f"{where}: token id {worst} is outside the vocabulary of {vocab_size}; wrong tokenizer?")


def add_languages(parts: Iterable[Languages]) -> Languages:
    """The sums by language, in the order of their names."""
    total: Languages = {}
    for part in parts:
        for language, counts in part.items():
            row = total.setdefault(language, dict.fromkeys(COUNTS, 0))
            for key in COUNTS:
                row[key] += counts[key]
    return dict(sorted(total.items()))


class FileWriter:
    """One file of tokens and its .ends, both there when the `with` block ends well, neither when it does not.

    record: after the block, what meta.json says of the file.
    """

    def __init__(self, folder: Path, name: str, vocab_size: int):
        self._folder, self.name, self._vocab_size = folder, name, vocab_size
        self.dtype = token_dtype(vocab_size)
        self.num_tokens = self.num_documents = 0
        self.record: dict[str, Any] = {}

    def append(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Documents end to end, each with its eos, and how many tokens each has. Raises RuntimeError for a wrong id."""
        assert int(lengths.sum()) == len(tokens), "the lengths of documents must add up to their tokens"
        check_ids(tokens, self._vocab_size, self._folder)
        data = tokens.astype(self.dtype, copy=False).tobytes()
        ends = (np.cumsum(lengths, dtype=np.uint64) + np.uint64(self.num_tokens)).tobytes()
        for output, digest, part in zip(self._outputs, self._hashes, (data, ends), strict=True):
            output.write(part)
            digest.update(part)
        self.num_tokens += len(tokens)
        self.num_documents += len(lengths)

    def __enter__(self) -> FileWriter:
        self._stack = contextlib.ExitStack()
        paths = [self._stack.enter_context(atomic(self._folder / f"{self.name}.{kind}")) for kind in ("bin", "ends")]
        self._outputs = [self._stack.enter_context(open(path, "wb")) for path in paths]
        self._hashes = [xxhash.xxh3_128() for _ in paths]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        digests = dict(zip(("hash", "ends_hash"), (digest.hexdigest() for digest in self._hashes), strict=True))
        self.record = {"name": self.name, "tokens": self.num_tokens, "documents": self.num_documents, **digests}


def write_meta(
    folder: Path,
    files: Sequence[Mapping[str, Any]],
    vocab_size: int,
    tokenizer: str,
    text_bytes: int,
    languages: Languages,
) -> dict[str, Any]:
    """The meta.json that makes a folder of files complete; returns it. `languages` may be empty: nobody knows them."""
    meta: dict[str, Any] = {
        "files": list(files),
        "dtype": token_dtype(vocab_size).name,
        "vocab_size": vocab_size,
        "tokenizer": tokenizer,
        "tokens": sum(f["tokens"] for f in files),
        "documents": sum(f["documents"] for f in files),
        "bytes": text_bytes,
    }
    if languages:
        meta["languages"] = languages
    meta["fingerprint"] = hash_json(meta)
    write_json(folder / META, meta)
    return meta


class ShardWriter:
    """Writes documents of token ids into a folder; `finish` makes it complete. memory: one buffer of 64 MB.

    Files end before the document that would make them larger than max_tokens_per_file.
    """

    BUFFER_TOKENS = 1 << 24

    def __init__(
        self, folder: str | Path, vocab_size: int, eos_id: int, tokenizer: str, max_tokens_per_file: int = 1 << 30
    ):
        self.folder, self.vocab_size, self.tokenizer = Path(folder), vocab_size, tokenizer
        self.dtype, self.max_tokens = token_dtype(vocab_size), max_tokens_per_file
        self._eos = np.array([eos_id], dtype=self.dtype)
        self.files: list[dict[str, Any]] = []
        self.text_bytes = 0
        self.languages: Languages = {}
        self._start_file()

    def add(self, tokens: Sequence[int] | np.ndarray, text_bytes: int = 0, language: str = "") -> None:
        """Append one document (without eos). Raises RuntimeError for an id that the vocabulary does not have."""
        ids = np.asarray(tokens) if len(tokens) else np.empty(0, dtype=self.dtype)
        check_ids(ids, self.vocab_size, self.folder)
        length = len(ids) + 1
        if self._file_tokens and self._file_tokens + length > self.max_tokens:
            self._end_file()
            self._start_file()
        self._buffer += [ids.astype(self.dtype), self._eos]
        self._lengths.append(length)
        self._file_tokens += length
        self._buffered += length
        self.text_bytes += text_bytes
        if language:
            counts = {language: {"documents": 1, "tokens": length, "bytes": text_bytes}}
            self.languages = add_languages([self.languages, counts])
        if self._buffered >= self.BUFFER_TOKENS:
            self._flush()

    def finish(self) -> dict[str, Any]:
        """Close the last file and write meta.json; returns it."""
        self._end_file()
        counted, known = (sum(row["documents"] for row in rows) for rows in (self.files, self.languages.values()))
        assert known in (0, counted), "either every document has a language, or none has"
        return write_meta(self.folder, self.files, self.vocab_size, self.tokenizer, self.text_bytes, self.languages)

    def _start_file(self) -> None:
        self._file = FileWriter(self.folder, f"{len(self.files):05d}", self.vocab_size).__enter__()
        self._buffer: list[np.ndarray] = []
        self._lengths: list[int] = []
        self._buffered = self._file_tokens = 0

    def _flush(self) -> None:
        if self._buffer:
            self._file.append(np.concatenate(self._buffer), np.array(self._lengths))
            self._buffer, self._lengths, self._buffered = [], [], 0

    def _end_file(self) -> None:
        self._flush()
        self._file.__exit__(None, None, None)
        self.files.append(self._file.record)
