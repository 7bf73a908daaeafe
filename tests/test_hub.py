"""Data sets: which files of which config and split, in folders and on a hub (a fake one, on this machine)."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import COMMIT
from raw_inputs import parquet

from data_pipeline.reading.files import read
from data_pipeline.reading.hub import list_dataset
from data_pipeline.sources import Source
from mindllm.config import UserError

CARD = """---
configs:
- config_name: en
  data_files:
  - {split: train, path: "en/train-*"}
  - {split: test, path: en/test.parquet}
- config_name: zh
  data_files: "zh/*"
---
# A bilingual data set
"""


def write_dataset(folder: Path) -> Path:
    """Two configs, two splits, several files of two formats."""
    for lang, words in (("en", ["rain", "wind", "snow"]), ("zh", ["雨", "風"])):
        (folder / lang).mkdir(parents=True)
        for number, word in enumerate(words):
            rows = [{"text": word, "url": f"https://{lang}.example/{number}"}, {"text": f"{word} 2"}]
            if lang == "en":
                (folder / f"en/train-{number:05d}-of-00003.parquet").write_bytes(parquet(rows))
            else:
                lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
                (folder / f"zh/part{number}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "en/test.parquet").write_bytes(parquet([{"text": "test"}]))
    (folder / "README.md").write_text(CARD)
    return folder


def documents(source: Source) -> list[tuple[str, str]]:
    """(id, text or why there is none) of all documents."""
    found = [document for shard in list_dataset("wiki", source) for document in read(shard)]
    return [(d.id, d.meta["broken"] if "broken" in d.meta else d.meta["plain"].decode()) for d in found]


def test_a_folder_with_configs_and_splits(tmp_path: Path) -> None:
    folder = str(write_dataset(tmp_path / "wiki"))
    shards = list(list_dataset("wiki", Source(dataset=folder, config_name="en")))
    assert [(s.name, s.files, s.source, s.root) for s in shards] == [
        (f"wiki-{n:05d}", (f"train-{n:05d}-of-00003.parquet",), "wiki", f"{folder}/en") for n in range(3)
    ]
    assert shards[0].settings == Source(dataset=folder, config_name="en")
    assert [s.num_bytes for s in shards] == [os.path.getsize(f"{s.root}/{s.files[0]}") for s in shards]
    ids = [f"wiki/train-{n:05d}-of-00003.parquet#{row}" for n in range(3) for row in range(2)]
    texts = ["rain", "rain 2", "wind", "wind 2", "snow", "snow 2"]
    assert documents(Source(dataset=folder, config_name="en")) == list(zip(ids, texts, strict=True))
    assert documents(Source(dataset=folder, config_name="en", split="test")) == [("wiki/test.parquet#0", "test")]
    assert documents(Source(dataset=folder, config_name="en", max_files=2)) == list(zip(ids, texts, strict=True))[:4]
    assert documents(Source(dataset=folder, config_name="zh")) == [
        ("wiki/part0.jsonl.gz#0", "雨"), ("wiki/part0.jsonl.gz#1", "雨 2"),
        ("wiki/part1.jsonl.gz#0", "風"), ("wiki/part1.jsonl.gz#1", "風 2"),
    ]  # fmt: skip


def test_a_folder_without_a_card(tmp_path: Path) -> None:
    for name in ("data/a/train-0.jsonl", "data/b/train-0.jsonl", "data/test.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"text": f"雨 {name}"}))
    found = documents(Source(dataset=str(tmp_path)))
    assert found == [(f"wiki/{x}/train-0.jsonl#0", f"雨 data/{x}/train-0.jsonl") for x in "ab"]
    assert documents(Source(dataset=str(tmp_path), split="test")) == [("wiki/test.jsonl#0", "雨 data/test.jsonl")]


def test_json_that_datasets_would_not_read(tmp_path: Path) -> None:
    rows = [
        '{"text": "2024-01-01", "a": 1}',
        '{"text": "雨", "a": {"b": [1]}}',
        '{"text": "cut',
        '{"text": "風", "c": ""}',
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    assert [text for _, text in documents(Source(dataset=str(tmp_path)))] == ["2024-01-01", "雨", "read:bad_json", "風"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"config_name": "zn"}, r"w\.config_name: 'zn' is none of those of .*/wiki: en, zh"),
        ({}, r"w\.config_name: must be one of those of .*/wiki: en, zh"),
        ({"config_name": "en", "split": "tran"}, r"w\.split: 'tran' is .*: test, train; did you mean train\?"),
        ({"config_name": "en", "split": "train[:9]"}, r"w\.split: 'train\[:9\]' is none of those"),
        ({"config_name": "en", "revision": "v1"}, r"w\.revision: .*/wiki is a folder, which has none"),
    ],
)
def test_what_is_not_there(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    folder = write_dataset(tmp_path / "wiki")
    with pytest.raises(UserError, match=f"^sources.{message}"):
        list(list_dataset("w", Source(dataset=str(folder), **settings)))


def test_many_configs_are_not_all_shown(tmp_path: Path) -> None:
    lines = [f"- {{config_name: c{n:03d}, data_files: a.jsonl}}" for n in range(200)]
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "README.md").write_text("\n".join(["---", "configs:", *lines, "---"]))
    with pytest.raises(UserError, match=r": c000, .*, c019 and 180 more; did you mean c142\?$"):
        list(list_dataset("w", Source(dataset=str(tmp_path), config_name="c142x")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text\n雨\n", r"files that are not read \(a.csv\); the hub has .* Parquet"),
        ("wiki.py", "open('/tmp/ran', 'w')", "is made by a program, which is not run"),
        ("README.md", "# empty", "doesn't contain any data files"),
        ("README.md", "---\nconfigs: 5\n---", "Error"),
        ("README.md", "---\n{\n---", "Error"),
    ],
)
def test_data_sets_that_are_not_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / name).write_text(content)
    with pytest.raises(UserError, match=f"^sources.w.dataset: .*/wiki.*{message}"):
        list(list_dataset("w", Source(dataset=str(tmp_path / "wiki"))))


@pytest.mark.parametrize("place", ["{}/secret.jsonl", "../secret.jsonl", "sub/../../secret.jsonl", "a.zip"])
def test_files_that_lie_elsewhere_are_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "secret.jsonl").write_text('{"text": "private"}')
    (tmp_path / "wiki/sub").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "wiki/a.zip", "w") as file:
        file.writestr("a.jsonl", '{"text": "雨"}')
    card = f"---\nconfigs:\n- config_name: x\n  data_files: {place.format(tmp_path)}\n---"
    (tmp_path / "wiki/README.md").write_text(card)
    with pytest.raises(UserError, match="lies elsewhere|files that are not read|Unable to find|doesn't contain"):
        list(list_dataset("w", Source(dataset=str(tmp_path / "wiki"))))


@pytest.mark.parametrize("name", ["/no/where", "./wiki", "~/none", "a/b/c"])
def test_folders_that_are_not_there(name: str) -> None:
    with pytest.raises(UserError, match="is no folder; a data set of the hub is called owner/name"):
        list(list_dataset("w", Source(dataset=name)))


SCRIPT = """
import json, sys
import data_pipeline.reading.hub
assert "datasets" not in sys.modules and "huggingface_hub" not in sys.modules, "imported only where they are needed"
from data_pipeline.reading.files import read
from data_pipeline.reading.inputs import list_shards
from data_pipeline.sources import Source
for line in sys.stdin:
    try:
        shards = list_shards({"wiki": Source(**json.loads(line))}, 1)
        texts = [d.meta.get("broken") or d.meta["plain"].decode() for s in shards for d in read(s)]
        print(json.dumps([[[s.name, s.root, *s.files, s.settings.revision] for s in shards], texts]))
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
assert "torch" not in sys.modules
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Path, Path, str]]:
    """(the folder that a fake hub serves, its log, its address)."""
    folder, log = tmp_path / "hub", tmp_path / "log"
    folder.mkdir()
    command = [sys.executable, str(Path(__file__).with_name("fake_hub.py")), str(folder), str(log)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield folder, log, f"http://127.0.0.1:{server.stdout.readline().strip()}"
    server.kill()
    server.wait()


def ask(tmp_path: Path, address: str, *sources: dict[str, Any], **env: str) -> tuple[list[Any], str]:
    """What SCRIPT answers for each source, and all it wrote besides; in a process of its own, with HF_ENDPOINT."""
    env = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": address, **env}
    lines = "\n".join(map(json.dumps, sources))
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=lines, capture_output=True, text=True, env=env, cwd=root
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stdout + done.stderr


def test_the_hub(tmp_path: Path, hub: tuple[Path, Path, str]) -> None:
    folder, log, address = hub
    wiki = write_dataset(folder / "owner/wiki")
    (wiki / "zh/part0.jsonl.gz").rename(wiki / "zh/fail-once.jsonl.gz")
    (folder / "some/gated").mkdir(parents=True)
    (folder / "some/script").mkdir()
    (folder / "some/script/script.py").write_text("raise SystemExit('it ran')")
    (folder / "some/cached").mkdir()
    old = tmp_path / "home/datasets/some___cached/default/0.0.0/abc/dataset_info.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"builder_name": "json", "dataset_name": "cached", "config_name": "default"}')
    base = f"hf://datasets/owner/wiki@{COMMIT}"
    answers, said = ask(
        tmp_path,
        address,
        {"dataset": "owner/wiki", "config_name": "en", "max_files": 2},
        {"dataset": "owner/wiki", "config_name": "zh", "revision": "v1"},
        {"path": "hf://datasets/owner/wiki@refs/convert/parquet/en"},
        {"dataset": "owner/wiki", "config_name": "e"},
        {"dataset": "owner/wiki", "config_name": "en", "revision": "v2"},
        {"dataset": "owner/none"},
        {"dataset": "some/gated"},
        {"dataset": "some/script"},
        {"dataset": "some/cached"},
        {"dataset": "not a name"},
        HF_TOKEN="hf_topsecret",
    )
    names = [f"train-{n:05d}-of-00003.parquet" for n in range(2)]
    assert answers[0] == [
        [[f"wiki-{n:05d}", f"{base}/en", names[n], COMMIT] for n in range(2)],
        ["rain", "rain 2", "wind", "wind 2"],
    ]
    assert answers[1] == [
        [
            ["wiki-00000", f"{base}/zh", "fail-once.jsonl.gz", COMMIT],
            ["wiki-00001", f"{base}/zh", "part1.jsonl.gz", COMMIT],
        ],
        ["雨", "雨 2", "風", "風 2"],
    ]
    assert answers[2][1] == ["test", "rain", "rain 2", "wind", "wind 2", "snow", "snow 2"]  # what messages recommend
    expected = (
        "config_name: 'e' is none of those of owner/wiki: en, zh",
        "revision: owner/wiki has no 'v2'; ",
        "dataset: owner/none: not on http://127.0.0.1",
        "dataset: some/gated is gated: ask for access on http://127.0.0.1",
        "dataset: some/script is made by a program, which is not run",
        "dataset: some/cached: nothing came from the hub but an old copy",
        "dataset: not a name: HFValidationError",
    )
    for (kind, message), beginning in zip(answers[3:], expected, strict=True):
        assert kind == "UserError" and message.startswith(f"sources.wiki.{beginning}"), message
    assert "topsecret" not in said
    asked = log.read_text().splitlines()
    assert [line for line in asked if "fail-once" in line and line.startswith("GET")] == 2 * [
        f"GET /datasets/owner/wiki/resolve/{COMMIT}/zh/fail-once.jsonl.gz bytes=0-8388607"
    ]  # 503, then tried again
    assert not [line for line in asked if f"{COMMIT}/en/train-00002" in line], (
        "a file that was not chosen was looked into"
    )
    assert not [p for p in (tmp_path / "home").rglob("*") if p.suffix in (".parquet", ".gz", ".arrow")], "a cache"


def test_no_hub(tmp_path: Path) -> None:
    source = {"dataset": "owner/wiki"}
    ((kind, message),), _ = ask(tmp_path, "http://127.0.0.1:9", source)
    assert kind == "UserError" and "http://127.0.0.1:9 cannot be reached" in message
    ((kind, message),), _ = ask(tmp_path, "http://127.0.0.1:9", source, HF_HUB_OFFLINE="1")
    assert kind == "UserError" and "HF_HUB_OFFLINE is set" in message
