"""eval.harness.outcomes: right answers, picks, option texts behind letters, ids; in both languages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eval.harness.outcomes import are_letters, metric_name, option_texts, outcomes, plain, right_positions
from eval.items import item_id


class Choice:
    """As much of an lm-eval task as its outcomes need."""

    OUTPUT_TYPE = "multiple_choice"

    def __init__(self, choices: list[str], target: Any, multiple_input: int = 0, text: Any = "问题"):
        self.choices, self.target, self.multiple_input, self.text = choices, target, multiple_input, text

    def doc_to_choice(self, doc: dict[str, Any]) -> list[str]:
        return self.choices

    def doc_to_target(self, doc: dict[str, Any]) -> Any:
        return self.target

    def doc_to_text(self, doc: dict[str, Any]) -> Any:
        return self.text


def sample(
    scores: list[float], values: dict[str, float], doc: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    base = {"doc_id": 3, "doc": doc or {}, "filter": "none", "metrics": list(values)}
    return base | {"filtered_resps": [(score, False) for score in scores]} | values | more


def test_one_item_of_choices() -> None:
    task = Choice(["a long answer", "短", "mid"], 1)
    doc = {"question": "哪一個？", "choices": ["a long answer", "短", "mid"]}
    (found,) = outcomes(task, [sample([-9.0, -6.0, -4.0], {"acc": 0.0, "acc_norm": 0.0}, doc)])
    assert found["choices"] == [-9.0, -6.0, -4.0] and found["gold"] == [1] and found["correct"] is False
    assert found["picked"] == {"acc": 2, "acc_norm": 0} and found["lengths"] == [13, 1, 3]
    assert found["id"] == item_id("哪一個？a long answer短mid") and found["doc_id"] == 3


def test_filters_of_one_item_meet_and_items_are_in_order() -> None:
    task = Choice(["A"], 0)
    task.OUTPUT_TYPE = "generate_until"
    samples = [
        {"doc_id": n, "doc": {}, "filter": f, "metrics": ["exact_match"], "exact_match": np.float64(v)}
        | {"filtered_resps": ["42"]}
        for n, f, v in [(1, "strict", 0.0), (0, "strict", 1.0), (1, "loose", 1.0), (0, "loose", 1.0)]
    ]
    found = outcomes(task, samples)
    assert [item["doc_id"] for item in found] == [0, 1]
    assert (
        found[1]["values"] == {"exact_match (strict)": 0.0, "exact_match (loose)": 1.0} and found[1]["answer"] == "42"
    )
    assert type(found[1]["values"]["exact_match (loose)"]) is float


def test_mutual_information_scores_each_choice_twice() -> None:
    (found,) = outcomes(Choice(["yes", "no"], "no"), [sample([-1.0, -2.0, -3.0, -4.0], {"acc": 0.0})])
    assert found["choices"] == [-1.0, -2.0] and found["gold"] == [1]


def test_a_value_that_does_not_fit_the_pick_drops_the_pick() -> None:
    (found,) = outcomes(Choice(["yes", "no"], 0), [sample([-1.0, -2.0], {"acc": 0.0})])
    assert found["picked"] == {}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Choice(["甲", "乙"], 1), [1]),
        (Choice(["yes", "no"], "no"), [1]),
        (Choice(["a", "b", "c"], [2, 0]), [0, 2]),
        (Choice(["a", "b"], "somewhere else", multiple_input=2, text=1), [1]),
        (Choice(["a", "b"], 5), None),
        (Choice(["a", "b"], "c"), None),
    ],
)
def test_right_positions(task: Choice, expected: list[int] | None) -> None:
    assert right_positions(task, {}, task.choices) == expected


@pytest.mark.parametrize(
    ("doc", "choices", "expected"),
    [
        ({"choices": ["春天", "秋風"]}, ["A", "B"], ["春天", "秋風"]),
        ({"options": ["one", "two"]}, [" (A)", " (B)"], ["one", "two"]),
        ({"choices": {"text": ["x", "yz"], "label": ["1", "2"]}}, ["１", "２"], ["x", "yz"]),
        ({"A": "甲骨", "B": "竹簡", "answer": "A"}, ["A", "B"], ["甲骨", "竹簡"]),
        ({"choices": ["A", "B"]}, ["A", "B"], None),
        ({"choices": ["only one"]}, ["A", "B"], None),
        ({}, ["甲", "乙"], None),
    ],
)
def test_option_texts(doc: dict[str, Any], choices: list[str], expected: list[str] | None) -> None:
    assert option_texts(doc, choices) == expected


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        (["noon", "mill"], False),
        (["茶", "船"], False),
        (["甲", "乙"], True),
        ([" (A)", "Ｂ"], True),
        (["1", "12"], False),
    ],
)
def test_letters(choices: list[str], expected: bool) -> None:
    assert are_letters(choices) == expected


class Columns(Choice):
    """Choices from the document."""

    def doc_to_choice(self, doc: dict[str, Any]) -> list[str]:
        return doc["options"]


def test_an_item_whose_answers_look_like_letters_stands_for_itself() -> None:
    task, scores = Columns([], 0), {"acc": 1.0}
    docs = [{"options": ["十二", "7"]}, {"options": ["1", "2"]}]
    found = outcomes(task, [sample([-1.0, -2.0], scores, doc, doc_id=i) for i, doc in enumerate(docs)])
    assert [item["lengths"] for item in found] == [[2, 1], [1, 1]]
    assert outcomes(task, [sample([-1.0, -2.0], scores, docs[1])])[0]["lengths"] is None  # all of them do


def test_ids_are_our_own_or_of_the_text() -> None:
    task = Choice(["A", "B"], 0)
    ours = "0123456789abcdef"

    def found(doc: dict[str, Any]) -> str:
        return str(outcomes(task, [sample([-1.0, -2.0], {"acc": 1.0}, doc)])[0]["id"])

    assert found({"id": ours, "question": "春", "choices": ["a", "b"]}) == ours
    assert found({"id": "12", "question": "春", "choices": ["a", "b"]}) == item_id("春ab")
    assert found({"Problem": "春", "A": "冷", "B": "熱"}) == item_id("问题冷熱")


def test_plain_values_and_names() -> None:
    assert plain((np.int64(1), 2.5, "x", None)) == [1, 2.5, "x", None]
    assert (metric_name("acc", "none"), metric_name("acc", "strict")) == ("acc", "acc (strict)")
