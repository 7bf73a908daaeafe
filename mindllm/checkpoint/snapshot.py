"""A copy of a training state in the host's memory, so that it can be written while training changes the original.

Tensors that share memory share it in the copy, so tied weights and views of one buffer are stored once; of a buffer
only the stretches are copied that a tensor refers to, so that a slice does not drag the whole of it into the file.
Copies from a GPU go through pinned memory, all queued before the one wait at the end. memory: one copy of what this
process writes, which is used again for the next snapshot (the first one also pays for the new pages); torch rounds
pinned blocks up to powers of two.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mindllm.config import RunFailed

_ALIGNED = 16  # bytes; a stretch begins at a multiple of it, as the largest numbers have to


class _Stretch(NamedTuple):
    """Bytes start to stop of a storage."""

    storage: torch.UntypedStorage
    start: int
    stop: int


class HostCopies:
    """Makes copies of states, each in the memory of the one before."""

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []

    def copy(self, state: Any) -> Any:
        """`state` with all tensors, lists and dicts in it copied; the copy is valid until the next call.

        Raises RunFailed where the host's memory does not suffice.
        """
        stretches = _stretches(state)
        buffers = self._filled([stretch for inside in stretches.values() for stretch in inside])
        numbers = iter(range(len(buffers)))
        placed = {key: [(stretch, buffers[next(numbers)]) for stretch in inside] for key, inside in stretches.items()}
        return _rebuilt(state, placed, {})

    def _filled(self, stretches: list[_Stretch]) -> list[Tensor]:
        """Each stretch's bytes in a buffer of its own; the layout of a run's state, and so of these, stays the same."""
        old = self._buffers + [torch.empty(0, dtype=torch.uint8)] * len(stretches)
        self._buffers = [
            buffer if len(buffer) == stretch.stop - stretch.start else _host_memory(stretch)
            for stretch, buffer in zip(stretches, old, strict=False)
        ]
        for stretch, buffer in zip(stretches, self._buffers, strict=True):
            source = torch.empty(0, dtype=torch.uint8, device=stretch.storage.device)
            source.set_(stretch.storage, stretch.start, (len(buffer),), (1,))
            buffer.copy_(source, non_blocking=True)
        if any(stretch.storage.device.type == "cuda" for stretch in stretches):
            torch.cuda.synchronize()  # sync: the copies, and the end of the step that made what they hold
        return self._buffers


def num_bytes(state: Any) -> int:
    """Bytes of the tensors in a state, counting shared memory once."""
    return sum(stretch.stop - stretch.start for inside in _stretches(state).values() for stretch in inside)


def _host_memory(stretch: _Stretch) -> Tensor:
    size, pinned = stretch.stop - stretch.start, stretch.storage.device.type == "cuda"
    try:
        return torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
    except RuntimeError as error:  # torch's allocators raise no class of their own for it
        what = f"{size / 2**30:.2f} GiB of {'pinned ' if pinned else ''}memory for a copy of the state"
        way_out = "set train.async_save=false, which writes without a copy"
        raise RunFailed(f"the host has no {what} ({str(error).splitlines()[0]}); {way_out}") from error


def _stretches(state: Any) -> dict[int, list[_Stretch]]:
    """By storage: the parts of it that tensors refer to, in order; parts that overlap or touch are one."""
    found: dict[int, list[_Stretch]] = {}
    for tensor in _tensors(state, set()):
        storage = tensor.untyped_storage()
        start, stop = _extent(tensor)
        start -= start % _ALIGNED
        found.setdefault(storage._cdata, []).append(_Stretch(storage, start, stop))
    return {key: _merged(parts) for key, parts in found.items()}


def _merged(parts: list[_Stretch]) -> list[_Stretch]:
    merged: list[_Stretch] = []
    for part in sorted(parts, key=lambda part: part[1:]):
        if merged and part.start <= merged[-1].stop:
            merged[-1] = merged[-1]._replace(stop=max(merged[-1].stop, part.stop))
        else:
            merged.append(part)
    return merged


def _extent(tensor: Tensor) -> tuple[int, int]:
    """First byte of a tensor in its storage, and the one after its last."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    first = int(tensor.storage_offset())
    return first * tensor.element_size(), (first + int(last) + 1) * tensor.element_size()


def _tensors(item: Any, seen: set[int]) -> Iterator[Tensor]:
    """The plain tensors with numbers in them, each object once."""
    if id(item) in seen:
        return
    seen.add(id(item))
    if _is_plain(item):
        if item.numel():
            yield item
    elif isinstance(item, dict):
        for value in item.values():
            yield from _tensors(value, seen)
    elif type(item) in (list, tuple):
        for value in item:
            yield from _tensors(value, seen)


def _is_plain(item: Any) -> bool:
    return type(item) in (Tensor, nn.Parameter) and item.layout == torch.strided


def _rebuilt(item: Any, placed: dict[int, list[tuple[_Stretch, Tensor]]], done: dict[Any, Any]) -> Any:
    """The item with tensors that lie in the buffers; what occurs twice in it does so in the copy (`done`, by id)."""
    if id(item) not in done:
        if _is_plain(item):
            storage = done.setdefault(("storage", item.untyped_storage()._cdata), torch.UntypedStorage(0))
            done[id(item)] = _placed_tensor(item, placed, storage)
        elif isinstance(item, dict):
            done[id(item)] = copied = copy.copy(item)  # of its class, with its order
            for key, value in item.items():
                copied[key] = _rebuilt(value, placed, done)
        elif type(item) is list:
            done[id(item)] = [_rebuilt(value, placed, done) for value in item]
        elif type(item) is tuple:
            done[id(item)] = tuple(_rebuilt(value, placed, done) for value in item)
        else:
            done[id(item)] = copy.deepcopy(item)
    return done[id(item)]


def _placed_tensor(
    tensor: Tensor, placed: dict[int, list[tuple[_Stretch, Tensor]]], nothing: torch.UntypedStorage
) -> Tensor:
    """A tensor like this one in the copy of its stretch; one without numbers (ZeRO-3 has many) in `nothing`."""
    storage, offset = nothing, 0
    if tensor.numel():
        start, stop = _extent(tensor)
        inside = placed[tensor.untyped_storage()._cdata]
        stretch, buffer = next(pair for pair in inside if pair[0].start <= start and stop <= pair[0].stop)
        storage, offset = buffer.untyped_storage(), (start - stretch.start) // tensor.element_size()
    new = torch.empty(0, dtype=tensor.dtype).set_(storage, offset, tensor.shape, tensor.stride())
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(new, tensor.requires_grad)
    return new.requires_grad_(tensor.requires_grad)
