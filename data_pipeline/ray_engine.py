"""The engine for Ray: started here for this machine, or a cluster that is joined. The only file that imports ray.

Ray brings items to machines and tells when a process or a machine is lost; trying again is our own business
(workers.py), as on this machine. Tasks write to folders that all machines must share (docs/cluster.md).
Cost: 5 to 10 s to start and 0.6 GB for Ray itself, 2 to 3 ms an item; kept between the runs of one command.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from data_pipeline.local_engine import DIED, DIED_REASON, FAILED, UNLOADABLE, Ended, num_cpus, pickled, reason_of
from mindllm.config import RunFailed, UserError

OBJECT_STORE_BYTES = 100 << 20  # results are counts and names; Ray's least is 75 MiB
LOOK_SECONDS = 10.0  # between looks at a cluster's size
CANCEL_SECONDS = 10.0


class Ray:
    """At most `num_workers` tasks of one CPU each (0: one for each CPU that the cluster has at the time)."""

    def __init__(self, function: Callable[[Any], Any], num_workers: int, address: str):
        self._ray = _connect(num_workers, address)
        self._num_workers = num_workers
        self._num_cpus, self._looked = 0, -LOOK_SECONDS
        work = pickled(function, self._ray.cloudpickle.dumps)  # by value where it is defined in the script itself
        self._shipped = self._ray.put((os.getcwd(), _search_path(), _folders(function), work))  # once, not per item
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(_make_task())
        self._running: dict[Any, int] = {}

    def slots(self) -> int:
        if self._num_workers:
            return self._num_workers
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._num_cpus, self._looked = int(self._ray.cluster_resources().get("CPU", 0)), time.monotonic()
        return max(1, self._num_cpus)

    def start(self, index: int, item: Any) -> None:
        self._running[self._task.remote(self._shipped, pickled(item, self._ray.cloudpickle.dumps))] = index

    def wait(self, seconds: float | None) -> list[tuple[int, Ended]]:
        if not self._num_workers:  # a cluster that grows in the meantime gets more items
            seconds = LOOK_SECONDS if seconds is None else min(seconds, LOOK_SECONDS)
        running = list(self._running)
        done, rest = self._ray.wait(running, num_returns=1, timeout=seconds)
        if done and rest:
            done += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [(self._running.pop(ref), self._outcome(ref)) for ref in done]

    def _outcome(self, ref: Any) -> Ended:
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.RayTaskError as error:  # not of the function, whose errors are results
            state = UNLOADABLE if isinstance(error.cause, ImportError) else FAILED  # a result that cannot travel
            return Ended(state, reason=reason_of(error.cause), trace=str(error))
        except errors.RayError as error:  # the process or its machine is gone, or its result with it
            return Ended(DIED, reason=f"{DIED_REASON}; Ray: {reason_of(error)}", trace=str(error))

    def __enter__(self) -> Ray:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After an error or Ctrl-C, kill what still runs: others may wait for the machines."""
        for ref in self._running:
            self._ray.cancel(ref, force=True)
        if self._running:
            running = list(self._running)
            self._ray.wait(running, num_returns=len(running), timeout=CANCEL_SECONDS)


def _make_task() -> Callable[[tuple[str, list[str], list[str], bytes], bytes], Any]:
    """The task, made inside a function so that it travels by value: a worker has to be told first where our code is."""

    def task(shipped: tuple[str, list[str], list[str], bytes], item: bytes) -> Any:
        import os
        import socket
        import sys

        directory, search_path, folders, function = shipped
        if sys.path[: len(search_path)] != search_path:
            sys.path[:] = search_path + [place for place in sys.path if place not in search_path]
        missing = [folder for folder in (directory, *folders) if not os.path.isdir(folder)]
        from data_pipeline.local_engine import UNLOADABLE, Ended, attempt_pickled

        if missing:
            problem = f"{missing[0]} does not exist on {socket.gethostname()}"
            return Ended(UNLOADABLE, reason=f"{problem}: all machines must share it (docs/cluster.md)")
        os.chdir(directory)
        return attempt_pickled(function, item)

    return task


def _search_path() -> list[str]:
    """Where this process finds modules, for workers that start elsewhere."""
    return [os.path.abspath(place) for place in sys.path]


def _folders(function: Callable[[Any], Any]) -> list[str]:
    """Folders here that the function is told to write to or read from: workers must see them, too."""
    if not isinstance(function, functools.partial):
        return []
    values = [*function.args, *function.keywords.values()]
    return [os.path.abspath(value) for value in values if isinstance(value, Path) and value.is_dir()]


_started: tuple[str, int] | None = None  # address and number of CPUs of the Ray that this process started or joined


def _connect(num_workers: int, address: str) -> ModuleType:
    """Ray, connected. One that this process has is kept; Ray itself ends or leaves it as this process ends."""
    global _started
    if not address:
        _keep_to_this_machine()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it Ray warns at each start
    try:
        import ray
    except ImportError:
        raise UserError("workers.engine=ray needs the extra: pip install -e '.[ray]'") from None
    wanted = 0 if address else num_workers or num_cpus()
    if ray.is_initialized() and _started and (_started[0] != address or _started[1] < wanted):
        ray.shutdown()
    if not ray.is_initialized():  # else by this process, or by whoever uses us from Python
        _initialise(ray, wanted, address)
        _started = (address, wanted)
    return ray


def _initialise(ray: ModuleType, cpus: int, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        try:
            ray.init("local", num_cpus=cpus, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False, **quiet)
        except Exception as error:  # Ray raises bare ones: too little memory or time, a full disk for its sessions
            raise RunFailed(f"Ray could not be started on this machine: {reason_of(error)}") from error
        return
    try:
        ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"workers.address: cannot join Ray at {address!r}: {reason_of(error)}; see docs/cluster.md, or leave "
            "workers.address empty to start Ray on this machine"
        ) from None


def _keep_to_this_machine() -> None:
    """Ray runs whatever reaches its ports, so that of one machine listens on loopback only, and asks for a secret.

    Ray reads the variable for loopback as it is imported. The secret goes to Ray's processes through the environment;
    left to itself, Ray would write one into the home folder.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if not any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
