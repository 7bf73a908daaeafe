"""The board: texts are shown and never run; Weights & Biases (a stand-in of its signatures) may fail, not the run."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

from mindllm.config import UserError
from mindllm.metrics.board import Board, literal_html, literal_markdown, require_wandb

HOSTILE = [
    "<script>alert(1)</script>", "![x](http://example.com/a.png)", "\n\n# 标题\n\n![x](http://example.com/a.png)",
    "<img src=http://example.com/a.png>", "```\n</code></pre><img src=x>\n```", "繁體\r![x](http://e/x)\r\n<b>x</b>",
    "\x02![x](http://e/)\x03", "\t![x](http://e/)", "a\n\n    \n![x](http://e/)", "[x]: http://e/\n\n![x]",
]  # fmt: skip


@dataclass
class Config:
    """Some keys of a run."""

    steps: int = 10
    wandb: str = "mindllm"


class Server:
    """What Weights & Biases knows: runs by project and id; `broken` calls raise."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], SimpleNamespace] = {}
        self.inits: list[dict[str, Any]] = []
        self.broken: set[str] = set()

    def check(self, call: str) -> None:
        if call in self.broken:
            raise ConnectionError(f"{call}: no way to the server with key-0123456789")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A module `wandb` with the parameters that wandb 0.2x has for init, Run.log, Run.finish and Html."""
    found = Server()

    class Run:
        def __init__(self, about: SimpleNamespace, resumed: bool):
            self.about, self.id = about, about.id
            self.step = max(about.history) + 1 if resumed and about.history else 0

        def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
            found.check("log")
            assert step is not None and step >= self.step, "wandb would warn and drop this"
            self.step = step
            self.about.history.setdefault(step, {}).update(data)

        def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
            found.check("finish")
            self.about.exit_code = exit_code

    def init(
        entity: str | None = None, project: str | None = None, dir: str | None = None, id: str | None = None,
        name: str | None = None, config: dict[str, Any] | None = None, allow_val_change: bool | None = None,
        mode: str | None = None, resume: bool | str | None = None,
    ) -> Run:  # fmt: skip
        found.check("init")
        found.inits.append(dict(locals()))
        assert project is not None and resume == "allow"
        key = (project, id or f"id{len(found.runs)}")
        about = found.runs.setdefault(key, SimpleNamespace(id=key[1], history={}, exit_code=None))
        return Run(about, resumed=id is not None)

    class Html:
        def __init__(self, data: str, inject: bool = True, data_is_not_path: bool = False):
            assert data_is_not_path
            self.html = data

    module = ModuleType("wandb")
    module.__spec__ = SimpleNamespace(name="wandb", origin="here")  # type: ignore[assignment]
    module.__dict__.update(init=init, Html=Html)
    monkeypatch.setitem(sys.modules, "wandb", module)
    yield found


def write(out: Path, start: int, stop: int, failed: bool = False, project: str = "mindllm") -> None:
    out.mkdir(exist_ok=True)
    found = Board(out, start, project, Config())
    for step in range(start + 1, stop + 1):
        found.scalars(step, {"loss": 1 / step})
        found.scalars(step, {"valid_bpb/网页": 0.5})
    found.text(stop, "samples/臺灣", "<b>夏天</b>")
    found.close(failed)


def test_what_tensorboard_reads(tmp_path: Path) -> None:
    write(tmp_path / "run", 0, 3, project="")
    write(tmp_path / "run", 1, 2, project="")  # a resume: what came after step 1 is no longer shown
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in found.Scalars("valid_bpb/网页")] == [1, 2]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["tensorboard"]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_are_no_markup(text: str) -> None:
    """As TensorBoard renders it: one code block, in which everything is escaped. As a page: one element."""
    shown = markdown_to_safe_html(literal_markdown(text))
    assert re.findall("<[^>]*>", shown) == ["<pre>", "<code>", "</code>", "</pre>"]
    assert len(re.findall("<[^>]*>", literal_html(text))) == 2


@given(st.text(alphabet=st.characters() | st.sampled_from("\n\r\t `~#<>![]()*_-=&\x02\x03\x0b\x85\u2028"), max_size=60))
def test_no_text_is_markup(text: str) -> None:
    shown = markdown_to_safe_html(literal_markdown(text))
    assert set(re.findall("<[^>]*>", shown)) <= {"<pre>", "<code>", "</code>", "</pre>"}
    inner = literal_html(text).split(">", 1)[1].removesuffix("</pre>")
    assert html.unescape(inner) == text and "<" not in inner


def test_a_run_over_there(tmp_path: Path, server: Server) -> None:
    write(tmp_path / "第一", 0, 3)
    ((key, run),) = server.runs.items()
    assert key == ("mindllm", "id0") and run.exit_code == 0
    assert run.history[2] == {"loss": 0.5, "valid_bpb/网页": 0.5}
    assert run.history[3]["samples/臺灣"].html.endswith(">&lt;b&gt;夏天&lt;/b&gt;</pre>")
    (asked,) = server.inits
    assert (asked["name"], asked["dir"], asked["id"]) == ("第一", str(tmp_path / "第一"), None)
    assert asked["config"] == {"steps": 10, "wandb": "mindllm"}
    assert json.loads((tmp_path / "第一" / "wandb.json").read_text()) == {"project": "mindllm", "id": "id0"}


def test_a_resume_goes_on_with_the_same_run(tmp_path: Path, server: Server) -> None:
    """Killed after step 5, resumed from step 2: steps that are there are not sent again."""
    write(tmp_path / "run", 0, 5, failed=True)
    assert server.runs["mindllm", "id0"].exit_code == 1
    write(tmp_path / "run", 2, 8)
    (run,) = server.runs.values()
    assert [*run.history] == [*range(1, 9)] and run.exit_code == 0
    assert all("loss" in sent and "valid_bpb/网页" in sent for sent in run.history.values())
    write(tmp_path / "run", 0, 1, project="another")
    assert [*server.runs] == [("mindllm", "id0"), ("another", "id1")]


@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_its_failure_is_said_once_and_stops_nothing(
    tmp_path: Path, server: Server, call: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "key-0123456789")
    server.broken = {call}
    write(tmp_path / "run", 0, 3)
    assert capsys.readouterr().out == (
        "metrics: Weights & Biases failed, training goes on without it "
        f"(ConnectionError: {call}: no way to the server with ...)\n"
    )
    assert EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload().Scalars("loss")[-1].step == 3


def test_a_missing_package_is_the_user_s_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of that name where one works, which Python would import, is not the package."""
    require_wandb("")
    (tmp_path / "here" / "wandb").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "here")])
    with pytest.raises(UserError, match=r"train.wandb: 'mindllm' needs the package, pip install wandb; or set it"):
        Board(tmp_path, 0, "mindllm", Config())
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
