"""A tokenizer, token shards and an exported random Llama, small enough to be made anew in a test."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece as spm
import torch
import transformers

from eval.config import EvalConfig
from mindllm.config import load
from mindllm.shards import ShardWriter
from mindllm.stage import write_json
from mindllm.tokenizer import Tokenizer
from mindllm.tokenizer.fast import write_twin
from mindllm.tokenizer.special import EOS, MASKS, PAD, ROLES, SPARE, UNK

CHINESE = [
    "春天来了，河边的柳树发芽了。",
    "秋天的風很涼，葉子落了一地。",
    "老人坐在门口，慢慢地喝茶。",
    "海上的船越走越遠。",
]
ENGLISH = ["The river runs past the old mill.", "A small boat lies in the harbour.", "The rain stopped before noon."]
TEXTS = [f"{a}\n{b}" for a in CHINESE for b in ENGLISH] + CHINESE + ENGLISH


def write_tokenizer(folder: Path) -> Tokenizer:
    """Train a small SentencePiece model with byte fallback and write it as the tokenizer stage does."""
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(CHINESE + ENGLISH),
        model_writer=model,
        model_type="bpe",
        vocab_size=360,
        normalization_rule_name="identity",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        unk_id=0,
        eos_id=1,
        pad_id=2,
        bos_id=-1,
        unk_piece=UNK,
        eos_piece=EOS,
        pad_piece=PAD,
        control_symbols=[*ROLES, *SPARE],
        user_defined_symbols=[*MASKS, "\n"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    write_twin(folder)
    return Tokenizer(folder)


def write_export(folder: Path, num_positions: int = 32) -> transformers.PreTrainedModel:
    """A random Llama with its tokenizer, as the export stage leaves it (meta.json holds a hash)."""
    tokenizer = write_tokenizer(folder)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=num_positions,
        eos_token_id=tokenizer.eos_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_id,
        initializer_range=0.5,  # far from uniform, so that mistakes show in the numbers
    )
    state = torch.get_rng_state()
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(config).eval()
    torch.set_rng_state(state)
    model.save_pretrained(folder)
    write_json(folder / "meta.json", {"hash": "0123456789abcdef", "counts": {"in": 1, "out": 1, "unit": "models"}})
    return model


def write_shards(folder: Path, tokenizer: Tokenizer, documents: dict[str, list[str]]) -> None:
    """Token shards of texts by "source/split", and the meta.json of the stage."""
    for name, texts in documents.items():
        writer = ShardWriter(folder / name, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.fingerprint)
        for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
            writer.add(np.array(ids), len(text.encode()))
        writer.finish()
    write_json(folder / "meta.json", {"hash": "fedcba9876543210"})


def eval_config(run: Path, **changes: Any) -> EvalConfig:
    """The defaults for a run folder, as the command line would load them, with some fields changed."""
    return replace(load(EvalConfig, None, [f"run={run}"]), **changes)
