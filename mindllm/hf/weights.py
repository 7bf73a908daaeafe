"""The weights in a Hugging Face folder, tensor by tensor: safetensors, or pytorch_model.bin, in one file or in parts.

Nothing of a folder is executed: a .bin file is read with weights_only, which refuses anything but tensors, and an index
may name files of its own folder only. Files are mapped, so that memory is one tensor beside what the caller keeps.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from mindllm.config import UserError
from mindllm.hf.shape import CONFIG_FILE, read_limited, read_values
from mindllm.stage import hash_file, hash_json

_INDEX = ".index.json"
_NAMES = ("model.safetensors", "pytorch_model.bin")  # the first that is there, or whose index is, is read


def weight_files(folder: str | Path) -> list[Path]:
    """The files that hold a folder's weights. Raises UserError where there are none, or a part is missing."""
    folder = Path(folder)
    for name in _NAMES:
        index = folder / f"{name}{_INDEX}"
        if index.exists():
            return _parts(index)
        if (folder / name).exists():
            return [folder / name]
    raise UserError(f"{folder}: no weights there ({' or '.join(_NAMES)}, or an index of parts of one)")


def _parts(index: Path) -> list[Path]:
    found = read_limited(index)
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{index}: damaged (no weight_map)")
    suffix = index.name.removesuffix(_INDEX).rpartition(".")[2]
    paths = [index.parent / name for name in sorted(set(names.values()))]
    for path in paths:
        if path.parent != index.parent or path.name in ("", "..") or path.suffix != f".{suffix}":
            raise UserError(f"{index}: names {str(path)!r}, which is no .{suffix} file beside it")
        if not os.path.exists(path):  # not Path.exists, which raises for a name that is too long
            raise UserError(f"{path}: not there, but {index.name} names it; fetch the folder again")
    return paths


def read_weights(folder: str | Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of every weight, in the order of the files. Raises UserError for damaged or unsafe files."""
    for path in weight_files(folder):
        yield from _safe(path) if path.suffix == ".safetensors" else _pickled(path)


def _safe(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118  no mapping
                yield name, file.get_tensor(name)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}); fetch it again") from None


def _pickled(path: Path) -> Iterator[tuple[str, Tensor]]:
    # Files of before torch 1.6 are no zip archives and cannot be mapped.  memory: the file, for those
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: holds more than tensors, perhaps code; it is not read. Have it as safetensors"
        ) from None
    except Exception as error:  # of a damaged file torch raises what comes: IndexError, AssertionError, ...
        raise UserError(
            f"{path}: damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(k, str) and _is_plain(v) for k, v in state.items()):
        raise UserError(f"{path}: no table of weights by name, all of them dense tensors")
    yield from state.items()


def _is_plain(value: object) -> bool:
    """A tensor whose numbers lie in memory one by one: not sparse, nested or without any (meta)."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_nested and not value.is_meta


def weights_fingerprint(folder: str | Path) -> str:
    """16 hex digits: hash of config.json and all weight files. Raises UserError where they are not there."""
    read_values(folder)
    paths = [Path(folder) / CONFIG_FILE, *weight_files(folder)]
    return hash_json({path.name: hash_file(path) for path in paths})
