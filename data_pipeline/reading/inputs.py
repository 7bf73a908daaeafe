"""What comes in: the files of a source, grouped into shards.

A source is a file or folder, here or behind a URL, a list of files, or a data set. Grouping looks at names and sizes
only (folders.py, remote.py and hub.py list, files.py reads).
Cost: one look at each local file, one request a remote folder. Memory: all names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from data_pipeline import lists
from data_pipeline.reading import remote
from data_pipeline.reading.addresses import Entry, check, is_url, join, label, scrub, shown
from data_pipeline.reading.folders import names_below
from data_pipeline.reading.formats import stands_alone
from data_pipeline.reading.hub import list_dataset
from data_pipeline.reading.input_shard import InputShard, size_of, storage_for
from data_pipeline.sources import Source, evenly
from mindllm.config import UserError
from mindllm.stage import hash_file, hash_json

MAX_FILES_PER_SHARD = 2000
FILES_OF_UNKNOWN_SIZE = 64  # small files of which no listing says the size: so many make a shard
_NOT_BELOW_A_URL = 'is a file of this machine, but base is a URL; for such a list: base: ""'
_NO_WAY_IN = "check the address, the network and, where not everyone may read, the credentials (docs/sources.md)"


def list_shards(sources: dict[str, Source], shard_bytes: int) -> list[InputShard]:
    """All inputs as shards: what is named as warc, jsonl or parquet one each, the rest in groups of `shard_bytes`.

    A pure function of the listings, so it is the same on every machine. Raises UserError for what cannot be listed, and
    for a source without files.
    """
    return [shard for name, source in sources.items() for shard in _list_source(name, source, shard_bytes)]


def _list_source(name: str, source: Source, shard_bytes: int) -> Iterator[InputShard]:
    if source.dataset:
        yield from list_dataset(name, source)
        return
    number = 0
    for root, found in _list_paths(name, source) if source.paths else [_list_path(name, source)]:
        for group in _group(root, found, shard_bytes):
            listed = tuple(group) if is_url(root) and source.path else ()
            files = tuple(entry.name for entry in group)
            yield InputShard(f"{name}-{number:05d}", files, name, root, source, listed)
            number += 1


def _list_path(name: str, source: Source) -> tuple[str, list[Entry]]:
    """(root, files) of a file or folder, here or behind a URL."""
    where = f"sources.{name}.path"
    if is_url(source.path):
        check(where, source.path)
        with _asking(where):
            root, found = remote.list_files(source.path, source.storage)
    else:
        path = Path(source.path).expanduser()
        if not os.path.exists(path):  # False for names that are too long, too
            raise UserError(f"{where}: {path} does not exist")
        root = str(path if path.is_dir() else path.parent)
        found = [Entry(n) for n in sorted(names_below(path))] if path.is_dir() else [Entry(path.name)]
    if not found:
        raise UserError(f"{where}: {shown(source.path)} holds no files")
    return root, evenly(found, source.max_files)


def _list_paths(name: str, source: Source) -> Iterator[tuple[str, list[Entry]]]:
    """(root, files) of a list of files: first those below `base`, then those with a complete URL or path."""
    where = f"sources.{name}.paths"
    lines = {line.strip() for line in _read_list(where, source).splitlines()}
    found = sorted(line for line in lines if line and not line.startswith("#"))
    if not found:
        raise UserError(f"{where}: {shown(source.paths)} names no files")
    if is_url(source.base):
        check(f"sources.{name}.base", source.base)
        if not is_url(source.paths) and not _is_complete(found[0]) and os.path.exists(found[0]):
            raise UserError(f"{where}: {found[0]} {_NOT_BELOW_A_URL}")
    systems: dict[str, str] = {}
    labels: set[str] = set()
    for line in found:
        url, id = _check_line(where, source, line), label("" if _is_complete(line) else source.base, line)
        if id in labels:
            raise UserError(f"{where}: {id} stands there twice, with signatures that differ; leave one")
        labels.add(id)
        systems.setdefault(url.partition("://")[0], url)
    for url in filter(is_url, systems.values()):  # what lacks a package is better known now than in a worker
        with _asking(where):
            remote.file_system(url, storage_for(source, url))
    for complete, group in groupby(sorted(evenly(found, source.max_files), key=_is_complete), _is_complete):
        yield "" if complete else source.base, [Entry(line) for line in group]


def _read_list(where: str, source: Source) -> str:
    if not is_url(source.paths):
        return lists.read_text(source.paths, "utf-8")
    check(where, source.paths)
    storage = storage_for(source, source.paths)
    with _asking(where), remote.local_copy("", source.paths, storage, lists.MAX_LIST_BYTES) as copy:
        try:
            return lists.read_text(copy, "utf-8")
        except UserError as error:
            raise UserError(f"{where}: {error}".replace(str(copy), shown(source.paths))) from None


def _is_complete(line: str) -> bool:
    return is_url(line) or line.startswith("/")


def _check_line(where: str, source: Source, line: str) -> str:
    """The URL or path that a line of a list means. Raises UserError for files that the list should not name."""
    if is_url(line):
        check(where, line)
        return line
    if is_url(source.base) and line.startswith("/"):
        raise UserError(f"{where}: {line} {_NOT_BELOW_A_URL}")
    if is_url(source.paths) and not is_url(source.base) and (line.startswith("/") or ".." in line.split("/")):
        raise UserError(f"{where}: {line}: a list from elsewhere may not name files of this machine outside of base")
    return line if _is_complete(line) else join(source.base, line)


@contextlib.contextmanager
def _asking(where: str) -> Iterator[None]:
    """What a file system refuses while it is asked what there is, is for the user to mend."""
    try:
        yield
    except UserError:
        raise
    except (remote.Refused, remote.Unreachable) as error:
        raise UserError(f"{where}: {error}; {_NO_WAY_IN}") from None
    except Exception as error:  # some file systems (ftp, sftp) connect as they are set up, and raise what they like
        raise UserError(f"{where}: {scrub(f'{type(error).__name__}: {error}')}; {_NO_WAY_IN}") from error


def _group(root: str, found: Iterable[Entry], shard_bytes: int) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    size = 0
    for entry in found:
        if stands_alone(entry.name):
            yield [entry]
            continue
        group.append(entry)
        if is_url(join(root, entry.name)):
            size += -(-shard_bytes // FILES_OF_UNKNOWN_SIZE) if entry.num_bytes is None else entry.num_bytes
        else:
            size += size_of(join(root, entry.name))
        if size >= shard_bytes or len(group) >= MAX_FILES_PER_SHARD:
            yield group
            group, size = [], 0
    if group:
        yield group


def describe_source(source: Source, shards: Sequence[InputShard]) -> dict[str, Any]:
    """What the inputs of a source are, for a stage's plan: how they are read, counts, a hash over names and contents.

    Local files are hashed; of remote ones it is what the listing told (size and checksum or time), of lists their
    lines, of data sets the revision. Holds no secret and no signature.
    """
    settings = shards[0].settings if shards else source  # a data set's has its commit
    keys = ["text_field", "html_field"]
    keys += [key for key in ("subset_field", "subset_by_path") if getattr(source, key)]
    if source.dataset:
        keys += ["dataset", "config_name", "split", "revision"]
    fields = {key: getattr(settings, key) for key in keys}
    if is_url(source.path):
        fields["path"] = shown(source.path)
    if source.paths:
        fields["base"] = shown(source.base)
    files = [line for shard in shards for line in _describe_files(shard)]
    return {**fields, "files": len(files), "bytes": sum(s.num_bytes for s in shards), "hash": hash_json(files)}


def _describe_files(shard: InputShard) -> Iterator[str]:
    listed = {entry.name: entry for entry in shard.listed}
    for name in shard.files:
        if not is_url(join(shard.root, name)):
            yield f"{name} {_hash_input(Path(join(shard.root, name)))}"
        elif name in listed:
            yield f"{label(shard.root, name)} {listed[name].num_bytes} {listed[name].stamp}"
        else:
            yield label(shard.root, name)


def _hash_input(path: Path) -> str:
    """hash_file; one word for what is no readable file (no permission, a link to nowhere, a pipe)."""
    try:
        return hash_file(path) if path.is_file() else "unreadable"
    except OSError:
        return "unreadable"
