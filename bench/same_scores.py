"""Our scorer beside lm-eval's own `hf` model on real benchmarks, answer by answer: same prompts, same numbers or not.

    python bench/same_scores.py --tasks FOLDER/tasks --model EXPORT [--names mindllm_mmlu ...] [--limit 2]

FOLDER is what `python -m eval import` wrote. Every task goes through eval.harness twice, with the same items and
examples; what each scorer was asked and what it answered is kept. Prints, for every benchmark, how many tasks and
questions, the largest difference of a log-likelihood, of one divided by the tokens of its answer, and how many
questions only one of them was asked, how many scores of items and generated texts differ. The exit code is 1 if a
question or score differs, or a log-likelihood by more than 1e-4 a token. slow: `hf` reads every prompt as a whole.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import common  # noqa: F401  puts the repository on the path
import torch
from rich.console import Console
from rich.table import Table

SAME = 1e-4  # of a log-likelihood, a token
KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


class Answers(NamedTuple):
    """What a scorer was asked in one task, with its answers, and the record that the harness made of it."""

    asked: dict[str, Any]
    record: dict[str, Any]


class Row(NamedTuple):
    """One task's comparison."""

    benchmark: str
    questions: int
    largest: float
    per_token: float
    asked_once: int
    scores: int
    texts: int


def recording(lm: Any, kept: dict[str, Any]) -> None:
    """Let a model note what it is asked and what it answers."""

    def noting(method: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def noted(requests: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
            answers = method(requests, *args, **kwargs)
            kept.update({repr(r.args): (r.args, answer) for r, answer in zip(requests, answers, strict=True)})
            return answers

        return noted

    for kind in KINDS:
        setattr(lm, kind, noting(getattr(lm, kind)))


def evaluated(scorer: str, a: argparse.Namespace) -> Iterator[Answers]:
    """Every task with one of the scorers, in order."""
    from eval.config import EvalConfig
    from eval.harness.evaluate import evaluate, make_job
    from eval.harness.run import load_model
    from eval.harness.tasks import find_tasks, load_tasks

    config = EvalConfig(
        model=a.model, tasks=a.names, include_path=a.tasks, limit=a.limit, scorer=scorer, batch_size=a.batch_size,
        examples="per_item" if a.per_item else "fixed",
    )  # fmt: skip
    lm, kept = load_model(config), {}
    recording(lm, kept)
    for name, task in load_tasks(a.names, find_tasks(a.names, a.tasks, stock=False)).tasks.items():
        kept.clear()
        record = evaluate(lm, make_job(name, task, config, "", ""), config)
        yield Answers(dict(kept), record)


def compare(ours: Answers, theirs: Answers, count: Callable[[str], int]) -> Row:
    """How far the answers of one task are apart. count: tokens of a text."""
    largest = per_token = texts = 0
    for key, (question, theirs_of) in theirs.asked.items():
        if key not in ours.asked:
            continue
        mine = ours.asked[key][1]
        if isinstance(mine, str):
            texts += mine != theirs_of
            continue
        values = [found[0] if isinstance(found, tuple) else found for found in (mine, theirs_of)]
        apart = abs(values[0] - values[1])
        largest, per_token = max(largest, apart), max(per_token, apart / max(count(question[-1]), 1))
    scores = sum(a["values"] != b["values"] for a, b in zip(ours.record["items"], theirs.record["items"], strict=True))
    once = len(ours.asked.keys() ^ theirs.asked.keys())
    return Row(ours.record["benchmark"], len(theirs.asked), largest, per_token, once, scores, texts)


def print_rows(rows: list[Row]) -> bool:
    """A line a benchmark, and whether all is the same."""
    table = Table("benchmark", "tasks", "questions", "largest difference", "a token", "asked once", "other scores",
                  "other texts")  # fmt: skip
    for name in dict.fromkeys(row.benchmark for row in rows):
        own = [row for row in rows if row.benchmark == name]
        sums = [str(sum(getattr(row, key) for row in own)) for key in ("asked_once", "scores", "texts")]
        apart = [f"{max(getattr(row, key) for row in own):.1e}" for key in ("largest", "per_token")]
        table.add_row(name, str(len(own)), str(sum(row.questions for row in own)), *apart, *sums)
    Console(width=140).print(table)
    return all(row.per_token <= SAME and not row.asked_once and not row.scores for row in rows)


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", required=True, help="folder of task files")
    parser.add_argument("--model", required=True, help="an exported folder")
    parser.add_argument("--names", nargs="+", default=["mindllm"], help="tasks or groups")
    parser.add_argument("--limit", type=int, default=2, help="items a task")
    parser.add_argument("--batch-size", type=int, default=4, help="of hf")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-item", action="store_true", help="other examples for each item")
    return parser.parse_args()


def main() -> int:
    """Print the table; 1 when something is not the same."""
    from transformers import AutoTokenizer

    from eval.harness.quiet import quiet, without_bars

    a = arguments()
    torch.set_num_threads(a.threads)
    words = AutoTokenizer.from_pretrained(a.model)
    with quiet(), without_bars():
        pairs = zip(evaluated("shared", a), evaluated("hf", a), strict=True)
        rows = [compare(*pair, lambda text: len(words.encode(text, add_special_tokens=False))) for pair in pairs]
    return 0 if print_rows(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
