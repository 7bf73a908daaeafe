"""python -m eval compare: the page about several models, scores in every state, and nothing runs in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_files import (
    Page,
    assert_safe,
    bits,
    row,
    suite_rows,
    write,
    write_bits,
    write_export,
    write_ratings,
    write_scores,
)
from tiny_export import eval_config

from eval.report import CompareConfig, collect, compare
from eval.report import render as render_run
from eval.report.bits import make_bits
from eval.report.compare import render
from eval.report.models import Model, find_runs, make_row, read_model, read_models
from eval.report.published import Published, Quoted, Source, read_published
from eval.report.steps import find_series, make_curves
from eval.report.units import round_limit, unit_of
from mindllm.cli import Verb, main
from mindllm.config import load

EVIL = "<script>alert('x')</script>\"' onload=x &amp; {{ 7*7 }}"
OURS = Path(__file__).parent.parent / "eval" / "published.yaml"
PUBLISHED = read_published(str(OURS))


def page(*runs: Path, published: Published = PUBLISHED) -> Page:
    return assert_safe(render(read_models(find_runs([str(run) for run in runs])), published))


def test_the_verb_writes_one_page_the_same_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("模型甲", 0.3), ("b", 0.5)):
        write_scores(tmp_path / "runs" / name, suite_rows(value))
        write_bits(tmp_path / "runs" / name, {"web-zh": bits(value * 4)})
    verbs = {"compare": Verb(CompareConfig, compare, words="runs")}
    words = ["compare", str(tmp_path / "runs"), f"out={tmp_path / 'a.html'}", f"published={OURS}"]
    assert main("python -m eval", verbs, words) == 0
    first = (tmp_path / "a.html").read_bytes()
    assert main("python -m eval", verbs, words) == 0 and (tmp_path / "a.html").read_bytes() == first
    assert "compare: 2 models in" in capsys.readouterr().out
    text = assert_safe(first.decode()).text
    assert "模型甲" in text and "Mean of the group" in text and "MOSS-Base-16B" in text
    assert main("python -m eval", verbs, ["compare", str(tmp_path / "nothing")]) == 2


def test_bits_per_byte_come_first_and_lower_is_better(tmp_path: Path) -> None:
    write_bits(tmp_path / "a", {"web-zh": bits(2.0), "空": bits(None)}, languages={"zh-Hant": bits(2.25)})
    write_bits(tmp_path / "b", {"web-zh": bits(1.5, size=4096)})
    html = render([read_model(tmp_path / name, name) for name in "ab"], PUBLISHED)
    text = assert_safe(html).text
    assert html.index('id="bits"') < html.index('id="scores"') and "Lower is better" in text
    for shown in ("2.000", "1.500", "zh-Hant (language)", "all sources", "unigram model of the training text"):
        assert shown in text
    assert "3 documents, 2.0 kB and 3 documents, 4.1 kB: not the same text" in text and "空" not in text
    assert "python -m eval harness CONFIG" in text and "no benchmark scores" in text


def test_what_keeps_bits_from_being_compared_is_said(tmp_path: Path) -> None:
    write_bits(tmp_path / "a", {"web-zh": bits(2.0)}, notes=[f"9% of the tokens {EVIL}"])
    assert f"9% of the tokens {EVIL}" in page(tmp_path / "a").text
    assert f"9% of the tokens {EVIL}." in assert_safe(render_run(collect(eval_config(tmp_path / "a")))).text


def test_nothing_is_measured(tmp_path: Path) -> None:
    text = page(write_scores(tmp_path / "a", [])).text
    assert "not measured: python -m eval bpb" in text and "not evaluated: python -m eval harness" in text


def test_benchmarks_that_nobody_asked_for_are_not_missing(tmp_path: Path) -> None:
    text = page(write_scores(tmp_path, [row("mini_choice_zh", 0.4, chance=0.25)])).text
    assert "mini_choice_zh" in text and "not evaluated" not in text and "MMLU" not in text


def test_scores_that_guessing_explains_are_pale(tmp_path: Path) -> None:
    rows = [row("近", 0.26, chance=0.25, distinguishable=False), row("远", 0.9, chance=0.25, distinguishable=True)]
    html = render([read_model(write_scores(tmp_path, rows), "m")], PUBLISHED)
    assert re.findall(r'<tr class="chance"><td>(.)', html) == ["近"]
    assert [kind for kind, _ in Page(html).bars] == ["bar chance", "bar", "bar axis"]
    assert "pale: guessing explains the score" in html


def test_bars_reach_the_axis_and_marks_stand_where_they_belong(tmp_path: Path) -> None:
    run = write_scores(tmp_path, [row("t", 0.3, stderr=0.02, chance=0.25, length_baseline=0.28)])
    html = render([read_model(run, "m")], PUBLISHED)
    (bar,) = re.findall(r"<svg role=\"img\".*?</svg>", html, re.S)
    at = dict(re.findall(r'class="(\w+)" (?:x1|x)="([\d.]+)%?"', bar))
    assert 'width="75.00%"' in bar  # 30 of 40 percent
    assert at == {"base": "0", "fill": "0", "whisker": "70.00", "guess": "62.50", "lengths": "70.00"}


@pytest.mark.parametrize("value", [None, float("nan"), 0.0, 1.0, -0.5, 1e9])
def test_scores_in_every_state_are_drawn(tmp_path: Path, value: float | None) -> None:
    rows = [
        row("t", value, stderr=None, num_items=None, num_fewshot=None),
        row("t", value, stderr=0.1, metric="word_perplexity"),
        row("t", value, stderr=0.1, metric="bleu"),
        row("t", value, stderr=None, metric="bits_per_byte", chance=None),
        {"task": "old", "metric": "acc", "value": value or 0.5, "stderr": None, "chance": None, "num_items": 60},
    ]
    found = page(write_scores(tmp_path, rows))
    assert [cells[0] for cells in found.rows if len(cells) > 4] == ["task", *["t"] * 4, "old"]


def steps(tmp_path: Path, **counts: Any) -> list[Path]:
    runs = []
    for step in (1000, 3000, 2000):
        run = write_scores(tmp_path / f"step-{step:06d}", suite_rows(step / 5000, groups=["english"]))
        write_export(run, step, step * 1_000_000, **counts)
        write_bits(run, {"网页": bits(3 - step / 2000), "empty": bits(None)})
        runs.append(run)
    return runs


def test_steps_of_one_training_are_curves_against_tokens(tmp_path: Path) -> None:
    runs = steps(tmp_path)
    html = render(read_models(runs), PUBLISHED)
    found = assert_safe(html)
    assert html.count("Over training: 3 steps, step-001000 to step-003000") == 2  # bits per byte, English
    assert "tokens, billions" in found.text and "dashed: chance" in found.text
    assert 'id="curves0-' in html and 'id="curves1-' in html
    assert [row[0] for row in found.rows[1:4]] == ["step-001000", "step-002000", "step-003000"]


def test_no_two_curves_of_a_figure_have_one_colour(tmp_path: Path) -> None:
    runs = steps(tmp_path)
    for run in runs:
        write_bits(run, {f"源{n}": bits(2.0 + n / 10) for n in range(10)})
    curves, _ = make_curves([], make_bits(read_models(runs)), read_models(runs))
    assert [len(found.legend) for found in curves] == [8, 3]  # ten sources and their total
    assert all(len({colour for colour, _ in found.legend}) == len(found.legend) for found in curves)
    assert 'id="curves1-' in curves[1].svg


def test_what_makes_a_series(tmp_path: Path) -> None:
    models = read_models(steps(tmp_path))
    (series,) = find_series(models)
    assert series.numbers == [0, 1, 2] and (series.places, series.unit) == ([1.0, 2.0, 3.0], "tokens, billions")
    write_export(tmp_path / "step-002000", 2000)  # tokens not known
    (series,) = find_series(read_models([tmp_path / f"step-00{n}000" for n in (3, 1, 2)]))
    assert (series.places, series.unit) == ([1000.0, 2000.0, 3000.0], "steps")
    write_export(tmp_path / "step-003000", 2000)  # the same step twice: no two steps of one training
    assert find_series(read_models(sorted(tmp_path.iterdir()))) == []
    write(tmp_path / "step-003000" / "export" / "config.json", {"architectures": ["Other"]})
    assert [series.numbers for series in find_series(read_models(sorted(tmp_path.iterdir())))] == [[0, 1]]


def test_pages_of_single_models_have_no_curves(tmp_path: Path) -> None:
    (run, *_) = steps(tmp_path)
    assert "Over training" not in page(run).text


def test_ratings_of_runs_stand_below_the_scores(tmp_path: Path) -> None:
    names = ["模型甲", EVIL, "c"]
    write_ratings(write_scores(tmp_path / "runs" / "a", suite_rows()), names)
    out = tmp_path / "page.html"
    assert compare(CompareConfig([str(tmp_path / "runs")], str(out), published=str(OURS))) == 0
    found = assert_safe(out.read_text("utf-8"))
    assert {row[0] for row in found.rows if len(row) == 8} >= set(names) and "Judged by 王: 18 judgements" in found.text
    assert "Prompts in Chinese" in found.text and "Prompts in English" in found.text
    write_ratings(tmp_path / "runs" / "judged", ["x", "y"], judge=EVIL)  # several models, so none of the page's
    assert compare(CompareConfig([str(tmp_path / "runs")], str(out), published=str(OURS))) == 0
    html = out.read_text("utf-8")
    assert len(re.findall("<h2>Whose answers are better</h2>", html)) == 1 and "<h3>judged</h3>" in html
    assert [row[0] for row in assert_safe(html).rows[1:3]] != ["a", "judged"]
    assert compare(CompareConfig([str(tmp_path / "runs" / "judged")], str(out), published=str(OURS))) == 0
    html = out.read_text("utf-8")
    assert "<h1>judged</h1>" in html and "Benchmarks" not in assert_safe(html).text


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def page_of_texts(name: str, task: str, mark: str, group: str, with_curves: bool = False) -> Page:
    """A page of two models in which these texts stand wherever a text of a user's can."""
    rows = [row(task, 0.3, marks=[mark], group=group, benchmark=name, chance=0.25, length_baseline=0.3)]
    rows += [row(f"{task}2", 0.3, part_of=task, metric=mark), row(task, 0.4, metric=mark, group=group)]
    total = {"total": bits(2.0), "sources": {task: bits(2.0)}}
    model = Model(
        name=name,
        facts=[(group, mark)],
        step=1,
        tokens=None,
        series="s" if with_curves else "",
        rows=[make_row(r) for r in rows],
        missing=[{"task": mark, "why": name}],
        bpb=total,
        clean={},
        notes=[mark],
    )
    sources = {task: Source(mark)}
    published = Published(sources, [Quoted(group, 5.0, task, benchmark=name, note=mark)])
    return assert_safe(render([model, replace(model, step=2)], published, title=name))


@settings(max_examples=30, deadline=None)
@given(texts, texts, texts, texts)
def test_no_text_becomes_markup(name: str, task: str, mark: str, group: str) -> None:
    assert_no_markup(page_of_texts(name, task, mark, group), page_of_texts("acc", "b", "acc_norm", "d"))


@pytest.mark.parametrize(
    "evil", [(EVIL, EVIL, EVIL, EVIL), ("</title><script>", "' onmouseover='x", "]]>-->", "繁體\u2028\x00&#60;")]
)
def test_no_name_becomes_markup_beside_curves(evil: tuple[str, str, str, str]) -> None:
    found = page_of_texts(*evil, with_curves=True)
    assert_no_markup(found, page_of_texts("acc", "b", "acc_norm", "d", with_curves=True))
    assert "Over training: 2 steps" in found.text


def assert_no_markup(found: Page, plain: Page) -> None:
    """Whatever the texts hold, no element and no attribute comes of it."""
    assert {tag for tag, _ in found.seen} <= {tag for tag, _ in plain.seen}
    assert {key for _, keys in found.seen for key in keys} <= {key for _, keys in plain.seen for key in keys}


def test_names_that_are_no_text_are_written_all_the_same(tmp_path: Path) -> None:
    run = write_scores(tmp_path / b"caf\xe9".decode("utf-8", "surrogateescape"), [row("t\ud800", marks=["\udfff"])])
    out = tmp_path / "page.html"
    assert compare(CompareConfig([str(run)], str(out), published=str(OURS))) == 0
    assert "caf?" in out.read_text("utf-8")


def test_config_says_what_cannot_be() -> None:
    for wrong in ("out=", "out=folder/"):
        with pytest.raises(ValueError, match="is no file name"):
            load(CompareConfig, None, [wrong])


@pytest.mark.parametrize(
    ("largest", "limit"), [(0, 1), (0.3, 0.3), (3.1, 4), (25, 30), (26.2, 30), (99, 100), (100, 100), (101, 150)]
)
def test_axes_end_at_round_numbers(largest: float, limit: float) -> None:
    assert round_limit(largest) == pytest.approx(limit)


@given(st.floats(1e-12, 1e12))
def test_axes_hold_what_they_show(largest: float) -> None:
    assert largest * (1 - 1e-9) <= round_limit(largest) <= largest * 1.51


def test_metrics_have_units() -> None:
    assert unit_of("exact_match (strict-match)", None).show(0.262) == "26.20%"
    assert unit_of("my_metric", 0.25).show(0.5) == "50.00%" and unit_of("bleu", None).show(3.25) == "3.250"
    assert (
        unit_of("bits_per_byte", None).name == "bits per byte"
        and unit_of("word_perplexity", None).show(1e7) == "1.00e+07"
    )
    assert unit_of("acc", None).show(None) == "-"
