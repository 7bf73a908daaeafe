"""What is wrong with a folder of token shards, all of it: a line for each fault, which names the file and the cause.

meta.json is held against itself and against its own hash; each file is read once, in blocks, and held against
meta.json: size, hashes, ids, ends, an eos at every end and nowhere else, and, with the tokenizer, the bytes of text
behind the tokens. Cost: some 300 million tokens a second; files can be looked at by different processes. Memory: 60 MB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from mindllm.shard_files import COUNTS, META, token_dtype
from mindllm.stage import hash_json, read_json

if TYPE_CHECKING:  # whoever only reads tokens needs no tokenizer
    from mindllm.tokenizer import Tokenizer

BLOCK = 1 << 22  # tokens, or ends, that are looked at together
_NAME = re.compile(r"[0-9]{5}|[1-9][0-9]{5,8}")  # from 100,000 files on, names have a digit more
_KINDS: dict[str, type] = {
    **dict.fromkeys(("dtype", "tokenizer", "fingerprint"), str),
    **dict.fromkeys(("vocab_size", *COUNTS), int),
    "files": list,
}
_FILE_KINDS = {"name": str, "tokens": int, "documents": int, "hash": str, "ends_hash": str}


class Checked(NamedTuple):
    """What looking at one file gave: lines, and the bytes of text behind its tokens (0 without a tokenizer)."""

    faults: list[str]
    num_bytes: int


def list_faults(folder: Path, tokenizer: Tokenizer | None = None) -> list[str]:
    """Everything that is wrong with a shard folder; empty: nothing is."""
    meta, faults = check_meta(folder, tokenizer)
    if meta is None:
        return faults
    checked = [check_file(folder, meta, number, tokenizer) for number in range(len(meta["files"]))]
    return faults + [line for c in checked for line in c.faults] + check_bytes(folder, meta, checked, tokenizer)


def check_meta(folder: Path, tokenizer: Tokenizer | None = None) -> tuple[dict[str, Any] | None, list[str]]:
    """The meta.json of a folder, None where it is not fit to look at files with; and what is wrong with it."""
    path = folder / META
    try:
        meta = read_json(path)
    except RuntimeError as error:
        return None, [f"{path}: damaged ({error.__cause__})"]
    if meta is None:
        return None, [f"{path}: missing; the folder was never complete, or has lost it"]
    problems = list(misshapen(meta))
    if problems:
        return None, [f"{path}: {problem}" for problem in problems]
    faults = [f"{path}: {problem}" for problem in _contradictions(meta, tokenizer)]
    named = {META, *(f"{f['name']}.{kind}" for f in meta["files"] for kind in ("bin", "ends"))}
    for stranger in sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".ends") and p.name not in named):
        if not stranger.startswith("."):
            faults.append(f"{folder / stranger}: meta.json does not name it")
    return meta, faults


def misshapen(meta: Any) -> Iterator[str]:
    """Keys that are absent, or hold values of another kind."""
    if not isinstance(meta, dict):
        yield "holds no keys and values"
        return
    yield from (f"no {key} of the right kind" for key, kind in _KINDS.items() if not _is(meta.get(key), kind))
    if not re.fullmatch("uint(16|32)", str(meta.get("dtype"))):
        yield f"dtype {meta.get('dtype')!r} is neither uint16 nor uint32"
    files = meta["files"] if isinstance(meta.get("files"), list) else []
    for number, file in enumerate(files):
        wrong = [k for k, kind in _FILE_KINDS.items() if not isinstance(file, dict) or not _is(file.get(k), kind)]
        if wrong or not _NAME.fullmatch(file["name"]):
            yield f"files[{number}]: no {wrong[0] if wrong else 'name'} of the right kind"
    languages = meta.get("languages", {})
    rows = list(languages.values()) if isinstance(languages, dict) else [None]
    if not all(isinstance(row, dict) and all(_is(row.get(key), int) for key in COUNTS) for row in rows):
        yield f"languages: not {', '.join(COUNTS)} for each"


def _is(value: Any, kind: type) -> bool:
    if kind is int:  # a count
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    return isinstance(value, kind)


def _contradictions(meta: dict[str, Any], tokenizer: Tokenizer | None) -> Iterator[str]:
    """Where it does not agree with itself, with its own hash, or with the tokenizer."""
    if hash_json({k: v for k, v in meta.items() if k != "fingerprint"}) != meta["fingerprint"]:
        yield "content does not match its fingerprint; edited"
    dtype = token_dtype(meta["vocab_size"]).name
    if meta["dtype"] != dtype:
        yield f"dtype {meta['dtype']}, but a vocabulary of {meta['vocab_size']} is written as {dtype}"
    names = [f["name"] for f in meta["files"]]
    if sorted(set(names), key=int) != names:
        yield f"files {', '.join(names[:5])} are not in order, or named twice"
    for key in ("tokens", "documents"):
        if (total := sum(f[key] for f in meta["files"])) != meta[key]:
            yield f"{key} {meta[key]}, but those of its files add up to {total}"
    for key in COUNTS if meta.get("languages") else ():
        if (total := sum(row[key] for row in meta["languages"].values())) != meta[key]:
            yield f"{key} {meta[key]}, but those of its languages add up to {total}"
    if tokenizer and not _written_with(meta, tokenizer):
        what = f"tokenizer {meta['tokenizer']} with {meta['vocab_size']} entries"
        yield f"written with {what}; {tokenizer.folder} is {tokenizer.fingerprint} with {tokenizer.vocab_size}"


def _written_with(meta: dict[str, Any], tokenizer: Tokenizer) -> bool:
    return (meta["tokenizer"], meta["vocab_size"]) == (tokenizer.fingerprint, tokenizer.vocab_size)


def check_file(folder: Path, meta: dict[str, Any], number: int, tokenizer: Tokenizer | None = None) -> Checked:
    """One file of tokens and its .ends against a well-shaped meta.json.

    Another tokenizer than the one that it was written with is of no use here, and not asked.
    """
    file = meta["files"][number]
    known = tokenizer if tokenizer and _written_with(meta, tokenizer) else None
    bin_path, ends_path = (folder / f"{file['name']}.{kind}" for kind in ("bin", "ends"))
    dtype = np.dtype(meta["dtype"])
    ends_faults = list(_check_size(ends_path, 8 * file["documents"])) or list(_check_ends(ends_path, file))
    faults = list(_check_size(bin_path, dtype.itemsize * file["tokens"]))
    if faults:
        return Checked([f"{bin_path}: {p}" for p in faults] + [f"{ends_path}: {p}" for p in ends_faults], 0)
    ends = _open(ends_path, np.dtype(np.int64)) if not ends_faults else None
    found = _Tokens(meta["vocab_size"], known, _first_eos(bin_path, dtype, ends) if known is None else known.eos_id)
    for begin, block in _blocks(bin_path, dtype):
        found.look(begin, block, ends)
    faults = list(_check_hash(found.hash, file["hash"])) or list(found.faults())  # what damage looks like is no news
    return Checked([f"{bin_path}: {p}" for p in faults] + [f"{ends_path}: {p}" for p in ends_faults], found.num_bytes)


def check_bytes(folder: Path, meta: dict[str, Any], checked: list[Checked], tokenizer: Tokenizer | None) -> list[str]:
    """Whether the bytes of text behind all tokens are as many as meta.json says. An adopted tokenizer that may change
    texts says nothing about theirs."""
    total = sum(c.num_bytes for c in checked)
    if tokenizer is None or not tokenizer.exact or not _written_with(meta, tokenizer) or total == meta["bytes"]:
        return []
    if any(c.faults for c in checked):  # a damaged file stands for other bytes: its own fault says so
        return []
    return [f"{folder / META}: bytes {meta['bytes']}, but the tokens stand for {total} bytes of text"]


def _check_size(path: Path, num_bytes: int) -> Iterator[str]:
    size = path.stat().st_size if path.is_file() else -1
    if size < 0:
        yield "missing, though meta.json names it"
    elif size != num_bytes:
        yield f"{size} bytes instead of {num_bytes}"


def _check_hash(digest: xxhash.xxh3_128, expected: str) -> Iterator[str]:
    if digest.hexdigest() != expected:
        yield "content does not match its hash in meta.json; damaged"


def _check_ends(path: Path, file: dict[str, Any]) -> Iterator[str]:
    """The .ends of a file: its hash, that they grow, that the last one is the number of tokens."""
    digest, last = xxhash.xxh3_128(), 0
    first_wrong, num_wrong = -1, 0
    for begin, block in _blocks(path, np.dtype(np.uint64)):
        digest.update(block.data)
        wrong = np.flatnonzero(block <= np.append(np.uint64(last), block[:-1]))
        if len(wrong) and first_wrong < 0:
            first_wrong = begin + int(wrong[0])
        num_wrong += len(wrong)
        last = int(block[-1])
    damaged = list(_check_hash(digest, file["ends_hash"]))
    if damaged:
        yield from damaged
        return
    if num_wrong:
        yield f"ends do not grow: document {first_wrong} does not end after the one before it ({num_wrong} such)"
    if last != file["tokens"]:
        yield f"the last document ends at {last}, but the file has {file['tokens']} tokens"


def _blocks(path: Path, dtype: np.dtype[Any]) -> Iterator[tuple[int, np.ndarray]]:
    """(place of the first, numbers) through a whole file. memory: BLOCK of them."""
    with open(path, "rb") as file:
        begin = 0
        while len(block := np.fromfile(file, dtype=dtype, count=BLOCK)):
            yield begin, block
            begin += len(block)


def _open(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    return np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)


def _first_eos(path: Path, dtype: np.dtype[Any], ends: np.ndarray | None) -> int:
    """Without the tokenizer, the token that ends the first document is the eos (-1: nobody knows)."""
    return int(_open(path, dtype)[int(ends[0]) - 1]) if ends is not None and len(ends) else -1


class _Tokens:
    """What is seen on the way through a file of tokens."""

    def __init__(self, vocab_size: int, tokenizer: Tokenizer | None, eos_id: int):
        self._vocab_size, self._eos_id = vocab_size, eos_id
        self._lengths = tokenizer.token_bytes if tokenizer else None
        self.hash, self.num_bytes = xxhash.xxh3_128(), 0
        self._found: dict[str, tuple[int, int]] = {}  # fault -> its first place, how often

    def look(self, begin: int, block: np.ndarray, ends: np.ndarray | None) -> None:
        """One block of tokens, of which the first has place `begin` in the file, and the ends (None: not usable)."""
        self.hash.update(block.data)
        beyond = np.flatnonzero(block >= self._vocab_size)
        self._note(f"ids outside the vocabulary of {self._vocab_size}", beyond + begin)
        if self._lengths is not None:
            inside = np.delete(block, beyond) if len(beyond) else block
            self.num_bytes += int(self._lengths.take(inside).sum(dtype=np.int64))
        if ends is not None:
            first, last = np.searchsorted(ends, [begin + 1, begin + len(block) + 1])
            expected, found = ends[first:last] - 1, np.flatnonzero(block == self._eos_id) + begin
            if not np.array_equal(expected, found):
                self._note("tokens that end a document inside of one", np.setdiff1d(found, expected))
                self._note("documents that end without the token for it", np.setdiff1d(expected, found))

    def _note(self, fault: str, places: np.ndarray) -> None:
        if len(places):
            first, number = self._found.get(fault, (int(places[0]), 0))
            self._found[fault] = first, number + len(places)

    def faults(self) -> Iterator[str]:
        """A line for each kind of fault."""
        for fault, (first, number) in self._found.items():
            yield f"{fault}: {number}, the first at token {first}"
