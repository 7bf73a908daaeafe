"""Opening the tokenizer that is enlarged: one that splits text as GPT-2 does, from a folder or the hub; no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from byte_bases import NUM_BASE, base_tokenizer, write_base
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import UserError
from mindllm.text import PII_MASKS
from mindllm.tokenizer import base as base_module
from mindllm.tokenizer.base import open_base
from mindllm.tokenizer.bytelevel import HAN_RUNS, Splitting, make
from mindllm.tokenizer.fast import add_special
from mindllm.tokenizer.special import EOS, PAD, ROLES

HERE = Path(__file__).resolve().parent
# The hub of the data sets answers for models as well; opens what argv names, and prints what it found.
SERVER = """
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
import fake_hub
class Models(fake_hub.Hub):
    def do_GET(self):
        api = self.path.startswith("/api/models/")
        self.path = self.path.replace("/models/", "/datasets/", 1) if api else "/datasets" + self.path
        fake_hub.Hub.do_GET(self)
    do_HEAD = do_POST = do_GET
Models.root, Models.log = Path(sys.argv[1]), Path(sys.argv[2])
server = ThreadingHTTPServer(("127.0.0.1", 0), Models)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
OPEN = """
import sys
from mindllm.config import UserError
from mindllm.tokenizer import base
base.MAX_FILE_BYTES = int(sys.argv[2])
try:
    print(len(base.open_base(sys.argv[1]).vocab))
except UserError as error:
    print(error)
"""


def write_fast(folder: Path, change: Callable[[dict[str, Any]], object] = lambda state: None) -> Path:
    """The base as tokenizer.json, with a change. The folder."""
    fast = base_tokenizer()
    add_special(fast, [EOS, PAD, *ROLES], PII_MASKS)
    state = json.loads(fast.to_str())
    change(state)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    return folder


def test_vocabulary_and_merges_are_read_as_gpt2(tmp_path: Path) -> None:
    base = open_base(str(write_base(tmp_path)))
    assert len(base.vocab) == NUM_BASE and base.vocab[EOS] == NUM_BASE - 1 and base.control == (EOS,)
    assert base.splitting == Splitting("") and base.words == ()
    again, text = make(base.vocab, base.merges, base.splitting), "渡船 leaves at 7, 門開著。\n"
    assert again.encode(text).ids == base_tokenizer().encode(text).ids
    lines = (tmp_path / "merges.txt").read_text(encoding="utf-8")
    (tmp_path / "merges.txt").write_text(lines.replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert open_base(str(tmp_path)) == base


def test_a_fast_file_comes_first_and_says_more(tmp_path: Path) -> None:
    base = open_base(str(write_fast(write_base(tmp_path))))
    assert base.control == (EOS, PAD, *ROLES) and base.words == PII_MASKS
    assert sorted(base.vocab.values()) == list(range(NUM_BASE + 5 + 8)) and base.splitting == Splitting("")
    assert base.merges == open_base(str(write_base(tmp_path / "parts"))).merges

    def older(state: dict[str, Any]) -> None:
        state["model"]["merges"] = [" ".join(merge) for merge in state["model"]["merges"]]
        del state["model"]["type"], state["pre_tokenizer"]["use_regex"]

    assert open_base(str(write_fast(tmp_path / "older", older))) == base
    tokenizer = make(base.vocab, base.merges, Splitting(HAN_RUNS, True))
    (tmp_path / "ours").mkdir()
    tokenizer.save(str(tmp_path / "ours" / "tokenizer.json"))
    assert open_base(str(tmp_path / "ours")).splitting == Splitting(HAN_RUNS, True)


def edit(*path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """A change of one place."""

    def change(state: Any) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return change


STRANGE = [
    (edit("model", "type", value="Unigram"), "its model is Unigram"),
    (edit("model", "byte_fallback", value=True), "byte_fallback"),
    (edit("model", "dropout", value=0.1), "dropout"),
    (edit("normalizer", value={"type": "NFC"}), "it changes text before encoding"),
    (edit("pre_tokenizer", value=None), "does not split text as GPT-2 does"),
    (edit("pre_tokenizer", "add_prefix_space", value=True), "does not split text as GPT-2 does"),
    (edit("added_tokens", value=[{"content": "  ", "id": NUM_BASE, "special": False}]), "added token '  '"),
    (edit("added_tokens", value=[{"content": "<s>", "id": NUM_BASE, "special": True, "lstrip": True}]), "'<s>'"),
    (edit("added_tokens", value=[{"content": "<s>", "id": NUM_BASE + 1, "special": True}]), "ids are not 0 to"),
    (edit("model", "merges", value=["a b c"]), "merge 1 .* is not two tokens"),
    (edit("model", "merges", value=[["中", "国"]]), "merge 1 .* is not made of known tokens"),
    (edit("model", "vocab", value={}), "ids are not 0 to|bytes have no token"),
    (edit("model", "vocab", value={"a": "b", "c": 1}), "damaged"),
    (edit("model", "merges", value=7), "damaged"),
    (edit("model", value={"type": "BPE"}), "damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), STRANGE)
def test_what_cannot_be_enlarged_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(UserError, match=f"base: .*({message})"):
        open_base(str(write_fast(tmp_path, change)))


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found: none"):
        open_base(str(tmp_path))
    write_base(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    with pytest.raises(UserError, match="is a Qwen2Tokenizer, so it does not split text as GPT-2 does"):
        open_base(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true}')
    with pytest.raises(UserError, match="adds a blank"):
        open_base(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": false}')
    assert len(open_base(str(tmp_path)).vocab) == NUM_BASE
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"\d+ entries come from no merge .* wrong merges\?"):
        open_base(str(tmp_path))
    (tmp_path / "vocab.json").write_text("[1, 2")
    with pytest.raises(UserError, match="vocab.json: damaged"):
        open_base(str(tmp_path))
    (tmp_path / "vocab.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="vocab.json: cannot be read"):
        open_base(str(tmp_path))


def test_sizes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "MAX_FILE_BYTES", 5000)
    with pytest.raises(UserError, match="vocab.json: 0 MB are too much for a tokenizer"):
        open_base(str(write_base(tmp_path)))


@settings(max_examples=100, deadline=None)
@given(
    key=st.sampled_from(["model", "added_tokens", "pre_tokenizer", "normalizer", "version"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "merges", "vocab", "a"]), inner)
        ),
    ),
)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, key: str, value: object) -> None:
    folder = tmp_path_factory.mktemp("any")
    write_fast(folder, edit(key, value=value))
    try:
        open_base(str(folder))
    except UserError as error:
        assert str(error).startswith("base: ")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "a b", "../x", "a/b/c", "https://example.org/x"])
def test_what_is_no_name_is_not_asked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="base: .*no such folder, and no name on the hub"):
        open_base(name)


@pytest.fixture()
def hub(tmp_path: Path) -> Any:
    """Opens a name with a hub on this machine, in a process of its own (the hub's address is read at import)."""
    write_base(tmp_path / "hub" / "some" / "base")
    (tmp_path / "hub" / "some" / "base" / "model.bin").write_bytes(b"large")
    write_fast(tmp_path / "hub" / "some" / "fast")
    (tmp_path / "hub" / "some" / "empty").mkdir()
    (tmp_path / "hub" / "some" / "gated").mkdir()
    env = {
        **os.environ,
        "PYTHONPATH": f"{HERE}:{HERE.parent}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_secret",
    }
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path / "hub"), str(tmp_path / "log")],
        stdout=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    assert server.stdout is not None
    env["HF_ENDPOINT"] = f"http://127.0.0.1:{server.stdout.readline().strip()}"

    def ask(name: str, limit: int = 10**6, **more: str) -> str:
        command = [sys.executable, "-c", OPEN, name, str(limit)]
        done = subprocess.run(command, env={**env, **more}, capture_output=True, text=True, cwd=tmp_path, check=True)
        assert "hf_secret" not in done.stdout
        return done.stdout.strip()

    ask.log = tmp_path / "log"  # type: ignore[attr-defined]
    ask.stop = server.terminate  # type: ignore[attr-defined]
    yield ask
    server.terminate()
    server.wait()


def test_the_hub_gives_the_tokenizer_s_files_and_nothing_else(hub: Any) -> None:
    assert hub("some/base") == str(NUM_BASE)
    assert "model.bin" not in hub.log.read_text() and "/resolve/main/merges.txt" in hub.log.read_text()
    assert hub("some/fast@v1") == str(NUM_BASE + 13)
    assert "some/empty: no tokenizer.json there" in hub("some/empty")
    assert "of 0 MB is too much for a tokenizer" in hub("some/base", 5000)
    assert "has no revision 'v9'" in hub("some/base@v9")
    assert "some/none: not on http" in hub("some/none") and "HF_TOKEN" in hub("some/none")
    assert "some/gated is gated: ask for access" in hub("some/gated")


def test_what_was_fetched_is_there_without_the_hub(hub: Any) -> None:
    assert hub("some/base") == str(NUM_BASE)
    assert hub("some/base", HF_HUB_OFFLINE="1") == str(NUM_BASE)
    assert "HF_HUB_OFFLINE is set and it was not fetched before" in hub("some/fast", HF_HUB_OFFLINE="1")


@pytest.mark.slow
def test_a_hub_that_does_not_answer(hub: Any) -> None:
    """Its library tries for 20 s."""
    hub.stop()
    assert "cannot be reached, and it was not fetched before" in hub("some/fast")


def test_only_the_hub_needs_its_library() -> None:
    code = "import sys, mindllm.tokenizer.enlarge; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False" and isinstance(base_tokenizer(), tokenizers.Tokenizer)
