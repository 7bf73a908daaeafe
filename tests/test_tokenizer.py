"""The interface: every text comes back, none makes a control token, and a folder that is not whole is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import CONTROL, ENGLISH, SIMPLIFIED, TEXT, TRADITIONAL, TRICKY, VOCAB_SIZE, WORDS, write_tokenizer

from mindllm.config import UserError
from mindllm.text import PII_MASKS
from mindllm.tokenizer import Tokenizer, load_tokenizer
from mindllm.tokenizer.pieces import Pieces
from mindllm.tokenizer.special import EOS, PAD, UNK


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The folder, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_batch([text])[0].tolist()


@settings(max_examples=300, deadline=None)
@given(text=TEXT | WORDS)
def test_every_text_comes_back_and_its_bytes_add_up(tokenizer: Tokenizer, text: str) -> None:
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert int(tokenizer.token_bytes[ids].astype(int).sum()) == len(text.encode())


def test_tricky_texts_come_back(tokenizer: Tokenizer) -> None:
    texts = [*TRICKY, *ENGLISH, *SIMPLIFIED, *TRADITIONAL, "\n".join(TRICKY)]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert ids.dtype == np.uint32 and ids.ndim == 1
        assert tokenizer.decode(ids) == text
        assert int(tokenizer.token_bytes[ids].astype(int).sum()) == len(text.encode())


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXT | WORDS, max_size=8))
def test_ids_depend_on_the_text_alone(folder: Path, tokenizer: Tokenizer, texts: list[str]) -> None:
    together = [ids.tolist() for ids in tokenizer.encode_batch(iter(texts))]
    assert together == [encode(tokenizer, text) for text in reversed(texts)][::-1]
    assert together == [Pieces(folder).encode(text) for text in texts]


def test_control_tokens_never_come_from_text(tokenizer: Tokenizer) -> None:
    control = {tokenizer.token_id(piece) for piece in CONTROL}
    assert len(control) == len(CONTROL) and {tokenizer.eos_id, tokenizer.pad_id} < control
    for piece in CONTROL:
        text = f"前{piece}後 {piece}\n{piece}"
        ids = encode(tokenizer, text)
        assert not control & set(ids) and tokenizer.decode(ids) == text
    assert not tokenizer.token_bytes[sorted(control)].any()
    assert np.count_nonzero(tokenizer.token_bytes) == VOCAB_SIZE - len(control)
    assert tokenizer.eos_id == tokenizer.token_id(EOS) and tokenizer.pad_id == tokenizer.token_id(PAD)


def test_special_ids_are_those_of_control_tokens_and_masks(tokenizer: Tokenizer) -> None:
    assert set(tokenizer.special_ids) == {*CONTROL, *PII_MASKS} - {UNK}
    assert all(tokenizer.token_id(name) == i for name, i in tokenizer.special_ids.items())
    assert len(set(tokenizer.special_ids.values())) == len(tokenizer.special_ids)


def test_masks_line_ends_and_digits_are_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    for piece in (*PII_MASKS, "\n"):
        assert encode(tokenizer, piece) == [tokenizer.token_id(piece)]
        assert encode(tokenizer, f"电话{piece}phone").count(tokenizer.token_id(piece)) == 1
    digits = encode(tokenizer, "12")
    assert len(digits) == 2 and encode(tokenizer, "1212 12") == digits * 2 + encode(tokenizer, " ") + digits
    with pytest.raises(UserError, match="no token <|tool|>"):
        tokenizer.token_id("<|tool|>")


def test_decode_takes_lists_and_arrays_and_leaves_control_tokens_out(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_batch(["渡船 the ferry\n渡船開"])[0]
    wanted = "渡船 the ferry\n渡船開"
    kinds = (ids, ids.astype(np.int64), ids.tolist(), tuple(ids), iter(ids), np.insert(ids, 2, tokenizer.pad_id))
    assert [tokenizer.decode(kind) for kind in kinds] == [wanted] * len(kinds)
    assert tokenizer.decode([tokenizer.token_id(piece) for piece in CONTROL]) == ""
    assert tokenizer.decode([]) == "" == tokenizer.decode(np.array([], dtype=np.uint32))
    assert tokenizer.decode(encode(tokenizer, "𠮷")[:3]) == "\ufffd" * 3
    for wrong in ([VOCAB_SIZE], [0, -1], np.array([2**32 - 1], dtype=np.uint32)):
        with pytest.raises(IndexError, match=rf"no token has the id .*; there are {VOCAB_SIZE}"):
            tokenizer.decode(wrong)


def test_half_a_surrogate_pair_is_no_text(tokenizer: Tokenizer) -> None:
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        tokenizer.encode_batch(["good", "天\ud842 bad"])


def test_names_of_tokens_are_readable(tokenizer: Tokenizer) -> None:
    names = [tokenizer.token_text(i) for i in range(VOCAB_SIZE)]
    assert all(name and name.isprintable() for name in names)
    assert {*CONTROL, *PII_MASKS, " the", "的", "<0xE4>", "<0x0A>", "<0x00>", "…", "種"} <= set(names)
    assert names[tokenizer.token_id("\n")] == "<0x0A>"
    for text in ("的 the", "種種", PII_MASKS[1]):
        assert "".join(names[i] for i in encode(tokenizer, text)) == text
    assert [names[i] for i in encode(tokenizer, "𠮷")] == ["<0xF0>", "<0xA0>", "<0xAE>", "<0xB7>"]
    for wrong in (-1, VOCAB_SIZE):
        with pytest.raises(IndexError, match=f"no token has the id {wrong}"):
            tokenizer.token_text(wrong)


def test_token_bytes_are_the_models(folder: Path, tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == VOCAB_SIZE and tokenizer.token_bytes.dtype == np.uint16
    assert tokenizer.token_bytes.tolist() == [len(b) for b in Pieces(folder).token_bytes()]
    assert tokenizer.token_bytes.tolist() == [
        len(tokenizer.token_text(i).encode()) if tokenizer.token_bytes[i] > 1 else int(tokenizer.token_bytes[i])
        for i in range(VOCAB_SIZE)
    ]


def test_the_fingerprint_is_of_the_whole_file(folder: Path, tokenizer: Tokenizer, copy: Path) -> None:
    assert load_tokenizer(copy).fingerprint == tokenizer.fingerprint and len(tokenizer.fingerprint) == 16
    other = write_tokenizer(copy, vocab_size=VOCAB_SIZE - 1)
    assert load_tokenizer(other).fingerprint != tokenizer.fingerprint


def test_no_tokenizer_says_how_to_make_one(tmp_path: Path, copy: Path) -> None:
    (copy / "tokenizer.json").unlink()  # not finished
    for folder in (tmp_path / "nowhere", tmp_path, copy):
        with pytest.raises(UserError, match="no tokenizer here; make it first: python -m mindllm.tokenizer train"):
            load_tokenizer(folder)


@pytest.mark.parametrize("size", [0, 10, 1000, -1, -500])
def test_a_cut_model_file_is_named(copy: Path, size: int) -> None:
    path = copy / "tokenizer.model"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises((RuntimeError, UserError), match="copy/tokenizer.model: |copy/token_bytes.npy: |no token "):
        load_tokenizer(copy)


def test_a_flipped_byte_is_found_or_changes_the_fingerprint(copy: Path, tokenizer: Tokenizer) -> None:
    path = copy / "tokenizer.model"
    good = path.read_bytes()
    for place in range(0, len(good), 997):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        try:
            found = load_tokenizer(copy)
        except (RuntimeError, UserError) as error:
            assert "copy" in str(error)
        else:
            assert found.fingerprint != tokenizer.fingerprint


def test_damaged_byte_lengths_are_named(copy: Path) -> None:
    path = copy / "token_bytes.npy"
    lengths = np.load(path)
    wrong = {
        "float32 of shape": lengths.astype(np.float32),
        r"shape \(459,\) where": lengths[1:],
        r"shape \(1, 460\) where": lengths[None],
        "cannot be read": np.array([{"a": 1}], dtype=object),
    }
    for cause, array in wrong.items():
        np.save(path, array, allow_pickle=True)
        with pytest.raises(RuntimeError, match=rf"copy/token_bytes.npy: .*{cause}.*make the tokenizer again"):
            load_tokenizer(copy)
    for content in (b"", b"nothing", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match="copy/token_bytes.npy: cannot be read"):
            load_tokenizer(copy)
    np.save(path, np.roll(lengths, 1))  # as many, but another tokenizer's
    with pytest.raises(UserError, match="does not fit to token_bytes.npy beside it"):
        load_tokenizer(copy)
    path.unlink()
    with pytest.raises(RuntimeError, match="copy/token_bytes.npy: cannot be read .*No such file"):
        load_tokenizer(copy)


def test_a_tokenizer_of_others_is_named(copy: Path) -> None:
    (copy / "tokenizer.model").unlink()  # what is left is our twin: a tokenizer.json of no byte-level tokenizer
    with pytest.raises(UserError, match="copy/tokenizer.json: "):
        load_tokenizer(copy)
    (copy / "tokenizer.json").write_text('{"version": "1.0"', encoding="utf-8")
    with pytest.raises((UserError, RuntimeError), match="copy/tokenizer.json: "):
        load_tokenizer(copy)
