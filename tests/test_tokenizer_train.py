"""Learning: the same bytes in every process, refusals that leave nothing, work that goes on after a kill, all kinds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_bases import write_base
from clean_documents import Row, write_stage

from mindllm.config import UserError, load
from mindllm.stage import read_json
from mindllm.text import PII_MASKS
from mindllm.tokenizer import load_tokenizer
from mindllm.tokenizer import train as module
from mindllm.tokenizer.bytelevel import train_byte_level
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.pieces import MAX_LINE_BYTES, Pieces, train_model
from mindllm.tokenizer.train import train

ROOT = Path(__file__).resolve().parent.parent
TEXTS = {
    "en": [
        "The ferry leaves at seven and comes back at noon, if the wind allows it.",
        "My grandmother kept the seeds in tin boxes: beans, peas, 12 kinds of lettuce.",
        "If the door is open, walk in; if it is shut, knock twice and wait.",
    ],
    "zh-Hans": [
        "渡船早上七点开，风小的时候中午回来。",
        "奶奶把种子收在铁盒里：豆子、豌豆，还有12种生菜。",
        "门开着就进来；门关着，就敲两下，等一会儿。",
    ],
    "zh-Hant": [
        "渡船早上七點開，風小的時候中午回來。",
        "奶奶把種子收在鐵盒裡：豆子、豌豆，還有12種生菜。",
        f"聯繫我們：{PII_MASKS[1]}，或者寫信到{PII_MASKS[2]}。",
    ],
    "other": ["for i in range(10):\n    print(i, 'and', i * i)\n\tdone"],
}
FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "token_bytes.npy")
ONE_CORE = """import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execv(sys.argv[1], sys.argv[1:])
"""
LINES = [text for texts in TEXTS.values() for text in texts] * 9


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stage of clean documents in it."""
    root = tmp_path_factory.mktemp("train")
    rows = [(lang, text) for lang, texts in TEXTS.items() for text in texts * 3]
    write_stage(root / "refine", [Row(lang, "web", f"{i}", text) for i, (lang, text) in enumerate(rows)])
    return root


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    """The tokenizer that is learned from them."""
    assert train(config_for(root, "tokenizer")) == 0
    return root / "tokenizer"


def config_for(root: Path, out: str, **changes: Any) -> TokenizerConfig:
    given = {"documents": root / "refine", "out": root / out, "vocab_size": 420, **changes}
    return load(TokenizerConfig, None, [f"{key}={value}" for key, value in given.items()])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("meta.json", "plan.json")}


def test_size_is_exact_and_the_files_are_these(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer.vocab_size == 420 == len(tokenizer.token_bytes)
    assert sorted(contents(folder)) == sorted(FILES)
    np.testing.assert_array_equal(np.load(folder / "token_bytes.npy"), tokenizer.token_bytes)


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level"])
def test_the_same_bytes_in_other_processes(root: Path, kind: str) -> None:
    size = 420 if kind == "sentencepiece" else 330
    assert train(config_for(root, f"here-{kind}", kind=kind, vocab_size=size)) == 0
    for number in range(2):
        environment = os.environ | {"PYTHONHASHSEED": str(number), "RAYON_NUM_THREADS": str(number + 1)}
        keys = f"kind: {kind}\nvocab_size: {size}\ndocuments: {root / 'refine'}\nout: {root / f'{kind}-{number}'}\n"
        (root / "config.yaml").write_text(keys)
        command = [sys.executable, "-m", "mindllm.tokenizer", "train", str(root / "config.yaml")]
        one_core = [sys.executable, "-c", ONE_CORE] if number and hasattr(os, "sched_setaffinity") else []
        subprocess.run([*one_core, *command], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        assert contents(root / f"{kind}-{number}") == contents(root / f"here-{kind}")


def test_what_was_learned_from_is_printed_and_noted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = "{zh-Hant: 1000000, zh/web: 1000000, zh: 5}"
    assert train(config_for(root, "noted", vocab_size=390, sample_bytes=sample)) == 0
    sizes = {lang: sum(len(text.encode()) for text in texts) * 3 for lang, texts in TEXTS.items()}
    chinese = sizes["zh-Hans"] + sizes["zh-Hant"]
    out = capsys.readouterr().out
    assert (
        f"learning 390 pieces from {chinese / 1e6:.1f} MB, about" in out and "zh/web" in out and "learned from" in out
    )
    counts = read_json(root / "noted" / "meta.json")["counts"]
    assert (counts["in"], counts["out"], counts["cut_lines"]) == (chinese, 390, 0)
    assert {key: part["taken_bytes"] for key, part in counts["sample"].items()} == {
        "zh-Hant": 0,
        "zh/web": chinese,
        "zh": 0,
    }
    assert counts["measured"].keys() >= counts["estimate"].keys() == {"memory", "seconds"}
    only = load_tokenizer(root / "noted")
    assert only.token_id("船")
    with pytest.raises(UserError, match="no token f"):  # learned from Chinese alone, it spells English in bytes
        only.token_id("f")


def test_a_refusal_leaves_an_empty_folder(root: Path) -> None:
    with pytest.raises(UserError, match=r"vocab_size: 9999 .* use at most (\d+)") as error:
        train(config_for(root, "size", vocab_size=9999))
    limit = int(str(error.value).split()[-1])
    assert list((root / "size").iterdir()) == []
    assert train(config_for(root, "size", vocab_size=limit)) == 0
    assert load_tokenizer(root / "size").vocab_size == limit
    with pytest.raises(UserError, match="too small for this text's characters; use more than [0-9]+"):
        train(config_for(root, "small", vocab_size=290, character_coverage=1.0))
    with pytest.raises(UserError, match="max_memory_gb is 0.01; .* needed without any text"):
        train(config_for(root, "memory", max_memory_gb=0.01))
    with pytest.raises(UserError, match="no text to learn a tokenizer from"):
        train(config_for(root, "memory", sample_bytes="{other/web: 0}"))
    assert list((root / "memory").iterdir()) == []
    assert train(config_for(root, "memory")) == 0  # no force


def test_a_begun_folder_goes_on(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    config = config_for(root, "begun")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "train_model", killed)
        train(config)
    assert [path.name for path in config_files(config)] == ["plan.json"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_twin", killed)
        train(config)
    assert {path.name for path in config_files(config)} == {"plan.json", "tokenizer.model"}
    monkeypatch.setattr(module, "train_model", killed)  # not learned again
    assert train(config) == 0 and contents(root / "begun") == contents(folder)
    counts, whole = (read_json(path / "meta.json")["counts"] for path in (root / "begun", folder))
    assert counts == whole | {"measured": {}}
    assert train(config) == 0  # done before


def config_files(config: TokenizerConfig) -> list[Path]:
    return list(Path(config.out).iterdir())


def test_every_kind_has_its_own_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []

    def enlarged(folder: Path, lines: Iterator[str], config: TokenizerConfig) -> None:
        seen.append((config.base, list(lines)))
        train_byte_level(folder, seen[-1][1], load(TokenizerConfig, None, ["kind=byte-level", "vocab_size=330"]))

    monkeypatch.setattr(module, "train_enlarged", enlarged)
    base = root / "base"
    write_base(base)
    changes = {"kind": "enlarged", "base": base, "new_tokens": 50, "vocab_size": 0}
    assert train(config_for(root, "enlarged", **changes)) == 0
    assert [name for name, _ in seen] == [str(base)] and len(set(seen[0][1])) == 12
    assert read_json(root / "enlarged" / "meta.json")["counts"]["out"] == 330
    with open(base / "merges.txt", "a") as file:
        file.write("a b\n")
    with pytest.raises(UserError, match="inputs.base.merges.txt"):  # another base
        train(config_for(root, "enlarged", **changes))


def test_bad_settings_are_named_together() -> None:
    wrong = ["vocab_size=100", "sample_bytes={fr: 1, zh/: 2, en: -1}", "character_coverage=0.5", "max_memory_gb=-1"]
    with pytest.raises(UserError, match="6 problem") as error:
        load(TokenizerConfig, None, wrong)
    words = (
        "vocab_size",
        "sample_bytes.fr",
        "sample_bytes.zh/",
        "sample_bytes.en: -1",
        "character_coverage",
        "max_mem",
    )
    assert all(word in str(error.value) for word in words)
    with pytest.raises(UserError, match="names no language"):
        load(TokenizerConfig, None, ["sample_bytes={}"])
    with pytest.raises(UserError, match="kind: 'unigram' is none of sentencepiece, byte-level, enlarged"):
        load(TokenizerConfig, None, ["kind=unigram"])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("new_tokens=5", "new_tokens: does nothing for kind sentencepiece; leave it at 0"),
        ("base=gpt2", "base: does nothing for kind sentencepiece; leave it at ''"),
        ("kind=byte-level character_coverage=0.99", "character_coverage: does nothing for kind byte-level"),
        ("kind=enlarged base=b new_tokens=9", "vocab_size: does nothing for kind enlarged; it follows .* must be 0"),
        ("kind=enlarged base=b new_tokens=9 vocab_size=0 split_digits=false", "split_digits: .* leave it at True"),
        ("kind=enlarged vocab_size=0 base=b", "kind enlarged needs both"),
    ],
)
def test_options_that_do_nothing_are_refused(given: str, problem: str) -> None:
    with pytest.raises(UserError, match=f"1 problem.*\n.*{problem}"):
        load(TokenizerConfig, None, given.split())


def test_options_of_each_kind_are_taken() -> None:
    for given in ("split_digits=false", "kind=byte-level split_digits=false vocab_size=300",
                  "kind=enlarged base=b new_tokens=9 vocab_size=0 character_coverage=0.99"):  # fmt: skip
        config = load(TokenizerConfig, None, given.split())
        assert all(str(getattr(config, key)).lower() == value for key, value in (w.split("=") for w in given.split()))


def pieces_of(model: bytes, folder: Path) -> list[str]:
    (folder / "tokenizer.model").write_bytes(model)
    return Pieces(folder).names()


def test_no_line_is_left_out(tmp_path: Path) -> None:
    """SentencePiece leaves out lines that are too long, and those with U+2585, without a word."""
    longest = "ŵ" * (MAX_LINE_BYTES // 2)
    names = pieces_of(train_model([*LINES, *["ǵ ▅ 龘▅" * 50] * 9, longest], 430, 1.0), tmp_path)
    assert {"ǵ", "龘", "ŵŵŵŵ"} <= set(names) and not any("▅" in name for name in names)


@pytest.mark.parametrize("error", [UserError("a damaged file"), KeyboardInterrupt()])
def test_what_the_lines_raise_comes_through(error: BaseException) -> None:
    def lines() -> Iterator[str]:
        yield from LINES
        raise error

    with pytest.raises(type(error)) as found:
        train_model(lines(), 420, 1.0)
    assert found.value is error


def test_text_without_a_blank_comes_back_with_blanks(tmp_path: Path) -> None:
    """A character that is rare in the sample is bytes; as bytes, a blank would be those of U+2581."""
    names = pieces_of(train_model(["渡船早上七点开", "渡船中午回来"] * 50, 305, 1.0), tmp_path)
    model = Pieces(tmp_path)
    text = " 渡船 早上  seven\n\t▁ "
    assert "▁" in names and model.decode([int(i) for i in model.encode(text)]) == text


def test_blanks_inside_pieces_are_found() -> None:
    with pytest.raises(RuntimeError, match="made 300 pieces of 300, [1-9][0-9]* with blanks inside"):
        train_model(["of the of the of the"] * 50, 300, 1.0, split_by_whitespace=False)


def test_a_byte_level_tokenizer_learns_line_breaks(tmp_path: Path) -> None:
    """It sees whole documents: empty lines and indentation are tokens, in both languages."""
    texts = {
        "en": "def walk(step):\n    return step\n\nThe end.\n\n",
        "zh-Hans": "第一段。\n\n第二段。\n\n",
        "zh-Hant": "門。\n\n",
    }
    rows = [Row(lang, "web", f"{lang}/{i}", text * 3) for lang, text in texts.items() for i in range(4)]
    write_stage(tmp_path / "refine", rows)
    assert train(config_for(tmp_path, "bytes", kind="byte-level", vocab_size=315)) == 0
    tokens = {load_tokenizer(tmp_path / "bytes").token_text(i) for i in range(315)}
    assert {"<0x0A><0x0A>", "<0x0A>   "} <= tokens
