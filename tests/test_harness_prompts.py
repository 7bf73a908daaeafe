"""eval.harness.prompts: whole examples go first, an item is never among its examples, subsets and draws are keyed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness_tasks import ITEMS, write_tasks
from hypothesis import given
from hypothesis import strategies as st

from eval.config import EvalConfig
from eval.harness.evaluate import set_num_fewshot
from eval.harness.prompts import (
    LEAVE_ONE_OUT,
    Prompts,
    _common,
    _Fits,
    answer_tokens,
    choose_subset,
    evaluated_split,
    example_split,
    shuffled,
)
from eval.harness.tasks import find_tasks, load_tasks
from mindllm.config import UserError


class Letters:
    """An lm-eval model whose tokens are characters."""

    def __init__(self, max_length: int):
        self.max_length, self.num_calls = max_length, 0

    def tok_encode(self, text: str) -> list[int]:
        self.num_calls += 1
        return [ord(letter) for letter in text]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks") / "tasks")


def make(folder: Path, name: str, num_fewshot: int, per_item: bool = False, seed: int = 1) -> Prompts:
    task = load_tasks([name], find_tasks([name], str(folder), stock=False)).tasks[name]
    set_num_fewshot(task, EvalConfig(num_fewshot=num_fewshot, seed=seed))
    return Prompts(task, name, seed, per_item)


def contexts(prompts: Prompts, max_length: int = 100_000) -> Iterator[tuple[dict[str, Any], str]]:
    prompts.attach(Letters(max_length))
    for doc in prompts.task.eval_docs:
        yield doc, prompts.task.fewshot_context(doc, num_fewshot=prompts.task.get_config("num_fewshot"))
    prompts.detach()


@pytest.mark.parametrize("per_item", [False, True])
@pytest.mark.parametrize("name", ["tiny_choice", "tiny_own"])
def test_an_item_is_never_among_its_own_examples(folder: Path, name: str, per_item: bool) -> None:
    prompts = make(folder, name, 3, per_item)  # of 4 items: the three others
    assert LEAVE_ONE_OUT in prompts.marks and ("examples drawn once, seed 1" in prompts.marks) is not per_item
    for doc, context in contexts(prompts):
        assert context.count(doc["text"]) == 1 and context.endswith(doc["text"])
        for other in ITEMS:
            assert (other["text"] + other["endings"][other["answer"]] + "\n\n" in context) is (other != doc)


def test_lm_eval_itself_would_let_an_item_be_its_own_example(folder: Path) -> None:
    """The reason for the rule above: without `fewshot_split`, its sampler is not told which item is asked."""
    task = load_tasks(["tiny_choice"], find_tasks(["tiny_choice"], str(folder), stock=False)).tasks["tiny_choice"]
    task.set_fewshot_seed(seed=1)
    found = [task.fewshot_context(doc, num_fewshot=3).count(doc["text"]) for doc in task.eval_docs]
    assert max(found) == 2


def test_examples_are_the_same_for_every_item_and_drawn_by_seed(folder: Path) -> None:
    first = {context.rpartition("\n\n")[0] for _, context in contexts(make(folder, "letters_zh", 2))}
    assert len(first) == 1
    one, other, same = (
        [context for _, context in contexts(make(folder, "tiny_choice", 1, seed=seed))] for seed in (1, 2, 1)
    )
    assert one == same != other


def test_first_n_are_the_first_of_the_split(folder: Path) -> None:
    prompts = make(folder, "letters_en", 2, per_item=True)
    assert prompts.marks == []  # examples of another split, as the task's author ordered them
    pool = prompts.task.sampler.fewshot_docs()
    for _, context in contexts(prompts):
        asked = [part.split("\n")[0] for part in context.split("\n\n")]
        assert asked[:2] == [pool[0]["question"], pool[1]["question"]] and len(asked) == 3


def test_long_prompts_lose_whole_examples_and_never_the_item(folder: Path) -> None:
    whole = {doc["question"]: context for doc, context in contexts(make(folder, "letters_zh", 4))}
    lengths = sorted(len(context) for context in whole.values())
    limit = lengths[
        len(lengths) // 2
    ]  # " A" is 2 more, and its last token is not read: half of the prompts are too long
    prompts = make(folder, "letters_zh", 4)
    lost = 0
    for doc, context in contexts(prompts, max_length=limit):
        parts, all_parts = context.split("\n\n"), whole[doc["question"]].split("\n\n")
        assert parts[-1] == all_parts[-1] and parts[:-1] == all_parts[: len(parts) - 1]
        assert len(context) + 2 <= limit + 1
        lost += len(parts) < len(all_parts)
    assert 0 < lost < len(whole) and prompts.num_shortened == lost and prompts.num_cut == 0
    assert prompts.num_prompts == len(whole)


def test_an_item_that_is_too_long_by_itself_is_counted(folder: Path) -> None:
    prompts = make(folder, "letters_zh", 2)
    for doc, context in contexts(prompts, max_length=10):
        assert context.startswith(doc["question"])
    assert prompts.num_cut == prompts.num_shortened == 12


def test_free_answers_leave_room(folder: Path) -> None:
    prompts = make(folder, "tiny_free", 3)
    found = [context for _, context in contexts(prompts, max_length=100)]
    assert "answers of at most 50 tokens, half of the context" in prompts.marks
    assert prompts.task.get_config("generation_kwargs")["max_gen_toks"] == 50
    assert all(len(context) <= 50 for context in found)
    assert answer_tokens({"max_new_tokens": 7}) == 7 and answer_tokens({}) == 256


def test_too_few_examples_are_named(folder: Path) -> None:
    with pytest.raises(UserError, match="tiny_own has 3 examples, and 4 are wanted"):
        make(folder, "tiny_own", 4)


def test_splits_by_lm_evals_rule(folder: Path) -> None:
    def splits(name: str) -> tuple[str | None, str | None]:
        task = make(folder, name, 0).task
        return evaluated_split(task), example_split(task)

    assert splits("tiny_choice") == splits("tiny_own") == ("test", "test")
    assert splits("letters_zh") == ("test", "dev")


@given(st.lists(st.text("春天ab\n", max_size=40), min_size=1, max_size=8), st.integers(1, 60))
def test_whether_a_prompt_fits_is_exact(texts: list[str], max_length: int) -> None:
    """Characters are tokens and have one to three bytes: the bound from bytes may spare work, not decide wrongly."""
    lm = Letters(max_length)
    fits = _Fits(lm)
    for text in texts:
        found = fits([(text, " A")])
        room = max_length + bool(text)
        assert found is (len(text) + 2 <= room)


@pytest.mark.parametrize("room", range(90, 120))
def test_a_token_that_falls_apart_where_texts_part(room: int) -> None:
    """A vocabulary that has a whole phrase, and of its beginnings only the characters."""
    lm = Letters(room)
    whole = "面向对象程序设计语言"
    lm.tok_encode = lambda text: list(text.replace(whole, "#"))  # type: ignore[method-assign,return-value]
    fits = _Fits(lm)
    for text in ("春" * 90 + whole, "春" * 90 + whole[:-1] + "学"):
        assert fits([(text, "。")]) is (len(lm.tok_encode(text + "。")) <= room + 1)


def test_a_common_beginning_is_tokenized_once() -> None:
    lm = Letters(500)
    fits = _Fits(lm)
    assert all(fits([("例子" * 150 + f"第{number}题", " A")]) for number in range(50))
    assert lm.num_calls == 1


@given(st.text("ab", max_size=20), st.text("ab", max_size=20), st.text("春ab", max_size=30))
def test_common_beginning(one: str, other: str, start: str) -> None:
    found = _common(start + one, start + other)
    assert (start + one)[:found] == (start + other)[:found]
    assert (start + one)[found : found + 1] != (start + other)[found : found + 1] or start + one == start + other


def test_subsets_and_orders_are_keyed() -> None:
    chosen = choose_subset(1000, 50, 1, "任务")
    assert chosen is not None and chosen == sorted(set(chosen)) and len(chosen) == 50
    assert chosen == choose_subset(1000, 50, 1, "任务")
    assert chosen != choose_subset(1000, 50, 2, "任务") and chosen != choose_subset(1000, 50, 1, "task")
    assert choose_subset(50, 50, 1, "task") is choose_subset(50, None, 1, "task") is None
    assert max(chosen) > 900 and min(chosen) < 100
    assert sorted(shuffled(range(20), 1, "x")) == list(range(20)) != shuffled(range(20), 1, "x")
