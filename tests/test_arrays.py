"""data_pipeline.duplicates.arrays: blocks that are appended are one array, rows and blocks are those of numpy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.duplicates import arrays
from data_pipeline.duplicates.arrays import read_blocks, read_rows, save, write_array

HEAD = np.dtype([("exact", "<u8", 2), ("num_units", "<i8")])


@pytest.mark.parametrize(("dtype", "row_shape"), [("<u4", (3,)), ("<i8", ()), (HEAD, ()), ("<u8", (0,))])
@pytest.mark.parametrize("sizes", [[], [0], [2, 0, 5], [1] * 120])
def test_appended_blocks_are_one_array(tmp_path: Path, dtype: object, row_shape: tuple[int], sizes: list[int]) -> None:
    rng = np.random.default_rng(1)
    kind = np.dtype(dtype)  # type: ignore[call-overload]
    blocks = [rng.integers(0, 200, (n, *row_shape, kind.itemsize), dtype=np.uint8).view(kind)[..., 0] for n in sizes]
    with write_array(tmp_path / "a.npy", kind, row_shape) as append:
        for block in blocks:
            append(block)
    expected = np.concatenate([np.zeros((0, *row_shape), dtype=kind), *blocks])
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == kind and found.shape == expected.shape and np.array_equal(found, expected)
    save(tmp_path / "b.npy", expected)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_a_file_that_is_not_finished_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_array(tmp_path / "a.npy", "<u4") as append:
        append(np.arange(5))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_blocks_of_another_shape_are_our_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="rows of shape"), write_array(tmp_path / "a.npy", "<u4", (3,)) as append:
        append(np.zeros((2, 4)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, np.ndarray]]:
    """Arrays of 200 rows and 0 ... 5 columns, on disk and in memory."""
    folder, rng = tmp_path_factory.mktemp("stored"), np.random.default_rng(2)
    tables = [(folder / f"{n}.npy", rng.integers(0, 99, (200, n), dtype=np.uint32)) for n in range(6)]
    for path, array in tables:
        save(path, array)
    return tables


@given(st.lists(st.integers(0, 199)), st.integers(1, 60), st.integers(8, 400), st.integers(0, 5))
def test_rows_are_those_of_numpy(
    stored: list[tuple[Path, np.ndarray]], rows: list[int], near: int, at_once: int, columns: int
) -> None:
    path, array = stored[columns]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "NEAR_BYTES", near)
        patch.setattr(arrays, "READ_BYTES", at_once)
        wanted = np.array(sorted(rows), dtype=np.int64)
        assert np.array_equal(read_rows(path, wanted), array[wanted])
        assert np.array_equal(np.concatenate(list(read_blocks(path, near))), array)


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", np.arange(3000).reshape(1000, 3))
    whole = arrays.open_array(tmp_path / "a.npy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "open_array", lambda _: whole)
        os.truncate(tmp_path / "a.npy", 9000)
        with pytest.raises(RuntimeError, match="a.npy: cut off"):
            read_rows(tmp_path / "a.npy", np.array([900]))
