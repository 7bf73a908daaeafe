"""Kills a run again and again, each time at a random moment, goes on with it, and compares the bytes in the end.

    python bench/kills.py PAGES [--kills 20] [--seed 1] [--only worker] [--folder FOLDER] [key=value ...]

PAGES: any input of the data stages; archives (.tar.gz) below it are unpacked first. One undisturbed run of the stages
gives the bytes and the time; then the same into another folder, killed (SIGKILL) after a random part of that
time: the whole process group, or, with --only worker, one random worker process of it, again and again while the
command runs on. `key=value` go to the config: workers.engine=ray. The exit code is 1 if one byte differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from common import CONFIG, ROOT, SAMPLE_PAGES

STAGES = ("clean", "dedup", "refine")
TIMES = ("meta.json", "plan.json")  # hold the seconds that a stage took, and the folder's own name


def main() -> int:
    """An undisturbed run, a disturbed one, the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="?", default=str(SAMPLE_PAGES))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["all", "worker"], default="all")
    parser.add_argument("--folder", help="where the runs are made; kept afterwards")
    parser.add_argument("settings", nargs="*", metavar="key=value", default=[])
    options = parser.parse_args()
    if "=" in options.pages:
        options.pages, options.settings = str(SAMPLE_PAGES), [options.pages, *options.settings]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(options.folder or name)
        pages = unpacked(Path(options.pages), folder / "pages")
        settings = [f"sources.web.path={pages}", "shard_bytes=2000000", *options.settings]
        started = time.monotonic()
        for stage in STAGES:
            subprocess.run(command(stage, folder / "whole", settings), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        print(f"undisturbed: {seconds:.1f} s, {len(contents(folder / 'whole'))} files", flush=True)
        disturb(folder / "killed", settings, options, seconds)
        return compare(contents(folder / "whole"), contents(folder / "killed"))


def unpacked(pages: Path, folder: Path) -> Path:
    """The folder itself; with archives in it, what they hold."""
    archives = sorted(pages.rglob("*.tar.gz")) if pages.is_dir() else []
    for archive in archives:
        place = folder / archive.parent.name / archive.name.removesuffix(".tar.gz")
        if not place.exists():
            with tarfile.open(archive) as opened:
                opened.extractall(place, filter="data")
    return folder if archives else pages.resolve()


def command(stage: str, run: Path, settings: list[str]) -> list[str]:
    """The stage as a user would start it."""
    return [sys.executable, "-m", "data_pipeline", stage, str(CONFIG), f"run={run}", *settings]


def disturb(run: Path, settings: list[str], options: argparse.Namespace, seconds: float) -> None:
    """The stages in order, each started again until it ends well; `kills` of the starts are killed half-way."""
    rng, left = random.Random(options.seed), options.kills
    moments = iter(sorted(rng.uniform(0, seconds) for _ in range(left)))
    spent, moment = 0.0, next(moments, None)
    for stage in STAGES:
        while True:
            process = subprocess.Popen(
                command(stage, run, settings), cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL
            )
            started = time.monotonic()
            while process.poll() is None:
                now = spent + time.monotonic() - started
                if moment is not None and now >= moment:
                    kill(process, options.only, rng)
                    print(f"killed in {stage}, {time.monotonic() - started:.2f} s after its start", flush=True)
                    moment = next(moments, None)
                    if options.only == "all":
                        break
                time.sleep(0.01)
            code = process.wait()
            if options.only == "worker" or code == 0:
                spent += time.monotonic() - started
            else:  # killed: the next start does what is left, so the moments that come lie within what it needs
                spent = max(spent, (moment or 0) - rng.uniform(0.3, 3))
            if code == 0:
                break
            if options.only == "worker":
                raise SystemExit(f"{stage} ended with exit code {code} after a worker was killed")


def kill(process: subprocess.Popen[bytes], only: str, rng: random.Random) -> None:
    """SIGKILL to the whole group, or to one of the processes that do the work."""
    if only == "all":
        os.killpg(process.pid, signal.SIGKILL)
        for child in psutil.process_iter(["cmdline"]):
            if any("raylet" in word for word in child.info["cmdline"] or []):
                child.kill()  # Ray's own processes leave the group
        return
    workers = list(worker_processes(process.pid))
    if workers:
        rng.choice(workers).kill()


def worker_processes(pid: int) -> Iterator[psutil.Process]:
    """The processes below one that run shards: spawned ones, and Ray's."""
    for child in psutil.Process(pid).children(recursive=True):
        try:
            words = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if "spawn_main" in words or "ray::" in words:
            yield child


def contents(run: Path) -> dict[str, bytes]:
    """Every file that a stage has written, but those that hold times."""
    found = (p for stage in STAGES for p in sorted((run / stage).rglob("*")) if p.is_file())
    return {str(p.relative_to(run)): p.read_bytes() for p in found if p.name not in TIMES}


def compare(whole: dict[str, bytes], killed: dict[str, bytes]) -> int:
    """Print what differs; 1 if anything does."""
    different = sorted(name for name in whole.keys() | killed.keys() if whole.get(name) != killed.get(name))
    print(f"{len(whole)} files, {sum(map(len, whole.values())):,} bytes: {len(different)} differ {different[:10]}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
