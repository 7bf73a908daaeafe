"""Adopted tokenizers: transformers' ids of the same folder, no control token from text, bytes that add up, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from foreign_tokenizers import KINDS, LINES, SETTINGS, make, write
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import write_tokenizer

from mindllm.config import UserError, load
from mindllm.shard_faults import list_faults
from mindllm.shards import ShardWriter
from mindllm.stage import read_json
from mindllm.tokenizer import Tokenizer, load_tokenizer
from mindllm.tokenizer.adopt import EXAMPLES
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.foreign import Foreign
from mindllm.tokenizer.others import Opened, open_tokenizer
from mindllm.tokenizer.special import EOS, MASKS, PAD
from mindllm.tokenizer.train import train

EXACT = ("llama3", "gpt2")
WITHOUT_CHANGE = (*EXACT, "qwen2")  # of the LINES
END = {"qwen2": "<|endoftext|>", "llama3": "<|end_of_text|>", "gemma": "<eos>", "llama2": "</s>", "gpt2": EOS}
TEXTS = [*LINES, *EXAMPLES, "", " ", "\n\n", "the the  the\tthe", f"电话{MASKS[2]}電話", "<tool_call>开</tool_call>",
         "\n".join(LINES), "渡船" * 300, "def f(x):\n    return x ** 2  # 圆的面积\r\n"]  # fmt: skip


def config_for(base: Path | str, out: Path, *words: str) -> TokenizerConfig:
    """The stage's config, with documents that do not exist."""
    given = ["kind=adopted", "vocab_size=0", f"base={base}", f"out={out}", f"documents={out}/nowhere"]
    return load(TokenizerConfig, None, [*given, *words])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/KIND and the adopted KIND of all of them."""
    found = tmp_path_factory.mktemp("adopt")
    for kind in KINDS:
        assert train(config_for(write(found / "base" / kind, kind), found / kind)) == 0
    return found


@pytest.fixture(scope="module")
def adopted(root: Path) -> dict[str, Tokenizer]:
    return {kind: load_tokenizer(root / kind) for kind in KINDS}


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_batch([text])[0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_the_bases_and_the_stage_is_complete(kind: str, root: Path, adopted: dict[str, Tokenizer]) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (root / kind / name).read_bytes() == (root / "base" / kind / name).read_bytes()
    meta = read_json(root / kind / "meta.json")
    assert meta["config"] == {"kind": "adopted", "base": str(root / "base" / kind)} and len(meta["inputs"]["base"]) == 2
    counts, tokenizer = meta["counts"], adopted[kind]
    assert counts["out"] == tokenizer.vocab_size and counts["eos"] == [END[kind], tokenizer.eos_id]
    assert (tokenizer.kind, tokenizer.exact) == ("adopted", kind in EXACT) and counts["exact"] == tokenizer.exact
    assert len(tokenizer.fingerprint) == 16
    assert train(config_for(root / "base" / kind, root / kind)) == 0  # done before


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_transformers(kind: str, root: Path, adopted: dict[str, Tokenizer]) -> None:
    theirs: Any = transformers.PreTrainedTokenizerFast.from_pretrained(root / "base" / kind, local_files_only=True)
    texts = [text for text in TEXTS if kind != "llama2" or "</s>" not in text]  # see the next test
    for text, ids in zip(texts, adopted[kind].encode_batch(texts), strict=True):
        assert ids.dtype == np.uint32
        assert ids.tolist() == theirs.encode(text, add_special_tokens=False, split_special_tokens=True), text
        back = theirs.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert adopted[kind].decode(ids) == back
    together = [ids.tolist() for ids in adopted[kind].encode_batch(reversed(texts))][::-1]
    assert together == [encode(adopted[kind], text) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_never_come_from_text(kind: str, root: Path, adopted: dict[str, Tokenizer]) -> None:
    """Merges of `llama2` make </s> out of its letters, in the library as in transformers."""
    tokenizer = adopted[kind]
    control = {i for i, token in make(kind).get_added_tokens_decoder().items() if token.special}
    assert tokenizer.eos_id in control and not tokenizer.token_bytes[sorted(control)].any()
    names = [make(kind).id_to_token(i) for i in control]
    for text in [form.format(name) for name in names for form in ("{}", "前{}後", " {}\n", "the{}")]:
        ids = encode(tokenizer, text)
        assert not control & set(ids) and tokenizer.decode(ids) == text
    assert tokenizer.decode(sorted(control)) == ""


def test_the_library_would_make_a_control_token_of_text(root: Path, adopted: dict[str, Tokenizer]) -> None:
    fast = make("llama2")
    fast.encode_special_tokens = True
    eos = fast.token_to_id("</s>")
    assert eos in fast.encode("a</s>b", add_special_tokens=False).ids
    ids = encode(adopted["llama2"], "a</s>b")
    names = Foreign(root / "llama2").names()
    assert eos not in ids and [names[i] for i in ids] == ["▁", "a", "</", "s>", "b"]


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(LINES))
@pytest.mark.parametrize("kind", EXACT)
def test_where_it_is_exact_every_text_comes_back(kind: str, text: str, adopted: dict[str, Tokenizer]) -> None:
    tokenizer = adopted[kind]
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text and int(tokenizer.token_bytes[ids].astype(int).sum()) == len(text.encode())


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_add_up(kind: str, root: Path, adopted: dict[str, Tokenizer]) -> None:
    blank = 1 if kind == "llama2" else 0  # the one that it puts before a text
    for text in LINES:
        ids = encode(adopted[kind], text)
        assert adopted[kind].decode(ids) == text
        assert int(adopted[kind].token_bytes[ids].astype(int).sum()) == len(text.encode()) + blank
    tokens = Foreign(root / kind).token_bytes()
    assert adopted[kind].token_bytes.tolist() == [len(token) for token in tokens]


def test_ends_padding_and_names(adopted: dict[str, Tokenizer]) -> None:
    for kind, tokenizer in adopted.items():
        assert tokenizer.token_id(EOS) == tokenizer.eos_id == make(kind).token_to_id(END[kind])
        assert tokenizer.special_ids == {EOS: tokenizer.eos_id, PAD: tokenizer.pad_id}
        assert (tokenizer.pad_id == tokenizer.eos_id) == (kind != "gemma")
        assert tokenizer.token_text(tokenizer.eos_id) == END[kind]
        with pytest.raises(UserError, match="no token <|user|>"):
            tokenizer.token_id("<|user|>")
        with pytest.raises(IndexError, match="no token has the id"):
            tokenizer.decode([tokenizer.vocab_size])
        for mask in MASKS:  # ordinary text
            assert len(encode(tokenizer, mask)) > 1 and tokenizer.decode(encode(tokenizer, mask)) == mask


def test_what_changes_is_said_once_with_an_example(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in KINDS:
        assert train(config_for(root / "base" / kind, tmp_path / kind)) == 0
        said = capsys.readouterr().out
        changed = read_json(tmp_path / kind / "meta.json")["counts"]["changed"]
        assert (
            said.count("WARNING") == (kind not in EXACT) and f"({load_tokenizer(tmp_path / kind).eos_id}) ends" in said
        )
        assert not changed if kind in EXACT else f"{len(changed)} of {len(EXAMPLES)} examples" in said
    assert read_json(tmp_path / "qwen2" / "meta.json")["counts"]["changed"]["cafe\u0301"] == "caf\u00e9"
    assert read_json(tmp_path / "gemma" / "meta.json")["counts"]["changed"] == {"U+2581: ▁": "U+2581:  "}


@pytest.mark.parametrize("kind", KINDS)
def test_shards_of_it_are_verified(kind: str, tmp_path: Path, adopted: dict[str, Tokenizer]) -> None:
    tokenizer = adopted[kind]
    writer = ShardWriter(tmp_path / "s", tokenizer.vocab_size, tokenizer.eos_id, tokenizer.fingerprint)
    for text, ids in zip(TEXTS, tokenizer.encode_batch(TEXTS), strict=True):
        writer.add(ids, len(text.encode()))
    writer.finish()
    assert list_faults(tmp_path / "s", tokenizer) == []
    writer = ShardWriter(tmp_path / "t", tokenizer.vocab_size, tokenizer.eos_id, tokenizer.fingerprint)
    writer.add(tokenizer.encode_batch(["渡船"])[0], 1)
    writer.finish()
    assert bool(list_faults(tmp_path / "t", tokenizer)) == tokenizer.exact  # bytes that do not add up


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_opens_it(kind: str, root: Path, adopted: dict[str, Tokenizer]) -> None:
    opened = open_tokenizer(str(root / kind))
    assert (
        isinstance(opened, Opened)
        and opened.kind == f"adopted, {'' if kind in ('gemma', 'llama2') else 'byte-level '}BPE"
    )
    assert opened.fingerprint == adopted[kind].fingerprint and len(opened.tokens) == adopted[kind].vocab_size
    assert [ids.tolist() for ids in opened.encode(LINES)] == [encode(adopted[kind], text) for text in LINES]
    plain = open_tokenizer(str(root / "base" / kind))
    assert isinstance(plain, Opened) and list(plain.tokens) == list(opened.tokens)


def test_the_fingerprint_is_of_ids_ends_and_padding(root: Path, tmp_path: Path, adopted: dict[str, Tokenizer]) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"eos_token": "<|im_end|>"},
        {"pad_token": "<|im_end|>"},
        {"chat_template": "x"},
    ]
    prints = []
    for number, change in enumerate(changes):
        train(config_for(write(tmp_path / f"base{number}", "qwen2", **change), tmp_path / str(number)))
        prints.append(load_tokenizer(tmp_path / str(number)).fingerprint)
    assert prints[0] == prints[3] == adopted["qwen2"].fingerprint and len(set(prints)) == 3


def test_ids_without_a_token_and_control_tokens_of_the_settings(tmp_path: Path) -> None:
    write(tmp_path / "base", "gemma", additional_special_tokens=["th"], eos_token="bos")
    path = tmp_path / "base" / "tokenizer.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    state["model"]["vocab"]["gap"] = len(state["model"]["vocab"]) + 3
    path.write_text(json.dumps(state), encoding="utf-8")
    assert train(config_for(tmp_path / "base", tmp_path / "out")) == 0
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.vocab_size == state["model"]["vocab"]["gap"] + 1
    assert tokenizer.token_text(tokenizer.vocab_size - 2) == f"<no token {tokenizer.vocab_size - 2}>"
    ids = encode(tokenizer, "the bosun")  # neither `th` nor `bos`, though merges make them
    assert tokenizer.decode(ids) == "the bosun" and not {tokenizer.eos_id, state["model"]["vocab"]["th"]} & set(ids)


def test_unigram_pieces_are_no_control_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers

    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((c, -3.0) for c in "▁</s>渡船門门the")]
    fast = Fast(models.Unigram(list(dict(pieces).items()), unk_id=0))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    fast.add_special_tokens(["<unk>", "</s>"])
    (tmp_path / "base").mkdir()
    fast.save(str(tmp_path / "base" / "tokenizer.json"))
    (tmp_path / "base" / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    assert train(config_for(tmp_path / "base", tmp_path / "out")) == 0
    tokenizer = load_tokenizer(tmp_path / "out")
    ids = encode(tokenizer, "渡船</s>門the门")
    assert tokenizer.eos_id not in ids and tokenizer.decode(ids) == "渡船</s>門the门"
    assert 0 in encode(tokenizer, "龘")  # what it does not know


def test_an_end_by_name_where_the_settings_name_none(root: Path, tmp_path: Path) -> None:
    assert "eos_token" not in SETTINGS["gpt2"]
    assert load_tokenizer(root / "gpt2").eos_id == make("gpt2").token_to_id(EOS)
    shutil.copytree(root / "base" / "gpt2", tmp_path / "base")
    (tmp_path / "base" / "tokenizer_config.json").unlink()
    assert train(config_for(tmp_path / "base", tmp_path / "out")) == 0
    assert read_json(tmp_path / "out" / "tokenizer_config.json")["eos_token"] == EOS


REFUSED: dict[str, tuple[Any, str]] = {
    "no eos": (lambda base: write(base, "llama3", eos_token=None), "names no eos_token, which ends every document"),
    "strange eos": (lambda base: write(base, "gemma", eos_token="</s>"), "eos_token is '</s>', which tokenizer.json"),
    "eos of no kind": (lambda base: write(base, "gemma", eos_token=7), "eos_token is no token: 7"),
    "no file": (lambda base: (base / "tokenizer.json").unlink(), "no tokenizer.json there .found: tokenizer_"),
    "damaged": (lambda base: (base / "tokenizer.json").write_text("{"), "tokenizer.json: damaged"),
    "damaged settings": (lambda base: (base / "tokenizer_config.json").write_text("{"), "config.json: damaged"),
    "a list": (lambda base: (base / "tokenizer_config.json").write_text("[]"), "no keys and values"),
    "words": (lambda base: write(base, "qwen2", added_tokens_decoder={"999": {"content": "<new>"}}),
              "names 1 tokens .*<new>"),
    "ours": (lambda base: write_tokenizer(base), "this project's own tokenizer"),
    "gone": (lambda base: shutil.rmtree(base), "no such folder"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    base = write(tmp_path / "a base", "qwen2")
    REFUSED[case][0](base)
    with pytest.raises(UserError, match=f"^base: .*{REFUSED[case][1]}"):
        train(config_for(base, tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []
    assert train(config_for(write(base, "gemma"), tmp_path / "out")) == 0  # the folder insists on nothing


def test_dropout_and_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write(tmp_path / "base", "qwen2")
    state = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    state["model"]["dropout"] = 0.1
    (base / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(UserError, match="dropout"):
        train(config_for(base, tmp_path / "out"))
    monkeypatch.setattr("mindllm.tokenizer.adopt.MAX_FILE_BYTES", 1000)
    with pytest.raises(UserError, match="too much for a tokenizer"):
        train(config_for(base, tmp_path / "out"))


def test_another_base_is_seen_and_a_begun_folder_goes_on(tmp_path: Path) -> None:
    base = write(tmp_path / "base", "qwen2")
    assert train(config_for(base, tmp_path / "out")) == 0
    for name in ("meta.json", "tokenizer.json"):  # as if it had been killed
        (tmp_path / "out" / name).unlink()
    assert train(config_for(base, tmp_path / "out")) == 0 and load_tokenizer(tmp_path / "out").kind == "adopted"
    write(base, "qwen2", pad_token="<|im_end|>")
    with pytest.raises(UserError, match="inputs.base.tokenizer_config.json"):
        train(config_for(base, tmp_path / "out"))
    assert train(config_for(base, tmp_path / "out", "force=true")) == 0


def test_a_folder_that_was_not_adopted_says_what_to_do(root: Path) -> None:
    with pytest.raises(UserError, match="adopt it first: python -m mindllm.tokenizer train CONFIG kind=adopted base="):
        load_tokenizer(root / "base" / "qwen2")


def test_byte_lengths_of_another_are_found(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "qwen2", tmp_path / "copy")
    lengths = np.load(tmp_path / "copy" / "token_bytes.npy")
    np.save(tmp_path / "copy" / "token_bytes.npy", np.roll(lengths, 1))
    with pytest.raises(RuntimeError, match="token_bytes.npy: does not fit .*adopt it again"):
        load_tokenizer(tmp_path / "copy")


def test_ours_stay_with_their_backends(tmp_path: Path) -> None:
    ours = load_tokenizer(write_tokenizer(tmp_path))
    assert (ours.kind, ours.exact) == ("sentencepiece", True)


@pytest.mark.parametrize(("given", "problem"), [
    ("base=b", "vocab_size: does nothing for kind adopted; it follows from base and must be 0"),
    ("vocab_size=0", "base: kind adopted needs"), ("base=b vocab_size=0 seed=2", "seed: does nothing for kind adopted"),
    ("base=b vocab_size=0 new_tokens=3", "new_tokens: does nothing"),
])  # fmt: skip
def test_settings(given: str, problem: str) -> None:
    with pytest.raises(UserError, match=f"1 problem.*\n.*{problem}"):
        load(TokenizerConfig, None, ["kind=adopted", *given.split()])
    load(TokenizerConfig, None, ["kind=adopted", "base=b", "vocab_size=0", "sample_bytes={}"])
