"""Writing: bytes and hashes, several processes that agree through the folder, errors of the disk."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from mindllm.checkpoint import Keep, damage
from mindllm.checkpoint import writer as writer_module
from mindllm.checkpoint.writer import Job, Writing, _HashedFile, record_of, write_state
from mindllm.engine import read_state
from mindllm.stage import read_json

STATE = {"权重": torch.arange(9000.0), "weight": torch.arange(7000.0)}
META = {"step": 5, "tokens": 1, "skipped": [], "fingerprints": {}}


def writings(out: Path, world: int, states: dict[str, Any] | None = None) -> list[Writing]:
    """What each of `world` processes writes."""
    temporary = out / "step-00000005.tmp"
    temporary.mkdir()
    states = states or {f"part-{rank}.pt": {"rank": torch.full((500,), float(rank))} for rank in range(world)}
    return [
        Writing(Job(temporary, out / "step-00000005", {temporary / name: state}, META, Keep(2), rank, world))
        for rank, (name, state) in enumerate(states.items())
    ]


def test_the_record_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_CHUNK", 1000)
    record = write_state(tmp_path / "a.pt", STATE, rank=3)
    data = (tmp_path / "a.pt").read_bytes()
    assert record == (len(data), xxhash.xxh3_128_hexdigest(data), 3)
    assert record_of(tmp_path / "a.pt") == record._replace(rank=0)
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    assert data == buffer.getvalue()
    assert all(torch.equal(read_state(tmp_path / "a.pt")[name], tensor) for name, tensor in STATE.items())


def test_a_disk_that_takes_some_bytes_at_a_time() -> None:
    taken = bytearray()

    def write(data: memoryview) -> int:
        taken.extend(data[:7])
        return min(7, len(data))

    file = _HashedFile(write)
    assert file.write(b"0123456789" * 3) == 30 and file.write(b"") == 0
    assert bytes(taken) == b"0123456789" * 3 and file.digest.hexdigest() == xxhash.xxh3_128_hexdigest(bytes(taken))


def test_an_error_inside_torch_is_the_disk_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever write it happens: the error comes out, with its number, and nothing is written after it."""
    writes = {"made": 0, "fail_at": -1}

    def write(self: _HashedFile, chunk: memoryview) -> None:
        assert writes["made"] <= writes["fail_at"] or writes["fail_at"] < 0, "nothing after the error"
        writes["made"] += 1
        if writes["made"] - 1 == writes["fail_at"]:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_HashedFile, "_write_chunk", write)
    write_state(tmp_path / "a.pt", STATE)
    for fail_at in range(total := writes["made"]):
        writes |= {"made": 0, "fail_at": fail_at}
        with pytest.raises(OSError, match="No space left") as error:
            write_state(tmp_path / "a.pt", STATE)
        assert error.value.errno == errno.ENOSPC and str(tmp_path / "a.pt") in str(error.value)
    assert total > 5


def test_complete_only_after_all_processes(tmp_path: Path) -> None:
    zero, one, two = writings(tmp_path, 3)
    zero.start()
    two.start()
    two.join()
    assert zero.written.wait(30) and two.written.is_set() and not (tmp_path / "step-00000005").exists()
    one.start()
    zero.join()
    assert damage(tmp_path / "step-00000005") is None and not (tmp_path / "step-00000005.tmp").exists()
    files = read_json(tmp_path / "step-00000005" / "meta.json")["files"]
    assert {name: record["rank"] for name, record in files.items()} == {f"part-{k}.pt": k for k in range(3)}
    assert sorted(p.name for p in (tmp_path / "step-00000005").iterdir()) == ["meta.json", *files]
    assert zero.num_bytes == sum(record["size"] for record in files.values()) and not (one.error or zero.error)


def test_a_process_touches_nothing_after_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 may have completed the checkpoint before another process does anything more."""
    zero, one = writings(tmp_path, 2)
    replace = os.replace

    def replace_and_wait(source: Path, target: Path) -> None:
        replace(source, target)
        if target.name == "rank-00001.json":
            zero.join(60)

    monkeypatch.setattr(os, "replace", replace_and_wait)
    zero.start()
    one.start()
    one.join()
    assert not one.error and not zero.error and damage(tmp_path / "step-00000005") is None


def test_rank_zero_gives_up_when_told(tmp_path: Path) -> None:
    zero, _ = writings(tmp_path, 2)
    zero.start()
    assert zero.written.wait(30)
    zero.given_up.set()
    zero.join()
    assert not (tmp_path / "step-00000005").exists() and not zero.error


def test_files_of_others_are_recorded_too(tmp_path: Path) -> None:
    """DeepSpeed copies an optimizer that it keeps on a disk by itself."""
    (only,) = writings(tmp_path, 1)
    (only.job.temporary / "offloaded" / "rank0").mkdir(parents=True)
    (only.job.temporary / "offloaded" / "rank0" / "moments.swp").write_bytes(b"moments")
    only.write()
    only.commit()
    assert only.error == "" and damage(tmp_path / "step-00000005") is None
    files = read_json(tmp_path / "step-00000005" / "meta.json")["files"]
    assert files["offloaded/rank0/moments.swp"] == {
        "size": 7, "xxh3_128": xxhash.xxh3_128_hexdigest(b"moments"), "rank": 0
    }  # fmt: skip


def test_errors_are_kept_for_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be pickled, and what no exception handler of a thread should swallow."""
    (only,) = writings(tmp_path, 1, {"a.pt": {"lock": threading.Lock()}})
    only.start()
    only.join()
    assert only.written.is_set() and "cannot pickle" in only.error
    only.job.temporary.rename(tmp_path / "elsewhere")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer_module, "write_state", interrupt)
    in_thread, in_training = writings(tmp_path, 2)
    in_thread.start()
    in_thread.join()
    assert "KeyboardInterrupt" in in_thread.error
    with pytest.raises(KeyboardInterrupt):
        in_training.write()
