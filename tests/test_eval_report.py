"""eval.report: one offline page, the same bytes each time, nothing that a document or a model wrote runs in it."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from score_files import assert_safe, write_ratings
from score_files import row as score_row
from tiny_export import eval_config

from eval.config import EvalConfig
from eval.report import collect, render, report, write_summary
from mindllm.config import UserError, load

EVIL = "<script>alert('x')</script>"


def row(bits: float | None) -> dict[str, Any]:
    per_byte = dict.fromkeys(("model", "unigram", "trigram"), bits)
    return {"documents": 3, "bytes": 2048, "tokens": 500, "bpb": per_byte, "gain": per_byte}


FILES: dict[str, Any] = {
    "clean/meta.json": {"counts": {"in": 1234, "out": 1000, "unit": "documents"}, "seconds": 2.0},
    "clean/stats.json": {
        f"zh-Hans\t{EVIL}\t": [9, 900],
        f"en\tb.example\t{EVIL}": [2, 10],
        "zh-Hant\t茶馆.tw\t": [1, 5],
    },
    "pretrain/meta.json": {"counts": {"in": 5000, "out": 10, "unit": "tokens -> steps"}, "seconds": 10.0},
    "export/config.json": {"architectures": [EVIL], "hidden_size": 64},
    "bpb/bpb.json": {
        "sources": {"web-zh": row(1.25), "网页": row(2.5), "empty": row(None)},
        "total": row(1.875),
        "train": {"documents": 7, "bytes": 12_345},
    },
    "harness/scores.json": {
        "scores": [
            {"task": "near", "metric": "acc", "value": 0.3, "stderr": 0.06, "chance": 0.25, "num_items": 60},
            {"task": "far", "metric": "acc", "value": 0.8, "stderr": 0.05, "chance": 0.5, "num_items": 60},
            {"task": "text", "metric": "bits_per_byte", "value": 1.9, "stderr": None, "chance": None, "num_items": 12},
        ]
    },
    "samples/samples.json": {
        "settings": {"temperature": 0.8, "top_k": 0, "seed": 1},
        "samples": [
            {"prompt": "春天来了，", "text": f"柳树发芽{EVIL}", "num_tokens": 8, "ended": False},
            {"prompt": "臺灣的夏天很熱", "text": "，蟬聲不斷", "num_tokens": 4, "ended": True},
            {"prompt": "The rain of the night", "text": " has stopped & gone", "num_tokens": 5, "ended": True},
        ],
    },
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "first-run"
    for name, value in FILES.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    lines = [{"step": i, "loss": 9 - i / 20, "tokens": i * 1000, "tokens_per_second": 100} for i in range(1, 101)]
    text = "\n".join(json.dumps(line) for line in [*lines, {"step": 100, "valid_loss": 4.5, "valid_bpb": 2.25}])
    (run / "pretrain" / "metrics.jsonl").write_text(text + "\n", encoding="utf-8")
    return run


def page(run: Path, **changes: Any) -> str:
    return render(collect(eval_config(run, **changes)))


class Balanced(HTMLParser):
    """Fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return parser


def test_page_holds_every_section_and_nests(run: Path) -> None:
    html = page(run)
    assert {"svg", "table", "section"} <= parsed(html).seen
    assert all(f'aria-label="{name}"' in html for name in ("funnel", "curves", "first-run, 网页: 2.500"))
    assert "not run" not in html
    for shown in ("first-run", "1,234", "tokens → steps", "zh-Hant", "茶馆.tw", "网页", "12.3 kB", "top all", "4.500"):
        assert shown in html


def test_page_is_offline_and_text_cannot_run(run: Path) -> None:
    html = page(run, title=EVIL)
    assert EVIL not in html and "&lt;script&gt;" in html and "stopped &amp; gone" in html
    assert not parsed(html).seen & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert "default-src 'none'" in html
    links = re.findall(r"(?:href|src)=[\"']?([^\"'> ]+)", html)
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"url\((?!#)|@import", html)


def test_scores_near_guessing_are_grey(run: Path) -> None:
    grey = re.findall(r'<tr class="chance"><td>(\w+)', page(run))
    assert grey == ["near"]


def test_benchmarks_of_the_suite_come_with_groups_marks_gaps_and_published_figures(run: Path) -> None:
    marks = ["繁體由 OpenCC 轉換", EVIL]
    rows = [
        score_row("mindllm_mmlu", 0.31, benchmark="MMLU", group="english", parts=57, chance=0.25, distinguishable=True),
        score_row("mmlu_law", 0.25, part_of="mindllm_mmlu", chance=0.25, distinguishable=False),
        score_row("mindllm_ceval", 0.26, benchmark="C-Eval", group="chinese", parts=52, chance=0.25, marks=marks),
    ]
    missing = [{"task": "mindllm_cmmlu", "why": f"not in bench {EVIL}"}]
    scores = {"scores": rows, "missing": missing}
    (run / "harness" / "scores.json").write_text(json.dumps(scores, ensure_ascii=False), encoding="utf-8")
    html = page(run)
    text = assert_safe(html).text
    for shown in (
        "English",
        "Chinese",
        "31.00% ± 4.62",
        "MindLLM-1.3B",
        "26.10%",
        "繁體由 OpenCC 轉換",
        "1 of 2: no mean",
    ):
        assert shown in text
    assert f"1 of 2 benchmarks: CMMLU (not in bench {EVIL})" in text
    assert "1 of 2 benchmarks: AGIEval (not evaluated)" in text and "1 part of MMLU" in text
    assert "arXiv:2406.09900; shots are not given there" in text
    assert "MindLLM-1.3B" not in page(run, published="")


def test_scores_on_clean_items_where_a_list_is_named(run: Path, tmp_path: Path) -> None:
    items = [{"id": f"{n:016x}", "doc_id": n, "values": {"acc": n % 2}} for n in range(10)]
    (run / "harness" / "samples").mkdir()
    lines = "".join(json.dumps(item) + "\n" for item in items)
    (run / "harness" / "samples" / "t.jsonl").write_text(lines)
    (run / "harness" / "scores.json").write_text(json.dumps({"scores": [score_row("t")], "missing": []}))
    listed = tmp_path / "contamination.jsonl"
    listed.write_text("".join(json.dumps({"task": "x", "id": item["id"]}) + "\n" for item in items[1:6:2]))
    html = page(run, contamination=str(listed))
    assert re.search(r"on clean items.*28\.57% ± 18\.44%</td><td class=\"n\">7</td><td class=\"n\">3</td>", html, re.S)
    assert "on clean items" not in page(run)


def test_ratings_where_there_are_some(run: Path) -> None:
    assert "Whose answers" not in page(run)
    text = assert_safe(page(write_ratings(run, ["甲", EVIL]))).text
    assert "Whose answers are better" in text and "Judged by 王: 4 judgements, 4 games." in text and EVIL in text


def test_samples_name_their_language_for_the_font(run: Path) -> None:
    boxes = re.findall(r'<div class="sample" lang="([\w-]+)"><b>(.)', page(run))
    assert boxes == [("zh-Hans", "春"), ("zh-Hant", "臺"), ("en", "T")]


def test_same_run_same_bytes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = eval_config(run)
    assert report(config) == 0
    first = (run / "report.html").read_bytes()
    assert report(config) == 0
    assert (run / "report.html").read_bytes() == first
    assert "report.html" in capsys.readouterr().out


def test_absent_stages_are_named_with_their_command(tmp_path: Path) -> None:
    html = page(tmp_path)
    parsed(html)
    assert html.count("not run: <code>") == 6 and "<svg" not in html
    assert re.findall("not run: <code>make ([a-z]+)", html) == ["demo", "data", "pretrain", "eval", "eval", "eval"]


def test_long_lists_are_cut_and_say_so(run: Path) -> None:
    stats = {f"en\tsite{i:03}.example\t": [1, 1] for i in range(50)} | {
        f"en\tx\treason{i:03}": [1, 1] for i in range(50)
    }
    (run / "clean" / "stats.json").write_text(json.dumps(stats))
    html = page(run)
    assert "and 31 smaller sites" in html and "and 20 more reasons" in html
    assert html.count(".example</td>") == 19  # and x, the largest


def test_a_run_that_kept_and_dropped_nothing(run: Path) -> None:
    (run / "clean" / "stats.json").write_text("{}")
    html = page(run)
    parsed(html)
    assert "No document was dropped." in html


def test_summary_shows_stages_and_results(run: Path) -> None:
    out = io.StringIO()
    write_summary(collect(eval_config(run, title="[b]x[/b]")), Console(file=out, width=100))
    text = out.getvalue()
    assert "run [b]x[/b]" in text and re.search(r"clean +1,234 +1,000 +documents +2\.0 s +617/s", text)
    assert "model 1.875" in text and "1 of 2 accuracies are clear of guessing" in text
    empty = io.StringIO()
    write_summary(collect(eval_config(run / "nothing")), Console(file=empty, width=100))
    assert "bits per byte" not in empty.getvalue()


def test_a_run_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        report(eval_config(tmp_path / "nothing"))


def test_config_fills_in_the_run_and_names_all_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "eval.yaml"
    path.write_text("run: out/a\nprompts: [春天, The sea]\n", encoding="utf-8")
    config = load(EvalConfig, path)
    assert (config.model, config.report) == ("out/a/export", "out/a/report.html")
    assert load(EvalConfig, path, ["run=b", "shards={run}/text"]).shards == "b/text"
    wrong = [
        "batch_size=0",
        "temperature=-1",
        "limit=0",
        "num_fewshot=-1",
        "tasks=[a, a]",
        "prompts.0= ",
        "seed=4294967296",
    ]
    with pytest.raises(UserError) as error:
        load(EvalConfig, path, wrong)
    for key in ("batch_size", "temperature", "limit", "num_fewshot", "tasks: a is named twice", "prompts.0", "seed: "):
        assert key in str(error.value)
