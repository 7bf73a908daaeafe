"""eval.report.benchmarks: groups of benchmarks, means only where all is there, what is missing, published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from score_files import Page, assert_safe, row, suite_rows, write_scores

from eval.harness.scores import _group_marks
from eval.report.benchmarks import Group, make_section
from eval.report.compare import render
from eval.report.entries import missing_parts
from eval.report.models import find_runs, make_row, read_model, read_models
from eval.report.published import Published, read_published

EVIL = "<script>alert('x')</script>\"' onload=x &amp; {{ 7*7 }}"
OURS = Path(__file__).parent.parent / "eval" / "published.yaml"
PUBLISHED = read_published(str(OURS))


def page(*runs: Path, published: Published = PUBLISHED) -> Page:
    return assert_safe(render(read_models(find_runs([str(run) for run in runs])), published))


def groups(*runs: Path, published: Published = PUBLISHED) -> dict[str, Group]:
    models = [read_model(run, run.name) for run in runs]
    return {group.name: group for group in make_section(models, published).groups}


def bars(group: Group, title: str) -> list[tuple[str, str]]:
    """(name, text) of the bars of a block."""
    blocks = [block for chart in group.charts for block in chart.blocks if block.title == title]
    return [(bar.name, bar.text) for block in blocks for bar in block.bars]


def test_a_mean_only_where_all_benchmarks_of_a_group_are_whole(tmp_path: Path) -> None:
    whole = write_scores(tmp_path / "whole", suite_rows(0.4))
    without = write_scores(tmp_path / "without", suite_rows(0.4, ["MATH"]), [("mindllm_math", "MATH not in bench")])
    marks = {"MATH": ["6 of 7 parts"]}
    rows = [r | {"marks": marks.get(r["benchmark"], [])} for r in suite_rows(0.4)]
    partly = write_scores(tmp_path / "partly", rows)
    rows = [r | {"parts": None} for r in suite_rows(0.4)]  # one subject was named, and is not the benchmark
    alone = write_scores(tmp_path / "alone", rows)
    found = groups(whole, without, partly, alone)
    (mean,) = [block for block in found["mathematics"].charts[0].blocks if block.title == "Mean of the group"]
    texts = {bar.name: bar.text for bar in mean.bars}
    assert texts["whole"].startswith("40.00% ±") and mean.detail == "of Arithmetic, GSM8K, MATH, each counted alike"
    assert texts["without"] == texts["partly"] == "2 of 3: no mean" and texts["alone"] == "1 of 3: no mean"
    assert texts["MindLLM-3B"] == "16.01%" and [bar.value is None for bar in mean.bars][:4] == [False, True, True, True]
    gaps = [(gap.models, gap.num_whole, gap.missing) for gap in found["mathematics"].gaps]
    assert gaps == [
        (["without"], 2, [(["MATH"], "MATH not in bench")]),
        (["partly"], 2, [(["MATH"], "6 of 7 parts")]),
    ]


def test_the_mean_is_of_first_shares_with_the_error_of_independent_scores(tmp_path: Path) -> None:
    rows = suite_rows(groups=["mathematics"])
    for r, (value, error) in zip(rows, ((0.1, 0.03), (0.2, 0.04), (0.6, 0.12)), strict=True):
        r.update(value=value, stderr=error)
    rows.insert(1, {**rows[0], "metric": "acc_norm", "value": 0.9})
    (mean,) = [t for t in bars(groups(write_scores(tmp_path, rows))["mathematics"], "Mean of the group")][:1]
    assert mean[1] == "30.00% ± 4.33"


class Tasks(list[Any]):
    """As much of lm-eval's group as counts its tasks."""

    metadata: dict[str, Any] | None = None

    def get_all_tasks(self) -> list[int]:
        return list(range(1234))

    def get_all_groups(self) -> list[Any]:
        return []


def test_a_mean_is_pale_where_guessing_explains_all_that_it_could(tmp_path: Path) -> None:
    rows = suite_rows(groups=["reasoning"])
    for r in rows:
        r["distinguishable"] = None if r["benchmark"] == "BBH" else r["benchmark"] == "PIQA"
    some = write_scores(tmp_path / "some", rows)
    for r in rows:
        r["distinguishable"] = None if r["benchmark"] == "BBH" else False
    none = write_scores(tmp_path / "none", rows)
    mean = groups(some, none, published=Published())["reasoning"].charts[0].blocks[-1]
    assert [(bar.name, bar.grey) for bar in mean.bars] == [("some", False), ("none", True)]


def test_models_that_lack_the_same_are_named_together(tmp_path: Path) -> None:
    runs = [write_scores(tmp_path / name, suite_rows(groups=["english"])) for name in "ab"]
    runs.append(write_scores(tmp_path / "c", suite_rows()))
    found = groups(*runs)
    assert [(gap.models, gap.num_whole) for gap in found["chinese"].gaps] == [(["a", "b"], 0)]
    assert [bar.name for bar in found["chinese"].charts[0].blocks[-1].bars if not bar.quoted] == ["c"]
    assert "a, b : 0 of 2 benchmarks: C-Eval, CMMLU (not evaluated)" in page(*runs).text


def test_marks_of_groups_that_are_not_whole_are_recognised() -> None:
    members = [{"num_evaluated": 5, "num_total": 9, "seed": 1}] * 56
    marks = _group_marks(Tasks(), members)
    assert marks == ["a subset of 280 of 504 items, seed 1", "56 of 1234 parts"]
    assert missing_parts(make_row(row("t", marks=marks))) == marks[1:]
    counts = ["1,200 items instead of 14,042", "50 subjects instead of 57"]  # of eval.importing.counts.notes
    assert missing_parts(make_row(row("t", marks=counts))) == counts[1:]


def test_what_is_missing_is_named_with_its_reason(tmp_path: Path) -> None:
    absent = [("mindllm_cmmlu", f"CMMLU not in bench {EVIL}"), ("我的任务", "needs the Python package 甲")]
    subjects = [(f"mmlu_{n}", "ConnectionError: the hub") for n in range(57)]
    run = write_scores(tmp_path / "run", suite_rows(without=["CMMLU", "MMLU", "AGIEval"]), [*absent, *subjects])
    few = write_scores(tmp_path / "few", [], [(f"agieval_{n}", f"reason {n}") for n in range(5)])
    text = page(few).text
    assert "MMLU (not evaluated); AGIEval (reason 0; reason 1; 3 more reasons, in scores.json)" in text
    assert "0 of 2 benchmarks: C-Eval, CMMLU (not evaluated)" in text
    text = page(run).text
    assert f"1 of 2 benchmarks: CMMLU (CMMLU not in bench {EVIL})" in text
    assert "0 of 2 benchmarks: MMLU (57 tasks: ConnectionError: the hub); AGIEval (not evaluated)" in text
    assert "0 of 1 benchmarks: Flores-101 (not evaluated)" in text
    assert "0 of 1 benchmarks: 我的任务 (needs the Python package 甲)" in text


def test_parts_of_a_benchmark_are_side_by_side_below_their_group(tmp_path: Path) -> None:
    runs = []
    for number, name in enumerate("ab"):
        rows = [
            row("mindllm_mmlu", 0.3, benchmark="MMLU", group="english", parts=2),
            row("mmlu_stem", 0.3, part_of="mindllm_mmlu", parts=1),
            row("mmlu_law", 0.2 + number / 10, part_of="mmlu_stem", distinguishable=bool(number)),
            row("mmlu_law", 0.9, part_of="mmlu_stem", metric="acc_norm"),
        ]
        runs.append(write_scores(tmp_path / name, rows[: 4 - number]))
    (parts,) = groups(*runs)["english"].parts
    assert parts.title == "2 parts of MMLU, acc" and parts.models == ["a", "b"]
    assert parts.lines[1] == ("mmlu_law", [("20.00% ± 4.00", False), ("30.00% ± 4.58", True)])
    assert "2 parts of MMLU, acc" in page(*runs).text


def test_models_meet_by_benchmark_and_what_is_not_alike_is_said(tmp_path: Path) -> None:
    ours = write_scores(tmp_path / "ours", [row("mindllm_piqa", benchmark="PIQA", group="reasoning")])
    other = [
        row("piqa", benchmark="piqa", num_fewshot=0, num_items=1838),
        row("piqa", benchmark="piqa", metric="acc_norm"),
    ]
    found = groups(ours, write_scores(tmp_path / "stock", other))["reasoning"]
    first, second, _ = found.charts[0].blocks
    assert first.title == second.title == "PIQA" and [bar.name for bar in first.bars] == ["ours", "stock"]
    assert first.detail == (
        "acc, 5 and 0 shots: not alike, 100 and 1,838 items: not alike, tasks mindllm_piqa and piqa: not alike"
    )
    assert second.detail == "acc_norm, 5 shots"


def test_several_tasks_of_a_benchmark_stay_apart(tmp_path: Path) -> None:
    tasks = ("mindllm_flores_hant_en", "mindllm_flores_en_hans")
    rows = [
        row(t, 3.5, stderr=0.1, benchmark="Flores-101", group="bilingual", metric=m)
        for t in tasks
        for m in ("bleu", "chrf")
    ]
    found = groups(write_scores(tmp_path, rows))["bilingual"]
    assert [block.title for block in found.charts[0].blocks] == [f"Flores-101: {t}" for t in tasks for _ in range(2)]
    assert bars(found, "Flores-101: mindllm_flores_hant_en")[0] == (tmp_path.name, "3.500 ± 0.100")
    assert found.charts[0].unit.name == "points" and found.gaps == []


def quoted(tmp_path: Path, *scores: str) -> Published:
    path = tmp_path / "published.yaml"
    path.write_text(
        'sources: {s: {title: "書 & <i>paper</i>"}}\nscores:\n' + "".join(f"- {s}\n" for s in scores), "utf-8"
    )
    return read_published(str(path))


def test_published_figures_stand_beside_ours_as_quoted_with_what_differs(tmp_path: Path) -> None:
    published = quoted(
        tmp_path,
        "{model: 甲-7B, benchmark: PIQA, value: 75.4, shots: 0, metric: acc, source: s, note: 他们的注}",
        "{model: same, benchmark: PIQA, value: 70, shots: 5, metric: acc_norm, source: s}",
        "{model: unknown, benchmark: PIQA, value: 60, source: s}",
        "{model: nowhere, benchmark: 别的, value: 60, source: s}",
        "{model: points, benchmark: PIQA, value: 60, unit: plain, source: s}",
        "{model: fewer, group: reasoning, benchmarks: {PIQA: 5, BBH: 3}, value: 38, source: s}",
        "{model: vague, group: reasoning, value: 38, source: s}",
    )
    rows = [row("mindllm_piqa", 0.6, benchmark="PIQA", group="reasoning", metric=m) for m in ("acc", "acc_norm")]
    run = write_scores(tmp_path / "run", rows)
    blocks = groups(run, published=published)["reasoning"].charts[0].blocks
    assert [[(b.name, b.text) for b in block.bars if b.quoted] for block in blocks] == [
        [("甲-7B", "75.40%"), ("unknown", "60.00%")],
        [("same", "70.00%")],
        [("fewer", "38.00%"), ("vague", "38.00%")],
    ]
    text = page(run, published=published).text
    for shown in (
        "Quoted from 書 & <i>paper</i>; 0 shots there. 他们的注",
        "Quoted from 書 & <i>paper</i>. ",
        "; shots are not given there; the metric (acc here) is not given there.",
        "; a mean of PIQA, BBH.",
        "; what it is the mean of is not given.",
        "quoted from a publication, not measured here",
    ):
        assert shown in text
    assert "nowhere" not in text and "points" not in text


def test_shots_of_a_published_mean_are_compared_one_by_one(tmp_path: Path) -> None:
    rows = suite_rows(groups=["mathematics"])
    rows[2]["num_fewshot"] = 0
    text = page(write_scores(tmp_path, rows)).text
    assert "arXiv:2310.15777; MATH: 4 shots there." in text
    text = page(write_scores(tmp_path, suite_rows(groups=["mathematics"]))).text
    assert text.endswith("Applications, arXiv:2310.15777.")


def test_the_same_footnote_has_one_number(tmp_path: Path) -> None:
    marks = ["examples drawn leave-one-out", "由 OpenCC 轉換為簡體"]
    rows = [row("a", marks=marks), row("b", marks=marks[:1]), row("c", marks=["a subset of 5 of 9 items, seed 1"])]
    section = make_section([read_model(write_scores(tmp_path, rows), "m")], PUBLISHED)
    assert section.notes == [*marks, "a subset of 5 of 9 items, seed 1"]
    assert [line.notes for line in section.groups[0].table.lines] == [[1, 2], [1], [3]]
