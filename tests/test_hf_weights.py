"""Weight files: found in every layout, damaged ones named, code in them never run, a fingerprint of all."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_folders import change_config, write_model

from mindllm.config import UserError
from mindllm.hf import load_model, weights_fingerprint
from mindllm.hf.weights import read_weights, weight_files


class Runs:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_the_files_of_each_layout(tmp_path: Path) -> None:
    for store, first in {"one": "model.safetensors", "shards": "model-00001-of-", "bin": "pytorch_model.bin",
                         "bins": "pytorch_model-00001-of-00002.bin"}.items():  # fmt: skip
        write_model(tmp_path / store, "llama", store)
        files = weight_files(tmp_path / store)
        assert files[0].name.startswith(first) and (len(files) > 1) == (store in ("shards", "bins"))
    with pytest.raises(UserError, match="no weights there"):
        weight_files(tmp_path)


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    write_model(tmp_path, "llama", "bin")
    torch.save({"model.norm.weight": Runs(ran)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds more than tensors, perhaps code"):
        load_model(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(ran)))  # a bare pickle, as of old
    with pytest.raises(UserError, match="holds more than tensors|damaged"):
        load_model(tmp_path)
    assert not ran.exists()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for store in ("one", "bin"):
        write_model(tmp_path / store, "llama", store)
        path = weight_files(tmp_path / store)[0]
        whole = path.read_bytes()
        for content in (b"", whole[:100], whole[: len(whole) // 2]):
            path.write_bytes(content)
            with pytest.raises(UserError, match=f"{path.name}: (damaged|holds more)"):
                list(read_weights(tmp_path / store))
    torch.save([1, 2], tmp_path / "bin" / "pytorch_model.bin")
    with pytest.raises(UserError, match="no table of weights by name"):
        list(read_weights(tmp_path / "bin"))


@pytest.mark.parametrize(("index", "reason"), [
    ([], "no weight_map"), ({"weight_map": {}}, "no weight_map"), ({"weight_map": {"a": 1}}, "no weight_map"),
    ({"weight_map": {"a": "../x.safetensors"}}, "no .safetensors file beside it"),
    ({"weight_map": {"a": "/etc/passwd"}}, "no .safetensors file beside it"),
    ({"weight_map": {"a": "x.bin"}}, "no .safetensors file beside it"),
    ({"weight_map": {"a": "gone.safetensors"}}, "not there, but model.safetensors.index.json names it"),
])  # fmt: skip
def test_an_index_names_files_beside_it(tmp_path: Path, index: object, reason: str) -> None:
    write_model(tmp_path, "llama")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=reason):
        weight_files(tmp_path)


def test_the_fingerprint_is_of_config_and_weights(tmp_path: Path) -> None:
    write_model(tmp_path / "a", "llama", "shards")
    write_model(tmp_path / "b", "llama", "shards")
    first = weights_fingerprint(tmp_path / "a")
    assert first == weights_fingerprint(tmp_path / "b") and len(first) == 16
    (tmp_path / "b" / "README.md").write_text("no weights")
    assert weights_fingerprint(tmp_path / "b") == first
    change_config(tmp_path / "b", rms_norm_eps=1e-4)
    assert weights_fingerprint(tmp_path / "b") != first
    part = weight_files(tmp_path / "a")[1]
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    assert weights_fingerprint(tmp_path / "a") != first
    with pytest.raises(UserError, match="no such folder; weights are read from a folder on this machine"):
        weights_fingerprint(tmp_path / "gone")


@pytest.mark.parametrize("state", [
    {1: torch.ones(2)}, {"a": torch.ones(2).to_sparse()}, {"a": torch.ones(2, device="meta")},
])  # fmt: skip
def test_only_dense_tensors_by_name_are_read(tmp_path: Path, state: dict[Any, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="no table of weights by name"):
        list(read_weights(tmp_path))


def test_a_name_that_no_file_system_takes_is_not_there(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "x" * 300 + ".safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="not there, but"):
        weight_files(tmp_path)
