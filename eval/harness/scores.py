"""Score rows: what a benchmark's number is, how sure, and what guessing or looking at lengths alone would get.

Scores and standard errors are lm-eval's, unchanged, of tasks and of groups. Added are the chance level, a baseline that
sees nothing but the lengths of the answers, whether guessing explains the score, and marks: short texts for what a
reader has to know. Rows are made from stored records of tasks (eval.harness.evaluate), so they cost nothing and can be
made anew at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from eval.harness.guessing import clear_of_guessing, habit_p_value, random_p_value
from eval.harness.outcomes import metric_name
from eval.harness.tasks import Absent

GUESSED = ("acc", "acc_norm", "acc_bytes")  # metrics whose expected value under guessing is known


def make_rows(records: dict[str, dict[str, Any]], groups: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows: tasks in the order of `records`, then groups that have a common score; `part_of` names a row's group.

    A row: task, metric, value, stderr, chance, num_items, num_fewshot, higher_is_better, group, benchmark, parts (the
    number of tasks; None for a task), members (their names), part_of, length_baseline, p_value (of guessing),
    distinguishable (None where guessing has no known score), marks, shortened and cut (shares of prompts), is_mean
    (over items, so that it can be computed on a part of them), weight_by_size (of groups).
    """
    rows = [row for record in records.values() for row in task_rows(record)]
    for group in groups.values():
        rows.extend(group_rows(group, records))
    scored = {row["task"] for row in rows}
    for row in rows:
        row["part_of"] = _parent(row["task"], groups, scored)
    for inside in (False, True):  # benchmarks are one family of tests, their parts another
        family = [row for row in rows if (row["part_of"] is not None) == inside]
        for row, clear in zip(family, clear_of_guessing([row["p_value"] for row in family]), strict=True):
            row["distinguishable"] = clear
    return rows


def task_rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one task, a metric each; of {task, metrics, items, ...} as eval.harness.evaluate stores it."""
    for metric, chosen, value, stderr in _metrics(record["metrics"]):
        yield {
            "task": record["task"],
            "metric": metric_name(metric, chosen),
            "value": value,
            "stderr": stderr,
            **_guessing([record], metric),
            "num_items": record["metrics"]["sample_len"],
            "num_fewshot": record["num_fewshot"],
            "higher_is_better": record["higher_is_better"].get(metric),
            "group": record["group"],
            "benchmark": record["benchmark"],
            "is_mean": metric in record["means"],
            "parts": None,
            "members": None,
            "weight_by_size": None,
            "marks": [*record["marks"], *_subset_mark([record])],
            "shortened": record["shortened"],
            "cut": record["cut"],
        }


def group_rows(group: Any, records: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of an lm-eval group, by its own rules of averaging; none where it has no common score."""
    names = [task.task_name for task in group.get_all_tasks() if task.task_name in records]
    total = group.aggregate({name: records[name]["metrics"] for name in names})
    for metric, chosen, value, stderr in _metrics(total):
        members = [records[name] for name in names if f"{metric},{chosen}" in records[name]["metrics"]]
        by_size = next(a.weight_by_size for a in group.aggregate_metric_list if a.metric == metric)
        yield {
            "task": group.name,
            "metric": metric_name(metric, chosen),
            "value": value,
            "stderr": stderr,
            **_guessing(members, metric, by_size),
            "num_items": total["sample_count"][f"{metric},{chosen}"],
            "num_fewshot": _common(record["num_fewshot"] for record in members),
            "higher_is_better": _common(record["higher_is_better"].get(metric) for record in members),
            "group": (group.metadata or {}).get("group") or _common(record["group"] for record in members) or "other",
            "benchmark": (group.metadata or {}).get("benchmark") or group.alias or group.name,
            "is_mean": all(metric in record["means"] for record in members),
            "parts": len(members),
            "members": [record["task"] for record in members],
            "weight_by_size": by_size,
            "marks": [*_shared_marks(members), *_group_marks(group, members)],
            "shortened": _mean([record["shortened"] for record in members], _sizes(members, True)),
            "cut": _mean([record["cut"] for record in members], _sizes(members, True)),
        }


def _metrics(found: dict[str, Any]) -> Iterator[tuple[str, str, float, float | None]]:
    """(metric, filter, value, standard error) from what lm-eval calls `metric,filter` and `metric_stderr,filter`."""
    for key, value in found.items():
        metric, comma, chosen = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        stderr = found.get(f"{metric}_stderr,{chosen}")
        yield metric, chosen, float(value), float(stderr) if isinstance(stderr, int | float) else None


def _guessing(records: Sequence[dict[str, Any]], metric: str, by_size: bool = True) -> dict[str, Any]:
    """{chance, length_baseline, p_value}; each None where the metric or the tasks have none."""
    nothing: dict[str, Any] = {"chance": None, "length_baseline": None, "p_value": None}
    if metric not in GUESSED or not all(r["output_type"] == "multiple_choice" and r["items"] for r in records):
        return nothing
    sizes = _sizes(records, by_size)
    lengths = [length_scores(record["items"]) for record in records]
    known = [found for found in lengths if found is not None]
    whole = len(known) == len(lengths)
    return {
        "chance": _mean([_mean([chance(item) for item in record["items"]]) for record in records], sizes),
        "length_baseline": max(_mean(scores, sizes) for scores in zip(*known, strict=True)) if whole else None,
        "p_value": p_value(records, metric),
    }


def chance(item: dict[str, Any]) -> float:
    """Probability that a choice drawn at random is right."""
    return len(item["gold"] or [0]) / len(item["choices"])


def length_scores(items: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """Accuracy of always taking the longest and of always taking the shortest answer text, in characters.

    Ties share the credit. None where the texts, or the right answers, are not known for every item.
    """
    if any(item["lengths"] is None or item["gold"] is None for item in items):
        return None
    scores = []
    for extreme in (max, min):
        taken = [[i for i, n in enumerate(item["lengths"]) if n == extreme(item["lengths"])] for item in items]
        right = [len({*t} & {*item["gold"]}) / len(t) for t, item in zip(taken, items, strict=True)]
        scores.append(_mean(right))
    return scores[0], scores[1]


def p_value(records: Sequence[dict[str, Any]], metric: str) -> float | None:
    """How well guessing explains the number of right answers: at random, or by a habit of positions (the better one).

    None where the values are not all 0 or 1.
    """
    items = [(number, item) for number, record in enumerate(records) for item in record["items"]]
    values = [item["values"].get(metric) for _, item in items]
    if any(value not in (0, 1) for value in values):
        return None
    found = random_p_value(sum(map(int, values)), [chance(item) for _, item in items])
    if any(metric not in item["picked"] or len(item["gold"]) != 1 for _, item in items):
        return found  # picks unknown, or several right answers
    strata: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for number, item in items:
        picked, right = strata.setdefault((number, len(item["choices"])), ([], []))
        picked.append(item["picked"][metric])
        right.append(item["gold"][0])
    return max(found, habit_p_value(strata.values()))


def _sizes(records: Sequence[dict[str, Any]], by_size: bool) -> list[int]:
    return [record["metrics"]["sample_len"] if by_size else 1 for record in records]


def _mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    weights = weights or [1] * len(values)
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _common(values: Iterator[Any]) -> Any:
    """The one value that all have, or None."""
    found = list(values)
    return found[0] if all(value == found[0] for value in found) else None


def _shared_marks(records: Sequence[dict[str, Any]]) -> list[str]:
    """The marks of the parts, with the number of parts where not all have them."""
    marks = [mark for record in records for mark in record["marks"]]
    return [
        mark if marks.count(mark) == len(records) else f"{mark} ({marks.count(mark)} of {len(records)} parts)"
        for mark in dict.fromkeys(marks)
    ]


def _subset_mark(records: Sequence[dict[str, Any]]) -> list[str]:
    """Says so where not all items were evaluated."""
    items, total = (sum(record[key] for record in records) for key in ("num_evaluated", "num_total"))
    seeds = {record["seed"] for record in records}
    return [f"a subset of {items:,} of {total:,} items, seed {min(seeds)}"] if items < total else []


def _group_marks(group: Any, members: Sequence[dict[str, Any]]) -> list[str]:
    """The group's own marks, and what was left out of it: items, or parts that have no such score."""
    own = (group.metadata or {}).get("marks") or []
    total = len(group.get_all_tasks()) + sum(isinstance(child, Absent) for g in _with_inner(group) for child in g)
    parts = [f"{len(members)} of {total} parts"] if len(members) < total else []
    return [*own, *_subset_mark(members), *parts]


def _with_inner(group: Any) -> list[Any]:
    return [group, *group.get_all_groups()]


def _parent(name: str, groups: dict[str, Any], scored: set[str]) -> str | None:
    """The nearest group with a row of its own that holds the task or group of this name."""
    for group in groups.values():
        if name in group.child_names:
            return group.name if group.name in scored else _parent(group.name, groups, scored)
    return None
