"""workers.run: results in the order of the items for any number of processes, and the first error ends the run."""

from __future__ import annotations

import os
import time
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
