"""A stage's folder is complete (meta.json), begun (plan.json) or absent; nothing in between can be mistaken for done.

plan.json is written first and names what the folder is being made from (config and inputs, hashed); meta.json is
written last and adds what came out. The same plan again: done, or continued where it was killed. Another plan: refused
with the difference shown, unless force=true, which throws the old output away, or unless the caller lets the parts that
differ change: then plan.json is rewritten and the work goes on. Every file inside is written under a temporary name,
synced and renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mindllm
from mindllm.config import UserError

_VERSIONED = tuple(
    "ahocorasick_rs deepspeed fastwarc lm_eval numpy opencc pyarrow rensa resiliparse scikit-learn selectolax"
    " sentencepiece tokenizers torch transformers".split()
)
_SAMPLED_BYTES = 1 << 20
_CLEARING = {"hash": "clearing"}  # the plan of a folder that is being emptied: what is left in it is good for nothing


class Stage:
    """One output folder and the plan it is made from. `start()`: is there work?  `finish()`: mark it complete.

    place: what a user writes to choose another folder, for messages.
    """

    def __init__(
        self, folder: str | Path, name: str, config: dict[str, Any], inputs: dict[str, Any], place: str = "run=..."
    ):
        self.folder, self.name, self._place = Path(folder), name, place
        plan = {"stage": name, "config": config, "inputs": inputs}
        self.plan = json.loads(json.dumps(plan))  # tuples become lists, as on disk
        self.plan["hash"] = hash_json(self.plan)
        self._started = time.monotonic()

    def start(self, force: bool = False, may_change: Sequence[str] = ()) -> bool:
        """True: do (or continue) the work. False: it is complete. Raises UserError if the folder holds other things.

        may_change: parts of the plan ("config.phases") that may differ from what is there. Where only they do, the
        difference is printed, plan.json rewritten, and what the folder holds is gone on with, whatever `force` says.
        """
        meta, plan = self._records()
        old = meta or plan
        if plan == _CLEARING:
            self._clear()
        elif old is None:
            self._make_folder()
        elif self.differs_only_in(may_change):
            self._change()
        elif old["hash"] != self.plan["hash"]:
            if not force or old.get("stage") != self.name:
                raise UserError(self._difference())
            print(f"{self.name}: {self.folder} was made from something else; recomputing it (force=true)", flush=True)
            self._clear()
        elif meta is not None:
            print(f"{self.name}: done before, nothing to do ({self.folder / 'meta.json'})", flush=True)
            return False
        if not (self.folder / "plan.json").exists():
            write_json(self.folder / "plan.json", self.plan)
        return True

    def changes(self) -> list[str]:
        """Lines `key: there -> now`: what the folder was made from and is not now. None for an empty folder."""
        old = self._old()
        return [] if old is None else list(differences(_compared(old), _compared(self.plan)))

    def differs_only_in(self, parts: Sequence[str]) -> bool:
        """Whether the folder was made (or begun) from another plan, and only these parts of it are others."""
        old = self._old()
        if not parts or old is None or old["hash"] == self.plan["hash"]:
            return False
        return hash_json(_without(_compared(old), parts)) == hash_json(_without(_compared(self.plan), parts))

    def finish(self, **counts: Any) -> dict[str, Any]:
        """Write meta.json: now the stage is complete. `counts` should hold in, out and unit for the closing table."""
        seconds = round(time.monotonic() - self._started, 3)
        meta = {**self.plan, "counts": counts, "seconds": seconds, "versions": versions()}
        write_json(self.folder / "meta.json", meta)
        return meta

    def _records(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        return _read_record(self.folder / "meta.json"), _read_record(self.folder / "plan.json")

    def _old(self) -> dict[str, Any] | None:
        """The plan of what is in the folder, or None where there is nothing that could be gone on with."""
        meta, plan = self._records()
        return None if plan == _CLEARING else meta or plan

    def _change(self) -> None:
        """Put this plan in the place of the old one. Killed before the last rename, the folder is the old one's."""
        head = f"{self.name}: {self.folder} goes on with another plan (there -> now):"
        print(f"{head}\n{indented(self.changes())}", flush=True)
        (self.folder / "meta.json").unlink(missing_ok=True)  # first: what is complete was made from the old plan
        sync_folder(self.folder)
        write_json(self.folder / "plan.json", self.plan)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot make {self.folder} ({error.strerror})"
            raise UserError(f"{self.name}: {problem}; choose another {self._place} folder") from None
        if any(not is_temporary(path) for path in self.folder.iterdir()):
            raise UserError(f"{self.name}: {self.folder} holds files that no stage of ours has written; choose another")

    def _clear(self) -> None:
        """Empty the folder. Killed half-way, it cannot look complete nor be taken for the begun work of any plan."""
        write_json(self.folder / "plan.json", _CLEARING)
        (self.folder / "meta.json").unlink(missing_ok=True)
        for path in sorted(self.folder.iterdir(), key=lambda p: p.name == "plan.json"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _difference(self) -> str:
        head = f"{self.name}: {self.folder} was made from something else (there -> now):"
        way_out = f"Add force=true to recompute it, or choose another {self._place} folder."
        if (self._old() or {}).get("stage") != self.name:
            way_out = (
                f"It belongs to another stage, which force=true would not touch; choose another {self._place} folder."
            )
        return "\n".join([head, indented(self.changes()), way_out])


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else holds this folder while the block runs. Raises UserError where somebody does.

    For work that takes hours in one folder: two of it would overwrite each other's files. A killed process holds
    nothing. Network file systems without locks are not protected.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is at work in it; wait for it, or stop it first") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


def require(folder: str | Path, maker: str) -> dict[str, Any]:
    """The meta.json of a complete stage that this one reads. Raises UserError naming the command that makes it."""
    meta = _read_record(Path(folder) / "meta.json")
    if meta is None:
        state = "is not complete" if Path(folder).exists() else "does not exist"
        raise UserError(f"{folder} {state} (no meta.json); make it first: {maker}")
    return {**meta, "hash": content_hash(meta)}


def content_hash(meta: dict[str, Any]) -> str:
    """What the next stage takes for this one's content: the plan's hash, and the shards that it is complete without."""
    failed = (meta.get("counts") or {}).get("failed")
    return hash_json([meta["hash"], failed]) if failed else str(meta["hash"])


def _compared(record: dict[str, Any]) -> dict[str, Any]:
    """The parts of a plan.json or meta.json that say what the folder is made from."""
    return {key: record.get(key) for key in ("stage", "config", "inputs")}


def _without(value: Any, parts: Sequence[str]) -> Any:
    """A JSON value without these places of it ("config.phases"); itself unchanged."""
    if not isinstance(value, dict):
        return value
    inside = {key: [p.removeprefix(f"{key}.") for p in parts if p.startswith(f"{key}.")] for key in value}
    return {key: _without(inner, inside[key]) for key, inner in value.items() if key not in parts}


def indented(lines: Sequence[str]) -> str:
    """Lines for a message, two blanks before each; of many only the first twelve, and how many more there are."""
    shown = [f"  {line}" for line in lines[:12]]
    return "\n".join(shown + ([f"  ... and {len(lines) - 12} more"] if len(lines) > 12 else []))


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Lines `key: old -> new` for every leaf that differs between two JSON values, and for keys in another order."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            place = f"{where}.{key}" if where else str(key)
            yield from differences(old.get(key, "(absent)"), new.get(key, "(absent)"), place)
        if list(old) != list(new) and old.keys() == new.keys():
            yield f"{where}: order {', '.join(old)} -> {', '.join(new)}"
    elif _are_tables(old) and _are_tables(new):  # such as the phases of a training
        for number in range(max(len(old), len(new))):
            was, is_now = (values[number] if number < len(values) else "(absent)" for values in (old, new))
            yield from differences(was, is_now, f"{where}.{number}")
    elif (was := json.dumps(old, ensure_ascii=False)) != (is_now := json.dumps(new, ensure_ascii=False)):
        yield f"{where}: {was} -> {is_now}"  # compared as text, as hash_json does: to Python, 0 is False


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(inner, dict) for inner in value)


def hash_json(value: Any) -> str:
    """16 hex digits of SHA-256 over JSON; the order of keys matters, for it can mean something (lists of cleaners)."""
    text = json.dumps(value, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]  # file names may hold any bytes


def hash_file(path: str | Path) -> str:
    """Size and SHA-256 of the first and last MiB: sees every change of a file of up to 2 MiB, most in larger ones."""
    size = os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        digest.update(file.read(_SAMPLED_BYTES))
        if size > 2 * _SAMPLED_BYTES:
            file.seek(-_SAMPLED_BYTES, os.SEEK_END)
        digest.update(file.read(_SAMPLED_BYTES))
    return f"{size}:{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed onto `path`, synced, if the block ends well, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # see is_temporary
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a killed `atomic` has left this file: it may be deleted at any time."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write a whole UTF-8 text file, complete or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write one JSON value, readable, complete or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def read_json(path: str | Path) -> Any:
    """The JSON value in a file, or None where there is no such file. A damaged file is a RuntimeError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise RuntimeError(f"{path}: damaged ({error}); delete its folder and run the stage again") from error


def _read_record(path: Path) -> dict[str, Any] | None:
    """A plan.json or meta.json, or None where there is none. Raises RuntimeError for one that is damaged."""
    record = read_json(path)
    if record is not None and not (isinstance(record, dict) and "hash" in record):
        raise RuntimeError(f"{path}: damaged (no hash in it); delete its folder and run the stage again")
    return record


def versions() -> dict[str, str]:
    """Versions of this project and of the packages whose release can change an output."""
    found = {"mindllm": mindllm.__version__}
    for name in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
