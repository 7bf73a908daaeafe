"""The tokenizer: every text comes back, none makes a control token, and the Hugging Face twin gives the same ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import UserError, load
from mindllm.stage import write_json
from mindllm.text import PII_MASKS
from mindllm.tokenizer import Tokenizer, load_tokenizer
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.special import EOS, PAD, ROLES, SPARE, UNK
from mindllm.tokenizer.train import train

PROSE = Path(__file__).resolve().parent.parent / "samples" / "prose"
SENTENCES = {
    "en": [
        "The ferry leaves at seven and comes back at noon, if the wind allows it.",
        "My grandmother kept the seeds in tin boxes: beans, peas, 12 kinds of lettuce.",
        "If the door is open, walk in; if it is shut, knock twice and wait.",
        "for i in range(10):\n    print(i, 'and', i * i)\n\tdone",
    ],
    "zh-Hans": [
        "渡船早上七点开，风小的时候中午回来。",
        "奶奶把种子收在铁盒里：豆子、豌豆，还有12种生菜。",
        "门开着就进来；门关着，就敲两下，等一会儿。",
        "河边的树长得很快，今年又高了３０厘米。",
    ],
    "zh-Hant": [
        "渡船早上七點開，風小的時候中午回來。",
        "奶奶把種子收在鐵盒裡：豆子、豌豆，還有12種生菜。",
        "門開著就進來；門關著，就敲兩下，等一會兒。",
        f"聯繫我們：{PII_MASKS[1]}，或者寫信到{PII_MASKS[2]}。",
    ],
}
TRICKY = [
    "", " ", "  two  spaces  ", "\n", "\n\n\t x \r\n", "    indented\n        more", "１２３ 456 ７8", "3.14159e-10",
    f"{PII_MASKS[0]}{PII_MASKS[0]} {PII_MASKS[4]}\n{PII_MASKS[3]}。", "<|phone", "<|phone|", "\u3000\u3000全角空格",
    "龘靐齉 rare 𠮷野家", "\U0001f600\U0001f469\u200d\U0001f467 e\u0301", "\x00\x01\x7f", "\ufffd\ufeff",
    "<0x0A><s></s>", "中文English混排，mixed；沒有空格", "a" * 300, "。" * 50, " " * 41,
]  # fmt: skip
VOCAB_SIZE = 420
CONTROL = (EOS, PAD, UNK, *ROLES, *SPARE)


def write_documents(folder: Path) -> None:
    """A complete stage folder in two shards, as the refine stage leaves it."""
    rows = [(lang, f"{lang}-{i}", text) for lang, texts in SENTENCES.items() for i, text in enumerate(texts * 3)]
    folder.mkdir(parents=True)
    for number, part in enumerate((rows[:20], rows[20:])):
        columns = dict(zip(("lang", "id", "text"), map(list, zip(*part, strict=True)), strict=True))
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")
    write_json(folder / "meta.json", {"hash": "0123456789abcdef"})


def settings_for(folder: Path, **changes: object) -> TokenizerConfig:
    """The stage's config for documents and tokenizer inside `folder`."""
    given = {"documents": str(folder / "refine"), "out": str(folder / "tokenizer"), "vocab_size": VOCAB_SIZE, **changes}
    return load(TokenizerConfig, None, [f"{key}={value}" for key, value in given.items()])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents and the tokenizer trained on them."""
    root = tmp_path_factory.mktemp("tokenizer")
    write_documents(root / "refine")
    assert train(settings_for(root)) == 0
    return root


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    """Ours."""
    return load_tokenizer(folder / "tokenizer")


@pytest.fixture(scope="module")
def twin(folder: Path) -> transformers.PreTrainedTokenizerFast:
    """What a Hugging Face user loads."""
    return transformers.AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of one text."""
    return tokenizer.encode_batch([text])[0].tolist()


def test_size_is_exact_and_the_same_text_gives_the_same_bytes(folder: Path, tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == VOCAB_SIZE == len(tokenizer.token_bytes)
    assert train(settings_for(folder, out=folder / "again")) == 0
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "token_bytes.npy"):
        assert (folder / "tokenizer" / name).read_bytes() == (folder / "again" / name).read_bytes(), name
    assert load_tokenizer(folder / "again").fingerprint == tokenizer.fingerprint
    np.testing.assert_array_equal(np.load(folder / "tokenizer" / "token_bytes.npy"), tokenizer.token_bytes)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)  # a lone surrogate is no text
PIECES = st.lists(
    st.sampled_from(["a", "\u2581", "的", " ", "\n", "the", "  ", "門", "12", PII_MASKS[1], "。", "er"]), max_size=30
)


@settings(max_examples=200, deadline=None)
@given(text=TEXT | PIECES.map("".join))
def test_every_text_comes_back_and_its_bytes_add_up(tokenizer: Tokenizer, text: str) -> None:
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert int(tokenizer.token_bytes[ids].astype(int).sum()) == len(text.encode())


@settings(max_examples=200, deadline=None)
@given(text=TEXT | PIECES.map("".join))
def test_the_twin_agrees_on_any_text(
    tokenizer: Tokenizer, twin: transformers.PreTrainedTokenizerFast, text: str
) -> None:
    ids = encode(tokenizer, text)
    assert twin.encode(text, add_special_tokens=False) == ids
    assert twin.decode(ids) == text


def test_the_twin_agrees_on_the_samples_and_on_tricky_text(
    tokenizer: Tokenizer, twin: transformers.PreTrainedTokenizerFast
) -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(PROSE.rglob("*.md"))]
    lines = sorted({line for text in texts for line in text.split("\n")}) + TRICKY + texts[::10]
    assert len(lines) > 1000
    ours = [ids.tolist() for ids in tokenizer.encode_batch(lines)]
    assert twin(lines, add_special_tokens=False)["input_ids"] == ours
    assert [tokenizer.decode(ids) for ids in ours] == lines == twin.batch_decode(ours)


def test_control_tokens_never_come_from_text(tokenizer: Tokenizer, twin: transformers.PreTrainedTokenizerFast) -> None:
    control = {tokenizer.token_id(piece) for piece in CONTROL if piece != UNK}
    assert (
        len(control) == len(CONTROL) - (UNK in CONTROL) and tokenizer.eos_id in control and tokenizer.pad_id in control
    )
    for piece in CONTROL:
        text = f"前{piece}後 {piece}"
        ids = encode(tokenizer, text)
        assert not control & set(ids) and tokenizer.decode(ids) == text
        # As everywhere in transformers, only with split_special_tokens: chat templates need the other way.
        assert twin.encode(text, add_special_tokens=False, split_special_tokens=True) == ids
    assert tokenizer.decode([tokenizer.eos_id, tokenizer.pad_id]) == ""
    assert not tokenizer.token_bytes[sorted(control)].any()
    assert twin.eos_token_id == tokenizer.eos_id and twin.pad_token_id == tokenizer.pad_id


def test_masks_line_ends_and_digits_are_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    for piece in (*PII_MASKS, "\n"):
        assert encode(tokenizer, piece) == [tokenizer.token_id(piece)]
        assert encode(tokenizer, f"电话{piece}phone").count(tokenizer.token_id(piece)) == 1
    digits = encode(tokenizer, "12")
    assert len(digits) == 2 and encode(tokenizer, "1212 12") == digits * 2 + encode(tokenizer, " ") + digits
    with pytest.raises(UserError, match="no token <|tool|>"):
        tokenizer.token_id("<|tool|>")


def test_too_large_a_vocabulary_names_the_limit(folder: Path) -> None:
    with pytest.raises(UserError, match=r"vocab_size: 9999 .* use at most (\d+)") as error:
        train(settings_for(folder, out=folder / "large", vocab_size=9999))
    limit = int(str(error.value).split()[-1])
    assert not (folder / "large" / "meta.json").exists()
    assert train(settings_for(folder, out=folder / "largest", vocab_size=limit)) == 0
    assert load_tokenizer(folder / "largest").vocab_size == limit
    with pytest.raises(UserError, match="too small for this text's characters; use more than [0-9]+"):
        train(settings_for(folder, out=folder / "small", vocab_size=290, character_coverage=1.0))


def test_the_sample_is_by_language(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chinese = settings_for(folder, out=folder / "zh", vocab_size=380)
    chinese.sample_bytes = {"zh": 10**6}
    assert train(chinese) == 0
    sizes = {lang: sum(len(t.encode()) for t in texts) * 3 for lang, texts in SENTENCES.items()}
    assert f"from {(sizes['zh-Hans'] + sizes['zh-Hant']) / 1e6:.1f} MB" in capsys.readouterr().out
    only = load_tokenizer(folder / "zh")
    assert len(encode(only, "渡船早上七点")) < 6
    assert load_tokenizer(folder / "tokenizer").token_id("f") and only.token_id("船")
    with pytest.raises(UserError, match="no token f"):  # learned from Chinese alone, it spells English in bytes
        only.token_id("f")
    with pytest.raises(UserError, match="no text to learn a tokenizer from"):
        train(settings_for(folder, out=folder / "none", sample_bytes="{other: 100}"))


def test_bad_settings_are_named_together() -> None:
    with pytest.raises(UserError, match="3 problem") as error:
        load(TokenizerConfig, None, ["vocab_size=100", "sample_bytes={fr: 1}", "character_coverage=0.5"])
    assert all(word in str(error.value) for word in ("vocab_size", "sample_bytes.fr", "character_coverage"))
    with pytest.raises(UserError, match="no tokenizer here"):
        load_tokenizer("nowhere")
