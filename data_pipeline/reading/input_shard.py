"""A unit of reading, and the documents that are made of it.

A document has its id from its file, its site from its URL, else from its folder. What cannot be read becomes a
document, too, with meta["broken"], so that it is counted and kept like any other drop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data_pipeline.document import Document
from data_pipeline.reading.addresses import Entry, is_url, join
from data_pipeline.reading.formats import stands_alone, stem
from data_pipeline.sources import Source, subset_name

MAX_DOCUMENT_BYTES = 20_000_000  # of one document, decompressed: archives of zeros end there


@dataclass(frozen=True)
class InputShard:
    """A unit of work: some files of one source, read in order. `root` is what document ids are relative to.

    root: a folder, a URL, or "" where the names in `files` are complete.  settings: the source.  listed: what a remote
    file system said of each file.
    """

    name: str
    files: tuple[str, ...]
    source: str
    root: str
    settings: Source = field(default_factory=Source, hash=False)
    listed: tuple[Entry, ...] = field(default=(), hash=False)

    @property
    def num_bytes(self) -> int:
        """Size as it is stored, compressed; of remote files as far as the listing has told."""
        if is_url(self.root) or self.listed:
            return sum(entry.num_bytes or 0 for entry in self.listed)
        return sum(size_of(join(self.root, f)) for f in self.files if not is_url(f))


def size_of(path: str) -> int:
    """Bytes of a local file; 0 for one that cannot be looked at (a link to nowhere)."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def storage_for(source: Source, url: str) -> dict[str, Any]:
    """`storage` is meant for the URLs of `path` or `base`; others, such as that of the list itself, go without."""
    main = source.path or source.base
    systems = {place.partition("://")[0].lower().replace("https", "http") for place in (main, url)}
    return source.storage if source.dataset or not is_url(main) or len(systems) == 1 else {}


def new_document(shard: InputShard, id: str, url: str = "", **meta: Any) -> Document:
    """An empty document of a shard: `id` is the file's name, and behind # the place in it; `meta` is made writable."""
    folder = _host(id) if is_url(id) else id.lstrip("/").rpartition("/")[0].partition("/")[0]
    site = spell_out(_host(url) or folder or shard.source)
    site = " ".join(site.lower().split())  # a folder's name may hold tabs and line breaks
    meta = {key: spell_out(value) if isinstance(value, str) else value for key, value in meta.items()}
    return Document("", f"{shard.source}/{spell_out(id)}", spell_out(url), site, "", _subset(shard, id), meta)


def _subset(shard: InputShard, id: str) -> str:
    """The source of a document by its place below the source's path: that of the folder, or of the file, it lies in."""
    if not shard.settings.subset_by_path:
        return shard.source
    folder, slash, _ = id.partition("/")
    if slash:
        return subset_name(shard.source, folder)
    name, mark, place = id.rpartition("#")
    name = name if mark and place.isdecimal() else id
    return subset_name(shard.source, stem(name)) if stands_alone(name) else shard.source


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
