"""Temporary files go with their block; those of dead processes go with the next process that makes one."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipeline.reading import scratch
from data_pipeline.reading.scratch import scratch_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch._remove_leftovers.cache_clear()
    return tmp_path


def test_it_goes_with_the_block(folder: Path) -> None:
    with pytest.raises(KeyError), scratch_file(".gz") as (path, file):
        file.write(b"x")
        assert path.read_bytes() == b"x" and path.parent == folder and path.suffix == ".gz"
        assert path.stat().st_mode & 0o777 == 0o600
        path.unlink()  # by somebody else: nothing is left to do
        raise KeyError
    assert not list(folder.iterdir())


def test_what_is_removed(folder: Path) -> None:
    """What is old, ours by name, and held by nobody; a link goes nowhere."""
    old, held, young, link = (folder / f"{scratch._PREFIX}{i}" for i in range(4))
    other = folder / "other"
    for path in (old, held, young, other):
        path.write_bytes(b"x")
        os.utime(path, (0, time.time() if path == young else 0))
    link.symlink_to(other)
    with open(held, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with scratch_file("") as (path, _):
            assert sorted(folder.iterdir()) == sorted([held, young, other, link, path])
    assert other.read_bytes() == b"x"


def test_a_killed_process_leaves_no_file_for_long(folder: Path) -> None:
    code = """
import os, signal, sys, tempfile
from data_pipeline.reading.scratch import scratch_file
tempfile.tempdir = sys.argv[1]
with scratch_file(".warc.gz") as (path, file):
    file.write(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=Path(__file__).parent.parent)
    (left,) = folder.iterdir()
    os.utime(left, (0, 0))
    with scratch_file("") as (path, _):
        assert list(folder.iterdir()) == [path]
