"""The Hugging Face twin: the same ids and texts as ours for every text, loaded as any user would, the same bytes."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import CONTROL, ENGLISH, PLAIN, SIMPLIFIED, TEXT, TRADITIONAL, TRICKY, WORDS, write_tokenizer

from mindllm.text import PII_MASKS
from mindllm.tokenizer import Tokenizer, load_tokenizer
from mindllm.tokenizer.fast import FAST_FILE, LENGTHS_FILE, twin
from mindllm.tokenizer.pieces import Pieces
from mindllm.tokenizer.special import EOS, PAD, ROLES

PROSE = Path(__file__).resolve().parent.parent / "samples" / "prose"
# Pieces that overlap themselves, and come together in several ways: where two libraries could disagree.
REPEATS = ["".join(word) for letters in ("ab", "哈啊", "…—") for word in itertools.product(letters, repeat=7)]
REPEATS += [letter * count for letter in "ab哈啊…—" for count in range(1, 17)]
LEAST_LINES = 50_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("fast"))


@pytest.fixture(scope="module")
def ours(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return load(folder)


@pytest.fixture(scope="module")
def repeats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of pieces such as aa, aaaa, abab, 哈哈哈."""
    return write_tokenizer(tmp_path_factory.mktemp("repeats"), REPEATS, 480)


def load(folder: Path) -> Any:
    """What a Hugging Face user loads: no remote code, no network."""
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_batch([text])[0].tolist()


@settings(max_examples=300, deadline=None)
@given(text=PLAIN)
def test_ids_and_texts_are_the_same_for_any_text(ours: Tokenizer, theirs: Any, text: str) -> None:
    ids = encode(ours, text)
    assert theirs.encode(text, add_special_tokens=False) == ids
    assert theirs.decode(ids) == text == theirs.decode(ids, skip_special_tokens=True)


@settings(max_examples=200, deadline=None)
@given(text=TEXT | WORDS)
def test_with_split_special_tokens_control_tokens_are_text(ours: Tokenizer, theirs: Any, text: str) -> None:
    ids = encode(ours, text)
    assert theirs.encode(text, add_special_tokens=False, split_special_tokens=True) == ids
    assert theirs.decode(ids) == text


@settings(max_examples=500, deadline=None)
@given(text=st.text("ab哈啊…— ", max_size=200))
def test_repeats_are_put_together_in_the_same_way(repeats: Path, text: str) -> None:
    fast, pieces = _opened(repeats)
    assert fast.encode(text).ids == pieces.encode(text)


def test_long_repeats_are_put_together_in_the_same_way(repeats: Path) -> None:
    fast, pieces = _opened(repeats)
    assert max(map(len, pieces.learned())) >= 8
    for unit in ("a", "哈", "…", "ab", "哈啊", "…—", "aab", "a哈", " a", "ba…"):
        for count in (*range(1, 60), 997, 10_007):
            assert fast.encode(unit * count).ids == pieces.encode(unit * count), (unit, count)


_OPENED: dict[Path, tuple[tokenizers.Tokenizer, Pieces]] = {}


def _opened(folder: Path) -> tuple[tokenizers.Tokenizer, Pieces]:
    """The folder's two models, by their own libraries."""
    if folder not in _OPENED:
        _OPENED[folder] = tokenizers.Tokenizer.from_file(str(folder / FAST_FILE)), Pieces(folder)
    return _OPENED[folder]


def test_of_all_cuts_of_a_piece_one_is_ever_joined(repeats: Path) -> None:
    """The claim that `twin` rests on: with that one merge for each piece alone, the ids stay the same."""
    fast, pieces = _opened(repeats)
    state = json.loads(fast.to_str())
    merges = [tuple(merge) for merge in state["model"]["merges"]]
    met = {left + right: (left, right) for left, right in merges if _last_join(merges, left + right) == (left, right)}
    state["model"]["merges"] = [merge for merge in merges if met.get("".join(merge)) == merge]
    assert len(state["model"]["merges"]) < len(merges)
    fewer = tokenizers.Tokenizer.from_str(json.dumps(state))
    for text in REPEATS:
        assert fewer.encode(text).ids == fast.encode(text).ids == pieces.encode(text)


def _last_join(merges: list[tuple[str, str]], piece: str) -> tuple[str, str]:
    """The last two parts of a text, joined by the best-scored piece, leftmost first, as SentencePiece does."""
    rank = {left + right: i for i, (left, right) in reversed([*enumerate(merges)])}
    parts = list(piece)
    while len(parts) > 2:
        found = [(rank[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False)) if a + b in rank]
        if not found:
            break
        i = min(found)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts[0], parts[1]


def test_samples_and_tricky_texts(ours: Tokenizer, theirs: Any) -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(PROSE.rglob("*.md"))]
    lines = sorted({line for text in texts for line in text.split("\n")}) + TRICKY + texts[::10]
    lines += [*ENGLISH, *SIMPLIFIED, *TRADITIONAL]
    assert len(lines) > 1000
    ids = [found.tolist() for found in ours.encode_batch(lines)]
    assert theirs(lines, add_special_tokens=False)["input_ids"] == ids
    assert [ours.decode(found) for found in ids] == lines == theirs.batch_decode(ids, skip_special_tokens=True)


def test_control_tokens_are_special_and_masks_are_text(ours: Tokenizer, theirs: Any) -> None:
    assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.eos_id, ours.pad_id)
    assert (theirs.eos_token, theirs.pad_token, theirs.bos_token) == (EOS, PAD, None)
    assert set(theirs.all_special_tokens) == {EOS, PAD, *ROLES} and not set(theirs.all_special_tokens) & set(PII_MASKS)
    for piece in CONTROL:
        assert theirs.convert_tokens_to_ids(piece) == ours.token_id(piece)
        assert theirs.encode(piece, add_special_tokens=False) == [ours.token_id(piece)] != encode(ours, piece)
    control = [ours.token_id(piece) for piece in CONTROL]
    ids = [*control, *encode(ours, f"渡船 {PII_MASKS[1]}\n"), *control, *encode(ours, " the ferry"), ours.eos_id]
    assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids) == f"渡船 {PII_MASKS[1]}\n the ferry"


def test_nothing_is_added_cleaned_or_cut(ours: Tokenizer, theirs: Any) -> None:
    text = "I 'm , here . do n't !" + " 渡船 。" * 3000  # clean_up_tokenization_spaces would change it
    ids = encode(ours, text)
    assert theirs.encode(text) == theirs(text)["input_ids"] == ids and theirs.decode(ids) == text
    assert theirs.model_max_length > len(ids) == len(theirs(text, truncation=False)["input_ids"])


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_are_padded_on_either_side(folder: Path, ours: Tokenizer, side: str) -> None:
    tokenizer = load(folder)
    tokenizer.padding_side = side
    texts = ["the ferry", "渡船早上七点开，风小的时候中午回来。", "", "渡船早上七點開"]
    rows = [ids.tolist() for ids in ours.encode_batch(texts)]
    batch = tokenizer(texts, padding=True, return_tensors="np")
    width = max(map(len, rows))
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        fill = [ours.pad_id] * (width - len(row))
        assert ids.tolist() == (fill + row if side == "left" else row + fill)
        assert mask.sum() == len(row)
    assert tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True) == texts


def test_saving_and_loading_it_again_changes_nothing(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again(TRICKY)["input_ids"] == theirs(TRICKY)["input_ids"]
    assert set(again.all_special_tokens) == set(theirs.all_special_tokens)


def test_the_files_are_these_and_their_bytes_the_same(folder: Path, tmp_path: Path, ours: Tokenizer) -> None:
    write_tokenizer(tmp_path)
    names = {"tokenizer.model", "tokenizer.json", "tokenizer_config.json", "token_bytes.npy"}
    assert {path.name for path in folder.iterdir()} == names
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["clean_up_tokenization_spaces"] is False and "model_max_length" not in config
    assert isinstance(config["additional_special_tokens"], list)  # as both transformers 4 and 5 read them
    assert "auto_map" not in config and "extra_special_tokens" not in config
    assert np.load(folder / LENGTHS_FILE).shape == (ours.vocab_size,)
    fast = twin(Pieces(folder))
    assert fast.get_vocab_size() == ours.vocab_size and not re.search("▁", fast.to_str())  # blanks are blanks


def test_the_library_alone_reads_the_file(folder: Path, ours: Tokenizer) -> None:
    fast = tokenizers.Tokenizer.from_file(str(folder / FAST_FILE))
    text = "渡船 the ferry\u2581\n渡船開 𠮷"
    assert fast.encode(text).ids == encode(ours, text) and fast.decode(encode(ours, text)) == text
    assert [fast.id_to_token(ours.token_id(name)) for name in CONTROL] == list(CONTROL)


@pytest.mark.skipif("MINDLLM_DATA" not in os.environ, reason="MINDLLM_DATA: folder with text/")
def test_real_lines_of_both_languages(tmp_path: Path) -> None:
    texts = [*_real_texts(Path(os.environ["MINDLLM_DATA"]) / "text")]
    lines = [line for text in texts for line in text.split("\n")]
    long = max(map(len, texts))
    assert len(set(lines)) >= LEAST_LINES and long > 100_000
    write_tokenizer(tmp_path, [line[:8000] for line in lines[::4] if line], 12_000)
    tokenizer, fast = load_tokenizer(tmp_path), tokenizers.Tokenizer.from_file(str(tmp_path / FAST_FILE))
    fast.encode_special_tokens = True
    for group in (lines, texts):  # line by line, and whole
        ids = tokenizer.encode_batch(group)
        for text, mine, other in zip(group, ids, fast.encode_batch_fast(group, add_special_tokens=False), strict=True):
            assert mine.tolist() == other.ids, text[:200]
            assert tokenizer.decode(mine) == text and int(tokenizer.token_bytes[mine].sum()) == len(text.encode())
    loaded = load(tmp_path)
    some = lines[:: len(lines) // 2000]
    assert loaded(some, split_special_tokens=True)["input_ids"] == [
        ids.tolist() for ids in tokenizer.encode_batch(some)
    ]


def _real_texts(folder: Path) -> Iterator[str]:
    """The first megabyte of every plain or gzipped text file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and re.search(r"\.(txt|tsv|csv|jsonl?|md)(\.gz)?$", path.name):
            with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
                yield file.read(1_000_000).decode("utf-8", "ignore")
