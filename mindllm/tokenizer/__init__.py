"""Tokenizers: learned from clean text, used everywhere, and exported for Hugging Face."""

from mindllm.tokenizer.encode import Tokenizer as Tokenizer
from mindllm.tokenizer.encode import load_tokenizer as load_tokenizer
