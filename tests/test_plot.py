"""The page about runs: one file, no network, nothing in it can run; the command; its script in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plot_runs import EVIL, SOURCES, write_lines, write_run

from mindllm.cli import main
from mindllm.metrics.__main__ import VERBS
from mindllm.metrics.plot import SCRIPTS

ROOT = Path(__file__).resolve().parent.parent
VOID = {"meta", "br", "input"}


class Parsed(HTMLParser):
    """Tags that nest, all text by the tag it stands in, and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.stack and self.stack[-1] == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def plot(*words: str) -> int:
    return main("python -m mindllm.metrics", VERBS, ["plot", *words])


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    write_run(tmp_path / "基线/pretrain")
    write_run(tmp_path / "running/pretrain", done=5, lr=2e-3)
    return [str(tmp_path / "基线"), str(tmp_path / "running/pretrain")]


def page(runs: list[str], tmp_path: Path, *more: str) -> str:
    assert plot(*runs, f"out={tmp_path}/plot.html", *more) == 0
    return (tmp_path / "plot.html").read_text(encoding="utf-8")


def test_the_command(runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert plot(*runs) == 0
    assert capsys.readouterr().out == "plot: 2 runs in plot.html\n"
    first = (tmp_path / "plot.html").read_bytes()
    assert plot(*runs, "out=a/第二.html") == 0 and (tmp_path / "a/第二.html").read_bytes() == first
    assert plot(str(tmp_path / "a")) == 2
    assert "no metrics.jsonl in it, nor in a folder inside it; there are 第二.html" in capsys.readouterr().err
    assert plot(runs[0], "out=") == 2 and plot() == 2 and plot("--help") == 0
    assert "RUN [RUN ...] key=value" in capsys.readouterr().out


def test_everything_is_on_the_page(runs: list[str], tmp_path: Path) -> None:
    parsed = Parsed(page(runs, tmp_path))
    for text in (
        "Training: 基线, running",
        "8 steps, complete",
        "step 5 of 8",
        "train.learning_rate",
        *SOURCES,
        "33.3%",
    ):
        assert text in parsed.text, text
    data = json.loads(parsed.scripts[0])
    assert [run["name"] for run in data["runs"]] == ["基线", "running"]
    assert data["prompts"][0]["texts"][1] == [[4, f" stood. {EVIL} 4", "en"]]
    assert "runs.demo" not in parsed.text  # what does not differ


def test_nothing_but_our_script_can_run(runs: list[str], tmp_path: Path) -> None:
    write_run(tmp_path / f"<img src=x onerror={EVIL.replace('/', '∕')}>")
    html = page([*runs, str(next(tmp_path.glob("<img*")))], tmp_path, f"title={EVIL}")
    parsed = Parsed(html)
    data, script = parsed.scripts
    assert [tag for tag, _ in parsed.tags if tag in ("script", "img", "link", "iframe", "object")] == ["script"] * 2
    assert not [a for _, attrs in parsed.tags for a in attrs if a.startswith("on") or a in ("src", "href", "style")]
    policy = next(a["content"] or "" for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}';" in policy
    assert EVIL in parsed.text and EVIL not in html and "<" not in data
    assert not re.search(r"https?://", html.replace("http://www.w3.org/2000/svg", ""))
    for path in SCRIPTS:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|fetch|Function", path.read_text()
        )


def test_the_least_that_a_run_can_hold(tmp_path: Path) -> None:
    write_lines(tmp_path / "old/metrics.jsonl", [{"step": 1, "loss": 2.0}])
    write_lines(tmp_path / "empty/metrics.jsonl", [])
    parsed = Parsed(page([str(tmp_path)], tmp_path))
    assert "Training: empty, old" in parsed.text
    for absent in ("Mixture", "Settings", "Generated texts", "by source"):
        assert absent not in parsed.text
    assert "Settings that differ None" in Parsed(page([write(tmp_path, "a"), write(tmp_path, "b")], tmp_path)).text


def write(tmp_path: Path, name: str) -> str:
    return str(write_run(tmp_path / name))


def test_text_that_is_no_unicode_does_not_stop_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    (run / "samples.jsonl").write_text('{"step": 1, "prompt": "山", "text": "\\ud83d half"}\n')
    assert "? half" in page([str(run)], tmp_path)


def test_the_start_is_light() -> None:
    """What only training needs is not loaded: torch alone would take seconds."""
    code = "import sys, mindllm.metrics.plot; print(*sorted({'torch', 'tensorboard', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_the_script_draws_the_page(runs: list[str], tmp_path: Path) -> None:
    """A line for each run that has a curve, names and texts as they are; the policy lets the script run."""
    page(runs, tmp_path)
    quiet = ("background-networking", "component-update", "sync", "quic", "gpu")
    flags = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,900", "--dump-dom"]
    address = (tmp_path / "plot.html").as_uri()
    done = subprocess.run([*command, address], capture_output=True, text=True, timeout=120, check=True)
    parsed = Parsed(re.sub(r"<(path|rect|circle)\b([^>]*?)/?></\1>", r"<\1\2></\1>", done.stdout))
    open_charts = [svg for svg in re.findall(r'<svg id="chart-.*?</svg>', done.stdout, re.S) if "<path" in svg]
    assert len(open_charts) == 16  # all but those of the closed section
    assert [len(re.findall(r'class="line c[01] d0"', svg)) for svg in open_charts] == [2] * len(open_charts)
    assert all(len(d) > 10 for svg in open_charts for d in re.findall(r'class="line c\d d0" d="([^"]*)"', svg)[:1])
    assert "从前有一座山" in parsed.text and EVIL in parsed.text and "step 5 of 8" in parsed.text
    assert ("p", {"lang": "zh-Hant", "class": "words"}) in parsed.tags
