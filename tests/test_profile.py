"""The profile of a step: its parts add up to it; communication is found, and taken out of the part that it lies in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import DeviceType
from training_script import train_jobs, write_sources

from mindllm.train import profile
from mindllm.train.profile import Profiler, breakdown, common, minus, show, union

spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: (min(pair), max(pair))), max_size=8)


def moments(found: list[tuple[int, int]]) -> set[int]:
    """The whole numbers t whose moment [t, t + 1) is in a span."""
    return {moment for start, end in found for moment in range(start, end)}


@given(spans, spans)
def test_spans_are_sets_of_time(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    a, b = union(some), union(others)
    assert moments(a) == moments(some) and all(x[1] < y[0] for x, y in zip(a, a[1:], strict=False))
    assert moments(common(a, b)) == moments(some) & moments(others)
    assert moments(minus(a, b)) == moments(some) - moments(others)


def event(name: str, start: float, end: float, thread: int = 1, device: Any = DeviceType.CPU, **others: Any) -> Any:
    """What breakdown looks at of torch's FunctionEvent."""
    return SimpleNamespace(
        name=name, time_range=SimpleNamespace(start=start, end=end), thread=thread, device_type=device,
        is_user_annotation=name.startswith(("mindllm.", "gloo:", "nccl:")), is_async=name.startswith("gloo:"),
        self_cpu_time_total=others.get("own", end - start),
    )  # fmt: skip


REGIONS = [
    event("mindllm.step", 0, 1000), event("mindllm.data", 10, 60), event("mindllm.forward", 100, 300),
    event("mindllm.backward", 300, 600), event("mindllm.forward", 600, 700), event("mindllm.backward", 700, 800),
    event("mindllm.optimizer", 800, 990),
]  # fmt: skip


def test_gloo_is_taken_out_of_the_region_that_waits_for_it() -> None:
    found = breakdown([
        *REGIONS, event("aten::mm", 300, 400), event("aten::mm", 700, 720), event("aten::add", 720, 725),
        event("c10d::allreduce_", 395, 420, own=20.0), event("gloo:all_reduce", 390, 500, thread=7),
        event("aten::copy_", 400, 480, thread=7),  # gloo's own work is no computation of ours
        event("gloo:all_reduce", 890, 900, thread=7), event("c10d::allreduce_", 62, 64), event("gloo:x", 1001, 1009),
    ])  # fmt: skip
    assert found.parts == {
        "data": 50, "forward": 300, "backward": 300, "optimizer": 180, "communication": 112, "other": 58,
    }  # fmt: skip
    assert found.total == 1000 == sum(found.parts.values()) and found.hidden == 10
    assert found.operations[:2] == [("aten::mm", 2, 120), ("aten::copy_", 1, 80)]
    assert {name for name, _, _ in found.operations} == {"aten::mm", "aten::copy_", "c10d::allreduce_", "aten::add"}


def test_on_a_gpu_kernels_count() -> None:
    cuda = {"device": DeviceType.CUDA, "thread": 0}
    found = breakdown([
        *REGIONS, event("aten::mm", 300, 310), event("c10d::allreduce_", 310, 590),
        event("mindllm.backward", 300, 600, **cuda), event("nccl:all_reduce", 350, 600, **cuda),
        event("gemm", 300, 500, **cuda),
        event("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", 400, 580, **cuda),
        event("gemm", 520, 530, **cuda), event("Memcpy HtoD (Pinned -> Device)", 20, 25, **cuda),
    ])  # fmt: skip
    assert found.parts["communication"] == 70 and found.hidden == 110 and found.parts["backward"] == 400 - 70
    assert sum(found.parts.values()) == found.total
    assert [(name[:13], calls, time) for name, calls, time in found.operations] == [
        ("gemm", 2, 210), ("ncclDevKernel", 1, 180), ("Memcpy HtoD (", 1, 5),
    ]  # fmt: skip


def test_the_table_is_readable() -> None:
    text = show(breakdown([*REGIONS, event("gloo:all_reduce", 400, 500), event("操作" * 40, 0, 100)]), 7)
    lines = text.splitlines()
    assert lines[0] == "profile of step 7: 0.0010 s" and lines[2] == "data                  0.0001     5.0%"
    assert [line.split()[0] for line in lines[2:8]] == [*profile.REGIONS, "communication", "other"]
    assert lines[-1].startswith("操作操作") and "...  " in lines[-1] and text.endswith("%\n")


def test_other_steps_are_left_alone(tmp_path: Path) -> None:
    for at in (0, 5):
        watched = Profiler(tmp_path, at, torch.device("cpu"))
        with watched.step(4), watched.region("data"):
            assert not torch.autograd.profiler._is_profiler_enabled
    assert not list(tmp_path.iterdir())


def test_a_step_is_traced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watched = Profiler(tmp_path, 3, torch.device("cpu"))
    weight = torch.ones(64, 64, requires_grad=True)
    for step in range(2, 5):
        with watched.step(step):
            for _ in range(2):
                with watched.region("forward"):
                    loss = (weight @ weight).sum()
                with watched.region("backward"):
                    loss.backward()
            with watched.region("neither"):
                torch.ones(3).sum()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "profile-step-00000003.txt", "trace-step-00000003.json.gz"
    ]  # fmt: skip
    trace = json.loads(gzip.decompress((tmp_path / "trace-step-00000003.json.gz").read_bytes()))
    named = [found["name"] for found in trace["traceEvents"] if found.get("ph") == "X"]
    assert (named.count("mindllm.step"), named.count("mindllm.forward"), named.count("aten::mm")) == (1, 2, 6)
    text, shown = (tmp_path / "profile-step-00000003.txt").read_text(), capsys.readouterr().out
    assert shown.startswith(text) and "neither" in text and "aten::mm " in text and shown.endswith("json.gz\n")


def test_other_ranks_trace_and_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    watched = Profiler(None, 1, torch.device("cpu"))
    with watched.step(1), watched.region("forward"):
        assert torch.autograd.profiler._is_profiler_enabled
    assert not list(tmp_path.iterdir())


def test_a_step_that_fails_leaves_no_files(tmp_path: Path) -> None:
    watched = Profiler(tmp_path, 1, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="broken"), watched.step(1), watched.region("forward"):
        raise RuntimeError("broken")
    with watched.step(2), watched.region("forward"):
        assert not torch.autograd.profiler._is_profiler_enabled
    assert not list(tmp_path.iterdir())


def test_collectives_of_two_processes_are_found(tmp_path: Path) -> None:
    """Where DeepSpeed reduces gradients in the backward pass, and where the optimizer or ZeRO-3 gathers weights."""
    write_sources(tmp_path)
    jobs = [
        {"out": f"z{stage}", "train": {"steps": 3, "micro_batch_size": 2, "zero_stage": stage, "precision": "fp32",
                                       "profile_step": 2, "log_every": 1}}
        for stage in (1, 3)
    ]  # fmt: skip
    assert all(found["finished"] for found in train_jobs(tmp_path, jobs, world=2))
    for job in jobs:
        text = (tmp_path / job["out"] / "profile-step-00000002.txt").read_text(encoding="utf-8")
        rows = [line.split() for line in text.split("\n\n")[0].splitlines()[2:] if not line.startswith("(")]
        seconds = {name: float(time) for name, time, _ in rows}
        assert [*seconds] == [*profile.REGIONS, "communication", "other"]
        assert seconds["communication"] > 0 and seconds["forward"] > 0 and seconds["backward"] > 0
        trace = gzip.decompress((tmp_path / job["out"] / "trace-step-00000002.json.gz").read_bytes())
        named = {found["name"] for found in json.loads(trace)["traceEvents"] if found.get("ph") == "X"}
        assert "c10d::allreduce_" in named and len([name for name in named if name.startswith("c10d::")]) > 1
