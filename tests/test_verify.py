"""The verb verify: what the shard stage has written is found to be right, and all that was done to it is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_export
import xxhash
from test_shard import ONE, documents, refined

from data_pipeline.config import DataConfig, ShardConfig, Source
from data_pipeline.shard import shard
from data_pipeline.verify import verify
from data_pipeline.workers import WorkersConfig
from mindllm.config import UserError
from mindllm.shard_files import META
from mindllm.stage import hash_json, read_json
from mindllm.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """A run whose shard stage is complete, in several files a source."""
    run = tmp_path_factory.mktemp("run")
    tokenizer = tiny_export.write_tokenizer(run / "tokenizer")
    some = list(documents())
    refined(run, {"web-00000": some[:25], "web-00001": some[25:]})
    settings = ShardConfig(tokenizer=str(tokenizer.folder), valid_fraction=0.3, max_tokens_per_file=100)
    config = DataConfig({"web": Source("x")}, {}, {}, run=str(run), shard=settings, workers=ONE)
    assert shard(config) == 0
    return config


@pytest.fixture
def config(made: DataConfig, tmp_path: Path) -> DataConfig:
    """A copy to damage."""
    shutil.copytree(made.folder("shards"), tmp_path / "shards")
    return replace(made, run=str(tmp_path))


def test_what_was_written_is_right(config: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.read_bytes() for p in config.folder("shards").rglob("*") if p.is_file()}
    assert verify(config) == 0
    out, err = capsys.readouterr()
    assert out.endswith("tokens: all is as it was written\n") and not err
    assert before == {p: p.read_bytes() for p in config.folder("shards").rglob("*") if p.is_file()}


def damage(folder: Path) -> set[str]:
    """Damage of several kinds in several files; the lines that tell of it."""
    first, second, *_ = sorted(folder.glob("*/*/00000.bin"))
    data = bytearray(first.read_bytes())
    data[2] ^= 4
    first.write_bytes(data)
    second.unlink()
    cut = sorted(folder.glob("*/*/00000.ends"))[3]
    cut.write_bytes(cut.read_bytes()[:-8])
    size = cut.stat().st_size
    lost = sorted(folder.glob("*/*"))[-1]
    shutil.rmtree(lost)
    edited = sorted(folder.glob("*/*/meta.json"))[4]
    meta = json.loads(edited.read_text())
    edited.write_text(json.dumps({**meta, "seed": 3}))
    shutil.copytree(first.parent, folder / "书-xx" / "train")
    return {
        f"{first}: content does not match its hash in meta.json; damaged",
        f"{second}: missing, though meta.json names it",
        f"{cut}: {size} bytes instead of {size + 8}",
        f"{lost}: missing, though {folder / 'meta.json'} names it",
        f"{edited}: content does not match its fingerprint; edited",
        f"{folder / '书-xx' / 'train'}: {folder / 'meta.json'} does not name it",
    }


@pytest.mark.parametrize("num_workers", [1, 2])
def test_all_that_is_wrong_is_told(
    config: DataConfig, num_workers: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if num_workers > 1:
        monkeypatch.setattr("data_pipeline.shard.LITTLE", 0)
    expected = damage(config.folder("shards"))
    assert verify(replace(config, workers=WorkersConfig(num_workers=num_workers))) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert expected <= set(lines) and len(lines) == len(set(lines))
    assert out.endswith(f"{len(lines)} faults\n")


def test_another_tokenizer(config: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said once, and before anything is read."""
    folder = tmp_path / "other"
    first = tiny_export.write_tokenizer(folder).fingerprint
    (folder / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes() + b"\x12\x00")
    message = str(
        pytest.raises(UserError, verify, replace(config, shard=replace(config.shard, tokenizer=str(folder)))).value
    )
    assert f"was written with tokenizer {first}, and {folder} is {Tokenizer(folder).fingerprint}" in message
    assert "shard.tokenizer=..." in message and "".join(capsys.readouterr()) == ""


def test_other_tokens_of_the_same_counts(config: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """A source in order with itself, but not the one that the stage has written."""
    folder = config.folder("shards") / "web-zh" / "train"
    files = {
        record["name"]: np.fromfile(folder / f"{record['name']}.bin", "u2")
        for record in read_json(folder / META)["files"]
    }
    meta = read_json(folder / META)
    for record in meta["files"]:
        ids, ends = files[record["name"]], np.fromfile(folder / f"{record['name']}.ends", "u8")
        ids[: int(ends[0]) - 1] = ids[: int(ends[0]) - 1][::-1].copy()  # a document backwards
        (folder / f"{record['name']}.bin").write_bytes(ids.tobytes())
        record["hash"] = xxhash.xxh3_128_hexdigest(ids.tobytes())
    old = meta.pop("fingerprint")
    new = hash_json(meta)
    (folder / META).write_text(json.dumps({**meta, "fingerprint": new}))
    assert verify(config) == 1
    stage = config.folder("shards") / META
    assert capsys.readouterr().err == f"{folder / META}: fingerprint {new}, but {stage} says fingerprint {old}\n"
    known = read_json(stage)
    for row in known["counts"]["sources"].values():
        del row["fingerprint"]  # as older stages wrote it
    stage.write_text(json.dumps(known))
    assert verify(config) == 0


def test_counts_are_those_of_the_stage(config: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    path = config.folder("shards") / "meta.json"
    meta = json.loads(path.read_text())
    meta["counts"]["sources"]["web-zh/train"]["documents"] += 1
    path.write_text(json.dumps(meta))
    meta["counts"]["sources"]["web-zh/train"]["fingerprint"] = "0" * 16
    path.write_text(json.dumps(meta))
    assert verify(config) == 1  # other counts and another fingerprint are one fault
    (line,) = capsys.readouterr().err.splitlines()
    number = meta["counts"]["sources"]["web-zh/train"]["documents"]
    assert line.endswith(f"web-zh/train/meta.json: documents {number - 1}, but {path} says documents {number}")


def test_without_shards_it_says_how_to_make_them(config: DataConfig) -> None:
    (config.folder("shards") / "meta.json").unlink()
    with pytest.raises(UserError, match="is not complete .* python -m data_pipeline shard CONFIG"):
        verify(config)
