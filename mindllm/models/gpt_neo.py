"""GPT-Neo (stand-in: being written)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mindllm.models.base import LanguageModel


@dataclass
class GPTNeoConfig:
    """Shape of the decoder, in Hugging Face's spelling; the defaults are GPT-Neo-1.3B's.

    vocab_size 0: the tokenizer's, rounded up to a multiple of vocab_multiple (an export leaves the empty rows out).
    intermediate_size 0: 4 x hidden_size.  attention_types: of the first layers, repeated over all of them.
    window_size: keys that a query sees in a local layer, itself included.
    """

    model_type: Literal["gpt_neo"] = "gpt_neo"
    vocab_size: int = 0
    vocab_multiple: int = 1
    hidden_size: int = 2048
    num_layers: int = 24
    num_heads: int = 16
    intermediate_size: int = 0
    attention_types: list[Literal["global", "local"]] = field(default_factory=lambda: ["global", "local"])
    window_size: int = 256
    max_position_embeddings: int = 2048
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02

    def problems(self) -> Iterator[str]:
        """What cannot be built, a line each."""
        yield from ()

    @property
    def num_hidden_layers(self) -> int:
        """The name that other families use."""
        return self.num_layers


class GPTNeo(LanguageModel):
    """The language model: see LanguageModel for what it can be asked."""

    def __init__(self, config: GPTNeoConfig):
        super().__init__()
        self.config = config
