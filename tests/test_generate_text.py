"""mindllm.generate on text: what streams is what the whole text is, stop strings, both languages, and the command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_export
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.cli import Verb, main
from mindllm.config import UserError
from mindllm.generate import Settings, Vocabulary, Writer, continue_texts, open_model, open_vocabulary, stream_texts
from mindllm.generate.__main__ import GenerateConfig, run
from mindllm.models import MindLLM, MindLLMConfig
from mindllm.stage import write_json

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = ["春天来了，", "葉子落了", "The river", ""]
CHARACTERS = st.sampled_from("ab 。，的門门龘𠮷é\n")
TEXT = st.text(CHARACTERS, max_size=30) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
STOPS = st.lists(st.text(CHARACTERS, min_size=1, max_size=4), max_size=3)


def cut(data: bytes, seed: int) -> list[bytes]:
    """Bytes cut into tokens anywhere, some of them empty, as control tokens are."""
    places = np.sort(np.random.default_rng(seed).integers(0, len(data) + 1, len(data) // 2))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def write(tokens: Sequence[bytes], stop: Sequence[str]) -> tuple[list[str], Writer]:
    """All pieces of a text that the model ends."""
    writer, pieces = Writer(stop), []
    for token in tokens:
        pieces.append(writer.add(token))
        if writer.stopped:
            return pieces, writer
    return [*pieces, writer.add(b"", last=True)], writer


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The rule again: character by character, until a stop string is complete."""
    for end in range(len(text) + 1):
        complete = [one for one in stop if text[:end].endswith(one)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


@given(TEXT, STOPS, st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_pieces_join_to_the_text_before_the_stop_string(text: str, stop: list[str], seed: int) -> None:
    pieces, writer = write(cut(text.encode(), seed), stop)
    wanted = before_stop(text, stop)
    assert "".join(pieces) == wanted and writer.stopped == (wanted != text)


@given(st.binary(max_size=30) | TEXT.map(str.encode), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_any_bytes_become_what_python_makes_of_them(data: bytes, seed: int) -> None:
    assert "".join(write(cut(data, seed), [])[0]) == data.decode("utf-8", "replace")


@given(TEXT, STOPS)
@settings(max_examples=200, deadline=None)
def test_text_is_given_out_as_soon_as_it_is_certain(text: str, stop: list[str]) -> None:
    """After each byte: all whole characters but the longest end that begins a stop string; never too much."""
    writer, data, given = Writer(stop), text.encode(), ""
    for end in range(1, len(data) + 1):
        given += writer.add(data[end - 1 : end])
        whole = data[:end].decode("utf-8", "ignore")
        if writer.stopped:
            break
        open_ends = [n for n in range(len(whole) + 1) if any(s.startswith(whole[len(whole) - n :]) for s in stop)]
        assert given == whole[: len(whole) - max(open_ends, default=0)]
    assert given == before_stop(text, stop)[: len(given)]


def test_examples_of_stop_strings() -> None:
    cases = [
        ("他说：“好。”\n\n问：", ["\n\n"], "他说：“好。”"),
        ("答案是甲。問：乙", ["問：", "问："], "答案是甲。"),
        ("The answer is 4.\nQ: next", ["\nQ:", "\nA:"], "The answer is 4."),
        ("xabc", ["abc", "b"], "xa"),  # b is complete first
        ("xabc", ["bc", "abc"], "x"),  # both at once: the longer one
        ("aab", ["ab"], "a"),
        ("no stop 没有", ["龘"], "no stop 没有"),
    ]
    for text, stop, wanted in cases:
        for seed in range(5):
            assert "".join(write(cut(text.encode(), seed), stop)[0]) == wanted


def test_half_a_character_that_a_limit_cut_off_is_left_out() -> None:
    for ending in ("𠮷".encode()[:3], "门".encode()[:1]):
        writer = Writer(["龘龘"])
        assert writer.add("好龘".encode() + ending) == "好"
        assert writer.cut_off() == "龘"


# ---- with a model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "export"
    tiny_export.write_export(folder, num_positions=64)
    return folder


@pytest.fixture(scope="module")
def opened(folder: Path) -> tuple[Any, Vocabulary]:
    return open_model(folder)


def scripted(monkeypatch: pytest.MonkeyPatch, vocabulary: Vocabulary, *texts: str) -> None:
    """Models write these texts, in the order of sorted prompt lengths, and end them."""
    rows = [[*map(int, ids), next(iter(vocabulary.ends))] for ids in vocabulary.encode(texts)]
    longest = max(map(len, rows))
    columns = iter(zip(*(row + [0] * (longest - len(row)) for row in rows), strict=True))
    monkeypatch.setattr("mindllm.generate.tokens.best", lambda scores: torch.tensor(next(columns))[: len(scores)])


def test_streams_join_to_the_texts(opened: tuple[Any, Vocabulary]) -> None:
    model, vocabulary = opened
    for how in (
        Settings(temperature=0),
        Settings(temperature=1.5, top_k=0, stop=["的", "e", "\n"]),
        Settings(top_p=0.8),
    ):
        whole = continue_texts(model, vocabulary, PROMPTS, how)
        pieces = list(stream_texts(model, vocabulary, PROMPTS, how))
        for index, found in enumerate(whole):
            own = [piece for piece in pieces if piece.number == index]
            assert "".join(piece.text for piece in own) == found.text and found.prompt == PROMPTS[index]
            assert [bool(piece.reason) for piece in own] == [False] * (len(own) - 1) + [True]
            assert (own[-1].reason, own[-1].num_tokens) == (found.reason, found.num_tokens)
        assert whole == [continue_texts(model, vocabulary, [prompt], how)[0] for prompt in PROMPTS]


def test_text_ends_before_a_stop_string_and_so_does_the_work(
    opened: tuple[Any, Vocabulary], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, vocabulary = opened
    text = "河边的柳树。龘靐\nThe end."
    ids = vocabulary.encode([text])[0]
    for stop, wanted in (("柳树。龘", "河边的"), ("靐\nThe", "河边的柳树。龘"), ("end!", text)):
        scripted(monkeypatch, vocabulary, text)
        found = continue_texts(model, vocabulary, ["春"], Settings(temperature=0, stop=[stop]))[0]
        assert found.text == wanted and found.reason == ("end" if wanted == text else "stop")
        assert (found.num_tokens < len(ids)) == (found.reason == "stop")


def test_no_half_character_is_streamed(opened: tuple[Any, Vocabulary], monkeypatch: pytest.MonkeyPatch) -> None:
    model, vocabulary = opened
    scripted(monkeypatch, vocabulary, "a龘😀b")
    pieces = list(stream_texts(model, vocabulary, ["春"], Settings(temperature=0)))
    assert [piece.text for piece in pieces] == ["a", "龘", "😀", "b", ""]  # three and four tokens each, byte by byte
    assert [piece.num_tokens for piece in pieces] == [1, 4, 8, 9, 10]


def test_a_prompt_begins_a_document(opened: tuple[Any, Vocabulary], monkeypatch: pytest.MonkeyPatch) -> None:
    model, vocabulary = opened
    read: list[list[int]] = []
    hidden = type(model).hidden_states

    def spy(self: Any, ids: torch.Tensor, *others: Any) -> Any:
        read.extend(ids.tolist())
        return hidden(self, ids, *others)

    monkeypatch.setattr(type(model), "hidden_states", spy)
    continue_texts(model, vocabulary, ["春天"], Settings(max_new_tokens=1))
    assert read == [[1, *vocabulary.encode(["春天"])[0].tolist()]] and vocabulary.start == 1


def test_a_prompt_that_leaves_no_room(opened: tuple[Any, Vocabulary]) -> None:
    with pytest.raises(UserError, match="'山山山.*tokens; the model reads 64"):
        next(stream_texts(*opened, ["fine", "山" * 99], Settings()))


# ---- folders


def test_special_ids_of_folders(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shape = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "generation_config.json").unlink()
    write_json(copy / "config.json", {**shape, "bos_token_id": 5, "eos_token_id": [1, 4]})
    found = open_vocabulary(copy)
    assert (found.start, found.ends) == (5, {1, 4})
    write_json(copy / "generation_config.json", {"eos_token_id": 7, "temperature": 3})
    assert open_vocabulary(copy).ends == {7}
    for strange in (None, 5000, "1", True, []):
        write_json(copy / "generation_config.json", {})
        write_json(copy / "config.json", {**shape, "eos_token_id": strange, "bos_token_id": None})
        with pytest.raises(UserError, match="eos_token_id"):
            open_vocabulary(copy)
    (copy / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        open_vocabulary(copy)


def test_a_folder_of_others(tmp_path: Path) -> None:
    """GPT-Neo with GPT-2's kind of tokenizer, which knows nothing of ours."""
    import tokenizers

    shape = transformers.GPTNeoConfig(
        vocab_size=300, hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]],
        max_position_embeddings=40, window_size=4, bos_token_id=256, eos_token_id=256,
    )  # fmt: skip
    transformers.GPTNeoForCausalLM(shape).save_pretrained(tmp_path)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    fast = tokenizers.Tokenizer(tokenizers.models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    fast.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = tokenizers.decoders.ByteLevel()
    fast.add_special_tokens(["<|endoftext|>"])
    fast.save(str(tmp_path / "tokenizer.json"))
    model, vocabulary = open_model(tmp_path)
    assert (vocabulary.start, vocabulary.ends, len(vocabulary.tokens)) == (256, {256}, 257)
    found = continue_texts(model, vocabulary, ["春 spring"], Settings(max_new_tokens=10, temperature=2.0, top_k=0))[0]
    assert found.num_tokens <= 10 and not found.text.endswith("\ufffd\ufffd\ufffd\ufffd")


def test_model_and_tokenizer_must_fit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_model(tmp_path / "nothing")
    small = MindLLM(MindLLMConfig(vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1))
    monkeypatch.setattr("mindllm.generate.text.load_model", lambda _: small)
    with pytest.raises(UserError, match="the model has 50 tokens, its tokenizer 360"):
        open_model(folder)


# ---- the command


def command(capsys: pytest.CaptureFixture[str], folder: Path, config: Path, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main("python -m mindllm.generate", Verb(GenerateConfig, run), [str(config), f"model={folder}", *words])
    return code, *capsys.readouterr()


def test_command(
    folder: Path, opened: tuple[Any, Vocabulary], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "generate.yaml"
    config.write_text("temperature: 0\nmax_new_tokens: 6\n", encoding="utf-8")
    prompt = '他说："it\'s, {a: 1}" = 50%，葉子 [x] #1'
    wanted = continue_texts(*opened, [prompt], Settings(temperature=0, max_new_tokens=6))[0]
    for stream in ("true", "false"):
        code, out, err = command(capsys, folder, config, f"prompt={prompt}", f"stream={stream}")
        assert (code, out) == (0, prompt + wanted.text + "\n")
        assert err == f"[{wanted.num_tokens} tokens; max_new_tokens]\n"
    code, out, err = command(capsys, folder, config, 'prompts=[春天, "a, b"]')
    assert code == 0 and out.startswith("春天") and "\n\na, b" in out and err.count("tokens;") == 2
    assert command(capsys, folder, config)[0] == 0  # no prompt: a text from its beginning
    code, _, err = command(capsys, folder, config, "prompt=a", "prompts=[b]", "top_p=2")
    assert code == 2 and "not both" in err and "top_p" in err
    code, _, err = command(capsys, folder, config, "prompt=a\udce4")
    assert code == 2 and "is no UTF-8 text" in err
    assert command(capsys, folder, config, f"prompt={'山' * 200}")[0] == 2


def test_bfloat16(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "generate.yaml").write_text("dtype: bfloat16\n", encoding="utf-8")
    assert command(capsys, folder, tmp_path / "generate.yaml", "prompt=天", "max_new_tokens=3")[0] == 0


def test_a_terminal_gets_no_control_characters(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from mindllm.generate import __main__ as module

    text = "\x1b]0;title\x07 天\n\t\x7f\x9b31m \r"
    module._show(text)
    assert capsys.readouterr().out == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    module._show(text)
    assert capsys.readouterr().out == "␛]0;title␇ 天\n\t␡\ufffd31m ␍"


def test_module_can_be_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"model: {folder}\nmax_new_tokens: 3\n", encoding="utf-8")
    words = [sys.executable, "-m", "mindllm.generate", str(tmp_path / "c.yaml"), 'prompt=春天\'s "a,b"']
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0 and done.stdout.startswith('春天\'s "a,b"') and "tokens;" in done.stderr


def test_what_is_no_complete_model_folder_is_said_plainly(tmp_path: Path) -> None:
    for name in (tmp_path / "gone", "tiktoken:gpt2"):
        with pytest.raises(UserError, match=r"no such folder; .* mindllm\.export"):
            open_model(name)
    tiny_export.write_export(tmp_path / "half")
    (tmp_path / "half" / "meta.json").rename(tmp_path / "half" / "plan.json")
    with pytest.raises(UserError, match="not complete"):
        open_model(tmp_path / "half")


def test_a_prompt_without_room_is_an_error_before_anything_is_shown(tmp_path: Path, capsys: Any) -> None:
    tiny_export.write_export(tmp_path, num_positions=8)
    with pytest.raises(UserError, match="the model reads 8"):
        run(GenerateConfig(model=str(tmp_path), prompt="很長 long " * 20))
    assert capsys.readouterr().out == ""
