"""The chat template, through transformers: the released form, with role tokens where the tokenizer has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import transformers
from byte_bases import prose_lines
from tiny_export import write_tokenizer

from mindllm.config import UserError
from mindllm.hf.chat import chat_template
from mindllm.tokenizer import load_tokenizer
from mindllm.tokenizer.bytelevel import train_byte_level
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.special import EOS

TALK = [
    {"role": "user", "content": "船什么时候开？"},
    {"role": "assistant", "content": "早上七点。"},
    {"role": "user", "content": "And when does it come back?"},
    {"role": "assistant", "content": "At noon."},
    {"role": "user", "content": "謝謝！\n再見"},
]
EXPECTED = (
    f"{EOS}<user>\n船什么时候开？\n<assistant>\n早上七点。"
    f"{EOS}<user>\nAnd when does it come back?\n<assistant>\nAt noon."
    f"{EOS}<user>\n謝謝！\n再見\n"
)
WITH_TOKENS = EXPECTED.replace("<user>", "<|user|>").replace("<assistant>", "<|assistant|>")


class NoRoles:
    """A tokenizer that has no role tokens."""

    def token_id(self, token: str) -> int:
        raise UserError(f"no {token}")


@pytest.fixture(scope="module", params=["no role tokens", "sentencepiece", "byte-level"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str, Path]:
    """(transformers' tokenizer with our template, what TALK is with it, the folder)."""
    folder = tmp_path_factory.mktemp("chat")
    if request.param == "byte-level":
        train_byte_level(folder, prose_lines(), TokenizerConfig(kind="byte-level", vocab_size=600))
    else:
        write_tokenizer(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    known: Any = NoRoles() if request.param == "no role tokens" else load_tokenizer(folder)
    tokenizer.chat_template = chat_template(known)
    tokenizer.save_pretrained(folder)
    again = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return again, EXPECTED if request.param == "no role tokens" else WITH_TOKENS, folder


def test_a_conversation(opened: tuple[Any, str, Path]) -> None:
    tokenizer, expected, _ = opened
    assert tokenizer.apply_chat_template(TALK, tokenize=False) == expected
    answer = "<|assistant|>\n" if "<|user|>" in expected else "<assistant>\n"
    assert tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True) == expected + answer
    first = expected[: expected.index(EOS, 1) + len(EOS)]
    assert tokenizer.apply_chat_template(TALK[:2], tokenize=False) == first  # the released form of one exchange
    system = [{"role": "system", "content": "你是助手。"}, *TALK[:1]]
    tag = "<|system|>" if "<|user|>" in expected else "<system>"
    assert tokenizer.apply_chat_template(system, tokenize=False).startswith(f"{EOS}{tag}\n你是助手。\n<")


def test_its_tokens(opened: tuple[Any, str, Path]) -> None:
    tokenizer, expected, folder = opened
    ids = tokenizer.apply_chat_template(TALK, return_dict=False)
    assert ids == tokenizer.encode(expected, add_special_tokens=False) and tokenizer.decode(ids) == expected
    ours = load_tokenizer(folder)
    assert ids[0] == ours.eos_id and ids.count(ours.eos_id) == 3
    if "<|user|>" in expected:
        assert ids.count(ours.token_id("<|user|>")) == 3 and ids[1] == ours.token_id("<|user|>")


def test_another_role_is_an_error(opened: tuple[Any, str, Path]) -> None:
    tokenizer, _, _ = opened
    with pytest.raises(jinja2.exceptions.TemplateError, match="no such role: tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "1"}], tokenize=False)
