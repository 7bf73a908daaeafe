"""The text that a tokenizer is learned from: documents drawn by keyed hash, so many bytes a language and source.

Two passes over the shards: sizes are counted by language and source, which gives the share of its documents that each
key of sample_bytes may have; then the documents whose hash lies below that share are read, and their lines handed on.
So the sample depends on texts, keys and seed alone, needs no list of documents, and holds no text twice.
Cost: reading the text two times, 150 to 400 MB/s each. memory: one batch of rows.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from rich.console import Console
from rich.table import Table

from mindllm.config import RunFailed, UserError
from mindllm.hashing import mix
from mindllm.text import language_group
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.pieces import MAX_LINE_BYTES

FAR_BELOW = 0.5  # of the bytes planned for a key: so little is worth a line
LINE_SECONDS = 60.0  # between two lines about work that goes on
_ROWS = 1000  # read at a time
_STOPS = "\t\u3000。！？；：，、．…」』”’）》】!?;:,.)]}>"  # a line that has to be cut is cut after one of these


@dataclass
class Part:
    """The text of one key of sample_bytes: at most `limit` bytes of what is there, and what has been taken so far.

    Bytes are of UTF-8, line breaks included.
    """

    limit: int
    documents: int = 0
    bytes: int = 0
    taken_documents: int = 0
    taken_bytes: int = 0

    @property
    def planned_bytes(self) -> int:
        """What will be taken, up to the luck of the draw."""
        return min(self.limit, self.bytes)

    @property
    def share(self) -> float:
        """The share of its documents that is drawn."""
        return min(1.0, self.limit / self.bytes) if self.bytes else 0.0


class Sample:
    """The lines of a sample, made anew whenever it is iterated. `parts` by key; `cut_lines`: how many were too long."""

    def __init__(self, shards: Sequence[Path], parts: dict[str, Part], seed: int):
        self.parts, self.cut_lines = parts, 0
        self._shards, self._seed = shards, seed

    @property
    def planned_bytes(self) -> int:
        """Bytes of text that the lines will come from."""
        return sum(part.planned_bytes for part in self.parts.values())

    @property
    def taken_bytes(self) -> int:
        """Bytes of text that the lines of the last iteration came from."""
        return sum(part.taken_bytes for part in self.parts.values())

    def planned(self) -> dict[str, int]:
        """Bytes of text that the lines will come from, by key."""
        return {key: part.planned_bytes for key, part in self.parts.items()}

    def __iter__(self) -> Iterator[str]:
        """Lines without their line break, none empty, each of at most MAX_LINE_BYTES bytes."""
        self.cut_lines = 0
        for text in self.texts():
            for line in filter(None, text.split("\n")):
                if len(line) * 4 <= MAX_LINE_BYTES or len(line.encode()) <= MAX_LINE_BYTES:
                    yield line
                else:
                    self.cut_lines += 1
                    yield from cut(line, MAX_LINE_BYTES)

    def texts(self) -> Iterator[str]:
        """The documents drawn; the one that would exceed its key's bytes is cut off, and no more of them follow."""
        for counted in self.parts.values():
            counted.taken_documents = counted.taken_bytes = 0
        for lang, source, id, text in _documents(_with_news(self._shards, "reading the sample")):
            key = key_of(lang, source, self.parts)
            part = self.parts[key] if key else None
            left = part.limit - part.taken_bytes if part else 0
            if part is None or left <= 0 or not is_drawn(id, part.share, self._seed):
                continue
            if len(data := text.encode()) > left:
                data = data[:left]
                text = data.decode("utf-8", "ignore")  # without a character that is only half below the limit
            part.taken_documents += 1
            part.taken_bytes += len(data)
            yield text
        if self.taken_bytes == 0:
            few = f"{self.planned_bytes:,} bytes are so few beside these documents that none was drawn"
            raise UserError(f"sample_bytes: {few}; give more, or another seed")

    def counts(self) -> dict[str, dict[str, Any]]:
        """The table of print_table and what was taken, for meta.json."""
        return {key: {**vars(part), "share": part.share} for key, part in self.parts.items()}

    def print_taken(self) -> None:
        """A line for each key of which the draw gave much less text than planned: it has few documents, large ones."""
        for key, part in self.parts.items():
            if part.taken_bytes < FAR_BELOW * part.planned_bytes:
                taken = f"only {part.taken_bytes:,} of {part.planned_bytes:,} bytes were drawn"
                print(f"tokenizer: sample_bytes.{key}: {taken} (few, large documents); give more, or another seed")

    def print_table(self) -> None:
        """What there is of each key, and what will be learned from."""
        table = Table("key", "documents", "bytes there", "bytes to take", "share", title="tokenizer: the sample")
        for key, part in self.parts.items():
            numbers = (part.documents, part.bytes, part.planned_bytes)
            table.add_row(key, *(f"{number:,}" for number in numbers), f"{part.share:.1%}")
        Console().print(table)


def draw(config: TokenizerConfig) -> Sample:
    """The sample that a config asks for. Raises UserError where a key's source does not exist, or no text is there."""
    shards = sorted(Path(config.documents).glob("*.parquet"))
    parts = {key: Part(limit) for key, limit in config.sample_bytes.items()}
    found = count(_with_news(shards, "counting the text"))
    for (lang, source), (documents, size) in found.items():
        key = key_of(lang, source, parts)
        if key:
            parts[key].documents += documents
            parts[key].bytes += size
    _refuse_unknown_sources(parts, found)
    sample = Sample(shards, parts, config.seed)
    if sample.planned_bytes == 0:
        totals = Counter[str]()
        for (lang, _), (_, size) in found.items():
            totals[lang] += size
        there = ", ".join(f"{lang}: {size:,}" for lang, size in sorted(totals.items())) or "none"
        raise UserError(f"{config.documents}: no text to learn a tokenizer from; bytes by language there: {there}")
    return sample


def key_of(lang: str, source: str, keys: Iterable[str]) -> str | None:
    """The most exact of `keys` for a document: code/source, group/source, code, group; None where none is for it."""
    group = language_group(lang)
    return next((key for key in (f"{lang}/{source}", f"{group}/{source}", lang, group) if key in keys), None)


def is_drawn(id: str, share: float, seed: int) -> bool:
    """Whether a document is among the `share` of its key's that is drawn: by a keyed hash of its id alone.

    The seed is mixed, so that the draw has nothing to do with other uses of the same seed (held-out documents).
    """
    return xxhash.xxh3_64_intdigest(id.encode(), seed=mix(seed, 7)) < share * 2.0**64


def cut(line: str, max_bytes: int) -> Iterator[str]:
    """A line in parts of at most `max_bytes` (>= 4) bytes: cut before a blank (which belongs to the word after it) or
    after a punctuation mark, whichever comes last in the part, else between two characters."""
    data, start = line.encode(), 0
    while len(data) - start > max_bytes:
        part = data[start : start + max_bytes].decode("utf-8", "ignore")
        place = max(part.rfind(" "), *(part.rfind(stop) + 1 for stop in _STOPS))
        part = part[:place] if place > 0 else part
        yield part
        start += len(part.encode())
    yield data[start:].decode()


def count(shards: Iterable[Path]) -> dict[tuple[str, str], tuple[int, int]]:
    """(language, source) -> (documents, bytes of text). Cost: the text column is read, but no text is made of it."""
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for batch in batches(shards, ("lang", "source", "text")):
        columns = {name: pc.fill_null(batch.column(name), "") for name in ("lang", "source")}
        columns["size"] = pc.fill_null(pc.binary_length(batch.column("text")), 0)
        groups = pa.table(columns).group_by(["lang", "source"]).aggregate([("size", "sum"), ("size", "count")])
        for row in groups.to_pylist():
            documents, size = totals.get((row["lang"], row["source"]), (0, 0))
            totals[row["lang"], row["source"]] = documents + row["size_count"], size + row["size_sum"]
    return totals


def _documents(shards: Iterable[Path]) -> Iterator[tuple[str, str, str, str]]:
    names = ("lang", "source", "id", "text")
    for batch in batches(shards, names):
        yield from zip(*([value or "" for value in batch.column(name).to_pylist()] for name in names), strict=True)


def batches(shards: Iterable[Path], names: Sequence[str], num_rows: int = _ROWS) -> Iterator[pa.RecordBatch]:
    """Some columns of the shards, `num_rows` at a time. Raises RunFailed for a file that is damaged or lacks one."""
    for path in shards:
        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:  # memory: pre_buffer keeps what it has read
                there = [name for name in names if name in file.schema_arrow.names]
                missing = set(names) - set(there) - {"source"}
                if missing:
                    raise RunFailed(f"{path}: holds no clean documents (no column {', '.join(sorted(missing))})")
                for batch in file.iter_batches(batch_size=num_rows, columns=there):
                    nameless = pa.array([""] * len(batch))  # documents of no source have the one without a name
                    whole = len(there) == len(names)
                    yield batch if whole else batch.append_column("source", nameless)
        except (pa.ArrowException, OSError) as error:
            way_out = "delete it and the meta.json beside it, and run that stage again"
            raise RunFailed(f"{path}: damaged ({error}); {way_out}") from None


def _refuse_unknown_sources(parts: Mapping[str, Part], found: Iterable[tuple[str, str]]) -> None:
    """A key with a source that has no text is a mistake; a language without text is shown in the table, with zeros."""
    problems = []
    for key in (key for key, part in parts.items() if "/" in key and part.documents == 0):
        language, _, source = key.partition("/")
        alike = sorted({s for lang, s in found if language in (lang, language_group(lang))})
        if source in alike:
            why = "more exact keys take all of its text"
        else:
            why = f"no such text; sources of {language}: {', '.join(alike) or 'none'}"
        problems.append(f"sample_bytes.{key}: {why}")
    if problems:
        raise UserError("\n".join(problems))


def _with_news(shards: Sequence[Path], what: str) -> Iterator[Path]:
    """The shards, one by one; where that takes long, a line a minute says how many are done."""
    last = time.monotonic()
    for number, path in enumerate(shards):
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            print(f"tokenizer: {what}: {number} of {len(shards)} shards", file=sys.stderr, flush=True)
        yield path
