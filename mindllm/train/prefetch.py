"""The data of the next steps, made ready by a thread while the device computes: reading, packing, copying.

The order is a pure function of the step, so what is ready but not used is simply dropped when a run stops; nothing of
it is saved. memory: the tokens of `depth` + 1 steps, on the device. An error in the thread is raised by `get` for the
step that it belongs to.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch

from mindllm.train.objective import Batches, Loss


class Prepared(NamedTuple):
    """One step's micro-batches as the loss wants them, on the device, and the targets of every term in all of them."""

    micro_batches: list[dict[str, Any]]
    counts: dict[str, int]


def prepare_steps(
    batches: Batches, loss: Loss, rank: int, world: int, device: torch.device
) -> Callable[[int], Prepared]:
    """A function of the step that prepares its data for one process."""

    def prepare(step: int) -> Prepared:
        micro_batches = [loss.prepare(batch, device) for batch in batches(step, rank, world)]
        counts: dict[str, int] = {}
        for batch in micro_batches:
            for name, count in loss.counts(batch).items():
                counts[name] = counts.get(name, 0) + count
        return Prepared(micro_batches, counts)

    return prepare


class Prefetch:
    """Steps start, start + 1, ... up to `stop`, in order, `depth` of them ahead (0: made when asked for).

    waited: seconds that the last `get` took.
    """

    def __init__(self, prepare: Callable[[int], Prepared], start: int, stop: int, depth: int, device: torch.device):
        self._prepare, self._next, self._depth, self.waited = prepare, start, depth, 0.0
        self._ready: queue.Queue[Prepared | BaseException] = queue.Queue(maxsize=max(depth, 1))
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if depth:
            self._thread = threading.Thread(target=self._work, args=(start, stop, device), name="prefetch", daemon=True)
            self._thread.start()

    def get(self) -> Prepared:
        """The next step's data. Raises what preparing it raised."""
        began = time.perf_counter()
        found = self._ready.get() if self._depth else self._prepare(self._next)
        self._next += 1
        self.waited = time.perf_counter() - began
        if isinstance(found, BaseException):
            raise found
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread; what it has made ready is dropped."""
        self._closed.set()
        if self._thread is not None:
            while self._thread.is_alive():
                with contextlib.suppress(queue.Empty):
                    self._ready.get(timeout=0.01)  # it may be waiting for room
            self._thread.join()

    def _work(self, start: int, stop: int, device: torch.device) -> None:
        if device.type == "cuda":
            torch.cuda.set_device(device)  # of this thread; else pinned memory would belong to the first GPU
        for step in range(start, stop):
            if self._closed.is_set():
                return
            try:
                self._ready.put(self._prepare(step))
            except BaseException as error:  # noqa: BLE001  it is raised again where the step is asked for
                self._ready.put(error)
                return
