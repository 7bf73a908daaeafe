"""The suite's tasks: prompts equal lm-eval's own, examples never show the item itself, both suites load and agree."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import benchmark_layouts as layouts
import datasets
import pytest
import sacrebleu
from datasets import Dataset, DatasetDict
from lm_eval.tasks import TaskManager

from eval.importing.run import ImportConfig, import_sets
from eval.importing.sets import BENCHMARKS
from eval.importing.stock import OURS, stock_tasks, tasks_folder
from eval.tasks.mindllm import helpers

STOCK = [tasks_folder() / b.stock for b in BENCHMARKS if b.stock]
DATA = Path(os.environ.get("MINDLLM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "bench"
DOMAINS = {  # benchmark -> (which miniature, our task, the stock task in the hub suite)
    "mmlu": ("copies", "mindllm_mmlu_astronomy", "mmlu_astronomy"),
    "agieval": ("copies", "mindllm_agieval_sat_math", "agieval_sat_math"),
    "agieval with a passage": ("copies", "mindllm_agieval_sat_en", "agieval_sat_en"),
    "ceval": ("originals", "mindllm_ceval-valid_law", "ceval-valid_law"),
    "cmmlu": ("copies", "mindllm_cmmlu_anatomy", "cmmlu_anatomy"),
    "arithmetic": ("copies", "mindllm_arithmetic_2da", "arithmetic_2da"),
    "gsm8k": ("copies", "mindllm_gsm8k", "gsm8k"),
    "math": ("copies", "mindllm_math_algebra", "mindllm_math_algebra"),
    "hellaswag": ("originals", "mindllm_hellaswag", "hellaswag"),
    "hellaswag as text": ("copies", "mindllm_hellaswag", "hellaswag"),
    "winogrande": ("originals", "mindllm_winogrande", "winogrande"),
    "winogrande ready-made": ("copies", "mindllm_winogrande", "winogrande"),
    "logiqa": ("copies", "mindllm_logiqa", "logiqa"),
    "pubmedqa": ("copies", "mindllm_pubmedqa", "pubmedqa"),
    "piqa": ("copies", "mindllm_piqa", "piqa"),
    "mathqa": ("originals", "mindllm_mathqa", "mathqa"),
    "bbh": ("copies", "mindllm_bbh_cot_fewshot_navigate", "bbh_cot_fewshot_navigate"),
}  # fmt: skip


SHOTS = {  # of the MindLLM report
    "MMLU": 5, "AGIEval": 4, "C-Eval": 5, "CMMLU": 4, "Arithmetic": 5, "GSM8K": 4, "MATH": 4, "HellaSwag": 5,
    "WinoGrande": 5, "LogiQA": 5, "PubMedQA": 5, "PIQA": 5, "MathQA": 5, "BBH": 3, "Flores-101": 8,
}  # fmt: skip


def hub(path: str, name: str | None = None, split: str | None = None, **_: Any) -> Any:
    """The rows of the miniature benchmarks in the columns that the hub has; every subject has the same."""
    letters = {"A": "甲", "B": "乙", "C": "丙", "D": "丁"}
    exam = [{**letters, "answer": "ABCD"[n % 4], "question": layouts.CHINESE[n]} for n in range(7)]
    if path == "openlanguagedata/flores_plus":
        text = {"cmn_Hans": "他很高。", "cmn_Hant": "他長得很高。", "eng_Latn": "He is tall."}[name or ""]
        return Dataset.from_list([{"id": n, "text": text} for n in range(9)])
    if path.startswith("hails/agieval"):
        lines = [
            layouts.agieval_line(n, passage=f"A passage {n}." if path.endswith("sat-en") else "") for n in range(6)
        ]
        query = (
            "{passage}Q: {question} Answer Choices: (A)one (B)two (C)three (D)four\nA: Among A through D, the answer is"
        )
        rows = [{"query": query.format(**ln), "choices": ln["options"], "gold": [n % 4]} for n, ln in enumerate(lines)]
        return DatasetDict(test=Dataset.from_list(rows))
    mmlu = [
        {"question": q, "choices": ["one, or 1", "two", "three", "four"], "answer": n % 4}
        for n, q in enumerate(layouts.QUESTIONS)
    ]
    sums = [{"context": f"\n\nQ: What is {n} plus 45?\n\nA:", "completion": f" {n + 45}"} for n in range(7)]
    gsm = {
        s: [{"question": f"{s} {n}?", "answer": f"It is {n}.\n#### {n}"} for n in range(5)] for s in ("train", "test")
    }
    logiqa = [
        {
            "label": "abcd"[n % 4],
            "context": f"{who} is taller than Bob. Bob is {n}.",
            "question": "Who is taller?",
            "options": [who, "Bob", "Both. No", "None"],
        }
        for who in ("Eve", "Ann")
        for n in range(6)
    ]
    hellaswag = [{**row, "label": str(row["label"])} for row in layouts.hellaswag_rows(7)]
    piqa = [{**row, "label": n % 2} for n, row in enumerate(layouts.piqa_rows(7))]
    pubmed = list(layouts.pubmed(14).values())
    bbh = [{"input": f"not {n} is", "target": "False"} for n in range(4)]
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        "cais/mmlu": {"dev": mmlu[:5], "test": mmlu[5:]},
        "ceval/ceval-exam": {"dev": exam[:5], "val": exam[:3]},
        "haonan-li/cmmlu": {
            s: [{**row, "Question": row["question"], "Answer": row["answer"]} for row in part]
            for s, part in {"dev": exam[:5], "test": exam[5:]}.items()
        },
        "json": {"validation": sums},
        "openai/gsm8k": gsm,
        "EleutherAI/hendrycks_math": {"test": layouts.math_rows(3)},
        "Rowan/hellaswag": {"train": hellaswag[:6], "validation": hellaswag},
        "allenai/winogrande": {"train": layouts.winogrande_rows(6), "validation": layouts.winogrande_rows(7)},
        "EleutherAI/logiqa": {"train": logiqa[:6], "validation": logiqa[:6], "test": logiqa[6:]},
        "bigbio/pubmed_qa": {"train": pubmed[7:], "validation": pubmed[7:], "test": pubmed[:7]},
        "baber/piqa": {"train": piqa[:6], "validation": piqa},
        "regisss/math_qa": {s: layouts.mathqa_rows(6) for s in ("train", "validation", "test")},
        "SaylorTwift/bbh": {"test": bbh},
    }
    return DatasetDict({s: Dataset.from_list(rows) for s, rows in found[path].items()})


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """lm-eval's tasks by name, of both imported miniatures."""
    found = {}
    for name, layout in (("copies", layouts.copies), ("originals", layouts.originals)):
        folder = tmp_path_factory.mktemp(name)
        import_sets(ImportConfig(str(layout(folder / "data")), str(folder / "out")))
        manager = TaskManager(include_path=str(folder / "out" / "tasks"), include_defaults=False)
        extra = ["mindllm_agieval_math", "mindllm_agieval_logiqa_zh"] if name == "copies" else []
        loaded = manager.load(["mindllm", *extra])
        found[name], found[f"{name} groups"] = loaded["tasks"], loaded["groups"]
    return found


@pytest.fixture(scope="module")
def online() -> Iterator[dict[str, Any]]:
    """lm-eval's tasks by name, as the suite in the repository gets them from the hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_dataset", hub)
        yield TaskManager(include_path=[OURS, *STOCK], include_defaults=False).load(["mindllm"])["tasks"]


def requests(task: Any, doc: dict[str, Any]) -> list[Any]:
    """What a model is asked for one item, with the task's own number of examples.

    Those of the evaluated split come in the order of the file here, for stock tasks have them so, and ours draw.
    """
    places = {json.dumps(row, sort_keys=True): number for number, row in enumerate(task.eval_docs)}
    examples = [(places.get(json.dumps(row, sort_keys=True)), row) for row in task.sampler.df]
    if all(place is not None for place, _ in examples):
        task.sampler.replace_df([row for _, row in sorted(examples, key=lambda example: example[0])])
    context = task.fewshot_context(doc, task.config.num_fewshot)
    made = task.construct_requests(doc, context)
    return [request.args for request in (made if isinstance(made, list) else [made])]


@pytest.mark.parametrize("case", DOMAINS)
def test_prompts_are_those_of_the_stock_task(case: str, offline: Any, online: Any) -> None:
    layout, ours, stock = DOMAINS[case]
    mine, theirs = offline[layout][ours], online[stock]
    assert mine.config.num_fewshot == theirs.config.num_fewshot > 0
    number = min(len(mine.eval_docs), len(theirs.eval_docs)) - 1  # not among the examples where they are left one out
    mine_asked, theirs_asked = (requests(task, list(task.eval_docs)[number]) for task in (mine, theirs))
    assert mine_asked == theirs_asked
    assert mine.OUTPUT_TYPE == theirs.OUTPUT_TYPE
    assert {m["metric"] for m in mine.config.metric_list} == {m["metric"] for m in theirs.config.metric_list}


@pytest.mark.parametrize("case", [c for c in DOMAINS if c not in ("math",)])
def test_scores_are_those_of_the_stock_task(case: str, offline: Any, online: Any) -> None:
    layout, ours, stock = DOMAINS[case]
    mine, theirs = offline[layout][ours], online[stock]
    number = min(len(mine.eval_docs), len(theirs.eval_docs)) - 1
    doc, their_doc = list(mine.eval_docs)[number], list(theirs.eval_docs)[number]
    num = len(requests(mine, doc))
    if mine.OUTPUT_TYPE == "generate_until":
        answers = [[text] for text in ("#### 4", "So the answer is False.", "False", "")]
    elif mine.OUTPUT_TYPE == "loglikelihood":
        answers = [[(-1.0, True)], [(-1.0, False)]]
    else:
        answers = [[(-1.0 if k == best else -5.0, False) for k in range(num)] for best in range(num)]
    for answer in answers:
        assert mine.process_results(doc, answer) == theirs.process_results(their_doc, answer)


def test_the_math_prompt_is_minervas(offline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("antlr4")  # which only the stock task needs
    verify = types.ModuleType("math_verify")
    verify.parse = verify.verify = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "math_verify", verify)
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda n: "4.11.0" if n.startswith("antlr4") else version(n))
    monkeypatch.setattr(datasets, "load_dataset", hub)
    folder = tasks_folder() / "minerva_math"
    stock = TaskManager(include_path=str(folder), include_defaults=False).load("minerva_math_algebra")["tasks"]
    theirs, mine = stock["minerva_math_algebra"], offline["copies"]["mindllm_math_algebra"]
    for doc, their_doc in zip(mine.eval_docs, theirs.eval_docs, strict=True):
        assert requests(mine, doc)[0][0] == requests(theirs, their_doc)[0][0]


def test_the_two_suites_have_the_same_shots_and_groups(offline: Any, online: Any) -> None:
    shots = {}
    for task in online.values():
        metadata = task.config.metadata
        shots[metadata["benchmark"]] = (task.config.num_fewshot, metadata["group"])
        assert task.fewshot_cfg.sampler == "first_n", task.config.task
    ours = {}
    for task in [*offline["originals"].values(), *offline["copies"].values()]:
        ours[task.config.metadata["benchmark"]] = (task.config.num_fewshot, task.config.metadata["group"])
        assert task.fewshot_cfg.sampler == "first_n", task.config.task
    assert ours == shots == {b.title: (b.num_fewshot, b.group) for b in BENCHMARKS}
    assert {title: number for title, (number, _) in ours.items()} == SHOTS
    assert len(online) == 57 + 9 + 52 + 67 + 10 + 1 + 7 + 6 + 27 + 4


def test_every_stock_task_is_there() -> None:
    known: set[str] = set()
    for folder in STOCK:
        known |= set(stock_tasks(folder.relative_to(tasks_folder()).as_posix()))
    suite = TaskManager(include_path=[OURS, *STOCK], include_defaults=False)
    for name in {"mindllm", *(f"mindllm_{b.name}" for b in BENCHMARKS)}:
        assert name in suite.all_groups
        for member in suite.task_index[name].cfg["task"]:
            asked = member if isinstance(member, str) else member.get("task") or member["group"]
            assert asked in suite.task_index, f"{name} names {asked}"
            assert isinstance(member, str) or "group" in member or asked in known


@pytest.mark.slow
def test_the_hub_suite_beside_all_of_lm_evals_tasks() -> None:
    manager = TaskManager(include_path=str(OURS), include_defaults=True)  # slow: 10 s
    assert {"mindllm", "mindllm_mmlu", "mmlu", "ceval-valid", "arithmetic_1dc"} <= set(manager.all_tasks)


def test_examples_never_show_the_item_itself(offline: Any) -> None:
    seen = 0
    for task in [*offline["copies"].values(), *offline["originals"].values()]:
        if "process_docs" in str(task.config.fewshot_config) and task.fewshot_cfg.split == task.config.test_split:
            for doc in task.eval_docs:
                shown = task.sampler.sample(task.config.num_fewshot, eval_doc=doc)
                assert doc["id"] not in [example["id"] for example in shown], task.config.task
                seen += 1
    assert seen > 50


def test_copies_of_an_item_are_no_examples() -> None:
    rows = Dataset.from_list([{"id": i, "label": n} for n, i in enumerate(["a", "b", "a", "c"])])
    assert [row["id"] for row in helpers.candidates(rows)] == ["b", "c"], "the labels of copies may differ"
    plain = Dataset.from_list([{"query": "x"}, {"query": "y"}, {"query": "x"}])
    assert helpers.candidates(plain) == [{"query": "y"}]
    many = Dataset.from_list([{"id": str(n)} for n in range(100)])
    drawn = [row["id"] for row in helpers.candidates(many)]
    assert len(set(drawn)) == helpers.MAX_EXAMPLES and drawn != sorted(drawn, key=int)
    backwards = Dataset.from_list([{"id": str(n)} for n in reversed(range(100))])
    assert [row["id"] for row in helpers.candidates(backwards)] == drawn, "whatever the order of the file"


def test_marks(offline: Any) -> None:
    marks = {
        n: [m for m in t.config.metadata["marks"] if " instead of " not in m] for n, t in offline["copies"].items()
    }
    left_out = "examples drawn leave-one-out from the evaluated split"
    assert marks["mindllm_mmlu_astronomy"] == [] == marks["mindllm_gsm8k"] == marks["mindllm_pubmedqa"]
    assert marks["mindllm_piqa"] == marks["mindllm_agieval_sat_en"] == [left_out]
    assert marks["mindllm_ceval-valid_law"] == [
        "converted from Traditional to Simplified characters with OpenCC (tw2sp)",
        left_out,
    ]
    assert marks["mindllm_logiqa"] == ["examples from the validation split"]
    assert marks["mindllm_flores_hans_en"] == [left_out] and "OpenCC (s2t)" in marks["mindllm_flores_en_hant"][0]
    for name, task in offline["originals"].items():
        assert "math_" in name or all(" instead of " in mark for mark in task.config.metadata["marks"])


def test_benchmarks_of_which_items_are_missing_are_marked(offline: Any) -> None:
    """On the row that a reader sees: of the group where it has a score, else of the task."""
    marks = {n: t.config.metadata["marks"] for n, t in offline["copies"].items()}
    assert marks["mindllm_piqa"][-1].endswith(" items instead of 1,838") and marks["mindllm_mmlu_astronomy"] == []
    assert all(marks[name][-1].endswith(" items instead of 1,012") for name in marks if "flores" in name)
    groups = offline["copies groups"]
    assert [m.partition(" instead")[2] for m in groups["mindllm_mmlu"].metadata["marks"]] == [" of 14,042", " of 57"]
    assert groups["mindllm_agieval"].metadata["marks"][0].endswith(" items instead of 2,852")


def test_flores_prompts(offline: Any) -> None:
    task = offline["copies"]["mindllm_flores_en_hant"]
    doc = list(task.eval_docs)[9]
    ((prompt, settings),) = requests(task, doc)
    example = "English sentence: He has {0} hairs.\nTraditional Chinese sentence: {0}：他的頭髮，發現了軟件。\n\n"
    assert prompt == "".join(example.format(n) for n in range(8)) + (
        "English sentence: He has 9 hairs.\nTraditional Chinese sentence:"
    )
    assert settings["until"] == ["\n"]
    assert task.process_results(doc, ["  他有 9 根頭髮。 "]) == dict.fromkeys(
        ("bleu", "chrf"), ("9：他的頭髮，發現了軟件。", "他有 9 根頭髮。")
    )
    back = offline["copies"]["mindllm_flores_hans_en"]
    assert requests(back, list(back.eval_docs)[9])[0][0].endswith(
        "Simplified Chinese sentence: 9：他的头发，发现了软件。\nEnglish sentence:"
    )


@pytest.mark.parametrize("text", ["他很高，也很瘦，喜欢打篮球。", "他很高，也很瘦，喜歡打籃球。"])
def test_chinese_bleu_counts_characters(text: str) -> None:
    assert helpers.bleu_zh([(text, text)]) == pytest.approx(100)
    near = text[:-3] + "棒球。"
    expected = sacrebleu.corpus_bleu([near], [[text]], tokenize="zh").score
    assert helpers.bleu_zh([(text, near)]) == expected > 50 > sacrebleu.corpus_bleu([near], [[text]]).score


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("So.\nFinal Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.", True),
        ("Final Answer: The final answer is \\dfrac12. I hope it is correct.\n\nProblem", True),
        ("Final Answer: The final answer is $\\frac{1}{2}$.", True),
        ("Final Answer: The final answer is $2$. I hope it is correct.", False),
        ("\\frac{1}{2}", False),
        ("", False),
        ("Final Answer: The final answer is . I hope it is correct.", False),
    ],
)  # fmt: skip
def test_math_answers(said: str, right: bool) -> None:
    assert helpers.math_results({"answer": "\\frac{1}{2}"}, [said]) == {"exact_match": int(right)}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the benchmark files")
def test_real_tasks(tmp_path: Path) -> None:
    import_sets(ImportConfig(str(DATA), str(tmp_path)))
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    tasks = manager.load(["mindllm"])["tasks"]
    assert len(tasks) == 240
    for name, task in tasks.items():
        left_out = task.fewshot_cfg.split == task.config.test_split
        for number in range(min(len(task.eval_docs), 12)):
            doc = task.eval_docs[number]
            shown = task.sampler.sample(task.config.num_fewshot, eval_doc=doc if left_out else None)
            assert doc["id"] not in [example.get("id") for example in shown], name
        assert requests(task, doc)
    items = [json.loads(line) for line in (tmp_path / "bbh" / "test.jsonl").open(encoding="utf-8")]
    assert len(items) == 6511
