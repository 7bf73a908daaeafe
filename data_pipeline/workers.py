"""Runs one function over shards: in this process, or on spawned processes; results come back in shard order.

Spawned, not forked: threads of pyarrow and torch do not survive a fork. Start-up costs about half a second a worker.
Each worker is a pool of one process: where one dies, it is known which item it had, and the others work on. Memory is
bounded by what one shard needs times the number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")
Result = TypeVar("Result")
OnCrash = Callable[[Item], bool]

MAX_DEATHS = 2  # in a row, without anything learned from them: the first may be an accident, such as a kill


def run(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    num_workers: int,
    title: str,
    on_crash: OnCrash[Item] | None = None,
) -> list[Result]:
    """`[function(i) for i in items]` on up to `num_workers` processes, with a progress bar; `function` is pickled.

    The first exception ends the run (finished shards stay finished on disk, so the stage goes on from there).
    `on_crash(item)` is called here, in the parent, when the process that had `item` died (a crash in C code, a signal,
    the kernel's out-of-memory killer); the item is run again. It returns whether the next attempt will do something
    else than the last one; after MAX_DEATHS attempts of which it could not say so a RuntimeError names the item. With
    `on_crash` even one worker is a process of its own; without it, one worker is this process.
    """
    results: dict[int, Result] = {}
    num_workers = min(num_workers, len(items))
    with _progress() as progress:
        bar = progress.add_task(title, total=len(items))
        here = num_workers <= 1 and on_crash is None
        pairs = enumerate(map(function, items)) if here else _spawned(function, items, max(1, num_workers), on_crash)
        for index, result in pairs:
            results[index] = result
            progress.advance(bar)
    return [results[i] for i in range(len(items))]


def _spawned(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int, on_crash: OnCrash[Item] | None
) -> Iterator[tuple[int, Result]]:
    """(index, result) in the order in which they come."""
    waiting = deque(range(len(items)))
    deaths = [0] * len(items)
    pools = [_pool() for _ in range(num_workers)]
    idle = list(range(num_workers))
    running: dict[Future[Result], tuple[int, int]] = {}
    try:
        while waiting or running:
            while waiting and idle:
                index, place = waiting.popleft(), idle.pop()
                future, pools[place] = _submit(pools[place], function, items[index])
                running[future] = (index, place)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, place = running.pop(future)
                idle.append(place)
                try:
                    yield index, future.result()
                except BrokenProcessPool:
                    deaths[index] = 0 if on_crash and on_crash(items[index]) else deaths[index] + 1
                    if deaths[index] == MAX_DEATHS:
                        raise RuntimeError(_obituary(items[index])) from None
                    waiting.appendleft(index)
    finally:
        for pool in pools:
            pool.shutdown(wait=True)  # what is running ends first, so that no work is lost


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], item: Item
) -> tuple[Future[Result], ProcessPoolExecutor]:
    """The future of function(item), and the pool that has it: a new one if the process of `pool` has died."""
    try:
        return pool.submit(function, item), pool
    except BrokenProcessPool:
        pool.shutdown(wait=True)
        pool = _pool()
        return pool.submit(function, item), pool


def _pool() -> ProcessPoolExecutor:
    """A pool of one process, which starts with its first item."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed: a worker left behind would write into the files of the next run."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a pool's initializer runs in a child"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _obituary(item: object) -> str:
    name = getattr(item, "name", None) or str(item)[:200]
    return (
        f"{name}: the worker process died {MAX_DEATHS} times while it worked on this, and no document is to blame. "
        "Killed from outside, out of memory, or it cannot start: see the messages above. The same command goes on."
    )


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
