"""The chat template of an export: a conversation as text, in the form of the released MindLLM-1.3B.

One exchange is `<|endoftext|><user>\\n{question}\\n<assistant>\\n{answer}<|endoftext|>`, with the role tokens of our
tokenizers (<|user|>, one token each) where the tokenizer has them. Further exchanges follow after the end token of the
last; a system message stands before the first question as `<|system|>\\n{text}\\n`. Content is put in as it is.
"""

from __future__ import annotations

from mindllm.config import UserError
from mindllm.tokenizer import Tokenizer
from mindllm.tokenizer.special import ROLES

_NAMES = ("system", "user", "assistant")


def chat_template(tokenizer: Tokenizer) -> str:
    """A Jinja template for tokenizer.apply_chat_template(messages, add_generation_prompt=...)."""
    tokens = dict(zip(_NAMES, ROLES, strict=False))
    if not all(_has(tokenizer, token) for token in tokens.values()):
        tokens = {name: f"<{name}>" for name in _NAMES}  # text of several tokens, as in the released model
    system, user, assistant = (f"'{tokens[name]}\\n'" for name in _NAMES)
    return (
        "{{- eos_token -}}{%- for message in messages -%}"
        "{%- if message['role'] == 'assistant' -%}{{- " + assistant + " + message['content'] + eos_token -}}"
        "{%- elif message['role'] == 'user' -%}{{- " + user + " + message['content'] + '\\n' -}}"
        "{%- elif message['role'] == 'system' -%}{{- " + system + " + message['content'] + '\\n' -}}"
        "{%- else -%}{{- raise_exception('no such role: ' + message['role']) -}}{%- endif -%}"
        "{%- endfor -%}{%- if add_generation_prompt -%}{{- " + assistant + " -}}{%- endif -%}"
    )


def _has(tokenizer: Tokenizer, token: str) -> bool:
    try:
        return tokenizer.token_id(token) >= 0
    except UserError:
        return False
