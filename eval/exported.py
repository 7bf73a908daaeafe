"""What identifies an exported model: results that are kept are found again by it, and by nothing else of a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mindllm.config import UserError
from mindllm.stage import hash_json, require

_RECORDS = ("plan.json", "meta.json")  # of the export: when, and from what


def hash_model(folder: str | Path) -> str:
    """16 hex digits: names and contents of a model's files, weights, tokenizer and templates alike.

    Weights that differ in a single byte are another model, and a copy elsewhere is the same one. Raises UserError for a
    folder that holds no model, or one whose export was not finished. slow: reads all of it, 1 to 2 GB a second.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() or (folder / "plan.json").exists():
        require(folder, "python -m mindllm.export CONFIG")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no model here (no config.json); make one: python -m mindllm.export CONFIG")
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return hash_json({path.name: hash_bytes(path) for path in paths if path.name not in _RECORDS})


def hash_bytes(path: str | Path) -> str:
    """SHA-256 of a file, all of it, in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
