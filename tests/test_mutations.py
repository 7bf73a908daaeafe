"""Mutated real pages: no cleaner raises, and no text holds what cannot be written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from data_pipeline.cleaners.html import extract_text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import common  # noqa: E402
import mutate  # noqa: E402

SAMPLES = [str(ROOT / "samples" / "web")]


@pytest.fixture(scope="module")
def pages() -> list[common.Page]:
    return common.read_pages(SAMPLES)


@pytest.mark.parametrize("num", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_mutant_breaks_the_extractor(pages: list[common.Page], num: int) -> None:
    for number in range(num):
        page = mutate.mutant(pages, 1, number)
        text = extract_text(page.data)
        assert isinstance(text, str), page.name
        text.encode("utf-8")  # no lone surrogates
        assert not mutate.CONTROLS.search(text), page.name


def test_no_mutant_breaks_a_cleaner(pages: list[common.Page]) -> None:
    cleaners = common.cleaners_of(str(ROOT / "configs" / "data" / "sample.yaml"))
    results = [mutate.clean_page(mutate.mutant(pages, 2, i), i, cleaners) for i in range(150)]
    assert not [r for r in results if r.reason.startswith("error:")]
    assert {bool(r.reason) for r in results} == {True, False}  # some are kept, some are not


def test_mutants_are_a_function_of_the_seed(pages: list[common.Page]) -> None:
    first = [mutate.mutant(pages, 1, i) for i in range(60)]
    assert first == [mutate.mutant(pages, 1, i) for i in range(60)]
    assert first != [mutate.mutant(pages, 2, i) for i in range(60)]
    used = {word for page in first for word in page.name.split()[1:]}
    assert used >= {change.__name__ for change in mutate.MUTATIONS}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "页.html").write_bytes("<html><body><p>河边的柳树发芽了。 The river runs.</p></body></html>".encode())
    monkeypatch.setattr("sys.argv", ["mutate.py", str(tmp_path), "--num", "30"])
    assert mutate.main() == 0
    out = capsys.readouterr().out
    assert "30 mutants" in out and "0 failures" in out
    monkeypatch.setattr("sys.argv", ["mutate.py", str(tmp_path), "--only", "7"])
    assert mutate.main() == 0
    assert "页.html" in capsys.readouterr().out
