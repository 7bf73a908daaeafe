"""The fifteen benchmarks: where each lies in a data folder, who reads it, and which of lm-eval's tasks scores it.

Shots are those of the MindLLM report (mindllm.md, section 5). Examples come from the first split of `examples` that is
there; where none is, they are drawn leave-one-out from the scored split. `changes` are the keys in which our task
differs from the stock one, apart from where its rows come from: columns that our rows name otherwise, and scoring that
needs no further package. None of them changes a prompt; tests/test_suite_tasks.py compares them letter by letter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eval.importing import agieval, exams, mathematics, reasoning, translation
from eval.importing.archives import Files
from eval.importing.found import Found


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. name: of its folder of rows and, after mindllm_, of its group of tasks.

    title, group: for reports.  folders: its names in a data folder, tried in order.  scored: the split that is scored.
    stock: folder of lm-eval's tasks, empty: ours.  task: name of the stock task, with {subject} for one task a subject.
    metrics: what the group's own score is the mean of, by number of items.  outside: subjects that have tasks, but do
    not belong to the group.  variants: several tasks over the same rows, in the place of subjects.
    """

    name: str
    title: str
    group: str
    folders: tuple[str, ...]
    read: Callable[[Files], Found | None]
    scored: str
    examples: tuple[str, ...]
    num_fewshot: int
    stock: str
    task: str
    changes: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("acc",)
    outside: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()

    def stock_name(self, subject: str) -> str:
        """The stock task of one subject."""
        return self.task.format(subject=subject.replace("-", "_") if self.name == "agieval" else subject)


# AGIEval's stock task says [index], which lm-eval cannot show as an example's answer; its scoring reads `gold`.
_INDEX: dict[str, Any] = {"doc_to_target": "answer"}
_NO_MAP: dict[str, Any] = {"process_docs": None}  # the rows are normalised already
_GAPS: dict[str, Any] = {"doc_to_text": "answer", "doc_to_choice": "contexts", "doc_to_target": "{{rest}}"}

BENCHMARKS = (
    Benchmark(
        "mmlu",
        "MMLU",
        "english",
        ("mmlu", "MMLU"),
        exams.read_mmlu,
        scored="test",
        examples=("dev",),
        num_fewshot=5,
        stock="mmlu/default",
        task="mmlu_{subject}",
    ),
    Benchmark(
        "agieval",
        "AGIEval",
        "english",
        ("agieval", "AGIEval"),
        agieval.read_agieval,
        scored="test",
        examples=(),
        num_fewshot=4,
        stock="agieval",
        task="agieval_{subject}",
        changes=_INDEX,
        outside=agieval.ALSO_READ,
    ),
    Benchmark(
        "ceval",
        "C-Eval",
        "chinese",
        ("ceval", "ceval-exam", "C-Eval", "ceval-val-zhtw"),
        exams.read_ceval,
        scored="val",
        examples=("dev",),
        num_fewshot=5,
        stock="ceval",
        task="ceval-valid_{subject}",
        changes=_INDEX,
    ),
    Benchmark(
        "cmmlu",
        "CMMLU",
        "chinese",
        ("cmmlu", "CMMLU"),
        exams.read_cmmlu,
        scored="test",
        examples=("dev",),
        num_fewshot=4,
        stock="cmmlu",
        task="cmmlu_{subject}",
    ),
    Benchmark(
        "arithmetic",
        "Arithmetic",
        "mathematics",
        ("arithmetic",),
        mathematics.read_arithmetic,
        scored="test",
        examples=(),
        num_fewshot=5,
        stock="arithmetic",
        task="arithmetic_{subject}",
        changes={**_NO_MAP, "doc_to_text": "{{prompt}}"},
    ),
    Benchmark(
        "gsm8k",
        "GSM8K",
        "mathematics",
        ("gsm8k", "grade-school-math"),
        mathematics.read_gsm8k,
        scored="test",
        examples=("train",),
        num_fewshot=4,
        stock="gsm8k",
        task="gsm8k",
    ),
    Benchmark(
        "math",
        "MATH",
        "mathematics",
        ("math", "MATH"),
        mathematics.read_math,
        scored="test",
        examples=(),
        num_fewshot=4,
        stock="",
        task="mindllm_math_{subject}",
        changes=_NO_MAP,
        metrics=("exact_match",),
    ),
    Benchmark(
        "hellaswag",
        "HellaSwag",
        "reasoning",
        ("hellaswag", "hellaswag-val"),
        reasoning.read_hellaswag,
        scored="validation",
        examples=("train",),
        num_fewshot=5,
        stock="hellaswag",
        task="hellaswag",
        changes=_NO_MAP,
    ),
    Benchmark(
        "winogrande",
        "WinoGrande",
        "reasoning",
        ("winogrande", "llm-foundry-gauntlet"),
        reasoning.read_winogrande,
        scored="validation",
        examples=("train",),
        num_fewshot=5,
        stock="winogrande",
        task="winogrande",
        changes=_GAPS,
    ),
    Benchmark(
        "logiqa",
        "LogiQA",
        "reasoning",
        ("logiqa", "LogiQA-dataset"),
        reasoning.read_logiqa,
        scored="test",
        examples=("train", "validation"),
        num_fewshot=5,
        stock="logiqa",
        task="logiqa",
    ),
    Benchmark(
        "pubmedqa",
        "PubMedQA",
        "reasoning",
        ("pubmedqa",),
        reasoning.read_pubmedqa,
        scored="test",
        examples=("train",),
        num_fewshot=5,
        stock="pubmedqa",
        task="pubmedqa",
    ),
    Benchmark(
        "piqa",
        "PIQA",
        "reasoning",
        ("piqa",),
        reasoning.read_piqa,
        scored="validation",
        examples=("train",),
        num_fewshot=5,
        stock="piqa",
        task="piqa",
    ),
    Benchmark(
        "mathqa",
        "MathQA",
        "reasoning",
        ("mathqa", "MathQA", "llm-foundry-gauntlet"),
        mathematics.read_mathqa,
        scored="test",
        examples=("train",),
        num_fewshot=5,
        stock="mathqa",
        task="mathqa",
        changes={"doc_to_choice": "choices", **_INDEX},
    ),
    Benchmark(
        "bbh",
        "BBH",
        "reasoning",
        ("bbh", "BIG-Bench-Hard"),
        reasoning.read_bbh,
        scored="test",
        examples=(),
        num_fewshot=3,
        stock="bbh/cot_fewshot",
        task="bbh_cot_fewshot_{subject}",
        metrics=("exact_match",),
    ),
    Benchmark(
        "flores",
        "Flores-101",
        "bilingual",
        ("flores", "flores101", "flores101_dataset", "flores101-zh-en"),
        translation.read_flores,
        scored="devtest",
        examples=("dev",),
        num_fewshot=8,
        stock="",
        task="mindllm_flores_{subject}",
        changes={"custom_dataset": None},
        metrics=(),
        variants=("hans_en", "en_hans", "hant_en", "en_hant"),
    ),
)
