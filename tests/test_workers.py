"""workers.run: what fails is tried again, then set aside; a broken world ends the run; results keep their order."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import workers
from data_pipeline.local_engine import DIED, DONE, FAILED, REFUSED, UNLOADABLE, Ended
from data_pipeline.workers import Failure, Outcome, WorkersConfig
from mindllm.config import RunFailed, UserError

ONE = WorkersConfig(num_workers=1)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PAUSES", (0.0,))


def slow_square(number: int) -> int:
    """Later items finish earlier."""
    time.sleep(0.02 * (3 - number))
    return number * number


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_results_keep_the_order_of_the_items(num_workers: int) -> None:
    settings = WorkersConfig(num_workers=num_workers)
    assert workers.run(slow_square, range(4), settings, "squares") == Outcome([0, 1, 4, 9], [])
    assert workers.run_all(slow_square, range(4), settings, "squares") == [0, 1, 4, 9]
    assert workers.run(slow_square, [], settings, "nothing") == Outcome([], [])


def pid(item: object) -> int:
    return os.getpid()


def test_processes_are_used_only_where_there_is_work_for_them() -> None:
    assert workers.run_all(pid, ["one"], WorkersConfig(num_workers=8), "one item") == [os.getpid()]
    assert os.getpid() not in workers.run_all(pid, ["a", "b"], WorkersConfig(num_workers=2), "two items")
    assert workers.run_all(lambda item: item, [1, 2], ONE, "not pickled in this process") == [1, 2]
    assert workers.run(pid, ["a"], ONE, "one, protected", lambda item: False).results != [os.getpid()]
    assert workers.run(pid, [], ONE, "none, protected", lambda item: False) == Outcome([], [])


def tries(script: dict[str, list[str]]) -> tuple[Callable[[str], str], list[str]]:
    """A function that fails with the listed messages, one an attempt, then works; and the log of its calls."""
    log: list[str] = []

    def function(item: str) -> str:
        log.append(item)
        messages = script.get(item, [])
        if messages:
            raise OSError(messages.pop(0))
        return item.upper()

    return function, log


def test_a_failed_item_is_tried_again_behind_all_others() -> None:
    function, log = tries({"a": ["磁盘 passing trouble"], "c": ["one", "two"]})
    assert workers.run(function, "abcd", ONE, "letters") == Outcome(["A", "B", "C", "D"], [])
    assert log == ["a", "b", "c", "d", "a", "c", "c"]


def test_an_item_that_keeps_failing_is_set_aside_with_its_last_reason() -> None:
    function, log = tries({"b": ["一", "二", "三"], "d": ["x", "y", "last\nline"]})
    results, failures = workers.run(function, "abcde", ONE, "letters")
    assert results == ["A", "C", "E"] and Counter(log) == {"a": 1, "b": 3, "c": 1, "d": 3, "e": 1}
    assert [(f.name, f.reason, f.attempts) for f in failures] == [
        ("b", "OSError: 三", 3),
        ("d", "OSError: last line", 3),
    ]
    assert "raise OSError(messages.pop(0))\nOSError: 三" in failures[0].trace


@pytest.mark.parametrize("attempts", [1, 5])
def test_attempts_are_a_setting(attempts: int) -> None:
    function, log = tries({"a": ["trouble"] * 9})
    _, (failure,) = workers.run(function, "a", WorkersConfig(num_workers=1, attempts=attempts), "letters")
    assert failure.attempts == len(log) == attempts


@pytest.mark.parametrize("error", [RunFailed("下载 failed"), SystemExit(3), AssertionError("ours"), MemoryError()])
def test_every_exception_is_one_items_own(error: BaseException) -> None:
    def function(item: str) -> str:
        if item == "bad":
            raise error
        return item

    results, (failure,) = workers.run(function, ["a", "bad", "c"], ONE, "items")
    assert results == ["a", "c"] and failure.reason == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("error", [UserError("坏: this one is wrong"), KeyboardInterrupt("^C")])
def test_what_the_user_did_ends_the_run_at_once(error: BaseException) -> None:
    log: list[str] = []

    def function(item: str) -> None:
        log.append(item)
        if item == "b":
            raise error

    with pytest.raises(type(error), match=re.escape(str(error))):
        workers.run(function, "abc", ONE, "letters")
    assert log == ["a", "b"]


def test_run_all_names_what_is_missing() -> None:
    function, _ = tries({letter: ["硬盘 full"] * 3 for letter in "bcdefgh"})
    with pytest.raises(RunFailed) as error:
        workers.run_all(function, "abcdefgh", ONE, "dedup: filter")
    lines = str(error.value).split("\n")
    assert lines[0] == "dedup: filter: 7 of 8 could not be done; the same command tries them again"
    assert lines[1] == "  b: OSError: 硬盘 full (attempts: 3)" and lines[6:] == ["  ... and 2 more"]


def test_many_failures_in_a_row_are_a_broken_world() -> None:
    names = [f"s{i}" for i in range(100)]
    function, log = tries({name: ["No space left on device"] * 9 for name in names})
    with pytest.raises(RunFailed, match=r"clean: 10 items failed .*\n  s9: OSError: No space left") as error:
        workers.run(function, names, ONE, "clean")
    assert log == names[:10] and str(error.value).count("\n") == 1  # one line for one reason


def test_bad_items_among_good_ones_are_no_broken_world() -> None:
    names = [f"s{i}" for i in range(60)]
    bad = names[::2]
    function, _ = tries({name: ["x"] * 9 for name in bad})
    results, failures = workers.run(function, names, ONE, "clean")  # their 60 last attempts come in a row
    assert len(results) == 30 and [f.name for f in failures] == bad


def test_failures_that_are_allowed_are_no_broken_world() -> None:
    function, _ = tries({letter: ["x"] * 9 for letter in "abcdefghijklmnop"})
    settings = WorkersConfig(num_workers=1, max_failed=16)
    assert len(workers.run(function, "abcdefghijklmnop", settings, "letters").failures) == 16


def test_pauses_grow_and_only_what_is_left_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(workers, "PAUSES", (1.0, 4.0))
    monkeypatch.setattr(workers.time, "sleep", sleep)
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    function, log = tries({"a": ["1", "2", "3", "4"]})
    assert workers.run(function, "abc", WorkersConfig(num_workers=1, attempts=9), "letters").results == ["A", "B", "C"]
    assert log == list("abcaaaa") and pauses == [1.0, 4.0, 4.0, 4.0]


class Scripted:
    """An engine that ends each item as a script says, attempt by attempt."""

    def __init__(self, script: dict[str, list[Ended]], slots: int = 2):
        self.script, self.num_slots = script, slots
        self.log: list[str] = []
        self.running: list[tuple[int, str]] = []
        self.most = 0

    def slots(self) -> int:
        return self.num_slots

    def start(self, index: int, item: str) -> None:
        self.log.append(item)
        self.running.append((index, item))
        self.most = max(self.most, len(self.running))

    def wait(self, seconds: float | None) -> list[tuple[int, Ended]]:
        assert self.running, "nothing to wait for"
        index, item = self.running.pop(0)
        endings = self.script.get(item, [])
        return [(index, endings.pop(0) if endings else Ended(DONE, item.upper()))]

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def run_script(engine: Scripted, monkeypatch: pytest.MonkeyPatch, on_crash: Any = None) -> Outcome[str]:
    monkeypatch.setattr(workers, "_engine", lambda *_: engine)
    return workers.run(str, "abcd", WorkersConfig(), "script", on_crash)


def test_slots_are_filled_and_never_more(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Scripted({}, slots=3)
    assert run_script(engine, monkeypatch).results == ["A", "B", "C", "D"] and engine.most == 3


def test_a_death_is_an_attempt_unless_something_was_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    death = Ended(DIED, reason="the process died 死")
    told: list[str] = []

    def on_crash(item: str) -> bool:
        told.append(item)
        return item == "b" or len(told) == 1

    engine = Scripted({"b": [death] * 7, "a": [death] * 3}, slots=1)
    results, failures = run_script(engine, monkeypatch, on_crash)
    assert results == ["A", "B", "C", "D"] and failures == []
    assert engine.log == ["a", "a", *"bbbbbbbb", "c", "d", "a", "a"]  # at once where it was learnt, else last
    engine = Scripted({"b": [death] * 3})
    results, failures = run_script(engine, monkeypatch)
    assert results == ["A", "C", "D"] and failures == [Failure("b", "the process died 死", "", 3)]


def test_refusals_and_unloadable_work_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="wrong 错"):
        run_script(Scripted({"b": [Ended(REFUSED, reason="wrong 错")]}), monkeypatch)
    with pytest.raises(RunFailed, match="script: a worker cannot load its work: ImportError: no such"):
        run_script(Scripted({"a": [Ended(UNLOADABLE, reason="ImportError: no such")]}), monkeypatch)


def test_mixed_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Scripted(
        {"d": [Ended(FAILED, reason="first"), Ended(DIED, reason="second"), Ended(FAILED, reason="last")]}
    )
    assert run_script(engine, monkeypatch).failures == [Failure("d", "last", "", 3)]


def test_names_of_items(tmp_path: Path) -> None:
    def function(item: object) -> None:
        raise ValueError

    items = [tmp_path / "网-00001.parquet", 7, "s" * 500]
    _, failures = workers.run(function, items, WorkersConfig(num_workers=1, attempts=1), "names")
    assert [f.name for f in failures] == ["网-00001.parquet", "7", "s" * 200]


def test_describe_is_safe_to_print() -> None:
    text = workers.describe([Failure("片-1", "ValueError: \x1b[2J页\u202e " + "长" * 400, "", 2)])
    assert text.startswith("  片-1: ValueError:  [2J页  长长") and text.endswith("长 ... (attempts: 2)")
    assert workers.describe([]) == ""
    assert len(workers.describe([Failure(str(i), "r", "", 3) for i in range(1005)]).split("\n")) == 6
    assert workers.describe([Failure(str(i), "r", "", 3) for i in range(1005)]).endswith("  ... and 1,000 more")


def test_settings_are_checked() -> None:
    assert list(WorkersConfig("ray", 4, "auto").problems()) == []
    assert list(WorkersConfig("spark").problems()) == ["engine: 'spark' is none of local, ray"]
    assert list(WorkersConfig(address="auto").problems()) == ["address: is for engine: ray only"]
    for wrong in (WorkersConfig(attempts=0), WorkersConfig(num_workers=-1), WorkersConfig(max_failed=-1)):
        assert list(wrong.problems()) == ["num_workers and max_failed must be 0 or more, attempts 1 or more"]
