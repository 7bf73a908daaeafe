"""eval.progress: a line a minute where a log is written, names of documents and tasks as they are."""

from __future__ import annotations

import pytest

from eval.progress import LINE_SECONDS, Parts


def test_a_log_gets_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Parts("harness", 3, "tasks", clock=lambda: now[0]) as parts:
        parts.begin("mindllm_mmlu_law")
        parts.done()
        now[0] += LINE_SECONDS
        parts.begin("mindllm_ceval_[法学]")
        now[0] += LINE_SECONDS / 2
        parts.done()
        now[0] += LINE_SECONDS / 2
        parts.begin("mindllm_cmmlu")
        parts.done()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "harness: 1 of 3 tasks; at work: mindllm_ceval_[法学]",
        "harness: 2 of 3 tasks; at work: mindllm_cmmlu",
    ]


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    now = [0.0]
    with Parts("contamination", 2, "files", clock=lambda: now[0]) as parts:
        now[0] += 2 * LINE_SECONDS
        parts.begin("web-[zh].jsonl")
        parts.done()
    err = capsys.readouterr().err
    assert "web-[zh].jsonl" in err
    assert "of 2 files" not in err
