"""Who holds up a training that stands still: signs of life, whom they blame, real processes that hang or are gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mindllm.train.watchdog import FOLDER, Sign, Watchdog, behind, report


def sign(rank: int, moves: int = 7, doing: str = "forward", standing: float = 60.0) -> Sign:
    return Sign(rank, f"node{rank}", 100 + rank, 5, doing, moves, standing, 9)


def test_the_one_that_has_done_least_holds_up_the_others() -> None:
    signs = [sign(0), sign(1, 6, "data"), sign(2)]
    assert behind(signs) == [signs[1]]
    text = report(signs, [], 3, 60.0)
    assert "rank 1 (process 101 on node1) holds up the others: it is at data of step 5 for 60 s" in text
    assert "rank 0" not in text and "rank 2" not in text


def test_nobody_is_blamed_where_all_stand_at_the_same_point() -> None:
    signs = [sign(0), sign(1)]
    assert behind(signs) == []
    assert "all processes are at the same point, forward of step 5" in report(signs, [], 2, 60.0)


def test_who_is_gone_and_who_never_came_is_named() -> None:
    signs = [sign(0), sign(2)]
    text = report(signs, [signs[1]], 3, 60.0)
    assert "rank 1 never gave a sign of life" in text
    assert "rank 2 (process 102 on node2) gives no sign of life any more" in text and "holds up" not in text


def test_a_training_that_moves_is_left_alone_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with Watchdog(tmp_path, 0, 1, 0.5) as dog:
        for step in range(12):
            dog.at("data", step)
            time.sleep(0.1)
            dog.moved()
        found = json.loads((tmp_path / FOLDER / "rank-00000.json").read_text(encoding="utf-8"))
        assert found["pid"] == os.getpid() and found["doing"] == "data" and found["moves"] > 2
    assert not (tmp_path / FOLDER).exists()


def test_no_limit_writes_nothing(tmp_path: Path) -> None:
    with Watchdog(tmp_path, 0, 2, 0.0) as dog:
        dog.at("data", 1)
    assert not list(tmp_path.iterdir())


SCRIPT = """
import sys, time
from pathlib import Path
from mindllm.train.watchdog import Watchdog

out, rank, mood = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def together(files):  # as a process group begins; a busy machine may load one process seconds after another
    while len(list(out.glob(files))) < 3:
        time.sleep(0.01)

(out / f"ready-{rank}").touch()
together("ready-*")
with Watchdog(out, rank, 3, 2.0) as dog:
    together("alive/rank-*.json")
    for step in range(5):
        dog.at("data", step)
        if mood == "hangs" and step == 3:
            time.sleep(1000)
        time.sleep(.05)
        dog.at("forward", step)
        if mood == "hangs_later" and step == 3:
            time.sleep(1000)
        if mood == "waits" and step == 3:
            time.sleep(1000)
"""


def group(folder: Path, moods: list[str]) -> list[subprocess.Popen[Any]]:
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    return [
        subprocess.Popen([sys.executable, str(folder / "script.py"), str(folder), str(rank), mood], text=True,
                         stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)})
        for rank, mood in enumerate(moods)
    ]  # fmt: skip


def test_a_process_that_hangs_is_named_with_its_stack_and_all_end(tmp_path: Path) -> None:
    processes = group(tmp_path, ["waits", "hangs", "waits"])
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1, 1]
    assert (
        f"rank 1 (process {processes[1].pid} on" in errors[0]
        and "holds up the others: it is at data of step 3" in errors[0]
    )
    assert "where rank 1 stands" in errors[1] and "script.py" in errors[1]
    assert "training stands still" not in errors[1] + errors[2]  # once is enough


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_dead_or_frozen_is_named(tmp_path: Path, number: signal.Signals) -> None:
    processes = group(tmp_path, ["waits", "waits", "waits"])
    try:
        while not all((tmp_path / FOLDER / f"rank-{rank:05d}.json").exists() for rank in range(3)):
            time.sleep(0.01)
        processes[0].send_signal(number)
        errors = [process.communicate(timeout=60)[1] for process in processes[1:]]
        assert [process.returncode for process in processes[1:]] == [1, 1]
        assert f"rank 0 (process {processes[0].pid} on" in errors[0] and "gives no sign of life any more" in errors[0]
    finally:
        processes[0].kill()
        processes[0].communicate()


LATE = """
import sys, time
from pathlib import Path
from mindllm.train.watchdog import FOLDER, Watchdog

out, mood = Path(sys.argv[1]), sys.argv[2]
with Watchdog(out, 0, 1, 1.0) as dog:
    dog.at("forward", 3)
    time.sleep(0.5)
    if mood == "disk":
        (out / FOLDER / "rank-00000.json").unlink()
        (out / FOLDER).rmdir()
        (out / FOLDER).touch()
        time.sleep(1000)
    time.sleep(0.9)
    if mood == "moves":
        for _ in range(10):
            dog.at("data", 4)
            time.sleep(0.1)
"""


@pytest.mark.parametrize("mood", ["ends", "moves", "disk"])
def test_one_that_goes_on_after_all_is_left_alone_and_a_full_disk_hides_no_hang(tmp_path: Path, mood: str) -> None:
    command = [sys.executable, "-c", LATE, str(tmp_path), mood]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == (mood == "disk") and "stands still since 1 s" in ended.stderr, ended
    assert mood != "disk" or ("at forward of step 3, and cannot write to" in ended.stderr and "File" in ended.stderr)
