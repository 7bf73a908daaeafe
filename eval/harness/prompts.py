"""Worked examples before an item: which, and how many fit.

Examples are drawn once a task, the same for every item (`examples: fixed`), so that the scorer computes them once; with
`examples: per_item` lm-eval's own sampler draws anew for each item. An item is never among its own examples. A prompt
longer than the model's context loses whole examples, the last first, until prompt and answer fit; only an item that is
too long by itself is cut, from its left, as lm-eval does. Cost: a prompt is tokenized only where its length in bytes
leaves a doubt, then 1 ms; no memory worth speaking of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import xxhash

from mindllm.config import UserError
from mindllm.hashing import mix

LEAVE_ONE_OUT = "examples drawn leave-one-out from the evaluated split"
_ITS_OWN = "an item can be among its own examples"
_ANSWER_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # lm-eval's order
_DEFAULT_ANSWER = 256  # tokens, lm-eval's
_TOKENS_TO_SPARE = 32  # put before a text, and what a token falls apart into where two texts part inside it


@dataclass
class Prompts:
    """The prompts of one task while it runs: puts itself between the task and lm-eval's building of contexts.

    num_prompts, num_shortened, num_cut: items seen, those that lost examples, those too long even without any.
    marks: what a reader has to know about the examples.
    """

    task: Any
    name: str
    seed: int
    per_item: bool = False
    marks: list[str] = field(default_factory=list)
    num_prompts: int = 0
    num_shortened: int = 0
    num_cut: int = 0

    def __post_init__(self) -> None:
        """Raises UserError where the task has fewer examples than are wanted."""
        wanted = self.task.get_config("num_fewshot") or 0
        self._examples = None
        if not wanted:
            return
        same = evaluated_split(self.task) == example_split(self.task)
        sampler: Any = getattr(self.task, "sampler", None)
        if type(sampler).__name__ not in ("ContextSampler", "FirstNSampler"):  # a task's own: it knows what it does
            self.marks.extend([_ITS_OWN] if same else [])
            return
        first = type(sampler).__name__ == "FirstNSampler"
        pool = list(sampler.fewshot_docs())
        if len(pool) - same < wanted:
            raise UserError(f"num_fewshot: {self.name} has {len(pool) - same} examples, and {wanted} are wanted")
        if self.per_item and not first:
            self._examples = _Examples(pool, sampler, same)
        else:
            self._examples = _Examples(pool if first else shuffled(pool, self.seed, self.name))
            self.marks.extend([] if first else [f"examples drawn once, seed {self.seed}"])
        self.marks.extend([LEAVE_ONE_OUT] if same else [])
        self.task.sampler = self._examples

    def attach(self, lm: Any) -> None:
        """From here on the task's contexts fit the context of `lm`, an lm-eval model."""
        self._fits = _Fits(lm)
        self._build = self.task.fewshot_context
        self.task.fewshot_context = self._build_fitting
        limit_answers(self.task, lm.max_length, self.marks)

    def detach(self) -> None:
        """The task builds contexts as before."""
        del self.task.fewshot_context  # the method of its class again

    def _build_fitting(self, doc: dict[str, Any], num_fewshot: int, **options: Any) -> Any:
        """The context with the most examples, at most num_fewshot, that leaves room for the longest answer."""
        if self._examples is not None:
            self._examples.draw(doc, num_fewshot)
        self.num_prompts += 1
        for count in range(num_fewshot, -1, -1):
            context = self._build(doc=doc, num_fewshot=count, **options)
            if self._has_room(doc, context):
                self.num_shortened += count < num_fewshot
                return context
        self.num_shortened += num_fewshot > 0
        self.num_cut += 1
        return context

    def _has_room(self, doc: dict[str, Any], context: Any) -> bool:
        if self.task.OUTPUT_TYPE == "loglikelihood_rolling":  # has no prompt; lm-eval reads it in windows
            return True
        requests = self.task.construct_requests(doc=doc, ctx=context, metadata=(self.name, 0, 1))
        return self._fits(request.args for request in (requests if isinstance(requests, list) else [requests]))


class _Examples:
    """Takes the place of a task's sampler: gives the examples drawn for the item at hand, the first n of them."""

    def __init__(self, pool: Sequence[Any], sampler: Any = None, same_split: bool = False):
        self.pool, self.sampler, self.same_split = pool, sampler, same_split
        self.drawn: list[Any] = []

    def draw(self, doc: Any, count: int) -> None:
        """Choose for this item; never the item itself, nor a copy of it."""
        if self.sampler is not None and count:
            self.drawn = list(self.sampler.sample(n=count, eval_doc=doc if self.same_split else None))
        else:
            self.drawn = list(islice((example for example in self.pool if example != doc), count))

    def sample(self, n: int, eval_doc: Any = None, df: Any = None, **_: Any) -> list[Any]:
        """What lm-eval asks a sampler for. Raises UserError where copies of the item leave too few."""
        if len(self.drawn) < n:
            raise UserError(f"num_fewshot: {n} examples are wanted, and there are {len(self.drawn)} beside an item")
        return self.drawn[:n]

    def set_rnd(self, seed: int | None) -> None:
        """lm-eval seeds the samplers of its tasks."""
        if self.sampler is not None:
            self.sampler.set_rnd(seed)

    def fewshot_docs(self) -> list[Any]:
        """All there are, as lm-eval's samplers name them."""
        return list(self.pool)


class _Fits:
    """Whether requests fit a model's context, tokenizing only where a bound from what was tokenized before is not
    enough: no text has more tokens than bytes, and prompts of a task begin alike."""

    def __init__(self, lm: Any):
        self.tokenize, self.max_length = lm.tok_encode, lm.max_length
        self.last, self.last_tokens = "", 0

    def __call__(self, requests: Iterable[tuple[Any, ...]]) -> bool:
        for context, rest in requests:
            if isinstance(rest, dict):
                room, text = self.max_length - answer_tokens(rest), context
            else:  # the last token of an answer is only predicted, never read; without a prompt an end token leads
                room, text = self.max_length + bool(context), context + rest
            if not self._is_within(text, room):
                return False
        return True

    def _is_within(self, text: str, room: int) -> bool:
        common = _common(text, self.last)
        known, new = _num_bytes(text[:common]), _num_bytes(text[common:])
        if min(self.last_tokens, known) + new + _TOKENS_TO_SPARE <= room:
            return True
        self.last, self.last_tokens = text, len(self.tokenize(text))  # slow: 1 ms for 1,000 tokens
        return self.last_tokens <= room


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _common(one: str, other: str) -> int:
    """Number of characters that two texts begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # halving: comparing slices is far quicker than comparing characters
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def answer_tokens(arguments: dict[str, Any]) -> int:
    """The most tokens that a free answer may have, from the settings of a request, by lm-eval's rule."""
    return int(next((arguments[key] for key in _ANSWER_KEYS if arguments.get(key) is not None), _DEFAULT_ANSWER))


def limit_answers(task: Any, max_length: int, marks: list[str]) -> None:
    """Answers that would leave the prompt no room get at most half of the context, and a mark. Changes `task`."""
    if task.OUTPUT_TYPE != "generate_until":
        return
    arguments = dict(task.get_config("generation_kwargs") or {})
    if answer_tokens(arguments) > max_length // 2:
        task.set_config(key="generation_kwargs", value={**arguments, "max_gen_toks": max_length // 2})
        marks.append(f"answers of at most {max_length // 2} tokens, half of the context")


def evaluated_split(task: Any) -> str | None:
    """Name of the split that a task is evaluated on."""
    return task.get_config("test_split") if task.has_test_docs() else task.get_config("validation_split")


def example_split(task: Any) -> str | None:
    """Name of the split that examples come from, by lm-eval's rule; None where the task brings its own list."""
    config = getattr(task, "fewshot_cfg", None)
    if config is not None and config.split is not None:
        return str(config.split)
    if config is not None and config.samples is not None:
        return None
    if task.has_training_docs():
        return task.get_config("training_split")
    return task.get_config("validation_split") if task.has_validation_docs() else task.get_config("test_split")


def shuffled(items: Sequence[Any], seed: int, name: str) -> list[Any]:
    """The items in an order that depends on seed, name and number alone."""
    return [items[i] for i in _order(len(items), seed, name)]


def choose_subset(num_items: int, limit: int | None, seed: int, name: str) -> list[int] | None:
    """Numbers of the `limit` items to evaluate, ascending; None for all. The same for every model."""
    if limit is None or limit >= num_items:
        return None
    return sorted(_order(num_items, seed, f"subset of {name}")[:limit])


def _order(count: int, seed: int, name: str) -> list[int]:
    key = xxhash.xxh3_64_intdigest(name.encode())
    return sorted(range(count), key=lambda number: mix(seed, key, number))
