"""The command line: exit codes, messages on stderr, and a --help for every verb that names every key."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mindllm.cli import Verb, main
from mindllm.config import UserError

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Part:
    """A part."""

    size: int = 1


@dataclass
class Config:
    """What to greet.

    name: who.
    """

    name: str
    inner: Part = field(default_factory=Part)
    parts: list[Part] = field(default_factory=list)
    table: dict[str, Part] = field(default_factory=dict)


def greet(config: Config) -> int | None:
    """Greet somebody."""
    if config.name == "nobody":
        raise UserError("name: nobody is no 名字")
    if config.name == "crash":
        raise RuntimeError("a bug")
    if config.name in ("full", "broken"):
        raise OSError(errno.ENOSPC if config.name == "full" else errno.EIO, os.strerror(errno.ENOSPC), "磁盤/x")
    if config.name == "stop":
        raise KeyboardInterrupt
    print(f"hello {config.name}, {config.inner.size}")
    return {"fails": 1}.get(config.name)


VERBS = {"greet": Verb(Config, greet)}


def run(capsys: pytest.CaptureFixture[str], *words: str, verbs: Any = VERBS) -> tuple[int, str, str]:
    code = main("python -m demo", verbs, words)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "c.yaml").write_text("name: 你好")
    return str(tmp_path / "c.yaml")


def test_done_failed_interrupted(capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert run(capsys, "greet", path) == (0, "hello 你好, 1\n", "")
    assert run(capsys, "greet", "inner.size=3", path, "name=a=b") == (0, "hello a=b, 3\n", "")
    assert run(capsys, path, verbs=VERBS["greet"]) == (0, "hello 你好, 1\n", "")
    assert run(capsys, "greet", path, "name=fails")[0] == 1
    code, out, err = run(capsys, "greet", path, "name=stop")
    assert (code, out) == (130, "") and "run the same command again" in err
    with pytest.raises(RuntimeError, match="a bug"):
        run(capsys, "greet", path, "name=crash")


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str], path: str) -> None:
    said = f"python -m demo: {os.strerror(errno.ENOSPC)} (磁盤/x); make room and run the same command again to go on\n"
    assert run(capsys, "greet", path, "name=full") == (1, "", said)
    with pytest.raises(OSError):
        run(capsys, "greet", path, "name=broken")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["great"], "unknown verb 'great'; there are greet"),
        (["greet"], "expected one config file, got 0: python -m demo greet CONFIG.yaml key=value ...; --help"),
        (["greet", "a.yaml", "b.yaml"], "expected one config file, got 2"),
        (["greet", "a.yaml", "--force"], "--force: options are written key=value, without dashes"),
        (["greet", "-name=x"], "-name=x: options are written key=value"),
        (["greet", "missing.yaml"], "missing.yaml: no such config file"),
        (["greet", "CONFIG", "nam=x"], "nam: unknown key; did you mean 'name'?"),
        (["greet", "CONFIG", "name=nobody"], "name: nobody is no 名字"),
    ],
)  # fmt: skip
def test_wrong_use_is_two_and_on_stderr(
    capsys: pytest.CaptureFixture[str], path: str, words: list[str], message: str
) -> None:
    code, out, err = run(capsys, *(path if w == "CONFIG" else w for w in words))
    assert (code, out) == (2, "") and err.startswith("python -m demo: ") and message in err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, listed, _ = run(capsys, "--help")
    assert code == 0 and "greet  Greet somebody." in listed
    assert run(capsys) == (2, listed, "")  # no verb at all
    code, out, _ = run(capsys, "greet", "-h")
    lines = [line.strip() for line in out.split("\n")]
    assert code == 0 and {"Greet somebody.", "What to greet.", "name: who."} < set(lines)
    keys = lines[lines.index("keys:") + 1 :]
    assert {"name: str (required)", "inner.size: int = 1", "parts.0.size: int = 1", "table.NAME.size: int = 1"} <= set(
        keys
    )


@dataclass
class WordConfig(Config):
    """What to say."""

    word: str = ""


def say(config: WordConfig) -> None:
    """Say a word."""
    print(f"{config.word} {config.name}")


def test_a_verb_with_an_argument(capsys: pytest.CaptureFixture[str], path: str, tmp_path: Path) -> None:
    verb = Verb(WordConfig, say, "word")
    assert run(capsys, "早 a=b.html", path, verbs=verb) == (0, "早 a=b.html 你好\n", "")
    assert run(capsys, "x", "name=A", path, verbs={"say": verb, "greet": VERBS["greet"]})[0] == 2
    assert run(capsys, "say", "x", "name=A", path, verbs={"say": verb}) == (0, "x A\n", "")
    code, out, err = run(capsys, "say", verbs={"say": verb})
    assert (code, out) == (2, "") and "expected WORD: python -m demo say WORD CONFIG.yaml key=value ...; --help" in err
    code, _, err = run(capsys, "x", verbs=verb)
    assert code == 2 and "expected one config file, got 0: python -m demo WORD CONFIG.yaml" in err
    assert run(capsys, "x", path, "b.yaml", verbs=verb)[0] == 2
    code, _, err = run(capsys, "x", "--force", path, verbs=verb)
    assert code == 2 and "--force: options are written key=value" in err


def test_a_default_config(capsys: pytest.CaptureFixture[str], path: str, tmp_path: Path) -> None:
    verb = Verb(WordConfig, say, "word", path)
    assert run(capsys, "x", verbs=verb) == (0, "x 你好\n", "")
    assert run(capsys, "x", "name=A", verbs=verb) == (0, "x A\n", "")
    (tmp_path / "d.yaml").write_text("name: other")
    assert run(capsys, "x", str(tmp_path / "d.yaml"), verbs=verb) == (0, "x other\n", "")
    code, _, err = run(capsys, "x", verbs=Verb(WordConfig, say, "word", "nowhere/c.yaml"))
    assert code == 2 and "got 0" in err and "nowhere/c.yaml does not exist" in err


def test_help_of_an_argument(capsys: pytest.CaptureFixture[str], path: str) -> None:
    verb = Verb(WordConfig, say, "word", path)
    _, out, _ = run(capsys, "--help", verbs=verb)
    assert out.startswith(
        f"python -m demo WORD [CONFIG.yaml] key=value ...\nCONFIG.yaml is {path} where none is named."
    )
    assert "  name: str" in out and "  word:" not in out
    _, out, _ = run(capsys, "--help", verbs={"say": verb, **VERBS})
    assert "python -m demo say WORD [CONFIG.yaml] key=value ..." in out and "Say a word." in out


@dataclass
class WordsConfig:
    """What to join.

    runs: what.  out: between them.
    """

    runs: list[str] = field(default_factory=list)
    out: str = "+"


def join(config: WordsConfig) -> None:
    """Join words."""
    print(config.out.join(config.runs))


JOIN = Verb(WordsConfig, join, words="runs")


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["a"], "a"),
        (["runs/演示", "b", "out=,"], "runs/演示,b"),
        (["out=x=y", "a", "./lr=0.1", "runs/a=b/c=d"], "ax=y./lr=0.1x=yruns/a=b/c=d"),
        (["[1, 2]", "{run}", "null", "out=../p.html"], "[1, 2]../p.html{run}../p.htmlnull"),  # words are no YAML
    ],
)
def test_a_verb_of_words_reads_no_file(capsys: pytest.CaptureFixture[str], words: list[str], printed: str) -> None:
    assert run(capsys, *words, verbs=JOIN) == (0, printed + "\n", "")
    assert run(capsys, "join", *words, verbs={"join": JOIN}) == (0, printed + "\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected RUN: python -m demo RUN [RUN ...] key=value ...; --help lists the keys"),
        (["out=x"], "expected RUN: python -m demo RUN [RUN ...]"),
        (["a", "runs=b"], "runs: written as words, without a key"),
        (["a", "lr=0.1"], "lr: unknown key"),
        (["a", "--out", "x"], "--out: options are written key=value"),
    ],
)
def test_wrong_use_of_words(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    code, out, err = run(capsys, *words, verbs=JOIN)
    assert (code, out) == (2, "") and message in err


def test_help_of_words(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--help", verbs=JOIN)
    assert out.startswith("python -m demo RUN [RUN ...] key=value ...\n") and "CONFIG" not in out
    assert "  out: str = '+'" in out and "  runs:" not in out
    _, out, _ = run(capsys, "--help", verbs={"join": JOIN})
    assert out.startswith("python -m demo VERB WORDS key=value") and "CONFIG" not in out
    _, out, _ = run(capsys, "--help", verbs={"join": JOIN, **VERBS})
    assert "VERB CONFIG.yaml key=value" in out and "python -m demo join RUN [RUN ...] key=value ..." in out


def programs() -> Iterator[tuple[str, Verb]]:
    """Every command of the project with a config."""
    for name in ("data_pipeline.__main__", "mindllm.tokenizer.__main__", "mindllm.metrics.__main__", "eval.__main__"):
        for word, verb in importlib.import_module(name).VERBS.items():
            yield f"{name} {word}", verb
    for name, config in (("pretrain", "PretrainConfig"), ("export", "ExportConfig"), ("chain", "ChainConfig")):
        module = importlib.import_module(f"mindllm.{name}")
        yield f"mindllm.{name}", Verb(getattr(module, config), getattr(module, name))


def test_every_verb_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for program, verb in programs():
        code, out, _ = run(capsys, "--help", verbs=verb)
        assert code == 0 and "None" not in out.split("keys:")[0], program
        assert verb.run.__doc__ and verb.config.__doc__, program
        for f in dataclasses.fields(verb.config):
            assert f"  {f.name}" in out or f.name in (verb.argument, verb.words), (program, f.name)
        seen.append(program)
    assert len(seen) == len(set(seen)) >= 12


@pytest.mark.parametrize("module", ["data_pipeline", "mindllm.tokenizer"])
def test_as_a_process(module: str) -> None:
    """No traceback for what a user typed; the exit code reaches the shell."""
    good = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert good.returncode == 0 and "VERB CONFIG.yaml" in good.stdout and good.stderr == ""
    bad = subprocess.run(
        [sys.executable, "-m", module, "nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert bad.returncode == 2 and bad.stdout == "" and bad.stderr.startswith(f"python -m {module}: unknown verb")


def test_a_reader_that_closes_the_pipe_is_no_error() -> None:
    """`--help | head -1`: no traceback, whatever is still in the buffer."""
    code = "import sys; from mindllm.cli import _print; sys.stdin.read(1); _print('x' * 1_000_000)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None and process.stdin is not None
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.stderr.read() == b"" and process.wait() == 0
    process.stderr.close()
