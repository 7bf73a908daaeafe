"""The generated texts of runs, side by side: for each prompt, what each run made of it after how many steps.

A page holds the newest and, evenly spread, as many of the earlier ones as fit into MAX_BYTES.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mindllm.metrics.runs import Run
from mindllm.text import language

MAX_BYTES = 600_000  # of all texts of a page
MAX_CHARACTERS = 1200  # of one text
MAX_TIMES = 60  # of one run


def prompts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One dict a prompt: prompt, lang, texts (for each run a list of [step, text, lang], oldest first).

    lang is what HTML calls the language ("" for none of ours), so that Simplified and Traditional Chinese get their
    fonts. Of two texts of one step the later line counts.
    """
    times = MAX_TIMES
    while True:
        found = _prompts(runs, times)
        if times == 1 or _num_bytes(found) <= MAX_BYTES:
            return found
        times //= 2


def _prompts(runs: Sequence[Run], times: int) -> list[dict[str, Any]]:
    steps = [set(_spread(sorted({sample["step"] for sample in run.samples}), times)) for run in runs]
    order = dict.fromkeys(sample["prompt"] for run in runs for sample in run.samples)
    return [
        {
            "prompt": prompt,
            "lang": _lang(prompt),
            "texts": [
                [[step, *_text(prompt, text)] for step, text in sorted(_texts(run, prompt).items()) if step in kept]
                for run, kept in zip(runs, steps, strict=True)
            ],
        }
        for prompt in order
    ]


def _texts(run: Run, prompt: str) -> dict[int, str]:
    return {sample["step"]: sample["text"] for sample in run.samples if sample["prompt"] == prompt}


def _text(prompt: str, text: str) -> tuple[str, str]:
    """What follows the prompt, cut where it is long, and its language (judged with the prompt)."""
    rest = text.removeprefix(prompt)
    shown = rest if len(rest) <= MAX_CHARACTERS else f"{rest[:MAX_CHARACTERS]} …"
    return shown, _lang(prompt + rest)


def _lang(text: str) -> str:
    found = language(text)
    return "" if found == "other" else found


def _spread(steps: list[int], times: int) -> list[int]:
    """At most `times` of the steps, evenly, from the last one back."""
    if len(steps) <= times:
        return steps
    return [steps[len(steps) - 1 - i * len(steps) // times] for i in range(times)]


def _num_bytes(found: list[dict[str, Any]]) -> int:
    return sum(len(text.encode("utf-8", "replace")) for p in found for texts in p["texts"] for _, text, _ in texts)
