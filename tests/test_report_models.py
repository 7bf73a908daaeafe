"""eval.report.models: one evaluated model from its run folder, in every state that such a folder can be in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from score_files import bits, row, write, write_bits, write_export, write_scores

from eval.exported import hash_model
from eval.report.models import (
    Clean,
    find_runs,
    is_model,
    make_row,
    read_contamination,
    read_model,
    read_models,
    read_ratings,
)
from mindllm.config import UserError


def test_an_empty_folder_is_a_model_of_which_nothing_is_known(tmp_path: Path) -> None:
    model = read_model(tmp_path, "空")
    assert (model.name, model.rows, model.missing, model.bpb, model.step, model.series) == (
        "空",
        [],
        [],
        None,
        None,
        "",
    )


def test_rows_keep_all_that_they_have(tmp_path: Path) -> None:
    marks = ["由 OpenCC 轉換為簡體", "<script>"]
    found = make_row(row("a", 0.5, marks=marks, chance=0.25, length_baseline=0.3, parts=57, part_of="b", cut=0.5))
    assert found.marks == tuple(marks) and (found.chance, found.length_baseline) == (0.25, 0.3)
    assert (found.parts, found.part_of, found.cut, found.num_items, found.num_fewshot) == (57, "b", 0.5, 100, 5)


def test_rows_of_earlier_versions_lack_keys() -> None:
    found = make_row({"task": "t", "metric": "acc", "value": 0.3, "stderr": None, "chance": None, "num_items": 60})
    assert (found.group, found.benchmark, found.parts, found.part_of, found.marks) == ("other", "t", None, None, ())
    assert found.num_fewshot is found.length_baseline is found.shortened is None and found.clear


def test_numbers_that_are_none_are_unknown(tmp_path: Path) -> None:
    write_scores(tmp_path, [row("t", float("nan"), chance=float("inf"), stderr=None)])  # JSON as Python writes it
    (found,) = read_model(tmp_path, "m").rows
    assert found.value is found.chance is found.stderr is None


@pytest.mark.parametrize(
    ("value", "stderr", "chance", "num_items", "clear"),
    [
        (0.36, 0.06, 0.25, 60, False),
        (0.38, 0.06, 0.25, 60, True),
        (0.12, 0.06, 0.25, 60, True),  # worse than guessing is not guessing
        (1.0, 0.0, 0.5, 60, True),
        (1.0, 0.0, 0.5, 3, False),  # three coins can all fall the same way
        (0.0, 0.0, 0.25, 4, False),
        (1.0, None, 0.5, 1, False),
        (1.9, None, None, 12, True),  # no chance level: bits per byte
    ],
)
def test_scores_near_guessing_are_not_clear(
    value: float, stderr: float | None, chance: float | None, num_items: int, clear: bool
) -> None:
    old = {"task": "t", "metric": "acc", "value": value, "stderr": stderr, "chance": chance, "num_items": num_items}
    assert make_row(old).clear == clear
    assert [make_row({**old, "distinguishable": known}).clear for known in (True, False, None)] == [True, False, True]


def test_what_a_user_names_is_a_run_or_a_folder_of_runs(tmp_path: Path) -> None:
    one = write_scores(tmp_path / "all" / "one", [])
    write_bits(tmp_path / "all" / "two", {"web": bits(2.0)})
    write(tmp_path / "all" / "notes" / "readme.txt", "nothing")
    found = find_runs([str(one), str(tmp_path / "all"), str(tmp_path / "all" / ".." / "all" / "two")])
    assert [folder.name for folder in found] == ["one", "two"]
    write(tmp_path / "all" / "zoo" / "elo" / "ratings.json", {"judge": "王"})
    found = find_runs([str(tmp_path / "all")])
    assert [folder.name for folder in found] == ["one", "two", "zoo"]
    assert [is_model(folder) for folder in found] == [True, True, False]
    assert read_ratings(found) == {"zoo": {"judge": "王"}}
    with pytest.raises(UserError, match="no scores, bits per byte or ratings in it; make some"):
        find_runs([str(tmp_path / "all" / "notes")])
    with pytest.raises(UserError, match="is no folder"):
        find_runs([str(tmp_path / "nowhere")])


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for damaged in ("[1]", '{"scores": 3}', '{"scores": ['):
        write(tmp_path / "harness" / "scores.json", damaged)
        with pytest.raises(RuntimeError, match=r"scores.json: damaged"):
            read_model(tmp_path, "m")


def test_steps_and_tokens_come_from_the_export_or_the_metrics(tmp_path: Path) -> None:
    write_export(tmp_path / "a", 200, 13_000)
    assert (read_model(tmp_path / "a", "a").step, read_model(tmp_path / "a", "a").tokens) == (200, 13_000)
    write_export(tmp_path / "b", 2)
    assert read_model(tmp_path / "b", "b").tokens is None
    lines = "".join(json.dumps({"step": n, "loss": 1.0, "tokens": n * 512}) + "\n" for n in range(4)) + '{"step'
    write(tmp_path / "b" / "pretrain" / "metrics.jsonl", lines)
    assert read_model(tmp_path / "b", "b").tokens == 1024


def test_another_export_than_the_scored_one_says_nothing(tmp_path: Path) -> None:
    write_export(tmp_path, 200)
    write(tmp_path / "harness" / "plan.json", {"inputs": {"export": hash_model(tmp_path / "export")}})
    model = read_model(tmp_path, "m")
    assert model.step == 200 and ("class", "LlamaForCausalLM") in model.facts and model.notes == []
    write(tmp_path / "harness" / "plan.json", {"inputs": {"export": "another"}})
    model = read_model(tmp_path, "m")
    assert model.step is None and model.facts == [] and "is not the model that was scored" in model.notes[0]


def test_a_model_that_lies_elsewhere_is_found(tmp_path: Path) -> None:
    write_export(tmp_path / "elsewhere", 30)
    folder = tmp_path / "elsewhere" / "export"
    write(tmp_path / "run" / "harness" / "plan.json", {"inputs": {"export": hash_model(folder)}})
    write(tmp_path / "run" / "harness" / "scores.json", {"model": str(folder), "scores": [], "missing": []})
    model = read_model(tmp_path / "run", "m")
    assert model.step == 30 and ("class", "LlamaForCausalLM") in model.facts and model.notes == []


def test_models_of_one_training_come_by_step(tmp_path: Path) -> None:
    for step in (1000, 200, 30):
        write_export(write_scores(tmp_path / "steps" / f"s{step}", []), step)
    models = read_models(find_runs([str(tmp_path / "steps")]))
    assert [model.step for model in models] == [30, 200, 1000] and len({model.series for model in models}) == 1
    write_export(tmp_path / "other" / "s7", 7)
    folders = [tmp_path / "steps" / "s1000", tmp_path / "other" / "s7"]
    assert [model.step for model in read_models(folders)] == [1000, 7]  # as they were named
    for folder in folders:
        write_export(folder, 1, training="the same")
    assert [model.series for model in read_models(folders)] == ["the same", "the same"]


def samples(run: Path, task: str, values: list[int], **more: Any) -> None:
    items = [{"doc_id": n, "id": f"{task}-{n}", "values": {"acc": value}, **more} for n, value in enumerate(values)]
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    write(run / "harness" / "samples" / f"{task}.jsonl", lines)


def test_scores_on_clean_items(tmp_path: Path) -> None:
    group = row("组", 0.5, members=["a", "b"], parts=2, weight_by_size=True)
    write_scores(tmp_path, [row("a", part_of="组"), row("b", part_of="组"), group])
    samples(tmp_path, "a", [1, 1, 0, 0])
    samples(tmp_path, "b", [1, 0, 1, 0])
    write(tmp_path / "list.jsonl", '{"task": "?", "id": "a-0", "share": 0.9}\n{"task": "b", "id": "elsewhere"}\n')
    clean = read_model(tmp_path, "m", read_contamination(str(tmp_path / "list.jsonl"))).clean
    assert (clean["a", "acc"].num_items, clean["a", "acc"].num_contaminated) == (3, 1)
    assert clean["a", "acc"].value == pytest.approx(1 / 3) and clean["b", "acc"].value == 0.5
    assert (clean["组", "acc"].value, clean["组", "acc"].num_contaminated) == (pytest.approx(3 / 7), 1)
    assert isinstance(clean["组", "acc"], Clean) and read_model(tmp_path, "m").clean == {}


def test_no_clean_scores_without_stored_items_says_so(tmp_path: Path) -> None:
    write_scores(tmp_path, [row("a")])
    model = read_model(tmp_path, "m", [])
    assert model.clean == {} and "a.jsonl does not exist" in model.notes[0]
    old = {"task": "t", "metric": "acc", "value": 0.3, "stderr": None, "chance": None, "num_items": 60}
    write_scores(tmp_path, [old])
    assert "were not stored" in read_model(tmp_path, "m", []).notes[0]


def test_a_contamination_list_is_checked(tmp_path: Path) -> None:
    assert read_contamination("") is None
    write(tmp_path / "list.jsonl", '{"id": "a"}\n\n{"task": "b"}\n')
    with pytest.raises(UserError, match=r"list.jsonl:3: id: expected a text"):
        read_contamination(str(tmp_path / "list.jsonl"))
    with pytest.raises(UserError, match="cannot be read"):
        read_contamination(str(tmp_path / "nothing.jsonl"))
