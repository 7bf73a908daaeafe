"""metrics.jsonl, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TIMED = ("tokens_per_second", "mfu", "data_wait", "save_stall", "memory_gib")  # what two equal runs differ in


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that was cut by a kill is left out."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [json.loads(line) for line in lines[:-1] if line]


def untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines without what the clock and the machine decide: equal for two runs that did the same."""
    kept = [{key: value for key, value in line.items() if key not in TIMED} for line in lines]
    return [line for line in kept if len(line) > 1]
