"""Spawned workers: deaths, functions and results that cannot travel, Ctrl-C, and a parent that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import workers
from data_pipeline.local_engine import DIED, FAILED, InProcess, Processes, pickled
from data_pipeline.workers import WorkersConfig
from mindllm.config import RunFailed, UserError

TWO = WorkersConfig(num_workers=2)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PAUSES", (0.0,))


def note(path: Path) -> int:
    """Leaves a file behind; the item named `bad` fails."""
    if path.name == "bad":
        raise UserError("坏: this one is bad")
    path.write_text("done")
    return os.getpid()


def test_a_refusal_ends_the_run_and_finished_work_stays(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="坏: this one is bad"):
        workers.run(note, [tmp_path / name for name in ("a", "bad", "b")], TWO, "bad")
    assert (tmp_path / "a").exists()


def die_once(path: Path) -> str:
    """Kills its process as long as it has not been told better."""
    if path.name.startswith("deadly") and not path.with_suffix(".told").exists():
        os._exit(0)
    return path.name


@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_dead_process_costs_only_its_own_item(tmp_path: Path, num_workers: int) -> None:
    told: list[str] = []

    def on_crash(path: Path) -> bool:
        told.append(path.name)
        path.with_suffix(".told").touch()
        return True

    names = ["a", "deadly1", "b", "deadly2", "c"]
    items = [tmp_path / name for name in names]
    assert workers.run(die_once, items, WorkersConfig(num_workers=num_workers), "deadly", on_crash).results == names
    assert sorted(told) == ["deadly1", "deadly2"]


@pytest.mark.parametrize("hook", [None, lambda path: False])
def test_deaths_without_a_lesson_set_the_item_aside(tmp_path: Path, hook: Callable[[Path], bool] | None) -> None:
    results, (failure,) = workers.run(die_once, [tmp_path / "a", tmp_path / "deadly"], TWO, "deadly", hook)
    assert results == ["a"] and (failure.name, failure.attempts) == ("deadly", 3)
    assert failure.reason.startswith("the worker process died: killed from outside, out of memory")


class Unloadable:
    """Pickles here and raises in a worker, as a function in a module does that cannot be imported there."""

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return fail_in_a_worker, ()

    def __call__(self, item: object) -> None:
        raise AssertionError("nobody gets here")


def fail_in_a_worker() -> object:
    raise ImportError("没有 no such module")


def test_a_function_that_a_worker_cannot_load_ends_the_run() -> None:
    with pytest.raises(
        RunFailed, match="(?s)a worker cannot load its work: ImportError: 没有 no such module.*Traceback"
    ):
        workers.run(Unloadable(), range(100), TWO, "unloadable")


def test_an_item_that_a_worker_cannot_load_is_set_aside() -> None:
    results, (failure,) = workers.run(str, [1, Unloadable(), 2], TWO, "unloadable")
    assert results == ["1", "2"] and failure.reason == "ImportError: 没有 no such module"


@pytest.mark.parametrize("place", ["function", "item"])
def test_what_cannot_travel_is_named(place: str) -> None:
    function: Any = (lambda item: item) if place == "function" else str
    with pytest.raises(TypeError, match="cannot be sent to a worker process.*functions must stand in a module"):
        workers.run(function, [1, (lambda: 1)], TWO, "lambda")


class Stubborn(Exception):
    """Pickles, but cannot be put together again: it wants two arguments."""

    def __init__(self, first: str, second: str):
        super().__init__(first)


def raise_stubborn(item: int) -> Any:
    if item == 1:
        raise Stubborn("顽固", "second")
    return (lambda: 1) if item == 2 else item


def test_exceptions_and_results_that_cannot_travel_are_failures_of_their_item() -> None:
    results, failures = workers.run(raise_stubborn, range(4), TWO, "stubborn")
    assert results == [0, 3] and failures[0].reason == "Stubborn: 顽固"
    assert "raise Stubborn(" in failures[0].trace and "ickle" in failures[1].reason


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc to see processes")
def test_idle_workers_that_died_are_replaced() -> None:
    with Processes(identify, 1) as engine:
        engine.start(0, 0)
        ((_, first),) = engine.wait(None)
        os.kill(first.result, signal.SIGKILL)
        wait_for(lambda: gone(first.result))
        engine.start(1, 0)
        ((index, second),) = engine.wait(None)
        if second.state == DIED:  # the pool had not noticed yet
            engine.start(1, 0)
            ((index, second),) = engine.wait(None)
    assert index == 1 and second.result not in (first.result, os.getpid())


def identify(item: float) -> int:
    time.sleep(item)
    return os.getpid()


def test_waiting_can_end_before_an_item_does() -> None:
    with Processes(identify, 1) as engine:
        engine.start(7, 0.5)
        assert engine.wait(0.01) == []
        assert [index for index, _ in engine.wait(None)] == [7]


def test_in_this_process_nothing_is_pickled() -> None:
    engine = InProcess(lambda item: 1 / item)
    engine.start(3, 0)
    ((index, ended),) = engine.wait(None)
    assert (index, ended.state, ended.reason) == (3, FAILED, "ZeroDivisionError: division by zero")
    with pytest.raises(TypeError, match="lambda"):
        pickled(lambda: 1)


SLEEPERS = """
import pathlib, signal, sys, test_local_engine as t
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    t.workers.run(t.sleep_long, [pathlib.Path(sys.argv[1]) / n for n in "ab"], t.TWO, "sleepers")
"""


def sleep_long(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc to see processes")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent_at_once(tmp_path: Path, how: signal.Signals) -> None:
    here = Path(__file__).parent
    (tmp_path / "script.py").write_text(SLEEPERS)
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path], env=environment, stderr=subprocess.DEVNULL
    )
    pids = [wait_for(lambda path=tmp_path / name: path.exists() and int(path.read_text() or 0)) for name in "ab"]
    parent.send_signal(how)
    assert parent.wait(60) != 0
    for pid in pids:
        wait_for(lambda pid=pid: gone(pid))


def wait_for(condition: Callable[[], Any]) -> Any:
    for _ in range(1200):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited a minute")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # waits for a parent only
    except (FileNotFoundError, ProcessLookupError):
        return True
