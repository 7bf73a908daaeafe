"""The doctor's page: every line is there on any machine, and a missing package is an exit code."""

from __future__ import annotations

import importlib.metadata

import pytest
import torch

from mindllm import doctor


def test_every_line_says_something() -> None:
    lines = dict(doctor.rows())
    assert {"mindllm", "python", "cpu", "gpu", "attention", "loss", "MFU", "g++", "free disk here"} <= set(lines)
    assert all(isinstance(state, str) and state for state in lines.values())
    assert lines["torch"] == importlib.metadata.version("torch")


def test_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main() == 0
    out, err = capsys.readouterr()
    assert "doctor" in out and err == ""
    monkeypatch.setattr(doctor, "PACKAGES", (*doctor.PACKAGES, "no-such-package-at-all"))
    assert doctor.main() == 1
    assert "missing: no-such-package-at-all; make setup" in capsys.readouterr().err


def test_an_optional_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OPTIONAL", {"no-such-package-at-all": "get it [here]"})
    assert dict(doctor.rows())["no-such-package-at-all"] == "missing: get it [here]" and doctor.main() == 0


def test_a_bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = dict(doctor.rows())
    assert lines["g++"].startswith("missing") and lines["gpu"].startswith("none") and lines["MFU"].startswith("n/a")
