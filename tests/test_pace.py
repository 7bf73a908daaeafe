"""The clock of a run: pauses are no training, batches may grow, one slow step changes little."""

from __future__ import annotations

import pytest

from mindllm.metrics import pace
from mindllm.metrics.pace import ONCE, Pace, show_duration


class Clock:
    """A clock that goes when it is told to."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(pace.time, "perf_counter", lambda: found.now)
    return found


def steps(clock: Clock, run: Pace, first: int, last: int, seconds: float = 1.0) -> None:
    for step in range(first, last + 1):
        clock.now += seconds
        assert run.step(step, tokens=10, waited=0.25) == pytest.approx(seconds)


def test_the_window_begins_anew_when_it_was_shown(clock: Clock) -> None:
    run = Pace(0, 100)
    steps(clock, run, 1, 4)
    assert run.window() == (10.0, 0.25)
    steps(clock, run, 5, 6, seconds=2.0)
    assert run.window() == (5.0, 0.125)


def test_one_slow_step_does_not_move_the_time_left(clock: Clock) -> None:
    run = Pace(0, 100)
    steps(clock, run, 1, 1, seconds=60)  # compiling
    steps(clock, run, 2, 9)
    steps(clock, run, 10, 10, seconds=30)
    assert run.left() == 90
    steps(clock, run, 11, 100)
    assert run.left() == 0


def test_the_median_is_of_recent_steps(clock: Clock) -> None:
    run = Pace(0, 1000)
    steps(clock, run, 1, 200)
    steps(clock, run, 201, 200 + pace.RECENT, seconds=2.0)
    assert run.left() == 2.0 * (1000 - 200 - pace.RECENT)


def test_growing_batches_are_counted(clock: Clock) -> None:
    """Ten steps of two samples, then ninety of eight; half a second a sample."""
    run = Pace(0, 100, lambda n: 2 * min(n, 10) + 8 * max(n - 10, 0))
    steps(clock, run, 1, 4, seconds=1.0)
    assert run.left() == 0.5 * (6 * 2 + 90 * 8)
    steps(clock, run, 5, 10, seconds=1.0)
    steps(clock, run, 11, 60, seconds=4.0)
    assert run.left() == 4.0 * 40


@pytest.mark.parametrize("start", [0, 7])
def test_pauses_that_come_again_are_expected_again(clock: Clock, start: int) -> None:
    """6 s every ten steps; after the second one it is known how often, wherever the run was resumed."""
    run = Pace(start, 1000)
    for step in range(start + 1, 41):
        clock.now += 1
        run.step(step, 10, 0.0)
        if step % 10 == 0:
            clock.now += 6
            assert run.pause("validating") == 6
        if step >= 20 or not start and step >= 10:
            assert run.left() == pytest.approx((1000 - step) * 1.6)


def test_what_comes_once_is_not_expected_again(clock: Clock) -> None:
    run = Pace(0, 102)
    steps(clock, run, 1, 2)
    clock.now += 500  # a rehearsal
    run.pause(ONCE)
    steps(clock, run, 3, 3)
    assert run.left() == 99 and run.window() == (10.0, 0.25)


def test_two_pauses_of_one_kind_after_one_step_are_one(clock: Clock) -> None:
    run = Pace(0, 20)
    steps(clock, run, 1, 10)
    for _ in range(2):
        clock.now += 5
        run.pause("sampling")
    assert run.left() == 10 + 10


def test_a_part_of_a_pause(clock: Clock) -> None:
    """Of 5 s one was saving, whatever the others were."""
    run = Pace(0, 20)
    steps(clock, run, 1, 10)
    clock.now += 5
    assert run.pause("saving", 1.0) == 1.0
    assert run.left() == 10 + 1
    assert run.pause("saving", 3.0) == 0.0  # no more than has passed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (44.6, "45 s"), (90, "1.5 min"), (5399, "90.0 min"), (5400, "1.5 h"), (172800, "2.0 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text
