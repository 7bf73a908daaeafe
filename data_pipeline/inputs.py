"""What comes in: the files of a source, grouped into shards, and the documents that are made of them.

Grouping looks at names and sizes only (folders.py lists, files.py reads). A document has its id from its file, its site
from its URL, else from its folder. What cannot be read becomes a document, too, with meta["broken"], so that it is
counted and kept like any other drop. Cost: one look at each file. Memory: all names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data_pipeline.config import Source
from data_pipeline.document import Document
from data_pipeline.folders import names_below
from data_pipeline.formats import stands_alone
from mindllm.config import UserError

MAX_DOCUMENT_BYTES = 20_000_000  # of one document, decompressed: archives of zeros end there
MAX_FILES_PER_SHARD = 2000


@dataclass(frozen=True)
class InputShard:
    """A unit of work: some files of one source, read in order. `root` is what document ids are relative to."""

    name: str
    files: tuple[str, ...]
    source: str
    root: str
    text_field: str = "text"
    html_field: str = "html"

    @property
    def num_bytes(self) -> int:
        """Size on disk, compressed as it is."""
        return sum(_size(Path(self.root) / f) for f in self.files)


def list_shards(sources: dict[str, Source], shard_bytes: int) -> list[InputShard]:
    """All inputs as shards: what is named as warc, jsonl or parquet one each, the rest in groups of `shard_bytes`.

    A pure function of the file listing, so it is the same on every machine. Raises UserError for a path without files.
    """
    return [shard for name, source in sources.items() for shard in _list_source(name, source, shard_bytes)]


def _list_source(name: str, source: Source, shard_bytes: int) -> Iterator[InputShard]:
    path = Path(source.path)
    if not path.exists():
        raise UserError(f"sources.{name}.path: {path} does not exist")
    root = path if path.is_dir() else path.parent
    found = sorted(names_below(root)) if path.is_dir() else [path.name]
    if not found:
        raise UserError(f"sources.{name}.path: {path} holds no files")
    for number, group in enumerate(_group(root, found, shard_bytes)):
        yield InputShard(f"{name}-{number:05d}", tuple(group), name, str(root), source.text_field, source.html_field)


def _size(path: Path) -> int:
    """Bytes of a file; 0 for one that cannot be looked at (a link to nowhere)."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _group(root: Path, found: list[str], shard_bytes: int) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for name in found:
        if stands_alone(name):
            yield [name]
            continue
        group.append(name)
        size += _size(root / name)
        if size >= shard_bytes or len(group) >= MAX_FILES_PER_SHARD:
            yield group
            group, size = [], 0
    if group:
        yield group


def new_document(shard: InputShard, id: str, url: str = "", **meta: Any) -> Document:
    """An empty document of a shard: `id` is the file's name, and behind # the place in it; `meta` is made writable."""
    parts = Path(id).parts
    site = spell_out(_host(url) or (parts[0] if len(parts) > 1 else shard.source))
    site = " ".join(site.lower().split())  # a folder's name may hold tabs and line breaks
    meta = {key: spell_out(value) if isinstance(value, str) else value for key, value in meta.items()}
    return Document("", f"{shard.source}/{spell_out(id)}", spell_out(url), site, "", shard.source, meta)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""  # without user, password and port
    except ValueError:  # [ without ], for example
        return ""


def spell_out(text: str) -> str:
    """`text` that UTF-8 can hold: lone surrogates (file names in GBK, \\ud800 in JSON) are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def broken(shard: InputShard, id: str, reason: str, detail: str = "", url: str = "") -> Document:
    """A document that stands for what could not be read: dropped for `reason`, with `detail` as its text."""
    document = new_document(shard, id, url, broken=reason)
    document.text = spell_out(detail[:500])
    return document
