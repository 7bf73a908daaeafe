"""What a command needs: seconds, memory of its largest process and of all processes together, disk in a folder.

    python bench/memory.py [--folder FOLDER] COMMAND ...

The command and all processes below it are looked at in /proc (Linux only) every few hundredths of a second. Memory is
what is resident, mapped files included, though the system takes those back when others need memory: the highest value
that the kernel has noted for any one process, and the largest sum over all of them at one moment, where what processes
share counts once for each. Disk is the largest size of the folder; what was in it before counts.
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

POLL_SECONDS = 0.03
GENERATIONS = 5  # of processes that start processes


class Usage(NamedTuple):
    """Seconds of wall clock, the rest in MB."""

    seconds: float
    largest: float
    together: float
    disk: float

    def __str__(self) -> str:
        memory = f"{self.largest:.0f} MB in the largest process, {self.together:.0f} MB in all"
        return f"{self.seconds:.1f} s; {memory}; {self.disk:.0f} MB of disk"


def watch(command: Sequence[str], folder: Path | None = None, directory: Path | None = None) -> Usage:
    """Run a command to its end, from `directory`. Raises SystemExit with what it printed if it fails."""
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(command, cwd=directory, stdout=printed, stderr=subprocess.STDOUT)
        usage = follow(process, folder)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}:\n{_text(printed)}")
    return usage


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def follow(process: subprocess.Popen[bytes], folder: Path | None) -> Usage:
    """Look at a running process until it ends."""
    start, peaks, together, disk = time.monotonic(), {0: 0.0}, 0.0, 0.0
    for tick in itertools.count():
        done = process.poll() is not None
        sizes = list(resident(process.pid))
        peaks |= {pid: peak for pid, _, peak in sizes}
        together = max(together, sum(now for _, now, _ in sizes))
        if folder and (done or tick % 10 == 0):
            disk = max(disk, size_of(folder))
        if done:
            break
        time.sleep(POLL_SECONDS)
    return Usage(time.monotonic() - start, max(peaks.values()), together, disk)


def resident(root: int) -> Iterator[tuple[int, float, float]]:
    """Of a process and those below it: number, MB resident now, MB resident at most so far."""
    found: dict[int, dict[str, int]] = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = re.findall(r"^(PPid|VmHWM|VmRSS):\s+(\d+)", path.read_text(), re.MULTILINE)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        found[int(path.parent.name)] = {key: int(value) for key, value in fields}
    family = {root}
    for _ in range(GENERATIONS):
        family |= {pid for pid, fields in found.items() if fields.get("PPid", 0) in family}
    for pid in family & found.keys():
        if "VmHWM" in found[pid]:  # one that has ended and waits to be asked has none
            yield pid, found[pid].get("VmRSS", 0) / 1000, found[pid]["VmHWM"] / 1000


def size_of(folder: Path) -> float:
    """MB of disk that the files below a folder take."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:  # renamed or removed meanwhile
            continue
    return total / 1e6


def main() -> None:
    """The command line: run the command, with its output where it would go, and print what it needed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder whose size is followed")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    options = parser.parse_args()
    if not options.command:
        parser.error("give a command")
    process = subprocess.Popen(options.command)
    print(follow(process, options.folder), file=sys.stderr)
    raise SystemExit(process.returncode)


if __name__ == "__main__":
    main()
