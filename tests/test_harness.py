"""eval.harness.run: lm-eval's scores, resumed, recomputed only where settings reach, offline, missing data named."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from harness_tasks import config, letter_items, write_lines, write_run
from lm_eval.tasks import TaskManager

import eval.harness.evaluate as evaluation
import eval.harness.run as verb
from eval.config import EvalConfig
from eval.exported import hash_model
from eval.harness import harness, read_samples, rows_on_clean
from eval.harness.scores import GUESSED
from mindllm.config import UserError, load
from mindllm.stage import held, read_json, write_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


def stored(config: EvalConfig) -> dict[str, Any]:
    assert harness(config) == 0
    found: dict[str, Any] = json.loads((config.folder("harness") / "scores.json").read_text(encoding="utf-8"))
    return found


def scores(config: EvalConfig) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["task"], row["metric"]): row for row in stored(config)["scores"]}


def lm_evals_own(run: Path, tasks: list[str], num_fewshot: int | None) -> dict[str, Any]:
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(run / "export"), "dtype": "float32"},
        device="cpu",
        tasks=tasks,
        task_manager=TaskManager(include_path=str(run / "tasks"), include_defaults=False),
        num_fewshot=num_fewshot,
        batch_size=8,
        fewshot_random_seed=1,
    )
    results: dict[str, Any] = found["results"]
    return results


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that are evaluated, in order."""
    names: list[str] = []
    original = verb.evaluate

    def evaluate(lm: Any, job: Any, config: EvalConfig) -> dict[str, Any]:
        names.append(job.name)
        return original(lm, job, config)

    monkeypatch.setattr(verb, "evaluate", evaluate)
    return names


@pytest.mark.parametrize("scorer", ["hf", "shared"])
def test_scores_equal_lm_evals_own(run: Path, scorer: str) -> None:
    tasks = ["tiny_own", "tiny_text", "letters"]
    ours = scores(config(run, f"parity-{scorer}", tasks=tasks, num_fewshot=1, scorer=scorer, examples="per_item"))
    theirs = lm_evals_own(run, tasks, 1)
    letters = [(name, "acc") for name in ("letters_zh", "letters_en", "letters")]
    assert set(ours) == {("tiny_own", "acc"), ("tiny_own", "acc_norm"), ("tiny_text", "bits_per_byte"), *letters}
    for (task, metric), row in ours.items():
        assert row["value"] == pytest.approx(theirs[task][f"{metric},none"], rel=1e-6)
        if metric == "bits_per_byte":  # where lm-eval has no error
            assert theirs[task]["bits_per_byte_stderr,none"] == "N/A" and row["stderr"] > 0
        else:
            assert row["stderr"] == pytest.approx(theirs[task][f"{metric}_stderr,none"], rel=1e-6)
    assert ours["tiny_own", "acc"]["num_items"] == 4
    assert ours["tiny_own", "acc"]["marks"] == ["examples drawn leave-one-out from the evaluated split"]
    group = ours["letters", "acc"]
    assert (group["num_items"], group["parts"], group["members"]) == (42, 2, ["letters_zh", "letters_en"])
    assert (group["group"], group["benchmark"], group["marks"]) == ("bilingual", "Letters", ["made for tests"])
    assert ours["letters_zh", "acc"]["part_of"] == "letters" and group["part_of"] is None


def test_chance_is_the_mean_over_items_of_one_over_choices(run: Path) -> None:
    found = scores(config(run, "chance"))
    expected = (1 / 4 + 1 / 2 + 1 / 2 + 1 / 2) / 4
    assert found["tiny_choice", "acc"]["chance"] == found["tiny_choice", "acc_norm"]["chance"] == expected
    text = found["tiny_text", "bits_per_byte"]
    assert text["chance"] is text["distinguishable"] is text["length_baseline"] is None
    assert found["tiny_choice", "acc"]["higher_is_better"] is True
    assert found["tiny_choice", "acc"]["benchmark"] == "tiny_choice" and text["group"] == "other"


def test_a_task_that_fixes_no_examples_keeps_none(run: Path) -> None:
    found = scores(config(run, "shots", tasks=["odd"], num_fewshot=2))
    assert found["tiny_choice", "acc"]["num_fewshot"] == 2
    assert found["tiny_zero", "acc"]["num_fewshot"] == 0
    tag = found["odd", "acc"]  # lm-eval gives a tag no score; here it has one of the metrics that all its tasks have
    assert (tag["parts"], tag["num_items"], tag["num_fewshot"]) == (2, 8, None)
    assert tag["value"] == (found["tiny_choice", "acc"]["value"] + found["tiny_zero", "acc"]["value"]) / 2


def test_group_and_limit_and_no_network(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a run with only our own tasks went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = dict(os.environ)
    found = scores(config(run, "group", tasks=["tiny"], limit=2))
    assert {row["num_items"] for row in found.values()} == {2} and len(found) == 3
    assert all("a subset of 2 of 4 items, seed 1" in row["marks"] for row in found.values())
    assert dict(os.environ) == before
    again = (run / "group" / "harness" / "scores.json").read_bytes()
    (run / "group" / "harness" / "meta.json").unlink()
    scores(config(run, "group", tasks=["tiny"], limit=2))
    assert (run / "group" / "harness" / "scores.json").read_bytes() == again


def test_tasks_have_limits_of_their_own(run: Path) -> None:
    found = scores(config(run, "limits", tasks=["letters"], limit=4, limits={"*_zh": 3, "letters_*": 2}))
    assert {task: row["num_items"] for (task, _), row in found.items()} == {
        "letters_zh": 3,
        "letters_en": 2,
        "letters": 5,
    }
    with pytest.raises(UserError, match="limits: no task here is called letter_zh; .*letters_zh"):
        harness(config(run, "limits", tasks=["letters"], limits={"letter_zh": 3}))
    assert list(config(run, limits={"letters_zh": 0}).problems()) == ["limits.letters_zh: 0 must be at least 1"]


def test_a_killed_run_goes_on_with_the_next_task(
    run: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = stored(config(run, "whole", tasks=["letters", "tiny_choice"], num_fewshot=1))
    counting = verb.evaluate

    def killed(lm: Any, job: Any, config: EvalConfig) -> dict[str, Any]:
        if job.name == "tiny_choice":
            raise KeyboardInterrupt
        return counting(lm, job, config)

    counted.clear()
    settings = config(run, "killed", tasks=["letters", "tiny_choice"], num_fewshot=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(verb, "evaluate", killed)
        harness(settings)
    assert counted == ["letters_zh", "letters_en"]
    assert not (settings.folder("harness") / "scores.json").exists()
    capsys.readouterr()
    assert stored(settings) == whole
    assert counted == ["letters_zh", "letters_en", "tiny_choice"]
    assert "2 of 3 tasks were evaluated before" in capsys.readouterr().out


def test_changed_settings_recompute_only_what_they_reach(run: Path, counted: list[str]) -> None:
    settings: dict[str, Any] = {"tasks": ["letters_zh", "tiny_zero"], "num_fewshot": 1}
    first = scores(config(run, "changed", **settings))
    counted.clear()
    scores(config(run, "changed", **settings | {"num_fewshot": 2}))  # tiny_zero has no examples, so it stays
    assert counted == ["letters_zh"]
    scores(config(run, "changed", **settings | {"tasks": ["tiny_zero", "letters_zh", "tiny_text"], "num_fewshot": 2}))
    assert counted == ["letters_zh", "tiny_text"]
    again = scores(config(run, "changed", **settings))
    assert again == first and counted == ["letters_zh", "tiny_text"]  # what was done before is still there


def test_changed_data_recompute_their_task(tmp_path: Path, counted: list[str]) -> None:
    run = write_run(tmp_path)
    scores(config(run, tasks=["letters", "tiny_zero"]))
    counted.clear()
    write_lines(run / "tasks" / "letters_zh.jsonl", letter_items("zh", 14))
    found = scores(config(run, tasks=["letters", "tiny_zero"]))
    assert counted == ["letters_zh"] and found["letters", "acc"]["num_items"] == 44


def test_the_model_is_not_loaded_when_nothing_is_left(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(run, "loaded", tasks=["tiny_choice"])
    first = stored(settings)
    (settings.folder("harness") / "meta.json").unlink()
    monkeypatch.setattr(verb, "load_model", lambda _: pytest.fail("the model was loaded"))
    assert stored(settings) == first


def test_another_model_is_refused_and_then_recomputed(tmp_path: Path, counted: list[str]) -> None:
    run = write_run(tmp_path)
    scores(config(run, tasks=["tiny_zero"]))
    with open(run / "export" / "model.safetensors", "r+b") as weights:  # one byte of one weight
        weights.seek(-2, 2)
        weights.write(b"\x11")
    with pytest.raises(UserError, match="inputs.export"):
        harness(config(run, tasks=["tiny_zero"]))
    scores(config(run, tasks=["tiny_zero"], force=True))
    assert counted == ["tiny_zero", "tiny_zero"]


def test_rows_of_an_imported_set_are_looked_at(tmp_path: Path, counted: list[str]) -> None:
    """`import` writes tasks/ and a folder of rows for each set; a run that is complete still sees that they change."""
    run = write_run(tmp_path)
    (run / "letters").mkdir()
    (run / "letters" / "meta.json").write_text('{"set": "letters"}')
    for language in ("zh", "en"):
        path = run / "tasks" / f"letters_{language}.jsonl"
        path.rename(run / "letters" / path.name)
        task = run / "tasks" / f"letters_{language}.yaml"
        task.write_text(
            task.read_text(encoding="utf-8").replace(path.name, f"../letters/{path.name}"), encoding="utf-8"
        )
    scores(config(run, tasks=["letters"]))
    write_lines(run / "letters" / "letters_zh.jsonl", letter_items("zh", 14))
    assert scores(config(run, tasks=["letters"]))["letters", "acc"]["num_items"] == 44
    assert counted == ["letters_zh", "letters_en", "letters_zh"]
    scores(config(run, tasks=["letters"]))
    assert len(counted) == 3


def test_another_lm_eval_recomputes(run: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(run, "version", tasks=["tiny_zero"])
    first = scores(settings)
    for module in (verb, evaluation):
        monkeypatch.setattr(module, "version", lambda _: "9.9")
    assert scores(settings) == first and counted == ["tiny_zero"] * 2


def test_damaged_files_are_named_before_anything_is_computed(run: Path, counted: list[str]) -> None:
    settings = config(run, "damaged", tasks=["tiny_zero"])
    first = stored(settings)
    (record,) = (settings.folder("harness") / "cache").iterdir()
    whole = record.read_text(encoding="utf-8")
    for content in (whole[:100], "{}", "[]"):
        record.write_text(content, encoding="utf-8")
        more = config(run, "damaged", tasks=["tiny_zero", "letters"])
        with pytest.raises(UserError, match=f"{record.name}: damaged (?s:.)*delete this file"):
            harness(more)
    record.write_text(whole, encoding="utf-8")
    assert counted == ["tiny_zero"]
    path = settings.folder("harness") / "scores.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="scores.json: damaged"):
        harness(settings)
    path.unlink()
    assert stored(settings) == first and counted == ["tiny_zero"]


def test_two_evaluations_of_one_folder(run: Path) -> None:
    settings = config(run, "twice", tasks=["tiny_zero"])
    settings.folder("harness").mkdir(parents=True)
    with held(settings.folder("harness")), pytest.raises(UserError, match="another process is at work in it"):
        harness(settings)
    assert scores(settings)


def test_missing_data_are_named_and_not_averaged_away(
    tmp_path: Path, counted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path)
    (run / "tasks" / "letters_zh.jsonl").unlink()
    found = stored(config(run, tasks=["letters", "tiny_zero"]))
    assert found["missing"] == [{"task": "letters_zh", "why": f"{run / 'tasks' / 'letters_zh.jsonl'} does not exist"}]
    group = next(row for row in found["scores"] if row["task"] == "letters")
    assert "1 of 2 parts" in group["marks"] and (group["parts"], group["num_items"]) == (1, 30)
    assert "left out: letters_zh: " in capsys.readouterr().out
    write_lines(run / "tasks" / "letters_zh.jsonl", letter_items("zh", 12))  # it is there now: the same command
    found = stored(config(run, tasks=["letters", "tiny_zero"]))
    assert not found["missing"] and counted == ["letters_en", "tiny_zero", "letters_zh"]
    for name in ("items", "letters_zh", "letters_en"):
        (run / "tasks" / f"{name}.jsonl").unlink()
    with pytest.raises(UserError, match="none of them can be had(?s:.)*letters_en.jsonl does not exist"):
        harness(config(run, "none", tasks=["letters", "tiny_zero"]))


def test_items_are_stored_with_ids_and_choices(run: Path) -> None:
    settings = config(run, "items", tasks=["tiny_choice", "tiny_free"], limit=3)
    rows = stored(settings)["scores"]
    items = read_samples(settings.folder("harness"), rows)
    assert [len(items["tiny_choice"]), len(items["tiny_free"])] == [3, 3]
    for item in items["tiny_choice"]:
        assert {"doc_id", "id", "correct", "choices", "gold", "values"} <= item.keys() and len(item["id"]) == 16
        assert item["correct"] == (item["values"]["acc"] == 1)
    assert all(isinstance(item["answer"], str) for item in items["tiny_free"])
    clean = {(row["task"], row["metric"]): row for row in rows_on_clean(rows, items, [])}
    for row in rows:
        assert clean[row["task"], row["metric"]]["value"] == pytest.approx(row["value"])


def test_the_subset_is_the_same_for_every_model_and_another_for_another_seed(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", num_positions=128)
    chosen = []
    for place, seed in ((run, 1), (other, 1), (run, 2)):
        settings = config(place, f"subset-{seed}", tasks=["letters"], limit=8, seed=seed)
        items = read_samples(settings.folder("harness"), stored(settings)["scores"])
        chosen.append({name: [item["doc_id"] for item in found] for name, found in items.items()})
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(len(ids) == 8 and ids != list(range(8)) for ids in chosen[0].values())


def test_a_model_of_random_weights_is_at_chance(run: Path, tmp_path: Path) -> None:
    """Letters of 300 items in each language, and our mini tasks: guessing explains every score."""
    many = write_run(tmp_path / "many")
    for language in ("zh", "en"):
        write_lines(many / "tasks" / f"letters_{language}.jsonl", letter_items(language, 300))
    found = scores(config(many, tasks=["letters"], num_fewshot=2))
    root = Path(__file__).parent.parent
    found |= scores(config(run, "mini", tasks=["mini"], include_path=str(root / "eval/tasks")))
    tested = [row for row in found.values() if row["metric"] in GUESSED]
    assert len(tested) == 9 and all(row["distinguishable"] is False for row in tested)
    assert found["letters", "acc"]["chance"] == 0.25 and found["letters", "acc"]["num_items"] == 600


def test_long_prompts_lose_whole_examples(tmp_path: Path) -> None:
    run = write_run(tmp_path, num_positions=64)
    found = scores(config(run, tasks=["letters"], num_fewshot=3))
    assert 0 < found["letters", "acc"]["shortened"] <= 1


def test_scores_that_rounding_may_change_say_so(run: Path) -> None:
    for dtype, marks in (("float32", []), ("bfloat16", ["computed in bfloat16"])):
        row = scores(config(run, "rounded", tasks=["tiny_zero"], dtype=dtype))["tiny_zero", "acc"]
        assert row["marks"] == marks


def test_a_mistyped_task_names_the_nearest_and_clears_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores(config(run, "typo"))
    monkeypatch.setattr(verb, "needs", lambda *_: verb.Needs(stock=False, hub=False))  # spares all of lm-eval's tasks
    with pytest.raises(UserError, match="unknown task tiny_chioce; did you mean tiny_choice"):
        harness(config(run, "typo", tasks=["tiny_chioce"], force=True))
    assert (run / "typo" / "harness" / "scores.json").exists()


def test_wrong_use_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tasks: name at least one"):
        harness(config(run, tasks=[]))
    with pytest.raises(UserError, match="is no folder"):
        harness(config(run, include_path=str(run / "nowhere")))
    with pytest.raises(UserError, match="mindllm.export"):
        harness(config(run, model=str(run / "nowhere")))
    with pytest.raises(UserError, match="letters_zh has 6 examples, and 7 are wanted"):
        harness(config(run, "wrong", tasks=["letters"], num_fewshot=7))


def test_folders_that_hold_no_whole_model_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (run / "shards").mkdir()
    write_json(run / "shards" / "meta.json", {"hash": "0123456789abcdef"})
    with pytest.raises(UserError, match="shards: no model here"):
        harness(config(run, model=str(run / "shards")))
    weights = run / "export" / "model.safetensors"
    whole = weights.read_bytes()
    for number, scorer in enumerate(("shared", "hf")):
        weights.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="export cannot be loaded"):
            harness(config(run, f"cut-{number}", tasks=["tiny_zero"], scorer=scorer))
        weights.unlink()
        with pytest.raises(UserError, match="export cannot be loaded"):
            harness(config(run, f"gone-{number}", tasks=["tiny_zero"], scorer=scorer))


def test_any_hugging_face_folder_is_a_model(tmp_path: Path, counted: list[str]) -> None:
    run = write_run(tmp_path)
    before = hash_model(run / "export")
    (run / "export" / "meta.json").unlink()
    (run / "export" / "plan.json").write_text("{}")  # an export that was killed
    with pytest.raises(UserError, match="is not complete"):
        hash_model(run / "export")
    (run / "export" / "plan.json").unlink()
    assert hash_model(run / "export") == before
    assert scores(config(run, tasks=["tiny_zero"])) and counted == ["tiny_zero"]
    (run / "export" / "generation_config.json").write_text("{}")
    assert hash_model(run / "export") != before


def test_the_shipped_configs_load_and_their_tasks_are_there() -> None:
    root = Path(__file__).parent.parent
    shipped = load(EvalConfig, root / "configs/eval/tiny.yaml")
    found = verb.needs(shipped.tasks, root / "eval/tasks")
    assert shipped.tasks and found == verb.Needs(stock=False, hub=False)
    verb.find_tasks(shipped.tasks, str(root / "eval/tasks"), stock=False)
    assert any("的" in p or "了" in p for p in shipped.prompts) and any(p.isascii() for p in shipped.prompts)
    assert (shipped.scorer, shipped.examples) == ("shared", "fixed")


def test_the_table_of_a_finished_run_is_shown_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config(run, "shown", tasks=["letters"])
    harness(settings)
    first = capsys.readouterr().out
    harness(settings)
    again = capsys.readouterr().out
    assert "letters" in first and "letters_zh" not in first and again.endswith(first)
    assert read_json(settings.folder("harness") / "meta.json")["counts"] == {"in": 42, "out": 42, "unit": "items"}
