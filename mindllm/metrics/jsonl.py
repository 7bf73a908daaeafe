"""Lines of a JSON Lines file that another process may be writing, or was killed while writing.

Nothing is left out without a count: a line that is cut off or damaged is one more in `damaged`, and the reader says so.
memory: the whole file as Python objects, 2 to 3 kB a line of metrics.jsonl.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines that are JSON objects, in their order, and how many are not. No such file: none, and 0.

    Split at \\n alone: generated texts may hold other characters that Python takes for line ends.
    """
    if not path.exists():
        return [], 0
    lines = path.read_bytes().split(b"\n")
    values = [_parse(line) for line in (lines if lines[-1] else lines[:-1])]
    found = [value for value in values if value is not None]
    return found, len(values) - len(found)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:  # no JSON, or cut inside a character
        return None
    return value if isinstance(value, dict) else None
