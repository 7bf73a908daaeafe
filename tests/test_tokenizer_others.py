"""mindllm.tokenizer.others: every kind of tokenizer opens, its tokens' bytes spell the text, damaged ones are named."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tiktoken.load
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from mindllm.config import UserError
from mindllm.tokenizer.bytelevel import byte_names
from mindllm.tokenizer.fast import write_twin
from mindllm.tokenizer.others import Absent, Opened, from_tiktoken, open_tokenizer
from mindllm.tokenizer.pieces import train_model
from mindllm.tokenizer.special import CONTROL, MASKS

LINES = [
    "The ferry leaves at seven and comes back at noon, if the wind allows it.",
    "渡船早上七点开，风小的时候中午回来。门开着就进来。",
    "渡船早上七點開，風小的時候中午回來。門開著就進來。",
    f"    print(i, 'and', i * 12)\t# {MASKS[1]}",
]
TEXTS = [*LINES, "", " two  blanks \n\n", "龘 𠮷野家 \U0001f600 e\u0301\r\n<|endoftext|>", "<0xE4>"]
KINDS = ("ours", "sentencepiece", "fast", "gpt2", "wide", "tiktoken")


def byte_level() -> tokenizers.Tokenizer:
    """A small byte-level BPE as GPT-2's, learned from LINES."""
    fast = tokenizers.Tokenizer(models.BPE())
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet, names = sorted(byte_names()), ["<|endoftext|>"]
    fast.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=names)
    )
    return fast


def metaspace() -> tokenizers.Tokenizer:
    """A BPE over characters with bytes for unknown ones, blanks written as U+2581, as SentencePiece's twins have it."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for name in ("<unk>", "▁", "t", "h", "e", "th", "the", "▁the", "渡", "船", "渡船"):
        vocab[name] = len(vocab)
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("渡", "船")]
    fast = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=False))
    fast.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    fast.decoder = decoders.Sequence(steps)
    fast.add_special_tokens(["<unk>"])
    return fast


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind."""
    top = tmp_path_factory.mktemp("tokenizers")
    made = {kind: top / kind for kind in ("ours", "sentencepiece", "fast", "gpt2", "wide")}
    for folder in made.values():
        folder.mkdir()
    model = train_model(LINES * 3, 400, 1.0, split_digits=True)
    for kind in ("ours", "sentencepiece"):
        (made[kind] / "tokenizer.model").write_bytes(model)
    write_twin(made["ours"])
    byte_level().save(str(made["fast"] / "tokenizer.json"))
    byte_level().model.save(str(made["gpt2"]))
    metaspace().save(str(made["wide"] / "tokenizer.json"))
    return made


def toy_encoding() -> tiktoken.Encoding:
    """A tiktoken encoding of single bytes and two merges, with a hole among its ids and one control token."""
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"th": 256, "渡".encode()[:2]: 257, "渡".encode(): 258}
    return tiktoken.Encoding("toy", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 260})


def opened(kind: str, folders: dict[str, Path]) -> Opened:
    found = from_tiktoken(toy_encoding()) if kind == "tiktoken" else open_tokenizer(str(folders[kind]))
    assert isinstance(found, Opened)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_the_tokens_spell_the_text(kind: str, folders: dict[str, Path]) -> None:
    tokenizer = opened(kind, folders)
    for text, ids in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        assert ids.dtype == np.uint32 and ids.ndim == 1
        assert b"".join(tokenizer.tokens[i] for i in ids) == text.encode(), text
        assert tokenizer.decode(ids) == text
        assert not tokenizer.special & {i for i in ids.tolist() if not tokenizer.tokens[i]}


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_and_single_bytes_are_known(kind: str, folders: dict[str, Path]) -> None:
    tokenizer = opened(kind, folders)
    num_control = len(CONTROL) + 1 if kind in ("ours", "sentencepiece") else 1  # 1: <unk>, or the end of documents
    num_masks = len(MASKS) if kind == "ours" else 0
    assert sum(not tokenizer.tokens[i] for i in tokenizer.special) == num_control
    assert len(tokenizer.special) == num_control + num_masks
    single = 256 if kind in ("ours", "sentencepiece", "wide") else 0
    assert len(tokenizer.single_bytes) == single
    assert len({tokenizer.tokens[i] for i in tokenizer.single_bytes}) == single


def test_sizes_are_the_rows_of_a_model(folders: dict[str, Path]) -> None:
    sizes = {kind: len(opened(kind, folders).tokens) for kind in KINDS}
    assert sizes == {"ours": 400, "sentencepiece": 400, "fast": 300, "gpt2": 300, "wide": 267, "tiktoken": 261}


def test_ours_is_told_from_a_model_of_others_with_the_same_numbers(folders: dict[str, Path]) -> None:
    ours, theirs = opened("ours", folders), opened("sentencepiece", folders)
    assert (ours.kind, theirs.kind) == ("ours, SentencePiece BPE", "SentencePiece")
    assert ours.fingerprint == theirs.fingerprint and list(ours.tokens) == list(theirs.tokens)
    for one, other in zip(ours.encode(TEXTS), theirs.encode(TEXTS), strict=True):
        assert one.tolist() == other.tolist()


def test_the_two_files_of_gpt2_give_what_its_tokenizer_json_gives(folders: dict[str, Path]) -> None:
    fast, two = opened("fast", folders), opened("gpt2", folders)
    assert list(fast.tokens) == list(two.tokens) and fast.kind == two.kind == "Hugging Face, byte-level BPE"
    assert [ids.tolist() for ids in fast.encode(TEXTS)] == [ids.tolist() for ids in two.encode(TEXTS)]


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_comes_back_where_every_byte_is_a_token(text: str, folders: dict[str, Path]) -> None:
    for tokenizer in (opened("fast", folders), opened("ours", folders), opened("tiktoken", folders)):
        (ids,) = tokenizer.encode([text])
        assert b"".join(tokenizer.tokens[i] for i in ids) == text.encode() and tokenizer.decode(ids) == text


def test_padding_truncation_and_templates_of_a_file_do_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    fast = byte_level()
    fast.enable_truncation(3)
    fast.enable_padding(length=50)
    fast.post_processor = processors.TemplateProcessing("$0 <|endoftext|>", special_tokens=[("<|endoftext|>", 0)])
    fast.save(str(tmp_path / "tokenizer.json"))
    tokenizer = open_tokenizer(str(tmp_path))
    assert isinstance(tokenizer, Opened)
    assert [ids.tolist() for ids in tokenizer.encode(TEXTS)] == [
        ids.tolist() for ids in opened("fast", folders).encode(TEXTS)
    ]


def test_word_pieces_lose_their_mark(tmp_path: Path) -> None:
    vocab = {"[UNK]": 0, "ferry": 1, "##man": 2, "船": 3}
    fast = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    fast.add_special_tokens(["[UNK]"])
    fast.save(str(tmp_path / "tokenizer.json"))
    tokenizer = open_tokenizer(str(tmp_path))
    assert isinstance(tokenizer, Opened)
    assert tokenizer.tokens == [b"", b"ferry", b"man", "船".encode()] and tokenizer.special == {0}
    assert tokenizer.encode(["ferryman 龘"])[0].tolist() == [1, 2, 0]  # what it does not know is lost


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "vocab.json"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x00{")
    if name == "vocab.json":
        (tmp_path / "merges.txt").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read as a tokenizer") as caught:
        open_tokenizer(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_what_is_no_tokenizer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_tokenizer(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="no tokenizer in this folder"):
        open_tokenizer(str(tmp_path))
    monkeypatch.setattr("mindllm.tokenizer.others.MAX_FILE_BYTES", 10)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 11)
    with pytest.raises(UserError, match="larger than"):
        open_tokenizer(str(tmp_path))


@pytest.mark.parametrize("name", ["tokenizer.model", "token_bytes.npy"])
def test_a_damaged_file_of_ours_is_named(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["ours"], tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / name).write_bytes(b"\x00{")
    with pytest.raises(UserError, match=str(tmp_path)):
        open_tokenizer(str(tmp_path / "tokenizer"))


def test_byte_lengths_of_another_tokenizer_are_found(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["ours"], tmp_path / "tokenizer")
    np.save(tmp_path / "tokenizer" / "token_bytes.npy", np.ones(400, dtype=np.uint16))
    with pytest.raises((UserError, RuntimeError), match="token_bytes.npy"):
        open_tokenizer(str(tmp_path / "tokenizer"))


def test_tiktoken_takes_files_of_its_cache_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    fetch = tiktoken.load.read_file
    result = open_tokenizer("tiktoken:cl100k_base")
    assert isinstance(result, Absent) and "cl100k_base.tiktoken" in result.reason and "downloaded" in result.reason
    assert tiktoken.load.read_file is fetch
    with pytest.raises(UserError, match="no such encoding; there are .*cl100k_base"):
        open_tokenizer("tiktoken:cl100k")


def test_without_tiktoken_its_encodings_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    result = open_tokenizer("tiktoken:gpt2")
    assert isinstance(result, Absent) and "not installed" in result.reason


def test_ranks_are_tokens(folders: dict[str, Path]) -> None:
    tokenizer = from_tiktoken(toy_encoding())
    assert tokenizer.tokens[256] == b"th" and tokenizer.tokens[259] == b"" and tokenizer.special == {260}
    assert tokenizer.encode(["<|endoftext|>"])[0].max() < 260


GPT2 = Path(os.environ.get("MINDLLM_DATA", "/nonexistent")) / "tokenizer" / "gpt2"


@pytest.mark.skipif(not GPT2.exists(), reason="MINDLLM_DATA names no folder with tokenizer/gpt2")
def test_gpt2_and_its_ranks_in_tiktoken_give_the_same_ids() -> None:
    gpt2 = open_tokenizer(str(GPT2))
    assert isinstance(gpt2, Opened) and len(gpt2.tokens) == 50257 and gpt2.special == {50256}
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    ranks = {token: i for i, token in enumerate(gpt2.tokens[:-1])}
    twin = from_tiktoken(
        tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})
    )
    for one, other in zip(gpt2.encode(TEXTS), twin.encode(TEXTS), strict=True):
        assert one.tolist() == other.tolist()
