"""What a task's items came to, one record an item: enough to compute every score, and scores on any part, anew.

An item keeps the log-likelihoods of its choices, which of them are right, which each metric picked, how long the
answers are, and the values of its metrics. Its id is a hash of its text, as in contamination lists. Cost: 100 to 300
bytes an item, for tasks of free answers also the answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from eval.items import item_id, row_id

_OUR_ID = re.compile(r"[0-9a-f]{16}")
_OPTIONS = ("choices", "options", "endings", "answers")  # columns that hold the texts behind letters
_LETTER = re.compile(r"[A-Za-z0-9甲乙丙丁戊己]")  # of the NFKC form, so Ａ and ① too
_AROUND_LETTERS = " ().:、"
_LENGTHS: dict[str, Callable[[str], int]] = {  # what a metric divides a choice's log-likelihood by
    "acc": lambda _: 1,
    "acc_norm": len,
    "acc_bytes": lambda text: len(text.encode("utf-8")),
}


def outcomes(task: Any, samples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record an item, by doc_id, from what lm-eval logs: {doc_id, id, values: {metric: value}, ...}.

    Of choices also {choices: log-likelihoods, gold: right positions or None, picked: {metric: position}, lengths: of
    the answer texts in characters, or None, correct: whether acc is 1}; of free answers {answer: what was scored}.
    """
    samples, found = list(samples), dict[int, dict[str, Any]]()
    lettered = all(are_letters(_choices(task, sample["doc"])) for sample in samples)
    for sample in samples:
        if sample["doc_id"] not in found:
            found[sample["doc_id"]] = _outcome(task, sample, lettered)
        values = found[sample["doc_id"]]["values"]
        values |= {metric_name(m, sample["filter"]): plain(sample[m]) for m in sample["metrics"]}
    for item in found.values():
        _check_picked(item)
    return [found[number] for number in sorted(found)]


def metric_name(metric: str, chosen: str) -> str:
    """How a metric is called in a row: with the name of lm-eval's filter, where the task has named one."""
    return metric if chosen == "none" else f"{metric} ({chosen})"


def plain(value: Any) -> Any:
    """A metric's value as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _outcome(task: Any, sample: dict[str, Any], lettered: bool) -> dict[str, Any]:
    doc = sample["doc"]
    answers = sample["filtered_resps"]
    if task.OUTPUT_TYPE != "multiple_choice":
        free = {"answer": plain(answers[0])} if task.OUTPUT_TYPE == "generate_until" else {}
        return {"doc_id": sample["doc_id"], "id": _id(doc, _asked(task, doc), []), "values": {}, **free}
    choices = _choices(task, doc)
    scores = [float(answer[0]) for answer in answers[: len(choices)]]  # twice as many with mutual information
    texts = option_texts(doc, choices) if lettered else choices
    return {
        "doc_id": sample["doc_id"],
        "id": _id(doc, _asked(task, doc), texts or choices),
        "values": {},
        "choices": scores,
        "gold": right_positions(task, doc, choices),
        "picked": {m: _pick(scores, [length(c) for c in choices]) for m, length in _LENGTHS.items()},
        "lengths": None if texts is None else [len(text) for text in texts],
    }


def _pick(scores: Sequence[float], lengths: Sequence[int]) -> int:
    """The choice that lm-eval takes: the first of the largest."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return int(np.argmax(np.array(scores) / np.array(lengths, dtype=float)))


def _check_picked(item: dict[str, Any]) -> None:
    """Keep what was picked only where the metric's value says the same: a task may count in a way of its own."""
    if "picked" not in item:
        return
    gold, values = item["gold"], item["values"]
    item["picked"] = {
        metric: position
        for metric, position in item["picked"].items()
        if gold is not None and metric in values and values[metric] == (position in gold)
    }
    if "acc" in values:
        item["correct"] = values["acc"] == 1


def right_positions(task: Any, doc: dict[str, Any], choices: Sequence[str]) -> list[int] | None:
    """Which choices are right, by lm-eval's rule; None where the document does not say it."""
    gold = task.doc_to_text(doc) if getattr(task, "multiple_input", 0) else task.doc_to_target(doc)
    found = []
    for right in gold if isinstance(gold, list) else [gold]:
        position = choices.index(right) if isinstance(right, str) and right in choices else right
        if not isinstance(position, int) or not 0 <= position < len(choices):
            return None
        found.append(position)
    return sorted(set(found)) or None


def _choices(task: Any, doc: dict[str, Any]) -> list[str]:
    """What a model chooses from; nothing in tasks of free answers."""
    return [str(choice) for choice in task.doc_to_choice(doc)] if task.OUTPUT_TYPE == "multiple_choice" else []


def are_letters(choices: Sequence[str]) -> bool:
    """Whether choices only name answers that stand in the question. One item may by chance have answers 1, 2, 3, 4."""
    marks = [unicodedata.normalize("NFKC", choice).strip(_AROUND_LETTERS) for choice in choices]
    return all(_LETTER.fullmatch(mark) for mark in marks)


def option_texts(doc: dict[str, Any], choices: Sequence[str]) -> list[str] | None:
    """The answers that letters stand for; None where the document has no column of them."""
    columns: list[Any] = [doc.get(name) for name in _OPTIONS]
    columns += [column.get("text") for column in columns if isinstance(column, dict)]
    letters = [chr(ord("A") + number) for number in range(len(choices))]
    for options in [*columns, [doc.get(letter) for letter in letters]]:
        if not isinstance(options, list) or len(options) != len(choices) or options == list(choices):
            continue
        if all(isinstance(option, str) for option in options):
            return options
    return None


def _asked(task: Any, doc: dict[str, Any]) -> str:
    asked = task.doc_to_text(doc)
    target = task.doc_to_target(doc)
    return asked if isinstance(asked, str) and asked else target if isinstance(target, str) else ""


def _id(doc: dict[str, Any], asked: str, choices: Sequence[str]) -> str:
    """The id that the row itself carries or gives, if it has the columns of our sets; else of what is asked."""
    if isinstance(doc.get("id"), str) and not _OUR_ID.fullmatch(doc["id"]):
        doc = {key: value for key, value in doc.items() if key != "id"}  # someone else's numbering
    found = row_id(doc)
    return found if found != item_id("") else item_id("\n".join([asked, *choices]))
