"""What the benches share: the repository on Python's path, the pages and texts that they read, the cleaners they run.

Importing this file is what makes `python bench/NAME.py` work without installation. Nothing of ours is imported at its
top: interpreters of peers, which lack our dependencies, import it, too.
"""

from __future__ import annotations

import gzip
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "data" / "sample.yaml"
SAMPLE_PAGES, SAMPLE_TEXTS = ROOT / "samples" / "web", ROOT / "samples" / "prose"
MAX_PAGE_BYTES = 20_000_000
_SHARD_BYTES = 1 << 24

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


class Page(NamedTuple):
    """A raw page: where it is from, its bytes."""

    name: str
    data: bytes


def read_pages(inputs: Sequence[str], only: str = "") -> list[Page]:
    """The pages of files, folders, .tar.gz archives and folders of archives, in a stable order.

    `only`: those whose names hold this text. Ends the program with a message where there is none.
    """
    pages: list[Page] = []
    for text in inputs:
        path = Path(text)
        archives = sorted(path.rglob("*.tar.gz")) if path.is_dir() else [path] if text.endswith(".tar.gz") else []
        found = (page for archive in archives for page in _in_archive(archive)) if archives else _in_folder(text)
        pages += [page for page in found if only in page.name]
    if not pages:
        raise SystemExit(f"{', '.join(inputs)}: no HTML pages here; give files, folders or .tar.gz archives of pages")
    return pages


def _in_archive(archive: Path) -> Iterator[Page]:
    from data_pipeline.reading.formats import HEAD_BYTES, PAGE, recognise

    with tarfile.open(archive) as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            plain: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if member.name.endswith(".gz") else file
            data = plain.read(MAX_PAGE_BYTES)
            if data and recognise(member.name, data[:HEAD_BYTES], ())[0] == PAGE:
                yield Page(f"{archive.parent.name}/{archive.name}/{member.name}", data)


def _in_folder(folder: str) -> Iterator[Page]:
    for document in read_documents(folder):
        if document.meta.get("html"):
            yield Page(document.id, document.meta["html"])


def read_documents(path: str, text_field: str = "text") -> Iterator[Any]:
    """The documents of a file or folder in any input format, before any cleaner; without files, a UserError."""
    from data_pipeline.config import Source
    from data_pipeline.reading.files import read
    from data_pipeline.reading.inputs import list_shards

    for shard in list_shards({"bench": Source(path, text_field=text_field)}, _SHARD_BYTES):
        yield from read(shard)


def text_files(paths: Sequence[str | Path]) -> list[Path]:
    """Files, and all files below folders, in a stable order. Ends the program with a message for what is not there."""
    missing = [str(path) for path in paths if not Path(path).exists()]
    if missing:
        raise SystemExit(f"{', '.join(missing)}: no such file or folder")
    found = (sorted(p for p in Path(path).rglob("*") if p.is_file()) if Path(path).is_dir() else [Path(path)]
             for path in paths)  # fmt: skip
    return [file for files in found for file in files]


def read_text(path: Path) -> str:
    """The text of a file, decompressed by its suffix; bytes that are no UTF-8 are left out."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "ignore")


def cleaners_of(config: str | Path) -> dict[str, Any]:
    """The cleaners of clean and refine in a data config, in their order."""
    from data_pipeline.cleaners import build_cleaners
    from data_pipeline.config import DataConfig
    from mindllm.config import load

    loaded = load(DataConfig, str(config))
    return build_cleaners(loaded.clean, [], "") | build_cleaners(loaded.refine, [], "")
