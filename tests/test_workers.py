"""workers.run: results in the order of the items for any number of processes, and the first error ends the run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline import workers
from mindllm.config import UserError


def slow_square(number: int) -> int:
    """Later items finish earlier."""
    time.sleep(0.02 * (3 - number))
    return number * number


def note(path: Path) -> int:
    """Leaves a file behind; the item named `bad` fails."""
    if path.name == "bad":
        raise UserError("坏: this one is bad")
    path.write_text("done")
    return os.getpid()


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_results_keep_the_order_of_the_items(num_workers: int) -> None:
    assert workers.run(slow_square, range(4), num_workers, "squares") == [0, 1, 4, 9]
    assert workers.run(slow_square, [], num_workers, "nothing") == []


def test_processes_are_used_only_where_there_is_work_for_them(tmp_path: Path) -> None:
    assert workers.run(note, [tmp_path / "one"], 8, "one item") == [os.getpid()]
    assert os.getpid() not in workers.run(note, [tmp_path / "a", tmp_path / "b"], 2, "two items")
    assert workers.run(lambda item: item, [1, 2], 1, "not pickled in this process") == [1, 2]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_first_error_ends_the_run_and_finished_work_stays(tmp_path: Path, num_workers: int) -> None:
    with pytest.raises(UserError, match="坏: this one is bad"):
        workers.run(note, [tmp_path / "a", tmp_path / "bad", tmp_path / "b"], num_workers, "bad")
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
    assert workers.run(die_once, items, num_workers, "deadly", on_crash) == names
    assert sorted(told) == ["deadly1", "deadly2"]


@pytest.mark.parametrize("hook", [None, lambda path: False])
def test_deaths_without_a_lesson_end_the_run(tmp_path: Path, hook: Callable[[Path], bool] | None) -> None:
    with pytest.raises(RuntimeError, match="deadly: the worker process died 2 times"):
        workers.run(die_once, [tmp_path / "a", tmp_path / "deadly"], 2, "deadly", hook)


def test_one_protected_worker_is_a_process_of_its_own(tmp_path: Path) -> None:
    assert workers.run(note, [tmp_path / "a"], 1, "one", lambda path: False) != [os.getpid()]
    assert workers.run(note, [], 1, "none", lambda path: False) == []


class Unloadable:
    """Pickles here and raises in a worker, as a function in a module does that cannot be imported there."""

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return fail_in_a_worker, ()


def fail_in_a_worker() -> object:
    raise ImportError("没有 no such module")


def test_a_worker_that_cannot_start_ends_in_a_clear_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="it cannot start: see the messages above"):
        workers.run(str, [Unloadable()], 1, "unloadable", lambda item: False)
    assert "没有 no such module" in capfd.readouterr().err
