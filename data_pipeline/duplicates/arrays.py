"""Arrays on disk (.npy) that are larger than memory should be: appended block by block, read by rows or in blocks.

Reads are reads, not memory maps: pages of a map count as this process's memory, and the kernel maps sixteen around each
that is touched. Rows are read in order, near ones together. Cost: 2 us a read that the system has cached; else one
random read of the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from mindllm.stage import atomic

NEAR_BYTES = 4096  # rows so near to each other are read together: less costs a disk as much
READ_BYTES = 4 << 20  # at most, in one read


@contextlib.contextmanager
def write_array(path: Path, dtype: Any, row_shape: tuple[int, ...] = ()) -> Iterator[Callable[[np.ndarray], None]]:
    """Hands out `append(block)`; the file appears under its name, with as many rows as came, if the block ends well."""
    kind, rows = np.dtype(dtype), 0
    with atomic(path) as temporary, open(temporary, "wb") as file:
        begin = _write_header(file, kind, (0, *row_shape))

        def append(block: np.ndarray) -> None:
            nonlocal rows
            assert block.shape[1:] == row_shape, f"{path}: rows of shape {block.shape[1:]}, not {row_shape}"
            file.write(np.ascontiguousarray(block, dtype=kind).data.cast("B") if block.size else b"")
            rows += len(block)

        yield append
        file.seek(0)
        assert _write_header(file, kind, (rows, *row_shape)) == begin, "numpy left no room for a larger number of rows"


def _write_header(file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Write the header of a .npy file; returns where the data begin. numpy pads it for rows that come later."""
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.tell()


def save(path: Path, array: np.ndarray) -> None:
    """Write a whole array."""
    with write_array(path, array.dtype, array.shape[1:]) as append:
        append(array)


def open_array(path: Path) -> np.ndarray:
    """A read-only memory map: for shapes, for slices, and for searching in sorted arrays."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def read_rows(path: Path, rows: np.ndarray) -> np.ndarray:
    """array[rows] for rows in ascending order, which may repeat. memory: what is returned, and READ_BYTES."""
    array = open_array(path)
    out = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
    if not out.size:
        return out
    size, begin = out[:1].nbytes, array.offset  # type: ignore[attr-defined]  # a memory map has an offset
    far = np.diff(rows) > max(1, NEAR_BYTES // size)
    far |= np.diff(rows // max(1, READ_BYTES // size)) != 0
    cuts = [0, *(np.flatnonzero(far) + 1).tolist(), len(rows)]
    with open(path, "rb", buffering=0) as file:
        for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
            low, high = int(rows[start]), int(rows[stop - 1]) + 1
            data = os.pread(file.fileno(), (high - low) * size, begin + low * size)
            if len(data) != (high - low) * size:
                raise RuntimeError(f"{path}: cut off; delete the stage's folder and run it again")
            block = np.frombuffer(data, dtype=array.dtype).reshape(-1, *out.shape[1:])
            out[start:stop] = block[rows[start:stop] - low]
    return out


def read_blocks(path: Path, rows_at_once: int) -> Iterator[np.ndarray]:
    """The whole array in order, `rows_at_once` rows at a time."""
    total = len(open_array(path))
    for start in range(0, total, rows_at_once):
        yield read_rows(path, np.arange(start, min(start + rows_at_once, total)))
