"""The end of a run: what its lines add up to, its table of sources, its warning."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from mindllm.metrics.summary import closing_lines, short_validation, source_table, totals

VALUES = {"valid_loss": 2.5, "valid_bpb": 1.25,
          "valid_bpb/web-en": 1.5, "valid_bpb/网页": 1.0, "valid_bpb/[b]書": 1.1,
          "valid_bpb_lang/en": 1.5, "valid_bpb_lang/zh": 1.05,
          "epochs/web-en": 0.5, "epochs/only-train": 2.25}  # fmt: skip


def drawn(values: dict[str, float], width: int = 80) -> str:
    out = io.StringIO()
    table = source_table(values, 40)
    assert table is not None
    Console(file=out, width=width).print(table)
    return out.getvalue()


def line(step: int, rate: float, **others: Any) -> dict[str, Any]:
    return {"step": step, "tokens": 100 * step, "tokens_per_second": rate, "data_wait": 0.01, **others}


def test_totals_add_up_seconds() -> None:
    """Three steps of 100 tokens in 1, 2 and 4 s."""
    lines = [
        line(1, 100.0, mfu=0.4), line(2, 50.0, mfu=0.2), {"step": 2, "valid_loss": 1.0, "valid_seconds": 3.0},
        {"step": 2, "save_stall": 0.5, "save_seconds": 9.0}, line(3, 25.0, mfu=0.1),
        {"step": 3, "sample_seconds": 2.0}, {"step": 3, "save_stall": 0.25},
    ]  # fmt: skip
    found = totals(lines)
    assert found is not None
    assert found == (3, 300, 7.0, 50.0, 0.2, pytest.approx(0.07), 0.75, 3.0, 2.0)
    (only,) = closing_lines(found)  # 1.0 % is not more than 1 %
    assert only == (
        "train: 3 steps, 300 tokens in 13 s | median 50 tokens/s, MFU 20.0% | waiting for data 1.00% | "
        "saving 1 s, validating 3 s, generating texts 2 s"
    )


def test_a_run_that_waited_is_warned() -> None:
    found = totals([line(1, 100.0), line(2, 100.0) | {"data_wait": 0.02}])
    assert found is not None and found.mfu is None
    text, warning = closing_lines(found)
    assert "MFU n/a | waiting for data 1.50%" in text
    assert "WARNING: 1.5% of the time was spent waiting for data, more than 1%: raise train.prefetch" in warning


def test_nothing_comes_of_nothing() -> None:
    assert totals([]) is None and totals([{"step": 0, "valid_loss": 1.0}]) is None
    old = totals([{"step": 1, "tokens": 100, "tokens_per_second": 10.0}])  # as older runs wrote them
    assert old is not None and old.training == 10 and old.waiting == 0


def test_a_validation_in_a_line() -> None:
    assert short_validation(VALUES) == "valid_loss 2.5000 | valid_bpb 1.2500 | en 1.5000 | zh 1.0500 | 3 sources"
    assert short_validation({"accuracy": 0.5}) == "accuracy 0.5000"


def test_the_table_has_every_source() -> None:
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in drawn(VALUES).splitlines() if "│" in row]
    assert rows == [
        ["web-en", "1.5000", "0.50"], ["网页", "1.0000", "-"], ["[b]書", "1.1000", "-"], ["only-train", "-", "2.25"],
        ["language en", "1.5000", ""], ["language zh", "1.0500", ""], ["all", "1.2500", ""],
    ]  # fmt: skip
    assert "validation after step 40" in drawn(VALUES)


def test_long_names_are_folded_not_cut() -> None:
    name = "a-very-long-source-name-" * 5
    assert (
        drawn({f"valid_bpb/{name}": 1.0}, 60).replace("│", "").replace(" ", "").replace("\n", "").count("very-long")
        >= 4
    )


def test_no_sources_no_table() -> None:
    assert source_table({"valid_loss": 1.0}, 3) is None
