"""The special tokens, the same in every tokenizer: control tokens that text never yields, and the masks that it holds.

Control tokens are document end, padding, unknown (never used: every byte has a token), chat roles and spare ones for
later. The PII masks are ordinary text to everyone but are one token each; in SentencePiece so is a line break.
"""

from __future__ import annotations

from mindllm.text import PII_MASKS as MASKS

EOS, PAD, UNK = "<|endoftext|>", "<|pad|>", "<|unknown|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SPARE = tuple(f"<|spare_{i}|>" for i in range(8))
CONTROL = (EOS, PAD, *ROLES, *SPARE)  # what a tokenizer must have; SentencePiece has UNK, too
NUM_BYTES = 256

__all__ = ["CONTROL", "EOS", "MASKS", "NUM_BYTES", "PAD", "ROLES", "SPARE", "UNK"]
