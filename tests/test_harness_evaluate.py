"""eval.harness.evaluate: keys that see every change that matters and no other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness_tasks import config, letter_items, write_lines, write_tasks

from eval.harness.evaluate import describe, hash_code, hash_documents, make_job
from eval.harness.tasks import find_tasks, load_tasks


def key(run: Path, name: str, model: str = "model", **changes: Any) -> str:
    settings = config(run, **changes)
    manager = find_tasks([name], settings.include_path, stock=False)
    task = load_tasks([name], manager).tasks[name]
    return make_job(name, task, settings, model, hash_code(settings.include_path)).key


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_tasks(tmp_path / "tasks")
    return tmp_path


def test_the_same_task_has_the_same_key_wherever_it_lies(run: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    write_tasks(tmp_path / "moved" / "tasks")
    assert key(run, "letters_zh") == key(run, "letters_zh") == key(tmp_path / "moved", "letters_zh")


def test_settings_that_matter_change_the_key(run: Path) -> None:
    base: dict[str, Any] = {"num_fewshot": 2}
    changes: list[dict[str, Any]] = [
        {"model": "another"}, {"num_fewshot": 3}, {"seed": 2}, {"limit": 5}, {"scorer": "hf"},
        {"limits": {"letters_zh": 4}}, {"dtype": "bfloat16"}, {"examples": "per_item"},
    ]  # fmt: skip
    keys = {key(run, "letters_zh", **base), *(key(run, "letters_zh", **base | change) for change in changes)}
    assert len(keys) == 9
    assert key(run, "letters_zh", **base) == key(run, "letters_zh", **base, limit=12)  # there are 12: all of them


def test_files_that_matter_change_the_key(run: Path) -> None:
    names = ("letters_zh", "letters_en", "tiny_zero")

    def keys() -> list[str]:
        return [key(run, name, num_fewshot=1) for name in names]

    before = keys()
    write_lines(run / "tasks" / "letters_zh.jsonl", letter_items("zh", 12, seed=9))
    after = keys()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]
    write_lines(run / "tasks" / "letters_dev.jsonl", letter_items("en", 6, seed=9))  # where examples come from
    assert [a == b for a, b in zip(after, keys(), strict=True)] == [False, False, True]
    after = keys()
    path = run / "tasks" / "letters_en.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("答：", "Answer:"), encoding="utf-8")
    assert [a == b for a, b in zip(after, keys(), strict=True)] == [True, False, True]
    after = keys()
    reader = run / "tasks" / "tiny_reader.py"
    reader.write_text(reader.read_text() + "\n# other code\n")
    assert not {*after} & {*keys()}


def test_functions_are_described_by_their_source() -> None:
    def one(x: int) -> int:
        return x + 1

    def other(x: int) -> int:
        return x + 2

    assert describe({"f": one, "config_source": "/a/b"}) == describe({"f": one, "config_source": "/c"})
    assert "x + 1" in describe(one) and describe(one) != describe(other)
    assert describe([1, None, (2.5, "文")]) == [1, None, [2.5, "文"]] and describe(len) == "len "
    assert describe(partial(one, 1)) == "" and describe(object()) == "object"


def test_documents_are_hashed_by_content_and_order() -> None:
    items = letter_items("zh", 3)
    assert hash_documents(items) == hash_documents([dict(reversed(item.items())) for item in items])
    assert hash_documents(items) != hash_documents(items[::-1])
    assert hash_documents([{"text": "\ud800"}]) != hash_documents([])
