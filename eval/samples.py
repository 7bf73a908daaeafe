"""Text that the exported model writes after each prompt: the quickest way to see what it has learnt, in both languages.

A prompt starts a document, so one end token stands before it, as in training. Sampling is our own loop over the
model's cache, because `generate` draws from torch's global generator: with a generator of its own every sample depends
on the seed and its prompt alone. Cost: one small forward pass a token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.bpb import encode, open_model
from eval.config import EvalConfig
from mindllm.config import UserError
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
        model, tokenizer = open_model(config.model)
        found = [continue_prompt(model, tokenizer, prompt, config) for prompt in config.prompts]
        write_json(path, {"settings": {k: v for k, v in settings.items() if k != "prompts"}, "samples": found})
        written = sum(s["num_tokens"] for s in found)
        stage.finish(**{"in": len(found), "out": written, "unit": "prompts -> tokens"})
    print_samples(path)
    return 0


def continue_prompt(model: Any, tokenizer: Any, prompt: str, config: EvalConfig) -> dict[str, Any]:
    """{prompt, text: what follows it, num_tokens: how many were written, ended: whether the model ended the text}."""
    eos = tokenizer.eos_token_id
    start = [eos, *encode([prompt], tokenizer).documents[0].tolist()]
    size = model.config.max_position_embeddings
    if len(start) >= size:
        raise UserError(f"prompts: {prompt[:40]!r} has {len(start)} tokens; the model reads {size}")
    written = continue_tokens(model, start, min(config.max_new_tokens, size - len(start)), eos, config)
    ended = written[-1] == eos
    before = _decode(tokenizer, start[1:])
    text = _decode(tokenizer, start[1:] + written[: len(written) - ended]).removeprefix(before)
    return {"prompt": prompt, "text": text, "num_tokens": len(written), "ended": ended}


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@torch.inference_mode()
def continue_tokens(model: Any, start: list[int], max_new_tokens: int, eos: int, config: EvalConfig) -> list[int]:
    """1 to `max_new_tokens` token ids that follow `start`; the last one is `eos` if the model ended the text."""
    generator = torch.Generator().manual_seed(config.seed)
    written: list[int] = []
    inputs, cache = torch.tensor([start], device=model.device), None
    while len(written) < max_new_tokens and (not written or written[-1] != eos):
        out = model(input_ids=inputs, past_key_values=cache, use_cache=True)
        written.append(draw(out.logits[0, -1], config.temperature, config.top_k, generator))
        inputs, cache = torch.tensor([[written[-1]]], device=model.device), out.past_key_values
    return written


def draw(logits: torch.Tensor, temperature: float, top_k: int, generator: torch.Generator) -> int:
    """A token id from logits (V,): the best at temperature 0, else drawn among the `top_k` best (0: all); CPU, fp64."""
    scores = logits.double().cpu()
    if temperature == 0:
        return int(scores.argmax())
    values, ids = torch.sort(scores, descending=True, stable=True)
    kept = values[: top_k or None] / temperature
    return int(ids[torch.multinomial(torch.softmax(kept, 0), 1, generator=generator)])


def print_samples(path: Path) -> None:
    """Prompts and what the model wrote, as a table."""
    table = Table(title="samples", show_lines=True)
    for column in ("prompt", "continuation"):
        table.add_column(column, overflow="fold")  # Chinese has no blanks to break at
    for sample in read_json(path)["samples"]:
        table.add_row(escape(sample["prompt"]), escape(sample["text"]))
    Console().print(table)
