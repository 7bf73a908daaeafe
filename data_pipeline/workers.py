"""Runs one function over shards: in this process, or on a pool of spawned processes; results come back in shard order.

Spawned, not forked: threads of pyarrow and torch do not survive a fork. Start-up costs about a second a worker. Memory
is bounded by what one shard needs times the number of workers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(function: Callable[[Item], Result], items: Sequence[Item], num_workers: int, title: str) -> list[Result]:
    """`[function(i) for i in items]` on up to `num_workers` processes, with a progress bar; `function` is pickled.

    The first exception ends the run (finished shards stay finished on disk, so the stage goes on from there).
    """
    results: dict[int, Result] = {}
    with _progress() as progress:
        bar = progress.add_task(title, total=len(items))
        for index, result in _results(function, items, num_workers):
            results[index] = result
            progress.advance(bar)
    return [results[i] for i in range(len(items))]


def _results(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int
) -> Iterator[tuple[int, Result]]:
    if min(num_workers, len(items)) <= 1:
        yield from ((i, function(item)) for i, item in enumerate(items))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_workers, len(items)), mp_context=context) as pool:
        futures = {pool.submit(function, item): i for i, item in enumerate(items)}
        try:
            yield from ((futures[done], done.result()) for done in as_completed(futures))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
