"""Copies of a state: equal bit by bit, independent of the original, shared where it shares, and no larger."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mindllm.checkpoint import snapshot
from mindllm.checkpoint.snapshot import HostCopies, num_bytes
from mindllm.config import RunFailed


def pickled(state: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def state() -> dict[str, Any]:
    """Of every kind of thing that DeepSpeed's states hold."""
    flat = torch.arange(40, dtype=torch.bfloat16)
    weight = torch.randn(5, 7)
    state = OrderedDict(a=flat[:10].view(2, 5), b=flat[10:25], 权重=flat[25:40], embed=weight, head=weight)
    return {
        "module": state,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(9)}}, "params": [[0, 1], [2]]},
        "groups": [torch.randn(4, 6).t(), torch.zeros(0, 3), torch.tensor(7, dtype=torch.int64)],
        "shapes": [OrderedDict(a=torch.Size([2, 5]))],
        "parameter": nn.Parameter(torch.randn(3)),
        "trained": torch.randn(2).requires_grad_(),
        "both": (1, "二", None, True, 2.5, torch.float32),
    }


def test_a_copy_is_the_same_file() -> None:
    before = state()
    copied = HostCopies().copy(before)
    assert pickled(copied) == pickled(before)
    assert type(copied["module"]) is OrderedDict and type(copied["parameter"]) is nn.Parameter
    assert copied["trained"].requires_grad and not copied["groups"][0].requires_grad
    assert copied["module"]["head"] is copied["module"]["embed"]
    a, b = copied["module"]["a"], copied["module"]["b"]
    assert a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() and a.untyped_storage().nbytes() == 80


def test_training_does_not_change_it() -> None:
    live = state()
    copied = HostCopies().copy(live)
    before = pickled(copied)
    for tensor in (live["module"]["a"], live["module"]["embed"], live["optimizer"]["state"][0]["step"]):
        tensor.add_(1)
    with torch.no_grad():
        live["parameter"].mul_(2)
    live["optimizer"]["params"][0].append(5)
    live["module"]["new"] = 1
    assert pickled(copied) == before != pickled(live)


def test_a_slice_does_not_drag_its_buffer_along() -> None:
    flat = torch.randn(1_000_000)
    part = {"one": flat[1000:1010], "two": flat[999_000:999_100], "overlaps": flat[1005:1020]}
    assert num_bytes(part) == (1020 - 1000) * 4 + 100 * 4
    copied = HostCopies().copy(part)
    assert len(pickled(copied)) < 4000 < len(pickled(part))
    assert all(torch.equal(copied[name], tensor) for name, tensor in part.items())
    assert copied["one"].untyped_storage().data_ptr() == copied["overlaps"].untyped_storage().data_ptr()
    copied["one"][7] = 5
    assert copied["overlaps"][2] == 5


def test_the_memory_is_used_again_and_follows_a_new_layout() -> None:
    copies, live = HostCopies(), {"w": torch.ones(100), "v": torch.ones(50)}
    first = copies.copy(live)
    live["w"].fill_(2)
    second = copies.copy(live)
    assert first["w"].data_ptr() == second["w"].data_ptr() and second["w"][0] == 2
    third = copies.copy({"w": torch.ones(70), "v": live["v"]})
    assert third["w"].untyped_storage().nbytes() == 280 and third["v"].data_ptr() == second["v"].data_ptr()
    assert copies.copy({"nothing": [1]}) == {"nothing": [1]} and num_bytes({}) == 0


def test_no_memory_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't allocate memory")

    live = {"w": torch.ones(100)}
    monkeypatch.setattr(snapshot.torch, "empty", refuse)
    with pytest.raises(
        RunFailed, match=r"memory for a copy of the state .can't allocate memory.; set train.async_save"
    ):
        snapshot._host_memory(snapshot._Stretch(live["w"].untyped_storage(), 0, 400))


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 30), st.integers(1, 3), st.booleans()), max_size=12))
def test_any_views_of_two_buffers(views: list[tuple[int, int, int, bool]]) -> None:
    """Values, places in shared memory and dtypes come back; bytes are counted once."""
    buffers = [torch.arange(200, dtype=torch.float32), torch.arange(200, dtype=torch.int16)]
    live = [buffers[second][start : start + size * step : step] for start, size, step, second in views]
    copied = HostCopies().copy(live)
    used = {(t.dtype, t.storage_offset() + k * t.stride(0)) for t in live for k in range(len(t))}
    itemsize = {torch.float32: 4, torch.int16: 2}
    assert num_bytes(live) >= sum(itemsize[dtype] for dtype, _ in used)
    assert num_bytes(live) <= 1200
    for one, other in zip(live, copied, strict=True):
        assert torch.equal(one, other) and one.dtype == other.dtype
        assert one.stride() == other.stride() or not len(one)
    for one, other in zip(live, copied, strict=True):
        if len(one):
            one[0] = other[0] = 99  # writing to one place shows in the same others
    assert all(torch.equal(one, other) for one, other in zip(live, copied, strict=True))
