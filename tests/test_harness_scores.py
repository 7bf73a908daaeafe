"""eval.harness.scores: chance, length baseline, guessing, groups and marks, from records written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from lm_eval.api.group import AggMetricConfig, Group
from lm_eval.api.task import Task

from eval.harness.scores import chance, length_scores, make_rows, task_rows
from eval.harness.tasks import Absent


class Named(Task):
    """As much of an lm-eval task as a group looks at."""

    def __init__(self, name: str):
        self.name = name

    @property
    def task_name(self) -> str:
        return self.name

    def nothing(self, *_: Any) -> Any:
        return {}

    has_training_docs = has_validation_docs = has_test_docs = aggregation = higher_is_better = nothing
    doc_to_text = doc_to_target = construct_requests = process_results = nothing


def item(gold: list[int] | None, picked: int, lengths: list[int] | None, choices: int = 4) -> dict[str, Any]:
    right = float(gold is not None and picked in gold)
    picks = {"acc": picked} if gold is not None else {}
    return {"doc_id": 0, "id": "0" * 16, "values": {"acc": right}, "choices": [-1.0] * choices, "gold": gold} | {
        "picked": picks,
        "lengths": lengths,
    }


def record(name: str, items: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    values = [found["values"]["acc"] for found in items]
    mean = sum(values) / len(values)
    stderr = (sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)) ** 0.5
    return {
        "task": name,
        "output_type": "multiple_choice",
        "metrics": {"alias": name, "acc,none": mean, "acc_stderr,none": stderr, "sample_len": len(items)},
        "higher_is_better": {"acc": True},
        "means": ["acc"],
        "num_fewshot": 5,
        "num_total": len(items),
        "num_evaluated": len(items),
        "seed": 1,
        "group": "chinese",
        "benchmark": "C-Eval",
        "marks": [],
        "shortened": 0.0,
        "cut": 0.0,
        "items": items,
    } | changes


def group(*children: Any, by_size: bool = True, name: str = "ceval") -> Group:
    found = Group(name, alias="C-Eval", aggregate_metric_list=[AggMetricConfig("acc", weight_by_size=by_size)])
    for child in children:
        found.add(child)
    return found


def test_named_filters_and_unknown_errors() -> None:
    metrics = {"alias": "t", "exact_match,strict": 0.5, "exact_match_stderr,strict": "N/A", "sample_len": 3}
    made = record("t", [item([0], 0, None)] * 2, output_type="generate_until", means=["exact_match"]) | {
        "metrics": metrics
    }
    (row,) = task_rows(made)
    assert (row["metric"], row["value"], row["stderr"], row["num_items"]) == ("exact_match (strict)", 0.5, None, 3)
    assert row["chance"] is row["length_baseline"] is row["p_value"] is None and row["is_mean"] is True
    assert row["higher_is_better"] is None


def test_chance_with_different_numbers_of_choices_and_right_answers() -> None:
    assert chance(item([0], 0, None, choices=5)) == 0.2
    assert chance(item([0, 3], 0, None, choices=4)) == 0.5
    assert chance(item(None, 0, None, choices=2)) == 0.5


def test_length_baseline_takes_the_better_extreme_and_shares_ties() -> None:
    items = [item([0], 0, [9, 1, 1, 1]), item([1], 0, [3, 3, 1, 1]), item([2], 0, [5, 1, 1, 1])]
    assert length_scores(items) == pytest.approx(((1 + 1 / 2 + 0) / 3, (0 + 0 + 1 / 3) / 3))
    (row,) = task_rows(record("t", items))
    assert row["length_baseline"] == pytest.approx(0.5)
    assert length_scores([*items, item([0], 0, None)]) is None and length_scores([item(None, 0, [1, 2])]) is None


def test_a_group_is_lm_evals_mean_by_items_and_so_are_its_baselines() -> None:
    one = record("a", [item([0], 0, [2, 1], 2)] * 3 + [item([0], 1, [2, 1], 2)])
    two = record(
        "b", [item([1], 1, [1, 2, 1, 1])] * 2 + [item([1], 0, [1, 2, 1, 1])] * 10, num_fewshot=4, shortened=0.5
    )
    by_items = make_rows({"a": one, "b": two}, {"ceval": group(Named("a"), Named("b"))})[-1]
    assert by_items["value"] == pytest.approx((3 + 2) / 16)
    assert by_items["chance"] == pytest.approx((4 / 2 + 12 / 4) / 16) and by_items["length_baseline"] == 1.0
    assert by_items["shortened"] == pytest.approx(12 / 16 * 0.5) and by_items["num_fewshot"] is None
    assert (by_items["task"], by_items["benchmark"], by_items["group"]) == ("ceval", "C-Eval", "chinese")
    alike = make_rows({"a": one, "b": two}, {"ceval": group(Named("a"), Named("b"), by_size=False)})[-1]
    assert alike["value"] == pytest.approx((3 / 4 + 2 / 12) / 2) and alike["chance"] == pytest.approx(
        (1 / 2 + 1 / 4) / 2
    )


def test_marks_of_parts_of_missing_parts_and_of_subsets() -> None:
    parts = {
        "a": record("a", [item([0], 0, None)] * 4, marks=["转换为简体", "both"], num_total=10),
        "b": record("b", [item([0], 1, None)] * 4, marks=["both"]),
    }
    inner = group(Named("b"), Absent("c", "gone"), name="inner")
    inner.metadata = {"marks": ["8 items instead of 9"]}
    rows = {
        row["task"]: row for row in make_rows(parts, {"outer": group(Named("a"), inner, name="outer"), "inner": inner})
    }
    expected = ["转换为简体 (1 of 2 parts)", "both", "a subset of 8 of 14 items, seed 1", "2 of 3 parts"]
    assert rows["outer"]["marks"] == expected
    assert rows["inner"]["marks"] == ["both", "8 items instead of 9", "1 of 2 parts"]
    assert rows["a"]["marks"] == ["转换为简体", "both", "a subset of 4 of 10 items, seed 1"]
    assert [rows[name]["part_of"] for name in ("outer", "inner", "a", "b")] == [None, "outer", "outer", "inner"]


def test_a_group_without_a_common_score_has_no_row_and_no_parts() -> None:
    bare = Group("mini")
    bare.add(Named("a"))
    (row,) = make_rows({"a": record("a", [item([0], 0, None)] * 2)}, {"mini": bare})
    assert row["task"] == "a" and row["part_of"] is None
    assert not [r for r in make_rows({}, {"ceval": group(Absent("a", "gone"))})]


def test_knowledge_is_told_from_guessing_and_from_habit() -> None:
    right = [number % 4 for number in range(200)]
    knowing = record("know", [item([gold], gold if number % 2 else 0, None) for number, gold in enumerate(right)])
    guessing = record("guess", [item([gold], (number // 4) % 4, None) for number, gold in enumerate(right)])
    skewed = record("habit", [item([3 if number % 2 else gold], 3, None) for number, gold in enumerate(right)])
    rows = {row["task"]: row for row in make_rows({r["task"]: r for r in (knowing, guessing, skewed)}, {})}
    assert [rows[name]["distinguishable"] for name in ("know", "guess", "habit")] == [True, False, False]
    assert rows["habit"]["value"] > 0.4 and rows["habit"]["p_value"] == 1.0


def test_metrics_that_are_not_counts_are_not_tested() -> None:
    items = [item([0], 0, None), item([0], 0, None)]
    items[0]["values"]["acc"] = 0.5
    (row,) = make_rows({"t": record("t", items)}, {})
    assert row["p_value"] is row["distinguishable"] is None and row["chance"] == 0.25
