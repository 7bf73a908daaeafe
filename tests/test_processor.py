"""How a training uses the processors of its machine."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mindllm.train import processor

FAULTS = """
import resource, sys
from mindllm.train.processor import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(20):
    block = bytearray(64 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(kept: str) -> int:
    """Page faults of a process that allocates and frees 64 MiB twenty times."""
    return int(subprocess.run([sys.executable, "-c", FAULTS, kept], check=True, capture_output=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_used_again_without_new_pages() -> None:
    if faults("given back") < 100_000:
        pytest.skip("large pages: the kernel gives memory in few faults anyway")
    assert faults("kept") < 100_000  # 64 MiB are 16,384 pages, and malloc clears them once


@pytest.mark.parametrize("library", [SimpleNamespace(), None], ids=["no mallopt", "no library"])
def test_elsewhere_nothing_is_set(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(name: None) -> Any:
        if library is None:
            raise OSError("no such library")
        return library

    monkeypatch.setattr(ctypes, "CDLL", opened)
    assert processor.keep_freed_memory() is False


@pytest.mark.parametrize(
    ("asked", "environment", "world", "expected"),
    [
        (3, {}, 1, 3),
        (0, {}, 2, 4),
        (0, {"LOCAL_WORLD_SIZE": "4"}, 8, 2),
        (0, {"LOCAL_SIZE": "2"}, 8, 4),
        (0, {}, 99, 1),
    ],
)
def test_cores_are_shared_out(
    asked: int, environment: dict[str, str], world: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    processor.set_threads(asked, world)
    assert found == [expected]
