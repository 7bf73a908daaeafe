"""Temporary files that do not outlive their process: locked while in use, removed after it, else by the next process.

A lock, not a process number: it also holds between containers, and the kernel drops it with the process, however that
ended. They lie in the folder that TMPDIR names. Costs: one look at that folder a process.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_PREFIX = "mindllm-copy-"
_GRACE = 60  # seconds: one that another process has just made may not be locked yet


@contextlib.contextmanager
def scratch_file(suffix: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """(path, the open file) of an empty file that ends in `suffix`; it goes with the block. Raises OSError."""
    folder = tempfile.gettempdir()
    _remove_leftovers(folder)
    handle, name = tempfile.mkstemp(suffix, _PREFIX, folder)
    try:
        with open(handle, "wb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield Path(name), file
    finally:
        Path(name).unlink(missing_ok=True)


@functools.cache
def _remove_leftovers(folder: str) -> None:
    """Once a process: files without a lock go. Those of other users cannot be opened, and stay."""
    for path in Path(folder).glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if time.time() - os.fstat(handle).st_mtime > _GRACE:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            finally:
                os.close(handle)
