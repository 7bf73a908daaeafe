"""What learning a tokenizer will need, said before it starts: memory and time, and whether this machine has it.

    memory = PROCESS + entries * cost.entry_memory + sum over languages of text bytes * cost.memory[language]

and seconds alike, without PROCESS. For SentencePiece these are straight lines through 22 trainings on 7 to 112 MB of
Chinese, English and code with 32,000 and 125,700 entries (`python bench/tokenizer.py TEXTS --costs`: memory within
14 %, seconds within a third); the other kinds' come from a few trainings each, on up to 69 MB. Memory grows with the
number of different words, and a Chinese clause is one. New ones get rarer as text grows, so a sample of several GB
should need less than the line says: give max_memory_gb if you know better.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mindllm.config import UserError
from mindllm.text import language_group

PROCESS = 0.39e9  # Python, its libraries, what reading Parquet leaves behind
MARGIN = 1.15  # memory that has to be free, for what is needed may be so much more than the estimate


@dataclass(frozen=True)
class Cost:
    """Of one kind of tokenizer, by language group: bytes of memory and seconds a byte of text, and those an entry."""

    memory: Mapping[str, float]
    seconds: Mapping[str, float]
    entry_memory: float
    entry_seconds: float


COSTS = {
    "sentencepiece": Cost(
        {"zh": 24.6, "en": 3.0, "other": 7.6}, {"zh": 0.29e-6, "en": 0.14e-6, "other": 0.25e-6}, 790, 22e-6
    ),
    "byte-level": Cost({"zh": 60, "en": 3.0, "other": 20}, {"zh": 1.6e-6, "en": 0.33e-6, "other": 0.9e-6}, 790, 22e-6),
    # Of its base only Chinese is learned, with SentencePiece; other text is looked through.
    "enlarged": Cost({"zh": 18, "en": 0, "other": 0}, {"zh": 0.37e-6, "en": 0.05e-6, "other": 0.05e-6}, 790, 22e-6),
}


@dataclass(frozen=True)
class Needs:
    """memory: bytes, of the process at its largest.  seconds: of one core."""

    memory: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.memory / 1e9:.2f} GB of memory and {self.seconds:.0f} s of one core"


def estimate(kind: str, planned: Mapping[str, int], num_entries: int) -> Needs:
    """What learning `num_entries` entries from so much text needs. planned: bytes by key of sample_bytes."""
    cost, groups = COSTS[kind], [(language_group(key.partition("/")[0]), size) for key, size in planned.items()]
    memory = PROCESS + num_entries * cost.entry_memory + sum(cost.memory[group] * size for group, size in groups)
    seconds = 1 + num_entries * cost.entry_seconds + sum(cost.seconds[group] * size for group, size in groups)
    return Needs(int(memory), round(seconds, 1))


def refuse_too_much(
    kind: str, planned: Mapping[str, int], num_entries: int, max_memory_gb: float, free: int | None
) -> None:
    """Raise UserError where learning needs more memory than max_memory_gb or, if that is 0, `free` bytes (None:
    unknown), with the sample_bytes that would do."""
    if not max_memory_gb and free is None:
        return
    limit = max_memory_gb * 1e9 or (free or 0) / MARGIN
    needs = estimate(kind, planned, num_entries)
    if needs.memory <= limit:
        return
    fixed = estimate(kind, {}, num_entries).memory
    share = (limit - fixed) / max(1, needs.memory - fixed)
    here = f"{(free or 0) / 1e9:.2f} GB are free here (some of it has to stay so)"
    what = f"max_memory_gb is {max_memory_gb:g}" if max_memory_gb else here
    head = f"sample_bytes: learning from this sample needs about {needs}; {what}"
    fitting = {key: _rounded_down(size * share) for key, size in planned.items()}
    if not any(size > 0 for size in fitting.values()):
        raise UserError(f"{head}; {fixed / 1e9:.2f} GB are needed without any text: use a machine with more memory")
    shown = ", ".join(f"{key}: {size}" for key, size in fitting.items())
    raise UserError(f"{head}\n  this much would fit: 'sample_bytes={{{shown}}}'")


def _rounded_down(number: float) -> int:
    """The first two digits of a number, the others 0; 0 below 1."""
    whole = max(0, int(number))
    unit = 10 ** max(0, len(str(whole)) - 2)
    return whole // unit * unit


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that a process may still take: of the machine, and of each control group (container, job) that it is in.

    None where the system does not say (it is not Linux).
    """
    memory = root / "proc/meminfo"
    if not memory.exists():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", memory.read_text(), re.MULTILINE)
    sizes = [int(found[1]) * 1024] if found else []
    own = root / "proc/self/cgroup"
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, inside = line.split(":", 2)
        if not controllers:  # version 2, which has one tree
            names = ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):  # version 1
            names = ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        sizes += _left_in_groups(root / names[0], inside, *names[1:])
    return max(0, min(sizes)) if sizes else None


def _left_in_groups(top: Path, inside: str, limit: str, usage: str, cache: str) -> list[int]:
    """Bytes left in a control group and in those around it that have a limit; file cache can be had back."""
    place = top / inside.lstrip("/")
    sizes = []
    for folder in (place, *place.parents):
        texts = [(folder / name).read_text() if (folder / name).exists() else "" for name in (limit, usage)]
        if texts[0].strip().isdigit():  # else "max", or no such file
            statistics = (folder / "memory.stat").read_text() if (folder / "memory.stat").exists() else ""
            cached = re.search(rf"^{cache} (\d+)$", statistics, re.MULTILINE)
            sizes.append(int(texts[0]) - int(texts[1] or 0) + (int(cached[1]) if cached else 0))
        if folder == top:
            break
    return sizes


def peak_memory() -> int:
    """The most bytes of memory that this process has had so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
