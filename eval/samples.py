"""Text that the exported model writes after each prompt: the quickest way to see what it has learnt, in both languages.

mindllm.generate writes it, so every sample depends on the seed and its prompt alone. Cost: one small forward pass a
token, `batch_size` prompts at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.config import EvalConfig
from mindllm.config import UserError
from mindllm.generate import Settings, continue_texts, open_model
from mindllm.stage import Stage, read_json, require, write_json


def samples(config: EvalConfig) -> int:
    """Continue each prompt with the exported model."""
    if not config.prompts:
        raise UserError("prompts: name at least one text to continue")
    export = require(config.model, "python -m mindllm.export CONFIG")
    settings = {k: getattr(config, k) for k in ("prompts", "max_new_tokens", "temperature", "top_k", "seed")}
    stage = Stage(config.folder("samples"), "samples", settings, {"export": export["hash"]})
    path = stage.folder / "samples.json"
    if stage.start(config.force):
        found = continue_prompts(config)
        write_json(path, {"settings": {k: v for k, v in settings.items() if k != "prompts"}, "samples": found})
        written = sum(s["num_tokens"] for s in found)
        stage.finish(**{"in": len(found), "out": written, "unit": "prompts -> tokens"})
    print_samples(path)
    return 0


def continue_prompts(config: EvalConfig) -> list[dict[str, Any]]:
    """Of each prompt {prompt, text: what follows it, num_tokens: how many were drawn, ended: whether by the model}."""
    settings = Settings(
        max_new_tokens=config.max_new_tokens, temperature=config.temperature, top_k=config.top_k, seed=config.seed,
        batch_size=config.batch_size,
    )  # fmt: skip
    if problems := list(settings.problems()):
        raise UserError("\n".join(problems))
    model, vocabulary = open_model(config.model)
    return [
        {"prompt": found.prompt, "text": found.text, "num_tokens": found.num_tokens, "ended": found.reason == "end"}
        for found in continue_texts(model, vocabulary, config.prompts, settings)
    ]


def print_samples(path: Path) -> None:
    """Prompts and what the model wrote, as a table."""
    table = Table(title="samples", show_lines=True)
    for column in ("prompt", "continuation"):
        table.add_column(column, overflow="fold")  # Chinese has no blanks to break at
    for sample in read_json(path)["samples"]:
        table.add_row(escape(sample["prompt"]), escape(sample["text"]))
    Console().print(table)
