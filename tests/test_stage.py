"""Stage folders: complete, begun, absent or foreign, and the same result wherever the process is killed."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import UserError
from mindllm.stage import (
    Stage,
    atomic,
    differences,
    hash_file,
    hash_json,
    held,
    read_json,
    require,
    write_json,
    write_text,
)

OPERATIONS = (
    "mkdir",
    "replace",
    "fsync",
    "unlink",
    "rmdir",
)  # what a stage does to the disk, beside writing into files


class Killed(BaseException):
    """Stands for a kill: from one operation on nothing is done any more, cleaning up included."""


def kill_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `number`-th change of the disk (0: the first) and all after it raise Killed."""
    count = itertools.count()

    def limited(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if next(count) >= number:
            raise Killed
        return operation(*args, **kwargs)

    for name in OPERATIONS:
        monkeypatch.setattr(os, name, functools.partial(limited, getattr(os, name)))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def make(folder: Path, size: int, force: bool = False) -> bool:
    """A stage of two files, the second of which trusts that the first is there; True if there was work to do."""
    stage = Stage(folder, "demo", {"size": size, "语言": ["en", "zh-Hans"]}, {"data": "1"})
    if not stage.start(force):
        return False
    if not (folder / "b.json").exists():
        write_json(folder / "a" / "counts.json", {"size": size})
        write_text(folder / "b.json", f"{size}\n")
    assert read_json(folder / "a" / "counts.json") == {"size": size}, "a file of another plan, or a missing one"
    stage.finish(**{"in": size, "out": size, "unit": "documents"})
    return True


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but meta.json, which holds a time, and temporary ones, which only a kill leaves behind."""
    files = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.suffix in (".json", ".txt")
    }
    assert files.pop("meta.json")
    return files


def test_absent_begun_complete(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "demo"
    assert "does not exist" in str(pytest.raises(UserError, require, folder, "make demo").value)
    stage = Stage(folder, "demo", {"betas": (0.9, 0.95)}, {})
    assert stage.start() and stage.start() and Stage(folder, "demo", {"betas": [0.9, 0.95]}, {}).start()
    message = str(pytest.raises(UserError, require, folder, "make demo").value)
    assert "is not complete" in message and message.endswith("make it first: make demo")
    meta = stage.finish(out=3)
    assert not stage.start() and not stage.start(force=True)
    assert require(folder, "") == meta and meta["counts"] == {"out": 3} and meta["hash"] == stage.plan["hash"]
    assert meta["config"] == {"betas": [0.9, 0.95]} and meta["versions"]["mindllm"]


def test_another_plan_is_refused_and_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    for finished in (False, True):
        Stage(folder, "demo", {"a": 1, "b": {"c": "旧"}}, {"x": "1"}).start(force=True)
        if finished:
            Stage(folder, "demo", {"a": 1, "b": {"c": "旧"}}, {"x": "1"}).finish()
        (folder / "inside").mkdir()
        (folder / "inside" / "old.txt").write_text("old")
        other = Stage(folder, "demo", {"a": 1, "b": {"c": "新", "d": None}}, {})
        message = str(pytest.raises(UserError, other.start).value).split("\n")
        assert message[1:] == ['  config.b.c: "旧" -> "新"', '  config.b.d: "(absent)" -> null',
                               '  inputs.x: "1" -> "(absent)"',
                               "Add force=true to recompute it, or choose another run=... folder."]  # fmt: skip
        assert (folder / "inside" / "old.txt").exists()
        assert other.start(force=True) and "force=true" in capsys.readouterr().out
        assert [p.name for p in folder.iterdir()] == ["plan.json"]
        assert read_json(folder / "plan.json") == other.plan


def test_a_training_has_another_word_for_its_folder(tmp_path: Path) -> None:
    Stage(tmp_path, "demo", {}, {}).start()
    other = Stage(tmp_path, "demo", {"a": 1}, {}, place="out=... (or run=...)")
    with pytest.raises(UserError, match=r"or choose another out=\.\.\. \(or run=\.\.\.\) folder\."):
        other.start()


def test_the_order_of_keys_is_a_difference(tmp_path: Path) -> None:
    assert Stage(tmp_path / "s", "s", {"clean": {"html": {}, "density": {}}}, {}).start()
    other = Stage(tmp_path / "s", "s", {"clean": {"density": {}, "html": {}}}, {})
    with pytest.raises(UserError, match="config.clean: order html, density -> density, html"):
        other.start()
    with pytest.raises(UserError, match='stage: "s" -> "t"'):
        Stage(tmp_path / "s", "t", {"clean": {"html": {}, "density": {}}}, {}).start()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(json_values, json_values)
def test_every_change_of_hash_has_a_line(old: Any, new: Any) -> None:
    assert bool(list(differences({"k": old}, {"k": new}))) >= (hash_json(old) != hash_json(new))
    assert not list(differences({"k": old}, {"k": old}))


def test_lists_of_tables_differ_table_by_table() -> None:
    old = {"phases": [{"weights": {"网页": 1}, "until_step": None}], "betas": [0.9, 0.95], "none": []}
    new = {"phases": [{"weights": {"网页": 1}, "until_step": 6}, {"weights": {}}], "betas": [0.9, 0.9], "none": [{}]}
    assert list(differences(old, new, "config")) == [
        "config.phases.0.until_step: null -> 6",
        'config.phases.1: "(absent)" -> {"weights": {}}',
        "config.betas: [0.9, 0.95] -> [0.9, 0.9]",
        'config.none.0: "(absent)" -> {}',
    ]
    assert list(differences([{}, {}], [1], "k")) == ["k: [{}, {}] -> [1]"]


def test_many_differences_are_cut_short(tmp_path: Path) -> None:
    Stage(tmp_path, "demo", {str(i): 0 for i in range(20)}, {}).start()
    with pytest.raises(UserError, match="... and 8 more"):
        Stage(tmp_path, "demo", {str(i): 1 for i in range(20)}, {}).start()


def changing(folder: Path, phases: list[int], **others: str) -> Stage:
    """A stage whose phases and whose sources may change."""
    return Stage(folder, "train", {"phases": phases, "seed": 1}, {"sources": {"网页-zh": "a", **others}, "model": "m"})


MAY_CHANGE = ("config.phases", "inputs.sources", "absent.part")


@pytest.mark.parametrize("finished", [False, True])
def test_named_parts_may_change(tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: bool) -> None:
    folder = tmp_path / "run"
    old, new = changing(folder, [6]), changing(folder, [6, 8], **{"书.en": "b"})
    assert new.changes() == [] and not new.differs_only_in(MAY_CHANGE)
    assert new.start(may_change=MAY_CHANGE) and new.changes() == [] and not new.differs_only_in(MAY_CHANGE)
    shutil.rmtree(folder)
    old.start()
    write_text(folder / "weights.txt", "weights")
    if finished:
        old.finish()
    lines = ["config.phases: [6] -> [6, 8]", 'inputs.sources.书.en: "(absent)" -> "b"']
    assert new.changes() == lines and new.differs_only_in(MAY_CHANGE)
    assert new.differs_only_in(("config", "inputs")) and not new.differs_only_in(("config",))
    for parts in (
        (),
        ("config.phases",),
        ("inputs.sources",),
        ("config.phase", "inputs.sources"),
        ("phases", "sources"),
    ):
        assert not new.differs_only_in(parts)
        message = str(pytest.raises(UserError, new.start, False, parts).value)
        assert message.split("\n")[1:-1] == [f"  {line}" for line in lines]
    assert read_json(folder / "plan.json") == old.plan and (folder / "meta.json").exists() == finished
    capsys.readouterr()
    assert new.start(may_change=MAY_CHANGE) and (folder / "weights.txt").read_text() == "weights"
    shown = capsys.readouterr().out.splitlines()
    assert "goes on with another plan" in shown[0] and shown[1:] == [f"  {line}" for line in lines]
    assert read_json(folder / "plan.json") == new.plan and not (folder / "meta.json").exists()
    assert new.start() and not new.changes() and not capsys.readouterr().out
    with pytest.raises(UserError, match="was made from something else"):
        old.start()
    assert old.start(may_change=MAY_CHANGE) and read_json(folder / "plan.json") == old.plan
    other = Stage(folder, "train", {"phases": [6], "seed": 2}, old.plan["inputs"])
    with pytest.raises(UserError, match="config.seed: 1 -> 2"):
        other.start(may_change=MAY_CHANGE)


def test_a_kill_while_a_part_changes_leaves_the_old_or_the_new_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mindllm.stage.versions", dict)
    plans = set()
    for finished in (False, True):
        for number in itertools.count():
            folder = tmp_path / f"{finished}{number}"
            old, new = changing(folder, [6]), changing(folder, [6, 8])
            old.start()
            write_text(folder / "weights.txt", "weights")
            if finished:
                old.finish()
            with pytest.MonkeyPatch.context() as patch:
                kill_at(number, patch)
                try:
                    new.start(may_change=MAY_CHANGE)
                    break
                except Killed:
                    pass
            now, meta = read_json(folder / "plan.json"), read_json(folder / "meta.json")
            assert now in (old.plan, new.plan) and (meta is None or now == old.plan)
            plans.add(now["hash"])
            if now == old.plan:
                assert changing(folder, [6]).start() == (meta is None)  # the old command still goes on, or is done
            assert new.start(may_change=MAY_CHANGE) and (folder / "weights.txt").exists()
            assert read_json(folder / "plan.json") == new.plan and not (folder / "meta.json").exists()
        assert number >= 2 + finished
    assert len(plans) == 2


def test_a_folder_that_is_being_emptied_has_no_parts_to_change(tmp_path: Path) -> None:
    changing(tmp_path, [6]).start()
    write_json(tmp_path / "plan.json", {"hash": "clearing"})
    write_text(tmp_path / "rest.txt", "")
    assert changing(tmp_path, [7]).changes() == [] and not changing(tmp_path, [7]).differs_only_in(MAY_CHANGE)
    assert changing(tmp_path, [7]).start(may_change=MAY_CHANGE) and not (tmp_path / "rest.txt").exists()


def test_foreign_folders_and_files(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("论文")
    (tmp_path / "file").write_text("a file")
    for force in (False, True):
        with pytest.raises(UserError, match="no stage of ours has written"):
            Stage(tmp_path / "foreign", "demo", {}, {}).start(force)
        for place in ("file", "file/demo", "file/demo/deeper"):
            with pytest.raises(UserError, match="demo: cannot make .*; choose another run=... folder"):
                Stage(tmp_path / place, "demo", {}, {}).start(force)
    assert (tmp_path / "foreign" / "thesis.txt").read_text() == "论文"
    assert "does not exist" in str(pytest.raises(UserError, require, tmp_path / "file" / "demo", "").value)


@pytest.mark.parametrize("damage", ["", "{", "[]", "3", "{}", '{"hash', "\ud8f0\x00"])
@pytest.mark.parametrize("name", ["meta.json", "plan.json"])
def test_damaged_records_are_named(tmp_path: Path, name: str, damage: str) -> None:
    stage = Stage(tmp_path, "demo", {}, {})
    stage.start()
    (tmp_path / name).write_bytes(damage.encode("utf-8", "surrogatepass"))
    for force in (False, True):
        with pytest.raises(RuntimeError, match=f"{name}: damaged"):
            stage.start(force)
    if name == "meta.json":
        with pytest.raises(RuntimeError, match="meta.json: damaged"):
            require(tmp_path, "")


def test_killed_between_any_two_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh stage, a forced recomputation, and one taken back: killed anywhere, they end as if never killed."""
    monkeypatch.setattr("mindllm.stage.versions", dict)  # slow
    for size in (1, 2):
        make(tmp_path / f"good{size}", size)
    for case, size in (("fresh", 1), ("forced", 2), ("back", 1)):
        for number in itertools.count():
            folder = tmp_path / f"{case}{number}"
            if case != "fresh":
                make(folder, 1)
            with pytest.MonkeyPatch.context() as patch:
                kill_at(number, patch)
                try:
                    make(folder, 2 if case == "back" else size, force=case != "fresh")
                    break  # more operations than there are
                except Killed:
                    pass
            if case == "back":  # killed while another plan was made here; now the old one is wanted again
                make(folder, size, force=True)
            else:
                make(folder, size, force=case == "forced")
            assert contents(folder) == contents(tmp_path / f"good{size}"), (case, number)
            assert not make(folder, size)
            shutil.rmtree(folder)
        assert number > 5


def test_half_cleared_is_never_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old plan does not take up what a killed force=true of another plan has left of its files."""
    monkeypatch.setattr("mindllm.stage.versions", dict)
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(path.glob("*"))))  # a/ goes before b.json
    for number in range(3, 20):
        folder = tmp_path / str(number)
        make(folder, 1)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(number, patch)
            with pytest.raises(Killed):
                make(folder, 2, force=True)
        try:
            make(folder, 1)  # holds an assertion of its own
        except UserError as error:
            assert "config.size: 2 -> 1" in str(error)


def test_atomic(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "文件.json"
    write_json(path, {"键": "值"})
    assert read_json(path) == {"键": "值"} and "值" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError), atomic(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert read_json(path) == {"键": "值"} and list(path.parent.iterdir()) == [path]
    assert read_json(tmp_path / "none.json") is None and read_json(path / "below.json") is None


def test_hash_file_sees_changes(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    mebibyte = 1 << 20
    for size in (0, 1, mebibyte, mebibyte + 1, 2 * mebibyte, 3 * mebibyte):
        data = bytearray(size)
        path.write_bytes(data)
        seen = {hash_file(path)}
        places = {p for p in (0, size // 3, size - 1) if 0 <= p < size and not mebibyte <= p < size - mebibyte}
        for place in places:
            data[place] ^= 1
            path.write_bytes(data)
            seen.add(hash_file(path))
        path.write_bytes(data + b"x")
        assert len(seen | {hash_file(path)}) == len(places) + 2


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(UserError, match="another process is at work"), held(tmp_path):
        pass
    with held(tmp_path):
        pass
