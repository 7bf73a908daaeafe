"""python -m mindllm.generate CONFIG prompt="...": what a model writes after a text, on the terminal.

One prompt is continued before your eyes, several are printed when all are done. The text goes to stdout as it is, with
control characters made visible where that is a terminal; how many tokens, and why there are no more, goes to stderr.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mindllm.cli import Verb, main
from mindllm.generate.sampling import Settings
from mindllm.generate.text import Piece, continue_texts, open_model, stream_texts

_REASONS = {
    "end": "the model ended the text",
    "stop": "a stop string came",
    "max_new_tokens": "max_new_tokens",
    "context": "the model reads no more: max_position_embeddings",
}


@dataclass
class GenerateConfig(Settings):
    """What to continue, with which model.

    model: an exported folder, or any Hugging Face folder of a class that mindllm/hf loads.  prompt, prompts: one text,
    or several; neither: a text from its beginning.  stream: print one prompt's text as it is written.
    dtype: of the weights.  max_new_tokens: at most so many a prompt.  temperature: 0: always the best token.
    top_k: drawn among so many (and their equals); 0: all.  top_p: drawn among the most probable that together reach
    this; 1: all.  repetition_penalty: against tokens that were there before; 1: off.  stop: a text ends before the
    first of these.  seed: of the draws.  batch_size: prompts at a time.
    """

    run: str = "runs/demo"
    model: str = "{run}/export"
    prompt: str = ""
    prompts: list[str] = field(default_factory=list)
    stream: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        yield from super().problems()
        if self.prompt and self.prompts:
            yield "prompt: give one prompt, or prompts; not both"
        for text in (self.prompt, *self.prompts, *self.stop):
            try:
                text.encode()
            except UnicodeEncodeError:
                yield f"{text[:40]!r}: is no UTF-8 text"


def run(config: GenerateConfig) -> int:
    """Continue a text, or several."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    try:
        return _run(config)
    except BrokenPipeError:  # whoever reads has seen enough; what is left in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(config: GenerateConfig) -> int:
    model, vocabulary = open_model(config.model, config.dtype)
    prompts = config.prompts or [config.prompt]
    if len(prompts) == 1 and config.stream:
        pieces = stream_texts(model, vocabulary, prompts, config)
        _show(prompts[0])
        for piece in pieces:
            _show(piece.text)
        _end(piece)
        return 0
    for number, found in enumerate(continue_texts(model, vocabulary, prompts, config)):
        _show(("\n" if number else "") + found.prompt + found.text)
        _end(Piece(number, "", found.num_tokens, found.reason))
    return 0


def _show(text: str) -> None:
    """Text to stdout. A terminal obeys control characters, so it gets pictures of them."""
    if sys.stdout.isatty():
        text = "".join(_picture(c) for c in text)
    print(text, end="", flush=True)


def _picture(c: str) -> str:
    code = ord(c)
    if code < 32 and c not in "\n\t":
        return chr(0x2400 + code)
    return "\u2421" if code == 127 else "\ufffd" if 128 <= code < 160 else c


def _end(last: Piece) -> None:
    print(flush=True)
    print(f"[{last.num_tokens} tokens; {_REASONS[last.reason]}]", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main("python -m mindllm.generate", Verb(GenerateConfig, run)))
