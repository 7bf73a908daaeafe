"""eval.harness.tasks: names, what they need, what is missing and why; nothing of it asks the network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from harness_tasks import CHOICE, READER, write_tasks

from eval.harness.tasks import (
    Needs,
    find_tasks,
    hash_tasks,
    is_unreachable,
    load_tasks,
    needs,
    why_missing,
)
from mindllm.config import UserError

LOCAL, HUB, STOCK = Needs(False, False), Needs(False, True), Needs(True, True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tasks(tmp_path / "tasks")


def test_task_files_are_part_of_the_plan(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "items.jsonl").write_text("春\n", encoding="utf-8")
    first = hash_tasks(tasks)
    (tasks / "__pycache__").mkdir()
    (tasks / "__pycache__" / "x.pyc").write_text("x")
    assert hash_tasks(tasks) == first
    (tasks / "items.jsonl").write_text("秋\n", encoding="utf-8")
    second = hash_tasks(tasks)
    for name, meta in (("cmmlu", '{"set": "cmmlu"}'), ("pretrain", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "meta.json").write_text(meta)
        (tmp_path / name / "rows.jsonl").write_text("{}\n")
    third = hash_tasks(tasks)
    (tmp_path / "pretrain" / "rows.jsonl").write_text("{}\n{}\n")  # of another stage
    assert hash_tasks(tasks) == third
    (tmp_path / "cmmlu" / "rows.jsonl").write_text("{}\n{}\n")  # of an imported set, which the tasks read
    assert len({first, second, third, hash_tasks(tasks)}) == 4
    large = b"{}\n" * 1_500_000
    (tasks / "items.jsonl").write_bytes(large)
    before = hash_tasks(tasks)
    (tasks / "items.jsonl").write_bytes(large[:2_000_000] + b"x" + large[2_000_001:])
    assert hash_tasks(tasks) != before


def test_what_names_need(folder: Path) -> None:
    (folder / "hub.yaml").write_text("task: on_hub\ndataset_path: someone/something\n")
    (folder / "base").write_text("dataset_path: csv\ndataset_kwargs: {data_files: {test: a.csv}}\n")
    (folder / "with_base.yaml").write_text("include: base\ntask: with_base\n")
    (folder / "far.yaml").write_text("task: far\ndataset_path: json\ndataset_kwargs: {data_files: 'https://x.org/a'}\n")
    (folder / "mixed.yaml").write_text("group: mixed\ntask: [tiny_choice, {task: on_hub, num_fewshot: 3}]\n")
    (folder / "all.yaml").write_text("group: all\ntask:\n  - tiny\n  - group: inside\n    task: [hellaswag]\n")
    assert needs(["tiny", "letters", "odd", "with_base"], folder) == LOCAL
    assert needs(["letters_*"], folder) == LOCAL
    assert needs(["on_hub"], folder) == needs(["tiny", "mixed"], folder) == needs(["far"], folder) == HUB
    assert needs(["mmlu"], folder) == needs(["all"], folder) == needs(["hellas*"], folder) == STOCK


def test_files_that_are_no_tasks_are_named(folder: Path) -> None:
    (folder / "loop.yaml").write_text("include: loop.yaml\ntask: loop\n")
    with pytest.raises(UserError, match="loop.yaml: includes itself"):
        needs(["tiny"], folder)
    (folder / "loop.yaml").write_text("task: [\n")
    with pytest.raises(UserError, match="loop.yaml: cannot be read as a task"):
        needs(["tiny"], folder)


def test_unknown_names_and_names_given_twice(folder: Path) -> None:
    with pytest.raises(UserError, match="unknown task tiny_chioce; did you mean tiny_choice"):
        find_tasks(["tiny_chioce"], str(folder), stock=False)
    manager = find_tasks(["tiny", "tiny_choice"], str(folder), stock=False)
    with pytest.raises(UserError, match="tiny_choice is named twice, once as part of tiny_choice"):
        load_tasks(["tiny", "tiny_choice"], manager)


def test_patterns_groups_and_tags_are_loaded(folder: Path) -> None:
    manager = find_tasks(["letters_*", "odd"], str(folder), stock=False)
    loaded = load_tasks(["letters_*", "odd"], manager)
    assert list(loaded.tasks) == ["letters_en", "letters_zh", "tiny_choice", "tiny_zero"]
    assert list(loaded.groups) == ["odd"] and loaded.missing == []
    assert [a.metric for a in loaded.groups["odd"].aggregate_metric_list] == ["acc", "acc_norm"]


def load_with(folder: Path, text: str, *names: str) -> Any:
    (folder / "broken.yaml").write_text(text, encoding="utf-8")
    return load_tasks(["broken", *names], find_tasks(["broken", *names], str(folder), stock=False))


def test_missing_data_of_every_kind_are_named(folder: Path) -> None:
    def why(text: str) -> str:
        loaded = load_with(folder, text, "tiny")
        assert list(loaded.tasks) == ["tiny_choice", "tiny_text"]
        (absent,) = loaded.missing
        assert absent.task_name == "broken"
        return str(absent.why)

    choice = CHOICE.replace("NAME", "broken")
    assert why(choice.replace("DATA", "無.jsonl")) == f"{folder / '無.jsonl'} does not exist"
    split = choice.replace("DATA", "items.jsonl").replace("test_split: test", "test_split: validation")
    assert "validation" in why(split)
    plain = split.replace("custom_dataset: !function tiny_reader.load", "").replace("items.jsonl", "nowhere.json")
    assert "nowhere.json" in why(plain)
    (folder / "needy.py").write_text("import package_that_is_nowhere\n" + READER)
    needy = choice.replace("tiny_reader", "needy")
    assert why(needy) == "needs the Python package package_that_is_nowhere"


def test_what_import_has_not_found_is_missing(folder: Path) -> None:
    noted = "metadata: {missing: [{task: mindllm_piqa, why: 不在資料夾}]}\n"
    loaded = load_with(folder, "group: broken\ntask: [tiny]\n" + noted)
    assert [(absent.task_name, absent.why) for absent in loaded.missing] == [("mindllm_piqa", "不在資料夾")]


def test_mistakes_in_a_task_are_no_missing_data(folder: Path) -> None:
    wrong = CHOICE.replace("NAME", "broken").replace("DATA", "items.jsonl").replace("multiple_choice", "no_such_type")
    with pytest.raises(ValueError, match="no_such_type"):
        load_with(folder, wrong)
    assert why_missing(ValueError("wrong")) is None


def test_an_unreachable_hub_is_asked_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = "import datasets\n\ndef load(**_):\n    seen.append(datasets.config.HF_HUB_OFFLINE)\n"
    (folder / "far.py").write_text(
        "seen = []\n" + reader + "    raise ConnectionError('Couldn\\'t reach x on the Hub')\n"
    )
    task = CHOICE.replace("NAME", "broken").replace("tiny_reader", "far").replace("DATA", "x")
    (folder / "broken2.yaml").write_text(task.replace("broken", "broken2"), encoding="utf-8")
    before = sys.modules["datasets"].config.HF_HUB_OFFLINE
    loaded = load_with(folder, task, "broken2")
    assert [absent.why for absent in loaded.missing] == ["ConnectionError: Couldn't reach x on the Hub"] * 2
    assert sys.modules[str(folder / "far")].seen == [before, True]
    assert sys.modules["datasets"].config.HF_HUB_OFFLINE == before
    assert "the hub cannot be reached" in capsys.readouterr().out
    assert not is_unreachable(ConnectionError("(OfflineModeIsEnabled)")) and not is_unreachable(FileNotFoundError("x"))
