"""The meter: what it says after how much work, by bytes or by items, and when a log gets a line."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from mindllm.progress import Meter, duration


@dataclass
class Shard:
    num_bytes: int


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def meter_of(items: list[object], terminal: bool = False) -> tuple[Meter, Clock, io.StringIO]:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    return Meter("clean: 网", items, console, clock), clock, out


def test_bytes_weigh_where_all_items_have_them() -> None:
    meter, clock, _ = meter_of([Shard(10_000_000), Shard(30_000_000), Shard(160_000_000)])
    assert meter.status() == "0 of 3"
    clock.now += 10
    meter.advance(1)
    assert meter.status() == "1 of 3, 3.0 MB/s, 57 s left"
    clock.now += 20  # while the next one runs
    assert meter.status() == "1 of 3, 1.0 MB/s, 3 min left"


@pytest.mark.parametrize("items", [["a", "b", "c", "d"], [Shard(5), "b", Shard(5), Shard(5)], [Shard(0)] * 4])
def test_else_items_count(items: list[object]) -> None:
    meter, clock, _ = meter_of(items)
    clock.now += 2
    meter.advance(3)
    meter.advance(0)
    assert meter.status() == "2 of 4, 1 a second, 2 s left"


def test_slow_and_fast_rates_are_readable() -> None:
    meter, clock, _ = meter_of([1] * 4000)
    for _ in range(3000):
        meter.advance(0)
    clock.now += 1
    assert meter.status() == "3,000 of 4,000, 3,000 a second, 0 s left"
    meter, clock, _ = meter_of([1] * 10)
    clock.now += 20
    meter.advance(0)
    assert meter.status() == "1 of 10, 3 a minute, 3 min left"
    clock.now += 3580  # one item may take longer than the period
    assert meter.status() == "1 of 10, 1.0 an hour, 9 h 0 min left"
    meter, clock, _ = meter_of([Shard(50_000)] * 10)
    clock.now += 10
    meter.advance(0)
    assert meter.status() == "1 of 10, 5 kB/s, 2 min left"


def test_the_rate_forgets_what_an_earlier_start_had_done() -> None:
    meter, clock, _ = meter_of([1] * 10_000)
    for _ in range(5000):
        meter.advance(0)
    for _ in range(100):
        clock.now += 60
        meter.advance(0)
    assert meter.status() == "5,100 of 10,000, 1 a minute, 3 d 9 h left"


def test_a_log_gets_a_line_a_minute_and_none_of_short_runs() -> None:
    meter, clock, out = meter_of([1] * 1000)
    with meter:
        for _ in range(590):
            clock.now += 0.125 if clock.now < 1059 else 0
            meter.advance(0)
        assert out.getvalue() == ""
        for _ in range(100):
            clock.now += 1
            meter.advance(0)
    assert out.getvalue().splitlines() == [
        "clean: 网: 591 of 1,000, 10 a second, 42 s left",
        "clean: 网: 651 of 1,000, 5 a second, 1 min left",
    ]


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    meter, clock, out = meter_of([1] * 4, terminal=True)
    with meter:
        clock.now += 100
        meter.advance(0)
        meter._bar.refresh()
    assert "clean: 网" in out.getvalue() and "1 of 4, 36.0 an hour, 5 min left" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")


def test_durations() -> None:
    said = [duration(s) for s in (0.4, 59, 60, 3599, 7380, 86_399, 90_000, 1e7)]
    assert said == ["0 s", "59 s", "1 min", "1 h 0 min", "2 h 3 min", "1 d 0 h", "1 d 1 h", "115 d 17 h"]


def test_an_item_at_work_is_named_as_it_is_and_a_log_says_so_at_its_begin() -> None:
    meter, clock, out = meter_of(["a", "b", "c"])
    with meter:
        meter.begin("mindllm_mmlu_law")
        assert meter.status() == "0 of 3; at work: mindllm_mmlu_law"
        clock.now += 40
        meter.advance(0)
        assert out.getvalue() == ""
        clock.now += 20
        meter.begin("mindllm_ceval_[法学]")
    assert out.getvalue() == "clean: 网: 1 of 3, 1 a minute, 2 min left; at work: mindllm_ceval_[法学]\n"
