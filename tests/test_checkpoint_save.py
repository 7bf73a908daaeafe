"""Saving: training goes on meanwhile, kills and full disks leave the checkpoint before."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_engine import Files, holds_its_step, save_all

from mindllm.checkpoint import Keep, Progress, Saver, damage, folder_name, latest, latest_intact
from mindllm.checkpoint import save as save_module
from mindllm.checkpoint import writer as writer_module
from mindllm.checkpoint.folder import step_of
from mindllm.config import RunFailed

BOTH = pytest.mark.parametrize("background", [True, False])


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writing of files waits for this event."""
    event, write_state = threading.Event(), writer_module.write_state

    def wait(*given: Any) -> Any:
        assert event.wait(60)
        return write_state(*given)

    monkeypatch.setattr(writer_module, "write_state", wait)
    yield event
    event.set()


def test_training_goes_on_while_it_is_written(tmp_path: Path, held: threading.Event) -> None:
    """The file holds the state, progress and validation of the moment of `save`, bit by bit."""
    engine, progress, valid = Files(), Progress(1, 100), {"valid_loss": 2.0}
    with Saver(engine, tmp_path / "background", Keep(2), background=True) as saver:
        (tmp_path / "background").mkdir()
        engine.train(1)
        stall = saver.save(progress, valid)
        engine.train(2)
        progress.step, progress.tokens, valid["valid_loss"] = 2, 200, 1.0
        progress.skipped.append([1, 2])
        assert latest(tmp_path / "background") is None and saver.last is None
        held.set()
        saver.wait()
        assert saver.last is not None and saver.last.step == 1 and saver.last.stall == stall
        folder = tmp_path / "background" / folder_name(1)
        assert saver.last.num_bytes == sum(p.stat().st_size for p in folder.glob("*.pt")) and saver.last.seconds > 0
    engine.train(1)
    with Saver(engine, tmp_path / "foreground", Keep(2), background=False) as saver:
        (tmp_path / "foreground").mkdir()
        stall = saver.save(Progress(1, 100), {"valid_loss": 2.0})
        assert saver.last is not None and saver.last.stall == stall >= saver.last.seconds
    for name in ("model.pt", "optimizer.pt", "meta.json"):
        one, other = (tmp_path / way / folder_name(1) / name for way in ("background", "foreground"))
        assert one.read_bytes() == other.read_bytes(), name


def test_the_next_save_waits_and_says_so_once(
    tmp_path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(save_module, "_LONG", 0.0)
    engine = Files()
    with Saver(engine, tmp_path, Keep(9), background=True) as saver:
        engine.train(1)
        saver.save(Progress(1), {})
        engine.train(2)
        threading.Timer(0.1, held.set).start()
        saver.save(Progress(2), {})
        assert holds_its_step(tmp_path / folder_name(1)) and damage(tmp_path / folder_name(1)) is None
        engine.train(3)
        saver.save(Progress(3), {})
    assert [holds_its_step(tmp_path / folder_name(step)) for step in (1, 2, 3)] == [True] * 3
    assert capsys.readouterr().out.count("saving takes longer than the time between checkpoints") == 1


def test_an_error_of_training_leaves_a_complete_checkpoint(tmp_path: Path, held: threading.Event) -> None:
    engine = Files()
    with pytest.raises(ZeroDivisionError), Saver(engine, tmp_path, Keep(2), background=True) as saver:
        engine.train(4)
        saver.save(Progress(4), {})
        threading.Timer(0.1, held.set).start()
        raise ZeroDivisionError
    assert latest_intact(tmp_path) == tmp_path / folder_name(4) and holds_its_step(tmp_path / folder_name(4))


def test_the_same_step_again(tmp_path: Path) -> None:
    """Such as the rehearsal's, or one that is damaged."""
    save_all(Files(), tmp_path, [2, 2])
    (tmp_path / folder_name(2) / "model.pt").write_bytes(b"?")
    save_all(Files(), tmp_path, [2], background=False)
    assert latest_intact(tmp_path) == tmp_path / folder_name(2)
    assert [p.name for p in tmp_path.iterdir()] == [folder_name(2)]


def test_the_error_of_a_save_is_not_lost_behind_that_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(writer_module, "write_state", broken)
    with pytest.raises(ZeroDivisionError), Saver(Files(), tmp_path, Keep(2), background=True) as saver:
        saver.save(Progress(4), {})
        raise ZeroDivisionError
    assert f"checkpoint {tmp_path / folder_name(4)} is not complete: " in capsys.readouterr().out
    assert latest(tmp_path) is None


@BOTH
@pytest.mark.parametrize("part", ["_write_chunk", "fsync", "rename"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool, part: str) -> None:
    """Training hears of it with the way out; the checkpoint before stays, nothing else does, and a save works again."""
    engine = Files()
    save_all(engine, tmp_path, [1])

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Saver(engine, tmp_path, Keep(1), background) as saver:
        with monkeypatch.context() as patch:
            place: Any = {"_write_chunk": writer_module._HashedFile, "fsync": os, "rename": Path}[part]
            patch.setattr(place, part, full)
            with pytest.raises(RunFailed) as error:
                saver.save(Progress(2), {})
                saver.wait()
        message = str(error.value)
        assert "checkpoint of step 2 could not be saved" in message and "No space left on device" in message
        assert f"{tmp_path / folder_name(1)} is complete; the same command goes on from it" in message
        assert [p.name for p in tmp_path.iterdir()] == [folder_name(1)] and holds_its_step(tmp_path / folder_name(1))
        engine.train(3)
        saver.save(Progress(3), {})
    assert [p.name for p in tmp_path.iterdir()] == [folder_name(3)] and holds_its_step(tmp_path / folder_name(3))


@BOTH
def test_too_little_space_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=39_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(RunFailed, match=r"it needs 0.00 GiB, and only 0.00 GiB are free(.|\n)*none was saved before"):
        save_all(Files(), tmp_path, [1], background=background)
    assert not list(tmp_path.iterdir())


def test_another_process_s_error_is_everyone_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 could not write: rank 0 does not wait for its record, and fails too."""
    engine = Files()
    with Saver(engine, tmp_path, Keep(1), background=True) as saver:
        monkeypatch.setattr(save_module.door, "world_size", lambda: 2)
        saver.save(Progress(1), {})
        monkeypatch.setattr(save_module.door, "from_every_rank", lambda mine: [mine, "x.pt: Input/output error"])
        with pytest.raises(RunFailed, match="step 1 could not be saved: x.pt: Input/output error"):
            saver.wait()
        assert not list(tmp_path.iterdir())
        monkeypatch.setattr(save_module.door, "world_size", lambda: 1)
        monkeypatch.setattr(save_module.door, "from_every_rank", lambda mine: [mine])
        saver.save(Progress(2), {})
    assert latest_intact(tmp_path) == tmp_path / folder_name(2)


def in_child(work: Callable[[], None]) -> multiprocessing.process.BaseProcess:
    """A forked process that does this work (so it need not import anything)."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


CALLS = ((os, "fsync"), (os, "replace"), (Path, "rename"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree"),
         (os, "rmdir"), (os, "unlink"), (torch, "save"))  # fmt: skip


@BOTH
def test_a_kill_at_any_moment(tmp_path: Path, background: bool) -> None:
    """The process ends before the first, second, ... call that changes the disk: the checkpoint before is complete.

    Or the new one is, and what is left behind goes with the next save.
    """

    def save_and_die(out: Path, number: int) -> Callable[[], None]:
        def work() -> None:
            left = [number]
            for place, name in CALLS:
                setattr(place, name, dying(getattr(place, name), left))
            save_all(Files(), out, [2], Keep(1), background)
            os._exit(0)

        return work

    def dying(call: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
        def called(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*given, **named)

        return called

    steps = []
    for number in range(200):
        out = tmp_path / f"{number}"
        out.mkdir()
        save_all(Files(), out, [1], Keep(1), background=False)
        process = in_child(save_and_die(out, number))
        process.join(60)
        found = latest_intact(out)
        assert found is not None and holds_its_step(found), number
        steps.append(step_of(found))
        save_all(Files(), out, [3], Keep(1))
        assert [p.name for p in out.iterdir()] == [folder_name(3)], number
        if process.exitcode == 0:
            break
    assert steps == sorted(steps) and set(steps) == {1, 2} and steps.count(1) > 9 and steps.count(2) > 3, steps


def test_sigkill_at_random_times(tmp_path: Path) -> None:
    """Run after run goes on from the newest checkpoint, which is intact and never older than before."""
    moments, step = random.Random(7), 1

    def work() -> None:
        engine = Files()
        with Saver(engine, tmp_path, Keep(2), background=True) as saver:
            for number in range(step + 1, 100_000):
                engine.train(number)
                saver.save(Progress(number), {})

    save_all(Files(), tmp_path, [1])
    for _ in range(10):
        process = in_child(work)
        time.sleep(moments.uniform(0.02, 0.3))
        process.kill()
        process.join()
        found = latest_intact(tmp_path)
        assert found is not None and holds_its_step(found) and step_of(found) >= step
        step = step_of(found)
