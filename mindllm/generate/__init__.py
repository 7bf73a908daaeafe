"""Text from a model: tokens drawn one by one over a KV cache (`generate`), and text from text (`continue_texts`)."""

from mindllm.generate.sampling import Settings
from mindllm.generate.text import Continuation, Piece, Writer, continue_texts, open_model, stream_texts
from mindllm.generate.tokens import Drawn, Written, draw_tokens, generate
from mindllm.generate.vocabulary import Vocabulary, open_vocabulary

__all__ = [
    "Continuation", "Drawn", "Piece", "Settings", "Vocabulary", "Writer", "Written", "continue_texts", "draw_tokens",
    "generate", "open_model", "open_vocabulary", "stream_texts",
]  # fmt: skip
