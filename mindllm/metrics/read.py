"""metrics.jsonl, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mindllm.config import RunFailed

# What two equal runs differ in: seconds, rates and memory.
TIMED = ("tokens_per_second", "mfu", "data_wait", "memory_gib", "save_stall", "save_seconds", "valid_seconds",
         "sample_seconds")  # fmt: skip


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that was cut by a kill is left out.

    Raises RunFailed for a line in the middle that is damaged.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    return [_parsed(line, path, number) for number, line in enumerate(lines[:-1], 1) if line]


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(line)
        values["step"] + 0  # a number
    except (ValueError, KeyError, TypeError):
        raise RunFailed(f"{path}: line {number} is damaged: {line[:60]!r}; delete this line") from None
    return values


def untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines without what the clock and the machine decide: equal for two runs that did the same."""
    kept = [{key: value for key, value in line.items() if key not in TIMED} for line in lines]
    return [line for line in kept if len(line) > 1]
