"""Run folders read for the page: found by what a user types, named apart, whole, killed, still running, or of old."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plot_runs import step_line, write_lines, write_run

from mindllm.config import UserError
from mindllm.metrics.jsonl import read_lines
from mindllm.metrics.runs import find_runs, flattened, names_of, read_run


def test_lines_that_are_no_objects_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    assert read_lines(path) == ([], 0)
    path.write_bytes(b"")
    assert read_lines(path) == ([], 0)
    whole = '{"a": "茶\u2028館"}\n'.encode()
    path.write_bytes(whole)
    assert read_lines(path) == ([{"a": "茶\u2028館"}], 0)
    path.write_bytes(whole + b"[]\n\nnull\n\x00\x00\n" + whole + '{"a": "茶'.encode()[:-1])
    assert read_lines(path) == ([{"a": "茶\u2028館"}] * 2, 5)
    path.write_bytes(b'{"a": 1}\n{"a": 2}')  # whole, but for its line end
    assert read_lines(path) == ([{"a": 1}, {"a": 2}], 0)


@given(st.binary())
def test_any_bytes_can_be_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    found, damaged = read_lines(path)
    assert len(found) + damaged == len(data.split(b"\n")) - (data.endswith(b"\n") or not data)


def test_a_run_its_file_or_a_folder_of_runs(tmp_path: Path) -> None:
    demo = write_run(tmp_path / "demo/pretrain")
    tune = write_run(tmp_path / "demo/微调")
    assert find_runs([str(demo)]) == [demo] == find_runs([str(demo / "metrics.jsonl")])
    assert find_runs([str(tmp_path / "demo")]) == [demo, tune]
    assert find_runs([str(tune), str(tmp_path / "demo"), f"{demo}/../pretrain"]) == [tune, demo]  # each once


def test_no_metrics_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "说明.txt").write_text("")
    with pytest.raises(UserError, match=r"no metrics.jsonl in it.* there are shards/, 说明.txt"):
        find_runs([str(tmp_path)])
    with pytest.raises(UserError, match="it is empty"):
        find_runs([str(tmp_path / "shards")])
    with pytest.raises(UserError, match="nowhere: no metrics.jsonl.*there is no such folder"):
        find_runs([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="it is no folder"):
        find_runs([str(tmp_path / "说明.txt")])


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["/r/demo/pretrain"], ["demo"]),
        (["/r/a/pretrain", "/r/b/pretrain"], ["a", "b"]),
        (["/r/a/x/pretrain", "/r/b/x/pretrain"], ["a/x", "b/x"]),
        (["/r/demo", "/r/demo/pretrain"], ["demo", "pretrain"]),
        (["/r/基线", "/r/b/pretrain"], ["基线", "b"]),
        (["/pretrain"], ["pretrain"]),
    ],
)
def test_names_tell_runs_apart(folders: list[str], names: list[str]) -> None:
    assert names_of([Path(folder) for folder in folders]) == names


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "pretrain", "茶"]), min_size=1, max_size=4), min_size=1, unique_by=tuple
    )
)
def test_names_are_never_equal(parts: list[list[str]]) -> None:
    names = names_of([Path("/", *part) for part in parts])
    assert len(set(names)) == len(parts)


def test_a_complete_and_a_killed_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a"), "a")
    assert run.status == "8 steps, complete" and run.notes == [] and len(run.samples) == 6
    assert run.config["train.steps"] == "8" and run.config["phases.1.weights.*-zh"] == "0.5"
    assert run.config["train.betas"] == "[0.9, 0.95]" and run.config["phases.0.weights"] == "{}"
    folder = write_run(tmp_path / "b", done=5)
    for name in ("metrics.jsonl", "samples.jsonl"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-20])
    killed = read_run(folder, "b")
    assert killed.status == "step 4 of 8"
    assert killed.notes == [f"1 line of {n} that is cut off or damaged" for n in ("metrics.jsonl", "samples.jsonl")]


def test_only_metrics_are_needed(tmp_path: Path) -> None:
    write_lines(tmp_path / "metrics.jsonl", [step_line(2), step_line(1), {"loss": 1.0}, {"step": "3"}, {"step": True}])
    run = read_run(tmp_path, "old")
    assert [line["step"] for line in run.lines] == [1, 2] and run.status == "step 2"
    assert (run.config, run.mixture, run.samples, run.num_steps) == ({}, {}, [], None)
    assert run.notes == ["3 lines of metrics.jsonl that are cut off or damaged"]
    (tmp_path / "metrics.jsonl").write_text("")
    assert read_run(tmp_path, "new").status == "step 0"


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "config.yaml").write_text("train: [")
    with pytest.raises(UserError, match="config.yaml: not valid YAML"):
        read_run(tmp_path, "a")


def test_flattened() -> None:
    value = {"a": {"b": 1, "c": {}}, "d": [{"e": None}, {"e": []}], "f": [1, 2], "名": "值"}
    assert dict(flattened(value)) == {"a.b": 1, "a.c": {}, "d.0.e": None, "d.1.e": [], "f": [1, 2], "名": "值"}
    assert dict(flattened({})) == {}
