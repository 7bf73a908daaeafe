"""Run folders for the tests of the page about runs, written without a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EVIL = "</script><script>alert('茶')</script>"
SOURCES = ("web-en", "百科-zh", "臺灣-wiki")
CONFIG = """\
run: runs/demo
phases:
- weights: {{}}
  until_step: 6
- weights: {{'*-zh': 0.5}}
  until_step: null
train:
  steps: {steps}
  learning_rate: {lr}
  betas: [0.9, 0.95]
"""


def step_line(step: int, **more: Any) -> dict[str, Any]:
    """A line of a step of 1,000 tokens that took 2 s, of which 1 % was waiting."""
    return {
        "step": step, "loss": 9.0 - step / 4, "lr": 1e-3 / step, "grad_norm": 0.5, "tokens": 1000 * step,
        "tokens_per_second": 500.0, "data_wait": 0.01, "memory_gib": 1.5, **more,
    }  # fmt: skip


def valid_line(step: int) -> dict[str, Any]:
    bits = {f"valid_bpb/{name}": 2.0 + number - step / 100 for number, name in enumerate(SOURCES)}
    languages = {"valid_bpb_lang/en": 2.0, "valid_bpb_lang/zh-Hans": 2.25, "valid_bpb_lang/zh-Hant": 2.5}
    epochs = {f"epochs/{name}": step / 8 for name in SOURCES}
    return {"step": step, "valid_loss": 8.0 - step / 8, "valid_bpb": 3.0, **bits, **languages, **epochs}


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def write_run(folder: Path, done: int = 8, steps: int = 8, lr: float = 1e-3, texts: bool = True) -> Path:
    """A run that validated and saved every fourth step."""
    lines: list[dict[str, Any]] = []
    for step in range(1, done + 1):
        lines.append(step_line(step))
        if step % 4 == 0:
            lines += [{**valid_line(step), "valid_seconds": 3.0}, {"step": step, "save_stall": 1.0}]
    write_lines(folder / "metrics.jsonl", lines)
    (folder / "config.yaml").write_text(CONFIG.format(steps=steps, lr=lr), encoding="utf-8")
    row = {"languages": {}, "documents": 1, "tokens": 9, "share": 1 / 3, "served_tokens": 2_500_000, "epochs": 1.25}
    table = [{"source": name, "phase": phase, **row} for phase in ("", "phases.0") for name in SOURCES]
    record = {"num_steps": steps, "phases": [{"from_step": 0}, {"from_step": 6}]}
    accepted = [{"step": 4, "differences": ["a -> b"]}]
    (folder / "mixture.json").write_text(json.dumps({"record": record, "table": table, "accepted": accepted}))
    if texts:
        found = (
            ("The old lighthouse", f" stood. {EVIL}"),
            ("从前有一座山", "，山上有一座庙。"),
            ("臺灣的夏天", "很熱。"),
        )
        write_lines(
            folder / "samples.jsonl",
            [
                {"step": s, "tokens": s, "prompt": p, "text": f"{t} {s}"}
                for s in range(4, done + 1, 4)
                for p, t in found
            ],
        )
    if done == steps:
        (folder / "meta.json").write_text("{}")
    return folder
