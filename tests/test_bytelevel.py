"""Byte-level BPE: every text comes back, cuts change no id, the size is exact, the same text gives the same file."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
import transformers
from byte_bases import ANY_TEXT, PROSE, SCRAPS, TRICKY, base_tokenizer, prose_lines
from hypothesis import given, settings

from mindllm.config import UserError
from mindllm.text import PII_MASKS
from mindllm.tokenizer import Tokenizer
from mindllm.tokenizer.bytelevel import (
    _SPACE,
    ByteLevel,
    Splitting,
    byte_names,
    bytes_of,
    make,
    name_of,
    read_splitting,
    train_byte_level,
    write_byte_level,
)
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.fast import add_special
from mindllm.tokenizer.special import CONTROL, EOS

VOCAB_SIZE = 1500
SCRIPT = """
import sys
from pathlib import Path
from byte_bases import prose_lines
from mindllm.tokenizer.bytelevel import train_byte_level
from mindllm.tokenizer.config import TokenizerConfig
train_byte_level(Path(sys.argv[1]), prose_lines(), TokenizerConfig(kind="byte-level", vocab_size=1500))
"""


def learn(folder: Path, lines: list[str], **changes: object) -> Path:
    """A tokenizer of these lines in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {"vocab_size": VOCAB_SIZE, **changes}
    train_byte_level(folder, iter(lines), TokenizerConfig(kind="byte-level", **given))  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer learned from the samples in both languages."""
    return learn(tmp_path_factory.mktemp("bytes"), prose_lines())


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    """Ours."""
    return Tokenizer(folder)


@pytest.fixture(scope="module")
def uncut(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizers library alone, on whole texts."""
    fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast.encode_special_tokens = True
    return fast


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer that splits as GPT-2 does, so Han runs do not stand alone."""
    path, fast = tmp_path_factory.mktemp("plain"), base_tokenizer()
    add_special(fast, CONTROL, PII_MASKS)
    write_byte_level(path, fast)
    return path


@settings(max_examples=300, deadline=None)
@given(text=ANY_TEXT | SCRAPS)
def test_cuts_change_no_id_and_every_text_comes_back(
    tokenizer: Tokenizer, uncut: tokenizers.Tokenizer, text: str
) -> None:
    ids = tokenizer.encode_batch([text])[0].tolist()
    assert ids == uncut.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text
    assert int(tokenizer.token_bytes[ids].astype(int).sum()) == len(text.encode())


@settings(max_examples=200, deadline=None)
@given(text=ANY_TEXT | SCRAPS)
def test_the_parts_are_the_text_and_each_is_encoded_alone_in_long_texts_and_plain_tokenizers_too(
    folder: Path, plain: Path, text: str
) -> None:
    for model in (_model(folder), _model(plain)):
        for whole in (text, text * 9):
            parts = model.boundary.findall(whole)
            assert "".join(parts) == whole
            assert [i for part in parts for i in model.encode(part)] == model.encode(whole)


@functools.cache
def _model(folder: Path) -> ByteLevel:
    return ByteLevel(folder)


def test_the_samples_and_tricky_lines_as_transformers_reads_them(folder: Path, tokenizer: Tokenizer) -> None:
    twin = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = [path.read_text(encoding="utf-8") for path in sorted(PROSE.rglob("*.md"))]
    lines = prose_lines() + TRICKY + texts[::10]
    ours = [ids.tolist() for ids in tokenizer.encode_batch(lines)]
    assert twin(lines, add_special_tokens=False)["input_ids"] == ours
    assert [tokenizer.decode(ids) for ids in ours] == lines == twin.batch_decode(ours)


def test_size_is_exact_and_more_than_the_text_has_is_refused(
    folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    assert tokenizer.vocab_size == VOCAB_SIZE == len(tokenizer.token_bytes)
    names = ByteLevel(folder).names()
    assert names[:256] == sorted(byte_names()) and names[-len(CONTROL) - len(PII_MASKS) :] == [*CONTROL, *PII_MASKS]
    few = ["the ferry leaves the ferry", "渡船早上七点开渡船", "渡船早上七點開渡船"] * 3
    with pytest.raises(UserError, match=r"vocab_size: 9999 .* use at most (\d+)") as error:
        learn(tmp_path / "large", few, vocab_size=9999)
    limit = int(str(error.value).split()[-1])
    assert not list((tmp_path / "large").iterdir())
    assert Tokenizer(learn(tmp_path / "largest", few, vocab_size=limit)).vocab_size == limit


@pytest.mark.parametrize(("seed", "threads"), [("1", "1"), ("2", "3")])
def test_the_same_lines_give_the_same_bytes_in_every_process(
    folder: Path, tmp_path: Path, seed: str, threads: str
) -> None:
    here = Path(__file__).resolve().parent
    env = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "PYTHONPATH": f"{here}:{here.parent}"}
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], env=env, check=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "token_bytes.npy"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_control_tokens_never_come_from_text_and_masks_are_one_token(tokenizer: Tokenizer) -> None:
    control = {tokenizer.token_id(name) for name in CONTROL}
    for name in CONTROL:
        ids = tokenizer.encode_batch([f"前{name}後 {name}"])[0].tolist()
        assert not control & set(ids) and tokenizer.decode(ids) == f"前{name}後 {name}"
    assert not tokenizer.token_bytes[sorted(control)].any() and tokenizer.decode(sorted(control)) == ""
    for mask in PII_MASKS:
        assert tokenizer.encode_batch([mask])[0].tolist() == [tokenizer.token_id(mask)]
        assert (
            tokenizer.encode_batch([f"电话 {mask}，聯繫{mask}phone"])[0].tolist().count(tokenizer.token_id(mask)) == 2
        )
        assert tokenizer.token_bytes[tokenizer.token_id(mask)] == len(mask)


def test_masks_are_not_learned_from(tmp_path: Path) -> None:
    lines = [f"写信{PII_MASKS[2]}，寫信{PII_MASKS[2]}.", "write to the harbour, the harbour"] * 20
    with pytest.raises(UserError) as error:
        learn(tmp_path, lines)
    learn(tmp_path, lines, vocab_size=int(str(error.value).split()[-1]))
    assert "email" not in {name.strip("Ġ") for name in ByteLevel(tmp_path).names()}


def test_digits_alone_or_not_and_han_never_beside_others(tokenizer: Tokenizer, tmp_path: Path) -> None:
    lines = ["in 2024 and 2024 and 2024，在2024年，於2024年"] * 3
    together = Tokenizer(
        learn(tmp_path, lines, split_digits=False, vocab_size=256 + len(CONTROL) + len(PII_MASKS) + 12)
    )
    assert len(together.encode_batch(["2024"])[0]) < 4 == len(tokenizer.encode_batch(["2024"])[0])
    text = re.compile("[\u4e00-\u9fff].*[^\u4e00-\u9fff]|[^\u4e00-\u9fff].*[\u4e00-\u9fff]")
    for token in _model(tokenizer.folder).token_bytes():
        assert not text.search(token.decode(errors="ignore"))


def test_white_space_is_what_the_library_takes_for_it() -> None:
    """Of all characters that Python or Unicode call white space, and some that look like it."""
    split = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    candidates = [chr(i) for i in range(0x110000) if chr(i).isspace()] + list("\u180e\u200b\u2060\ufeff\u0085\u0000")
    ours = re.compile(f"[{_SPACE}]")
    for c in candidates:
        assert bool(ours.match(c)) == (len(split(f"!{c}{c}!")) > 1), hex(ord(c))


def test_names_of_bytes_are_those_of_the_library() -> None:
    assert sorted(byte_names()) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    text = "".join(map(chr, range(0x250))) + "中國国🙂"
    split = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    assert name_of(text) == "".join(part for part, _ in split)
    assert bytes_of(name_of(bytes(range(256)))) == bytes(range(256))


@pytest.mark.parametrize("splitting", [Splitting(), Splitting(digits=True), Splitting(""), Splitting("", True)])
def test_how_text_is_split_is_read_from_the_file(splitting: Splitting) -> None:
    state = json.loads(make({}, [], splitting).to_str())
    assert read_splitting(state["pre_tokenizer"]) == splitting


STRANGE = [
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    {"type": "Whitespace"},
    {"type": "Sequence", "pretokenizers": []},
    {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(?i:'s)|\\s+"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
    {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
]  # fmt: skip


@pytest.mark.parametrize("state", STRANGE)
def test_tokenizers_that_split_otherwise_are_refused(plain: Path, tmp_path: Path, state: dict[str, object]) -> None:
    assert read_splitting(state) is None
    content = json.loads((plain / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, "pre_tokenizer": state}), encoding="utf-8")
    with pytest.raises(UserError, match="tokenizer.json: does not split text"):
        ByteLevel(tmp_path)


def test_a_damaged_file_is_named(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((plain / "tokenizer.json").read_bytes()[:5000])
    with pytest.raises(RuntimeError, match="tokenizer.json: cannot be read"):
        ByteLevel(tmp_path)
    assert ByteLevel(plain).token_id(EOS) and ByteLevel(plain).token_id("<|tool|>") is None
