"""Kills a run again and again, each time at a random moment, goes on with it, and compares the bytes in the end.

    python bench/kills.py PAGES [--kills 20] [--seed 1] [--only worker] [--folder FOLDER] [key=value ...]

PAGES: any input of the data stages; archives (.tar.gz) below it are unpacked first. One undisturbed run of the stages
gives the bytes and the time; then the same into another folder, killed (SIGKILL) at random moments of every stage: the
whole process group, or, with --only worker, one of its worker processes, again and again while the command runs on.
key=value goes to the config: workers.engine=ray. The exit code is 1 if one byte differs.
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

START = 0.5  # seconds that a command takes before it does anything
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
    options = parser.parse_intermixed_args()
    if "=" in options.pages:
        options.pages, options.settings = str(SAMPLE_PAGES), [options.pages, *options.settings]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(options.folder or name)
        pages = unpacked(Path(options.pages), folder / "pages")
        settings = [f"sources.web.path={pages}", "shard_bytes=2000000", *options.settings]
        seconds: dict[str, float] = {}
        for stage in STAGES:
            started = time.monotonic()
            subprocess.run(command(stage, folder / "whole", settings), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            seconds[stage] = time.monotonic() - started
        print(f"undisturbed: {', '.join(f'{stage} {s:.1f} s' for stage, s in seconds.items())}", flush=True)
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


def disturb(run: Path, settings: list[str], options: argparse.Namespace, seconds: dict[str, float]) -> None:
    """The stages in order, each started again until it ends well; `kills` starts are killed, in each stage as many as
    its share of the time (one at least), after a wait that lets them do about all of its work on the way.
    """
    rng = random.Random(options.seed)
    for stage, alone in seconds.items():
        kills = max(1, round(options.kills * alone / sum(seconds.values())))
        done = 0
        while True:
            process = subprocess.Popen(
                command(stage, run, settings), cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL
            )
            waits = [START + rng.uniform(0, 2 * max(alone - START, 1) / (kills + 1)) if done < kills else None]
            started = time.monotonic()
            while process.poll() is None:
                if waits[-1] is not None and time.monotonic() - started >= waits[-1]:
                    if not kill(process, options.only, rng):  # none has started yet
                        time.sleep(0.1)
                        continue
                    print(f"killed in {stage}, {time.monotonic() - started:.2f} s after its start", flush=True)
                    done += 1
                    waits.append(waits[-1] + rng.uniform(0.2, 2) if options.only == "worker" and done < kills else None)
                time.sleep(0.01)
            if process.returncode == 0:
                print(f"{stage}: done after {done} kills", flush=True)
                break
            if options.only == "worker":
                raise SystemExit(f"{stage} ended with exit code {process.returncode} after a worker was killed")


def kill(process: subprocess.Popen[bytes], only: str, rng: random.Random) -> bool:
    """SIGKILL to the whole group, or to one of the processes that do the work; whether there was one."""
    if only == "all":
        os.killpg(process.pid, signal.SIGKILL)
        for child in psutil.process_iter(["cmdline"]):
            if any("raylet" in word for word in child.info["cmdline"] or []):
                child.kill()  # Ray's own processes leave the group
        return True
    workers = list(worker_processes(process.pid))
    if workers:
        rng.choice(workers).kill()
    return bool(workers)


def worker_processes(pid: int) -> Iterator[psutil.Process]:
    """The processes below one that run shards: spawned ones, and those of Ray that are at a task."""
    for child in psutil.Process(pid).children(recursive=True):
        try:
            words = child.cmdline() or [""]
        except psutil.Error:
            continue
        if words[0].startswith("ray::task") or any("spawn_main" in word for word in words):
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
