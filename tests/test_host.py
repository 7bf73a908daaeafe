"""What the processor says of itself, and that training in emulated bf16 is called slow."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mindllm import host, pretrain

INTEL = "processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\nbugs : none\n"
ARM = "processor : 0\nFeatures\t: fp asimd bf16 i8mm\n"
PLAIN = "processor : 0\nmodel name : a bf16 processor\nflags\t\t: fpu avx2 avx512f\n"


@pytest.mark.parametrize(("text", "found"), [(INTEL, True), (ARM, True), (PLAIN, False), ("", False), (None, False)])
def test_flags(text: str | None, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert host.has_bf16() is found


@pytest.mark.parametrize("case", ["bf16 emulated 1", "bf16 hardware 0", "fp32 emulated 0"])
def test_emulated_products_are_named(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    precision, products, warned = case.split()
    monkeypatch.setattr(pretrain, "has_bf16", lambda: products == "hardware")
    train = SimpleNamespace(precision=precision, batch_size=1, steps=1, zero_stage=0)
    pretrain._print_start(SimpleNamespace(train=train, seq_len=8), 1, 1, torch.device("cpu"))  # type: ignore[arg-type]
    assert capsys.readouterr().out.count("set train.precision=fp32") == int(warned)
