"""eval.harness: scores equal lm-eval's own, chance levels, offline, names checked before anything is cleared."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import lm_eval
import pytest
import tiny_export
from lm_eval.tasks import TaskManager

from eval.config import EvalConfig
from eval.harness import chance_level, find_tasks, harness, hash_tasks, own_tasks, rows, show_score
from mindllm.config import UserError, load

READER = """
import json
from pathlib import Path


def load(data_files, **_unused):
    from datasets import Dataset, DatasetDict

    path = Path(__file__).parent / data_files["test"]
    return DatasetDict({"test": Dataset.from_list([json.loads(line) for line in path.open(encoding="utf-8")])})
"""
TASK = """
task: NAME
custom_dataset: !function tiny_reader.load
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: text
doc_to_choice: endings
doc_to_target: answer
target_delimiter: ""
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
ROLLING = """
task: tiny_text
custom_dataset: !function tiny_reader.load
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: text
metric_list:
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
"""
ITEMS = [
    {"text": "春天来了，河边的", "endings": ["柳树", "发芽", "老人", "慢慢"], "answer": 0},
    {"text": "老人坐在门口喝", "endings": ["茶", "船"], "answer": 0},
    {"text": "The rain stopped before", "endings": [" noon", " mill"], "answer": 0},
    {"text": "海上的船越走越", "endings": ["涼", "遠"], "answer": 1},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    tiny_export.write_export(run / "export", num_positions=64)
    tasks = run / "tasks"
    tasks.mkdir()
    (tasks / "tiny_reader.py").write_text(READER, encoding="utf-8")
    (tasks / "items.jsonl").write_text(
        "".join(json.dumps(i, ensure_ascii=False) + "\n" for i in ITEMS), encoding="utf-8"
    )
    (tasks / "tiny_choice.yaml").write_text(TASK.replace("NAME", "tiny_choice"), encoding="utf-8")
    (tasks / "tiny_zero.yaml").write_text(TASK.replace("NAME", "tiny_zero") + "num_fewshot: 0\n", encoding="utf-8")
    (tasks / "tiny_text.yaml").write_text(ROLLING, encoding="utf-8")
    (tasks / "tiny.yaml").write_text("group: tiny\ntask:\n  - tiny_choice\n  - tiny_text\n", encoding="utf-8")
    return run


def config(run: Path, folder: str = "", **changes: object) -> EvalConfig:
    base = {"tasks": ["tiny_choice", "tiny_text"], "include_path": str(run / "tasks"), "model": str(run / "export")}
    return tiny_export.eval_config(run / folder, **(base | changes))  # type: ignore[arg-type]


def scores(config: EvalConfig) -> dict[tuple[str, str], dict[str, object]]:
    assert harness(config) == 0
    found = json.loads((config.folder("harness") / "scores.json").read_text(encoding="utf-8"))["scores"]
    return {(row["task"], row["metric"]): row for row in found}


def test_scores_equal_lm_evals_own(run: Path) -> None:
    ours = scores(config(run, "parity", num_fewshot=1))
    theirs = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(run / "export"), "dtype": "float32"},
        device="cpu",
        tasks=["tiny_choice", "tiny_text"],
        task_manager=TaskManager(include_path=str(run / "tasks"), include_defaults=False),
        num_fewshot=1,
        batch_size=8,
        fewshot_random_seed=1,
    )
    assert set(ours) == {("tiny_choice", "acc"), ("tiny_choice", "acc_norm"), ("tiny_text", "bits_per_byte")}
    for (task, metric), row in ours.items():
        assert row["value"] == pytest.approx(theirs["results"][task][f"{metric},none"], rel=1e-6)
        if row["stderr"] is not None:
            assert row["stderr"] == pytest.approx(theirs["results"][task][f"{metric}_stderr,none"], rel=1e-6)
        assert row["num_items"] == 4


def test_chance_is_the_mean_over_items_of_one_over_choices(run: Path) -> None:
    found = scores(config(run, "chance"))
    expected = (1 / 4 + 1 / 2 + 1 / 2 + 1 / 2) / 4
    assert found["tiny_choice", "acc"]["chance"] == found["tiny_choice", "acc_norm"]["chance"] == expected
    assert found["tiny_text", "bits_per_byte"]["chance"] is None
    assert found["tiny_text", "bits_per_byte"]["stderr"] is None
    assert found["tiny_choice", "acc"]["higher_is_better"] is True


def test_chance_with_mutual_information_counts_each_choice_once() -> None:
    sample = {"doc_id": 0, "arguments": {f"gen_args_{i}": {} for i in range(8)}}
    settings = {"output_type": "multiple_choice", "metric_list": [{"metric": "acc"}, {"metric": "acc_mutual_info"}]}
    assert chance_level({"configs": {"t": settings}, "samples": {"t": [sample]}}, "t") == 1 / 4


def test_named_filters_and_unknown_errors() -> None:
    results = {
        "n-samples": {"t": {"effective": 3}},
        "results": {"t": {"alias": "t", "exact_match,strict": 0.5, "exact_match_stderr,strict": "N/A"}},
        "n-shot": {"t": 2},
        "higher_is_better": {"t": {"exact_match": True}},
    }
    assert list(rows(results)) == [
        {"task": "t", "metric": "exact_match (strict)", "value": 0.5, "stderr": None, "chance": None, "num_items": 3}
        | {"num_fewshot": 2, "higher_is_better": True}
    ]


def test_a_task_that_fixes_no_examples_keeps_none(run: Path) -> None:
    found = scores(config(run, "shots", tasks=["tiny_choice", "tiny_zero"], num_fewshot=2))
    assert found["tiny_choice", "acc"]["num_fewshot"] == 2
    assert found["tiny_zero", "acc"]["num_fewshot"] == 0


def test_group_and_limit_and_no_network(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a run with only our own tasks went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = dict(os.environ)
    found = scores(config(run, "group", tasks=["tiny"], limit=2))
    assert {row["num_items"] for row in found.values()} == {2} and len(found) == 3
    assert dict(os.environ) == before
    again = (run / "group" / "harness" / "scores.json").read_bytes()
    scores(config(run, "group", tasks=["tiny"], limit=2, force=True))
    assert (run / "group" / "harness" / "scores.json").read_bytes() == again


def test_a_mistyped_task_names_the_nearest_and_clears_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores(config(run, "typo"))
    monkeypatch.setattr("eval.harness.own_tasks", lambda _: {"tiny_chioce"})  # spares the index of all of lm-eval's
    with pytest.raises(UserError, match="unknown task tiny_chioce; did you mean tiny_choice"):
        harness(config(run, "typo", tasks=["tiny_chioce"], force=True))
    assert (run / "typo" / "harness" / "scores.json").exists()


def test_wrong_use_is_named(run: Path) -> None:
    with pytest.raises(UserError, match="tasks: name at least one"):
        harness(config(run, tasks=[]))
    with pytest.raises(UserError, match="is no folder"):
        harness(config(run, include_path=str(run / "nowhere")))
    with pytest.raises(UserError, match="mindllm.export"):
        harness(config(run, model=str(run / "nowhere")))


def test_task_files_are_part_of_the_plan(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "items.jsonl").write_text("春\n", encoding="utf-8")
    first = hash_tasks(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_text("x")
    assert hash_tasks(tmp_path) == first
    (tmp_path / "a" / "items.jsonl").write_text("秋\n", encoding="utf-8")
    assert hash_tasks(tmp_path) != first


def test_the_shipped_config_names_tasks_that_are_there() -> None:
    root = Path(__file__).parent.parent
    shipped = load(EvalConfig, root / "configs/eval/tiny.yaml")
    assert shipped.tasks and set(shipped.tasks) <= own_tasks(root / "eval/tasks")
    find_tasks(shipped.tasks, str(root / "eval/tasks"), local=True)
    assert any("的" in p or "了" in p for p in shipped.prompts) and any(p.isascii() for p in shipped.prompts)


def test_own_tasks_reads_names_and_not_lists(run: Path) -> None:
    assert own_tasks(run / "tasks") == {"tiny_choice", "tiny_zero", "tiny_text", "tiny"}


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0.25, "0.250"), (812.3456, "812.346"), (7.91e14, "7.91e+14")]
)
def test_scores_are_shown_short(value: float | None, shown: str) -> None:
    assert show_score(value) == shown
