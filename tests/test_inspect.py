"""inspect: every kind of input, the tour of the cleaners, drops, site statistics, colours, hostile text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.clean import clean, refine
from data_pipeline.dedup import dedup
from data_pipeline.document import Document, Drop
from data_pipeline.inspect import InspectConfig, find_document, inspect, printable, run_cleaners, site_statistics
from data_pipeline.parquet import SCHEMA, write_rows
from mindllm.cli import Verb, main
from mindllm.config import UserError, load

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "configs/data/sample.yaml"
ZH = "河水绕过旧城的北门，在码头边分成两股。老人说，早年间两股水是一样宽的，后来东边的淤了。"
EN = "The river divides in two beside the landing, and the old people say that both arms were once of the same width. "


def page(title: str, body: str) -> bytes:
    head = f"<head><title>{title}</title><meta charset=utf-8></head>"
    return f"<html>{head}<body><article><p>{body}</p></article></body></html>".encode()


def config(tmp_path: Path, file: Path, **settings: Any) -> InspectConfig:
    words = [f"run={tmp_path}/run", f"sources.web.path={tmp_path}/in", f"file={file}"]
    return load(InspectConfig, SAMPLE, [*words, *(f"{k}={v}" for k, v in settings.items())])


def shown(capsys: pytest.CaptureFixture[str], config: InspectConfig) -> str:
    assert inspect(config) == 0
    return capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "site.example").mkdir(parents=True)
    return tmp_path / "in" / "site.example"


@pytest.mark.parametrize(
    ("lang", "body"),
    [
        ("zh-Hans", "".join(f"{c}地：{ZH}" for c in "甲乙丙丁") + "电话13812345678。"),
        ("en", EN * 8 + "Mail a.b@example.com now."),
    ],
)
def test_a_page_through_all_cleaners(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], lang: str, body: str
) -> None:
    (folder / "page.html").write_bytes(page("标题 Title", body))
    out = shown(capsys, config(tmp_path, folder / "page.html"))
    assert "web/site.example/page.html" in out and f"lang: {lang}" in out and "标题 Title" in out
    order = [
        out.index(f"{stage} / {name}")
        for stage, name in (
            ("clean", "html"),
            ("clean", "density"),
            ("refine", "sensitive"),
            ("refine", "pii"),
            ("refine", "repetition"),
        )
    ]
    assert order == sorted(order)
    assert "site statistics: none" in out and out.endswith("\nkept\n") and "\x1b" not in out
    gone, mask = ("13812345678", "phone") if lang != "en" else ("a.b@example.com", "email")
    assert f"{{+<|{mask}|>+}}" in out and gone in out and "[-" in out


def test_colours_instead_of_marks(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "page.html").write_bytes(page("t", ZH * 4 + "电话13812345678。"))
    out = shown(capsys, config(tmp_path, folder / "page.html", color="always"))
    assert "\x1b[" in out and "{+" not in out
    assert "\x1b" not in shown(capsys, config(tmp_path, folder / "page.html", color="never"))


def test_a_drop_ends_the_tour_unless_all(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "page.html").write_bytes(page("t", "太短的一页。A short page."))
    out = shown(capsys, config(tmp_path, folder / "page.html"))
    assert "dropped: density:too_short" in out and "refine /" not in out and "all=true" in out
    assert out.endswith("dropped by density: density:too_short\n")
    out = shown(capsys, config(tmp_path, folder / "page.html", all="true"))
    assert "refine / repetition" in out and out.endswith("dropped by density: density:too_short\n")


def test_every_kind_of_input(tmp_path: Path, folder: Path) -> None:
    lines = "".join(
        json.dumps({"text": f"{n} {ZH}", "url": f"http://a.example/{n}"}, ensure_ascii=False) + "\n" for n in range(3)
    )
    (folder / "a.jsonl").write_text(lines, encoding="utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "c.txt").write_text(ZH, encoding="gb18030")
    with write_rows(folder / "d.parquet", SCHEMA) as rows:
        rows.add_document(Document(ZH, "web/x", site="s", lang="zh-Hans", source="web", meta={"title": "标题"}))
        rows.add_document(Document(EN, "web/y", site="s", lang="en", source="web"))
    for name in ("a.jsonl", "b.jsonl.gz"):
        found = find_document(config(tmp_path, folder / name, document=2))
        assert found.meta["plain"].decode().startswith("1 ") and found.url == "http://a.example/1"
        assert find_document(config(tmp_path, folder / name, id=found.id)).url == found.url
    assert find_document(config(tmp_path, folder / "c.txt")).meta["plain"] == ZH.encode("gb18030")
    assert find_document(config(tmp_path, folder / "d.parquet")).meta == {"title": "标题"}
    assert find_document(config(tmp_path, folder / "d.parquet", id="web/y")).text == EN


def test_a_file_elsewhere_is_read_as_the_first_source(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "else.html").write_bytes(page("t", ZH))
    found = find_document(config(tmp_path, tmp_path / "else.html"))
    assert (found.id, found.source) == ("web/else.html", "web")


def test_what_is_not_there(tmp_path: Path, folder: Path) -> None:
    (folder / "a.jsonl").write_text(json.dumps({"text": ZH}) + "\n")
    for settings, said in (
        ({"document": 2}, "holds 1 document$"),
        ({"id": "web/none"}, "none of the 1 documents of .*; the first: web/site.example/a.jsonl#0"),
    ):
        with pytest.raises(UserError, match=said):
            find_document(config(tmp_path, folder / "a.jsonl", **settings))
    with pytest.raises(UserError, match="no such file"):
        find_document(config(tmp_path, folder / "none.html"))
    with pytest.raises(UserError, match="is a folder"):
        find_document(config(tmp_path, folder))
    with pytest.raises(UserError, match="document: counts from 1"):
        config(tmp_path, folder / "a.jsonl", document=0)


def test_broken_documents_are_told(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.jsonl").write_text('{"text": 3}\n')
    out = shown(capsys, config(tmp_path, folder / "a.jsonl", all="true"))
    assert "dropped before any cleaner: read:" in out and "clean /" not in out
    (folder / "d.parquet").write_bytes(b"PAR1 damaged")
    assert "dropped before any cleaner: read:" in shown(capsys, config(tmp_path, folder / "d.parquet"))


def test_site_statistics_of_the_run(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a run, inspect cuts what the run has cut, and shows the documents of its shards, kept and dropped."""
    boiler = "关注我们的微信公众号获取更多精彩内容，点击下方链接立即报名参加。"
    for n in range(6):
        own = "".join(chr(0x4E00 + 300 * n + i) for i in range(280))
        (folder / f"{n}.html").write_bytes(page(f"t{n}", f"{own[:140]}。{boiler}{own[140:]}。"))
    (folder / "short.html").write_bytes(page("t", ZH))
    settings = config(tmp_path, folder / "0.html", **{"workers.num_workers": 1}, document_seconds=0)
    for stage in (clean, dedup, refine):
        stage(settings)
    capsys.readouterr()
    assert site_statistics(settings) == str(tmp_path / "run" / "refine" / "sites" / "sites.parquet")
    out = shown(capsys, settings)
    assert f"[-{boiler}-]" in out and "site statistics: " + site_statistics(settings) in out
    kept = sorted((tmp_path / "run" / "refine").glob("*.parquet"))[0]
    assert boiler not in find_document(config(tmp_path, kept)).text
    dropped = sorted((tmp_path / "run" / "clean" / "dropped").glob("*.parquet"))[0]
    out = shown(capsys, config(tmp_path, dropped))
    assert "dropped: density:too_short" in out and "web/site.example/short.html" in out


class Failing:
    """A cleaner that cannot take this document."""

    def __call__(self, document: Document) -> Document | Drop:
        raise ValueError("x")

    def measures(self, document: Document) -> Any:
        raise KeyError("y")


def test_a_cleaner_that_fails_is_shown(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "page.html").write_bytes(page("t", ZH * 4))
    monkeypatch.setattr("data_pipeline.inspect.build_cleaners", lambda listed, problems, where: {"bad": Failing()})
    settings = config(tmp_path, folder / "page.html")
    step = next(iter(run_cleaners(find_document(settings), settings)))
    assert step.drop == Drop("error:bad:ValueError") and step.measures[0].value == "KeyError: 'y'"


def test_documents_cannot_command_the_terminal(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e[red]not markup[/red]\x9b"
    (folder / "page.txt").write_text(evil + ZH * 4 + evil, encoding="utf-8")
    out = shown(capsys, config(tmp_path, folder / "page.txt", all="true"))
    assert not set(out) & set("\x1b\x07\x9b\u202e") and "[red]not markup[/red]" in out
    assert printable("a\x1b[0m\u200b\ud800\t字\r") == "a\\u001b[0m\\u200b\\ud800\t字\\u000d"


def test_a_large_page_is_shown_soon(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "{0}号加微信领红包！点击下载点击下载点击下载，电话13812345678。{0}"
    (folder / "page.txt").write_text("\n".join(line.format(n) for n in range(20_000)), encoding="utf-8")
    out = shown(
        capsys, config(tmp_path, folder / "page.txt", all="true", max_lines=5, **{"clean.html.max_bytes": 9_000_000})
    )
    assert len(out) < 20_000 and "max_lines=" in out


def test_on_the_command_line(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    verb = Verb(InspectConfig, inspect, "file", "configs/data/sample.yaml")
    (folder / "a=b.html").write_bytes(page("t", ZH))
    assert main("inspect", verb, [str(folder / "a=b.html"), f"run={tmp_path}/run"]) == 0
    assert "density:too_short" in capsys.readouterr().out
    assert main("inspect", verb, [str(folder / "none.html")]) == 2
    assert "no such file" in capsys.readouterr().err
