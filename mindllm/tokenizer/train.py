"""Verb train: learn a tokenizer from clean text, and write it for us and for Hugging Face."""

from __future__ import annotations

from mindllm.stage import Stage, atomic, require
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.fast import write_twin
from mindllm.tokenizer.pieces import MODEL_FILE, train_model
from mindllm.tokenizer.sample import draw


def train(config: TokenizerConfig) -> int:
    """Learn a tokenizer from clean text, and write it for us and for Hugging Face."""
    before = require(config.documents, "python -m data_pipeline refine CONFIG")
    settings = {k: getattr(config, k) for k in ("kind", "base", "new_tokens", "vocab_size", "sample_bytes",
                                                "character_coverage", "split_digits", "seed")}  # fmt: skip
    stage = Stage(config.out, "tokenizer", settings, {"documents": before["hash"]})
    if not stage.start(config.force):
        return 0
    lines, chosen = draw(config)
    print(f"tokenizer: learning {config.vocab_size} pieces from {chosen / 1e6:.1f} MB, about "
          f"{0.1 + chosen * 22e-9:.1f} GB of memory and {1 + chosen * 0.3e-6:.0f} s", flush=True)  # fmt: skip
    with atomic(stage.folder / MODEL_FILE) as path:
        path.write_bytes(
            train_model(lines, config.vocab_size, config.character_coverage, split_digits=config.split_digits)
        )
    write_twin(stage.folder)
    stage.finish(**{"in": chosen, "out": config.vocab_size, "unit": "bytes -> pieces"})
    return 0
