"""What an engine is, and the two that run on this machine: in this process, and on spawned processes.

An engine starts items and says how they ended; what follows from that (trying again, giving up) is decided in
workers.py. Spawned, not forked: threads of pyarrow and torch do not survive a fork. Each worker is a pool of one
process, so that where one dies it is known which item it had, and the others work on.
Cost: under a second a worker to start, below a millisecond an item. Memory: what one item needs, times workers.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from mindllm.config import RunFailed, UserError

DONE, FAILED, DIED = "done", "failed", "died"
REFUSED = "refused"  # by a UserError: the next items would be refused, too
UNLOADABLE = "unloadable"  # the worker cannot even load the function: no item would fare better
MAX_REASON = 1000  # characters of a message, which may quote a document

DIED_REASON = "the worker process died: killed from outside, out of memory, or it cannot start (see the messages above)"


class Ended(NamedTuple):
    """How an item ended: state, the function's result (DONE), else a line of reason and maybe a traceback."""

    state: str
    result: Any = None
    reason: str = ""
    trace: str = ""


class Engine(Protocol):
    """Runs one function over items; leaving its `with` block ends all that still runs."""

    def slots(self) -> int:
        """How many items may run at the same time, as of now."""

    def start(self, index: int, item: Any) -> None:
        """Begin an item; only while fewer than slots() run."""

    def wait(self, seconds: float | None) -> list[tuple[int, Ended]]:
        """Which items have ended, after at least one has; maybe none, after `seconds` or earlier."""

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def attempt(function: Callable[[Any], Any], item: Any) -> Ended:
    """Call the function; what it raises is told, not raised, for not every exception can travel between processes."""
    try:
        return Ended(DONE, function(item))
    except KeyboardInterrupt:
        raise
    except UserError as error:
        return Ended(REFUSED, reason=str(error))
    except BaseException as error:  # SystemExit and the panics of Rust libraries are no Exception; they end one item
        return Ended(FAILED, reason=reason_of(error), trace=traceback.format_exc())


def attempt_pickled(function: bytes, item: bytes) -> Ended:
    """As `attempt`, in a worker; the function is loaded there once."""
    try:
        loaded = _load(function)
    except BaseException as error:  # an import that fails, in whatever way
        return Ended(UNLOADABLE, reason=reason_of(error), trace=traceback.format_exc())
    return attempt(lambda data: loaded(pickle.loads(data)), item)


_load = functools.lru_cache(maxsize=1)(pickle.loads)


def reason_of(error: BaseException) -> str:
    """An exception in one line: its type and message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MAX_REASON]


def pickled(value: Any, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes:
    """Bytes for a worker. Raises TypeError for what cannot travel: lambdas, functions in functions, open files."""
    try:
        return dumps(value)
    except Exception as error:
        problem = f"{str(value)[:200]} cannot be sent to a worker process: {reason_of(error)}"
        raise TypeError(f"{problem}; functions must stand in a module, by name") from error


def num_cpus() -> int:
    """Those that this process may use, which Slurm and containers limit, not all that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class InProcess:
    """One item at a time, in this process: nothing to start, nothing to pickle, and Ctrl-C works as ever."""

    def __init__(self, function: Callable[[Any], Any]):
        self._function = function
        self._started: list[tuple[int, Any]] = []

    def slots(self) -> int:
        return 1

    def start(self, index: int, item: Any) -> None:
        self._started.append((index, item))

    def wait(self, seconds: float | None) -> list[tuple[int, Ended]]:
        index, item = self._started.pop()
        return [(index, attempt(self._function, item))]

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Processes:
    """Up to `num_workers` spawned processes, which end with this one, whatever ends it."""

    def __init__(self, function: Callable[[Any], Any], num_workers: int):
        self._function = pickled(function)
        self._context = multiprocessing.get_context("spawn")
        self._reader, self._writer = self._context.Pipe(duplex=False)  # closed at our end: the workers end
        self._pools = [self._pool() for _ in range(num_workers)]
        self._idle = list(range(num_workers))
        self._running: dict[Future[Ended], tuple[int, int]] = {}  # to the numbers of item and pool

    def slots(self) -> int:
        return len(self._pools)

    def start(self, index: int, item: Any) -> None:
        data, place = pickled(item), self._idle.pop()
        try:
            future = self._submit(place, data)
        except BrokenProcessPool:  # its process has died
            self._pools[place].shutdown(wait=True)
            self._pools[place] = self._pool()
            future = self._submit(place, data)
        self._running[future] = (index, place)

    def _submit(self, place: int, data: bytes) -> Future[Ended]:
        try:
            return self._pools[place].submit(_work, data)
        except OSError as error:
            raise RunFailed(f"a worker process cannot be started ({reason_of(error)}); try fewer workers") from error

    def wait(self, seconds: float | None) -> list[tuple[int, Ended]]:
        ended = []
        for future in wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED).done:
            index, place = self._running.pop(future)
            self._idle.append(place)
            ended.append((index, _outcome(future)))
        return ended

    def _pool(self) -> ProcessPoolExecutor:
        """A pool of one process, which starts with its first item."""
        return ProcessPoolExecutor(1, self._context, initializer=_begin, initargs=(self._reader, self._function))

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is running ends first, so that no work is lost; on Ctrl-C it is killed."""
        with contextlib.closing(self._writer), contextlib.closing(self._reader):
            if kind is not None and not issubclass(kind, Exception):
                self._writer.close()
            for pool in self._pools:
                pool.shutdown(wait=True)


def _outcome(future: Future[Ended]) -> Ended:
    try:
        return future.result()
    except BrokenProcessPool as error:
        return Ended(DIED, reason=DIED_REASON, trace=str(error.__cause__ or ""))
    except Exception as error:  # a result that cannot be pickled
        return Ended(FAILED, reason=reason_of(error), trace="".join(traceback.format_exception(error)))


_function = b""  # of this worker, set as it begins


def _begin(lifeline: Connection, function: bytes) -> None:
    """Ends this worker with its parent: one that is left behind would write into the files of the next run.

    Ctrl-C in a terminal reaches workers, too; they leave it to the parent to end them.
    """
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv()  # nothing is ever sent
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(item: bytes) -> Ended:
    return attempt_pickled(_function, item)
