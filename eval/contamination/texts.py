"""The text that is searched: which files it lies in, and the documents of each, one after the other.

A file is the unit of work and of going on after a kill: a Parquet shard of a stage, a JSONL file, one .bin file of
token shards, one split of a benchmark set. What a folder holds is seen from its files; the first row of JSONL says
whether it holds documents or benchmark items. Rows of JSONL that are none are counted and passed over where the caller
has a Skipped for them: one bad line must not end a search of days. Parquet and token shards are our own; damage there
is an error. Cost: reading, 100 to 200 MB/s; decoding tokens some 10 MB/s. Memory: one document, or a thousand rows of
Parquet.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa

from eval.items import item_texts
from eval.rows import parse_row
from mindllm.config import RunFailed, UserError
from mindllm.shards import Shards, list_split
from mindllm.stage import hash_file, require
from mindllm.tokenizer import load_tokenizer
from mindllm.tokenizer.sample import batches

PARQUET, JSONL, ITEMS, TOKENS = "parquet", "jsonl", "items", "tokens"
_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
_DAMAGE = (OSError, EOFError, zlib.error, pa.ArrowException)
_DOCUMENTS_AT_ONCE = 1000


class TextFile(NamedTuple):
    """A unit of work. label: begins the ids that have to be made up.  number: of the .bin file in a folder of token
    shards."""

    kind: str
    path: Path
    label: str
    number: int = 0

    @property
    def homes(self) -> set[str]:
        """ItemFile.home of the items that are not looked for in it, since they are what it holds."""
        path = self.path.resolve()
        return {str(path), str(path.parent)} if self.kind == ITEMS else {str(path)}

    @property
    def num_bytes(self) -> int | None:
        """Bytes on disk; None for one of several files of token shards."""
        return None if self.kind == TOKENS else self.path.stat().st_size

    def hash(self) -> str:
        """What changes when the text does."""
        if self.kind == TOKENS:
            return f"{Shards(self.path).fingerprint} {self.number}"
        return hash_file(self.path)


class Document(NamedTuple):
    """A text, and the id under which the pipeline knows it."""

    id: str
    text: str


@dataclass
class Skipped:
    """What of the text could not be read: by reason, how often, and what was wrong the first time."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, message: str, count: int = 1) -> None:
        """More of it."""
        self.counts[reason] += count
        self.first.setdefault(reason, message)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """{reason: {"num", "first"}}."""
        return {reason: {"num": self.counts[reason], "first": self.first[reason]} for reason in sorted(self.counts)}


def list_files(paths: Sequence[str], text_field: str) -> list[TextFile]:
    """The files of all `paths`, in order, none twice. Raises UserError for a path without text."""
    found: dict[tuple[Path, int], TextFile] = {}
    for path in map(Path, paths):
        files = list(_files(path, text_field))
        if not files:
            raise UserError(f"{path}: no text here; expected Parquet or JSONL files, token shards, or benchmark sets")
        for file in files:
            found.setdefault((file.path.resolve(), file.number), file)
    return list(found.values())


def _files(path: Path, text_field: str) -> Iterator[TextFile]:
    if path.is_file():
        if path.suffix != ".parquet" and not path.name.endswith(_SUFFIXES):
            raise UserError(f"{path}: expected a file ending in .parquet, {', '.join(_SUFFIXES)}, or a folder")
        yield _one(path, path.name, text_field)
        return
    if (path / "plan.json").exists():
        require(path, "finish the stage that writes it")
    parquet = sorted(path.glob("*.parquet"))
    jsonl = sorted(p for p in (*path.glob("*.jsonl*"), *path.glob("*/*.jsonl*")) if p.name.endswith(_SUFFIXES))
    for file in parquet or jsonl:
        yield _one(file, file.relative_to(path).as_posix(), text_field)
    if not parquet and not jsonl:
        for folder in [path] if any(path.glob("*.bin")) else list_split(path, "train"):
            label = f"{folder.parent.name}/{folder.name}"
            for number in range(len(Shards(folder).meta["files"])):
                yield TextFile(TOKENS, folder, label, number=number)


def _one(path: Path, label: str, text_field: str) -> TextFile:
    if path.suffix == ".parquet":
        return TextFile(PARQUET, path, label)
    keys = ""
    for _, row in _rows(path, Skipped()):
        if isinstance(row.get(text_field), str) and "choices" not in row:
            return TextFile(JSONL, path, label)
        if item_texts(row):
            return TextFile(ITEMS, path, f"{path.parent.name}/{path.name.partition('.')[0]}")
        keys = keys or ", ".join(map(str, row))
    if keys:
        known = f"no key {text_field!r}, nor those of a benchmark item"
        raise UserError(f"{path}: {known}; set text_field to one of {keys}")
    return TextFile(JSONL, path, label)  # empty, or damaged from its first row on, which `read` will say


def read(file: TextFile, text_field: str, tokenizer: str, skipped: Skipped | None = None) -> Iterator[Document]:
    """The documents of one file, in order; rows of JSONL that are none are noted in `skipped`.

    Raises UserError or RunFailed naming the file where it cannot be read, and for such rows where `skipped` is None.
    """
    if file.kind == PARQUET:
        for batch in batches([file.path], ("lang", "id", "text"), _DOCUMENTS_AT_ONCE):
            for id, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True):
                yield Document(id or "", text or "")
    elif file.kind == TOKENS:
        yield from _decoded(file, tokenizer)
    elif file.kind == ITEMS:
        for number, row in _rows(file.path, skipped):
            yield Document(f"{file.label}#{number}", page(row))
    else:
        for number, row in _rows(file.path, skipped):
            text = row.get(text_field)
            if isinstance(text, str):
                yield Document(_id(row) or f"{file.label}#{number}", text)
                continue
            message = f"{file.path}:{number + 1}: no text under the key {text_field!r}; set text_field"
            if skipped is None:
                raise UserError(message)
            skipped.add("no_text", message)


def _id(row: dict[str, Any]) -> str:
    """The row's own id as UTF-8 can hold it, or ""."""
    id = row.get("id")
    return str(id).encode("utf-8", "backslashreplace").decode() if isinstance(id, str | int) else ""


def page(row: dict[str, Any]) -> str:
    """A benchmark item as a document: all that it asks, offers and answers, its other texts included."""
    texts: list[str] = []
    for value in row.values():
        texts += [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    return "\n".join(dict.fromkeys(texts))  # rows carry some texts under several names


def _decoded(file: TextFile, folder: str) -> Iterator[Document]:
    """The documents of one .bin file. Raises UserError where the tokenizer is not that of the shards."""
    if not folder:
        raise UserError(f"{file.path}: token shards need tokenizer=FOLDER to be read")
    shards, tokenizer = Shards(file.path), load_tokenizer(folder)
    if shards.meta["tokenizer"] != tokenizer.fingerprint:
        raise UserError(f"{file.path} was not written with the tokenizer in {folder}; set tokenizer=FOLDER")
    sizes = [each["tokens"] for each in shards.meta["files"]]
    begin = sum(sizes[: file.number])
    first = sum(each["documents"] for each in shards.meta["files"][: file.number])
    ends = iter(shards.ends_between(begin, begin + sizes[file.number]).tolist())
    while some := list(islice(ends, _DOCUMENTS_AT_ONCE)):
        for end in some:
            yield Document(f"{file.label}#{first}", tokenizer.decode(shards.read(begin, end).tolist()))
            begin, first = end + 1, first + 1  # behind the end-of-text


def _rows(path: Path, skipped: Skipped | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 0, as the pipeline's readers count, row) of a JSONL file, decompressed by its suffix."""
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines):
                try:
                    row = parse_row(line, f"{path}:{number + 1}") if line.strip() else None
                except UserError as error:
                    if skipped is None:
                        raise
                    skipped.add("no_json", str(error))
                    continue
                if row is not None:
                    yield number, row
    except _DAMAGE as error:
        message = f"{path}: cannot be read to its end ({type(error).__name__}: {error})"
        if skipped is None:
            raise RunFailed(message) from None
        skipped.add("cut_off", message)


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    if path.suffix == ".zst":
        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return open(path, "rb")
