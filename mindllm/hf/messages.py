"""A user's message as token ids, in the chat template that an exported folder's tokenizer brings.

The whole conversation is encoded at once, as the model has learnt it. Where that would make a control token of a part
of the message, the message is encoded by itself, as text, and what the tokenizer merges to one all the same (Llama 2's
does so with </s>) is left out: so a message cannot end itself and begin another. Templates run in transformers'
sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

from mindllm.config import UserError

_MARK = "6b1f0c4e-the-message"


def open_messages(folder: str | Path) -> Callable[[str], list[int]]:
    """Text to the ids of a conversation that ends where the answer begins.

    Raises UserError for a folder without a chat template, or with one that does not put the text in once, as it is.
    """
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not tokenizer.chat_template:
        raise UserError(f"{folder}: its tokenizer has no chat template; set chat to false for text that goes on")
    conversation = [{"role": "user", "content": _MARK}]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    before, *after = text.split(_MARK)
    if len(after) != 1:
        raise UserError(f"{folder}: its chat template does not put a message in exactly once")
    control = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}

    def ids_of(part: str, **options: bool) -> list[int]:
        found: list[int] = tokenizer(part, add_special_tokens=False, verbose=False, **options)["input_ids"]
        return found

    head, tail = ids_of(before), ids_of(after[0])
    frame = [i for i in (*head, *tail) if i in control]

    def encode(message: str) -> list[int]:
        ids = ids_of(f"{before}{message}{after[0]}")
        if [i for i in ids if i in control] == frame:
            return ids
        return [*head, *(i for i in ids_of(message, split_special_tokens=True) if i not in control), *tail]

    return encode
