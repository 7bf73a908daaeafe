"""The enlarged tokenizer: old ids stay, so does all text without Chinese; every new token is reached."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers
from byte_bases import ANY_TEXT, NUM_BASE, PROSE, SCRAPS, TRICKY, base_tokenizer, prose_lines, write_base
from hypothesis import given, settings

from mindllm.config import UserError
from mindllm.text import HAN, PII_MASKS, scripts
from mindllm.tokenizer import Tokenizer
from mindllm.tokenizer.bytelevel import ByteLevel, bytes_of
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.enlarge import train_enlarged
from mindllm.tokenizer.special import CONTROL, EOS

NUM_NEW = 2600
FILES = ("tokenizer.json", "tokenizer_config.json", "token_bytes.npy", "replaced.npz", "vocab.json", "merges.txt")
CHINESE = re.compile(f"[{HAN}\u3000-\u303f\uff00-\uff7f]")  # with all wide forms
LINES = [
    "渡船早上七点开，风小的时候中午回来。", "渡船早上七點開，風小的時候中午回來。", "门开着就进来；门关着，就敲两下。",
    "門開著就進來；門關著，就敲兩下。", "The ferry leaves at seven and comes back at noon.", "フェリーは七時に出ます。",
]  # fmt: skip


def enlarge(root: Path, lines: list[str], num_new: int = NUM_NEW, name: str = "out", **changes: object) -> Path:
    """A tokenizer enlarged from the base in root/base, in the folder root/name."""
    folder = root / name
    folder.mkdir()
    given = {"base": str(write_base(root / "base")), "new_tokens": num_new, "character_coverage": 0.98, **changes}
    train_enlarged(folder, iter(lines), TokenizerConfig(kind="enlarged", vocab_size=0, **given))  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base and what it was enlarged to."""
    path = tmp_path_factory.mktemp("enlarged")
    enlarge(path, prose_lines())
    return path


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> Tokenizer:
    """Ours."""
    return Tokenizer(root / "out")


@pytest.fixture(scope="module")
def base() -> tokenizers.Tokenizer:
    """The base as the tokenizers library runs it."""
    return base_tokenizer()


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of one text."""
    return tokenizer.encode_batch([text])[0].tolist()


def test_old_ids_stay_and_the_size_is_exact(root: Path, tokenizer: Tokenizer, base: tokenizers.Tokenizer) -> None:
    names = ByteLevel(root / "out").names()
    assert {name: i for i, name in enumerate(names[:NUM_BASE])} == base.get_vocab()
    assert tokenizer.eos_id == NUM_BASE - 1
    assert names[NUM_BASE + NUM_NEW :] == [*(c for c in CONTROL if c != EOS), *PII_MASKS]
    assert len(set(names)) == len(names) == tokenizer.vocab_size == len(tokenizer.token_bytes)


@settings(max_examples=300, deadline=None)
@given(text=ANY_TEXT | SCRAPS)
def test_text_without_chinese_has_the_base_ids(tokenizer: Tokenizer, base: tokenizers.Tokenizer, text: str) -> None:
    parts = [part for part in CHINESE.split(text) if "|>" not in part]
    assert [encode(tokenizer, part) for part in parts] == [base.encode(part).ids for part in parts]


def test_english_samples_have_the_base_ids(tokenizer: Tokenizer, base: tokenizers.Tokenizer) -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(PROSE.rglob("*.md"))]
    texts = [text for text in texts + prose_lines() if not CHINESE.search(text)]
    assert len(texts) > 100 and [encode(tokenizer, text) for text in texts] == [base.encode(t).ids for t in texts]


def test_every_new_token_is_what_its_text_becomes(root: Path, tokenizer: Tokenizer) -> None:
    """But for two bytes of three, which are no text: rarer characters are written with them."""
    model, prefixes = ByteLevel(root / "out"), 0
    for i, name in list(enumerate(model.names()))[NUM_BASE : NUM_BASE + NUM_NEW]:
        if len(bytes_of(name)) == 2:
            prefixes += 1
        else:
            assert encode(tokenizer, bytes_of(name).decode()) == [i] == model.encode(bytes_of(name).decode())
            assert CHINESE.match(bytes_of(name).decode())
    assert 0 < prefixes < 400
    words = {bytes_of(n).decode() for n in model.names()[NUM_BASE:-30] if len(bytes_of(n)) > 3}
    assert any(scripts(word).simplified for word in words) and any(scripts(word).traditional for word in words)


@settings(max_examples=300, deadline=None)
@given(text=ANY_TEXT | SCRAPS)
def test_every_text_comes_back_with_the_library_s_ids(root: Path, tokenizer: Tokenizer, text: str) -> None:
    uncut = _uncut(root / "out")
    for whole in (text, text * 9):  # long ones are cut inside of Han runs
        ids = encode(tokenizer, whole)
        assert ids == uncut.encode(whole).ids and tokenizer.decode(ids) == whole
        assert int(tokenizer.token_bytes[ids].astype(int).sum()) == len(whole.encode())


_UNCUT: dict[Path, tokenizers.Tokenizer] = {}


def _uncut(folder: Path) -> tokenizers.Tokenizer:
    if folder not in _UNCUT:
        _UNCUT[folder] = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        _UNCUT[folder].encode_special_tokens = True
    return _UNCUT[folder]


def test_transformers_reads_the_same(root: Path, tokenizer: Tokenizer) -> None:
    twin = transformers.AutoTokenizer.from_pretrained(root / "out", local_files_only=True)
    texts = [path.read_text(encoding="utf-8") for path in sorted(PROSE.rglob("*.md"))]
    lines = prose_lines() + TRICKY + texts[::10]
    ours = [ids.tolist() for ids in tokenizer.encode_batch(lines)]
    assert twin(lines, add_special_tokens=False)["input_ids"] == ours
    assert [tokenizer.decode(ids) for ids in ours] == lines == twin.batch_decode(ours)
    assert len(twin) == tokenizer.vocab_size and twin.eos_token_id == tokenizer.eos_id


def test_chinese_takes_fewer_tokens_in_both_scripts(tokenizer: Tokenizer, base: tokenizers.Tokenizer) -> None:
    for text in LINES[:4]:
        assert len(encode(tokenizer, text)) <= len(text) < len(base.encode(text).ids) / 2


def test_what_tokens_replace_is_what_the_base_gave(
    root: Path, tokenizer: Tokenizer, base: tokenizers.Tokenizer
) -> None:
    with np.load(root / "out" / "replaced.npz") as file:
        size, offsets, ids = int(file["base_vocab_size"]), file["offsets"], file["ids"]
    names = ByteLevel(root / "out").names()
    assert size == NUM_BASE and len(offsets) == len(names) - NUM_BASE + 1
    assert offsets.dtype == np.int64 and ids.dtype == np.int32
    for i, name in enumerate(names[NUM_BASE:]):
        old = ids[offsets[i] : offsets[i + 1]].tolist()
        raw = bytes_of(name)
        assert b"".join(bytes_of(names[j]) for j in old) == raw
        if len(raw) != 2:
            assert old == base.encode(raw.decode()).ids


def test_older_files_hold_the_same_tokens(root: Path, tokenizer: Tokenizer) -> None:
    vocab = json.loads((root / "out" / "vocab.json").read_text(encoding="utf-8"))
    assert list(vocab.values()) == list(range(tokenizer.vocab_size))
    model = tokenizers.models.BPE.from_file(str(root / "out" / "vocab.json"), str(root / "out" / "merges.txt"))
    older = tokenizers.Tokenizer(model)
    older.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in LINES[:5]:
        assert older.encode(text).ids == encode(tokenizer, text)


def test_the_same_lines_give_the_same_bytes(root: Path) -> None:
    again = enlarge(root, prose_lines(), name="again")
    for name in FILES:
        assert (root / "out" / name).read_bytes() == (again / name).read_bytes(), name
    assert sorted(p.name for p in again.iterdir()) == sorted(FILES)


def test_only_chinese_lines_are_learned_from(tmp_path: Path) -> None:
    folder = enlarge(tmp_path, LINES * 3, 120)
    tokens = {bytes_of(n).decode(errors="replace") for n in ByteLevel(folder).names()[NUM_BASE : NUM_BASE + 120]}
    larger = Tokenizer(folder)
    assert all(len(encode(larger, c)) == 1 for c in "船開开门門，。") and "出" not in tokens  # the last is Japanese
    assert not any(re.search("[A-Za-z\u3040-\u30ff]", token) for token in tokens)


def test_sizes_that_do_not_fit_name_the_limit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"new_tokens: 5000 is more than .* use at most (\d+)") as error:
        enlarge(tmp_path, LINES * 3, 5000)
    assert not list((tmp_path / "out").iterdir())
    limit = int(str(error.value).split()[-1])
    assert Tokenizer(enlarge(tmp_path, LINES * 3, limit, "largest")).vocab_size == NUM_BASE + limit + 13 + 8
    with pytest.raises(UserError, match="new_tokens: 30 is too small for this text's characters; use more than"):
        enlarge(tmp_path, LINES * 3, 30, "small")
    with pytest.raises(UserError, match="no line of Chinese"):
        enlarge(tmp_path, LINES[4:], 30, "none")


def test_a_base_of_our_own_can_be_enlarged_too(root: Path, tmp_path: Path) -> None:
    """Its special tokens stay, so none is added; it writes digits one by one."""
    from mindllm.tokenizer.bytelevel import train_byte_level

    (tmp_path / "own").mkdir()
    english = [line for line in prose_lines() if line.isascii()]
    train_byte_level(tmp_path / "own", english, TokenizerConfig(kind="byte-level", vocab_size=700))
    larger = Tokenizer(enlarge(tmp_path, LINES * 3, 120, base=str(tmp_path / "own")))
    own = Tokenizer(tmp_path / "own")
    assert larger.vocab_size == 820 and larger.special_ids == own.special_ids
    for text in [*english[:50], "12 and 2024", PII_MASKS[0]]:
        assert encode(larger, text) == encode(own, text)
    assert [larger.decode(encode(larger, text)) for text in TRICKY] == TRICKY


@pytest.mark.slow
@pytest.mark.skipif("MINDLLM_DATA" not in os.environ, reason="MINDLLM_DATA: folder with tokenizer/gpt2")
def test_gpt2_itself(tmp_path: Path) -> None:
    gpt2 = Path(os.environ["MINDLLM_DATA"]) / "tokenizer" / "gpt2"
    larger = Tokenizer(enlarge(tmp_path, prose_lines(), 3000, base=str(gpt2)))
    assert larger.vocab_size == 50257 + 3000 + 13 + 8 and larger.eos_id == 50256
    old = transformers.GPT2TokenizerFast.from_pretrained(gpt2)
    for line in prose_lines() + TRICKY:
        if not CHINESE.search(line) and "|>" not in line:
            assert encode(larger, line) == old.encode(line, add_special_tokens=False)
        assert larger.decode(encode(larger, line)) == line
