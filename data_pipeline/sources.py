"""Source: where the documents of one name come from, how records are read, and what differs in their cleaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from data_pipeline.document import Document

T = TypeVar("T")

_NO_NAME, _NAME_LENGTH = re.compile(r"[\W_]+"), 40  # a source's name becomes a file's
# Words in the names of options that hold secrets.
SECRETS = tuple("key secret token password passw credential auth connection_string cookie".split())


@dataclass
class Overrides:
    """What differs from the stages' lists: a cleaner's settings (those named, on top), or false to leave it out."""

    clean: dict[str, Any] = field(default_factory=dict)
    refine: dict[str, Any] = field(default_factory=dict)


@dataclass
class Source:
    """One named set of documents: `path`, `paths` or `dataset` says where it is. docs/sources.md has examples.

    path: a file, a folder (searched for every supported format) or a URL of either (s3://, https://, hf://, ...).
    paths: a file or URL that lists files, one a line (.gz allowed), as Common Crawl's warc.paths.gz does; lines that
    are no URLs stand below `base`.  dataset: a data set of the Hugging Face hub, or a folder in such a layout, with its
    `config_name`, `split` and `revision` (a commit; the newest where none is named).
    max_files: of what is found, so many are read, evenly spaced (0: all).  storage: options of the file system behind a
    URL (fsspec): {anon: true, endpoint_url: ...}; secrets come from the environment.
    text_field, html_field: keys in records; a key below a key is a.b; several text fields, with commas, become
    paragraphs.  subset_field: key of a name that makes the document's source: pile-github.  subset_by_path: the name is
    the first folder below `path`, or, of records and archives of pages (many documents in a file) that stand there
    directly, the file's without its endings.  What differs in a subset's cleaning stands in `subsets`, what differs for
    the whole source in `clean` and `refine`.
    """

    path: str = ""
    paths: str = ""
    base: str = "https://data.commoncrawl.org/"
    dataset: str = ""
    config_name: str = ""
    split: str = "train"
    revision: str = ""
    max_files: int = 0
    storage: dict[str, Any] = field(default_factory=dict)
    text_field: str = "text"  # the key of plain text in jsonl and parquet
    html_field: str = "html"  # the key of raw HTML in jsonl and parquet (used where present)
    subset_field: str = ""
    subset_by_path: bool = False
    clean: dict[str, Any] = field(default_factory=dict)
    refine: dict[str, Any] = field(default_factory=dict)
    subsets: dict[str, Overrides] = field(default_factory=dict)

    @property
    def has_subsets(self) -> bool:
        """Whether its documents may belong to subsets."""
        return bool(self.subset_field) or self.subset_by_path

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        given = [name for name in ("path", "paths", "dataset") if getattr(self, name)]
        if len(given) != 1:
            yield f"path: needs one of path, paths, dataset; given: {', '.join(given) or 'none'}"
        for name, default in () if self.dataset else (("config_name", ""), ("split", "train"), ("revision", "")):
            if getattr(self, name) != default:
                yield f"{name}: counts for a dataset only; a path names its own: hf://datasets/OWNER/NAME@REVISION/FOLDER"
        if self.storage and self.path and "://" not in self.path:
            yield f"storage: counts for URLs only; {self.path} is a file or folder of this machine"
        if self.max_files < 0:
            yield "max_files must be 0 (all) or more"
        if self.subsets and not self.has_subsets:
            yield "subsets: subset_field must say which key of a record names them, or subset_by_path that folders do"
        if self.subset_field and self.subset_by_path:
            yield "subset_by_path: subset_field names the subsets already; give one of them"
        if self.subset_by_path and not self.path:
            yield "subset_by_path: counts for a path only; a list or a dataset has no folder that its files are below"
        for name in _keys(self.storage):
            if any(word in name.lower() for word in SECRETS):
                yield f"storage.{name}: secrets belong into the environment (docs/sources.md), not into a config"


def _keys(options: Any) -> Iterator[str]:
    """All keys of nested options."""
    for key, value in options.items() if isinstance(options, dict) else ():
        yield str(key)
        yield from _keys(value)


def merge(listed: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A list of cleaners with what differs: settings go on top of settings, false leaves out, new ones come last."""
    merged = {name: settings for name, settings in listed.items() if changes.get(name) is not False}
    for name, settings in changes.items():
        if settings is not False:
            old, settings = merged.get(name) or {}, {} if settings is None else settings
            merged[name] = {**old, **settings} if isinstance(settings, dict) and isinstance(old, dict) else settings
    return merged


def subset_name(source: str, subset: str) -> str:
    """The source of a document of a subset: "pile" and "Pile-CC" are pile-pile-cc; `source` itself without a name."""
    words = _NO_NAME.sub("-", subset[:_NAME_LENGTH].lower()).strip("-")
    return f"{source}-{words}" if words else source


def forgotten(listed: dict[str, Any], changes: dict[str, Any], where: str) -> Iterator[str]:
    """Problems: cleaners that are to be left out of a list that does not have them."""
    for name, settings in changes.items():
        if settings is False and name not in listed:
            yield f"{where}.{name}: nothing to leave out; the list has {', '.join(listed) or 'no cleaners'}"


def of_source(document: Document, named: dict[str, T]) -> T:
    """What is meant for the document: for its subset's name, else for the source that was read, else for all ("")."""
    for name in (document.source, document.id.partition("/")[0]):  # ids begin with the source that was read
        if name in named:
            return named[name]
    return named[""]


def evenly(items: list[T], num: int) -> list[T]:
    """`num` of the items, evenly spaced, the first one among them; all for 0 or where there are no more."""
    return [items[i * len(items) // num] for i in range(num)] if 0 < num < len(items) else items
