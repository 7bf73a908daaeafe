"""Documents that hang or kill the process: set aside with their reason, the rest is cleaned, whatever the workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from raw_inputs import hostile_read

from data_pipeline import quarantine
from data_pipeline.clean import clean
from data_pipeline.config import DataConfig, Source
from data_pipeline.quarantine import CLEANING, CRASH, READING, TIMEOUT, WRITING, Place, Quarantine, condemned, watch
from data_pipeline.workers import WorkersConfig

ONE = WorkersConfig(num_workers=1)

TEXTS = (
    "春天来了，河边的柳树发芽了，老人坐在门口慢慢地喝茶。",
    "臺灣的夏天很熱，漁夫們清晨出海，傍晚才回到港口。",
    "The river runs past the old mill, and a small boat lies in the harbour.",
)


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text, "url": "http://a.example/页"}).encode() + b"\n" for text in texts)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Three shards: lines of JSON; lines whose reader dies in the middle; small files, one of which cannot be read."""
    monkeypatch.setattr("data_pipeline.clean.read", hostile_read)
    return make_config(tmp_path)


def make_config(folder: Path, run: str = "run", **changes: Any) -> DataConfig:
    zh, hant, en = TEXTS
    web = folder / "web"
    (web / "页").mkdir(parents=True, exist_ok=True)
    (web / "a.jsonl").write_bytes(lines(zh, "clean hang", en, "clean segfault", "clean kill", hant))
    (web / "b.jsonl").write_bytes(lines(zh, "read abort", en))
    for name, text in {"1": zh, "2": "read segfault", "3": en, "4": hant}.items():
        (web / "页" / f"{name}.txt").write_text(text, encoding="utf-8")
    config = DataConfig({"web": Source(str(web))}, {"html": {}}, {}, str(folder / run), workers=ONE)
    config.document_seconds = 1
    for key, value in changes.items():
        setattr(config, key, value)
    return config


REASONS = {
    "web/a.jsonl#1": TIMEOUT, "web/a.jsonl#3": CRASH, "web/a.jsonl#4": CRASH,
    "web/b.jsonl": CRASH,
    "web/页/2.txt": CRASH,
}  # fmt: skip
KEPT = {
    "web/a.jsonl#0",
    "web/a.jsonl#2",
    "web/a.jsonl#5",
    "web/b.jsonl#0",
    "web/页/1.txt",
    "web/页/3.txt",
    "web/页/4.txt",
}


def outcome(folder: Path) -> tuple[set[str], dict[str, str]]:
    """Ids of the kept documents, id to reason of the dropped ones."""
    kept = {row["id"] for p in folder.glob("*.parquet") for row in pq.read_table(p).to_pylist()}
    dropped = [row for p in (folder / "dropped").glob("*.parquet") for row in pq.read_table(p).to_pylist()]
    return kept, {row["id"]: row["reason"] for row in dropped}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a stage but meta.json, which holds a time."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    assert found.pop("meta.json")
    return found


def test_the_run_goes_on_and_workers_change_nothing(
    config: DataConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert clean(config) == 0
    first = config.folder("clean")
    out, err = capfd.readouterr()
    assert outcome(first) == (KEPT, REASONS)
    assert condemned(first, "web-00000") == {
        Place(CLEANING, 0, 1): TIMEOUT, Place(CLEANING, 0, 3): CRASH, Place(CLEANING, 0, 4): CRASH,
    }  # fmt: skip
    assert condemned(first, "web-00001") == {Place(READING, 0, 1): CRASH}
    assert condemned(first, "web-00002") == {Place(READING, 1, 1): CRASH}
    rows = {row["id"]: row for p in (first / "dropped").iterdir() for row in pq.read_table(p).to_pylist()}
    assert (rows["web/a.jsonl#1"]["url"], rows["web/a.jsonl#1"]["site"]) == ("http://a.example/页", "a.example")
    assert rows["web/b.jsonl"]["text"] == "the file, from its document 1 of the shard on"
    assert "hang or crash: 5 (quarantine:crash 4, quarantine:timeout 1); listed in" in out
    assert "web-00000: document 1 takes too long in clean.py, line" in " ".join(err.split())
    assert clean(make_config(tmp_path, "four", workers=WorkersConfig(num_workers=4))) == 0
    assert contents(tmp_path / "four" / "clean") == contents(first)
    assert not list(tmp_path.rglob(".*.tmp"))


def children(pid: int) -> set[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return set(map(int, found)).union(*map(children, map(int, found)))


def wait_for(condition: Callable[[], Any]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited a minute")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc to see processes")
def test_a_run_killed_as_a_whole_condemns_nobody_and_goes_on(config: DataConfig, tmp_path: Path) -> None:
    code = "import sys, test_quarantine as t; from pathlib import Path; t.run_here(Path(sys.argv[1]))"
    config = hanging(config, tmp_path)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    folder = config.folder("clean")

    def hangs() -> bool:
        with contextlib.suppress(FileNotFoundError):
            words = (folder / ".web-00000.journal.tmp").read_bytes().split()
            return words[:3] == [b"cleaning", b"0", b"1"]
        return False

    wait_for(hangs)
    workers = children(parent.pid)
    parent.kill()
    parent.wait()
    assert workers and (folder / ".web-00000.journal.tmp").exists()
    assert not list((folder / "quarantine").glob("*.json"))

    def gone(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # waits for a parent only
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_for(lambda: all(map(gone, workers)))  # nobody is left that could write into the next run's files
    assert clean(config) == 0
    assert outcome(folder) == ({"web/hang.jsonl#0", "web/hang.jsonl#2"}, {"web/hang.jsonl#1": TIMEOUT})
    assert not list(tmp_path.rglob(".*.tmp"))


def hanging(config: DataConfig, folder: Path) -> DataConfig:
    """With one file, in which one document hangs."""
    (folder / "hang.jsonl").write_bytes(lines(TEXTS[0], "clean hang", TEXTS[2]))
    return replace(config, sources={"web": Source(str(folder / "hang.jsonl"))})


def run_here(folder: Path) -> None:
    """What the test above kills."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipeline.clean.read", hostile_read)
        clean(hanging(make_config(folder), folder))


def test_too_many_end_the_run_and_name_the_shard(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MAX_PER_SHARD", 1)
    with pytest.raises(RuntimeError, match="web-00000: more than 1 documents hang or crash .*web-00000.json"):
        clean(config)


@dataclass
class Shard:
    name: str


def journal(folder: Path, place: Place, trace: str = "") -> None:
    folder.mkdir(exist_ok=True)
    record = f"{place.state:8} {place.file:20} {place.document:20}\n".encode().ljust(64, b"\0")
    (folder / ".网-0.journal.tmp").write_bytes(record + trace.encode() if trace else record.rstrip(b"\0"))


FAULT, TIMER = "Fatal Python error: Segmentation fault\n\nStack", "Stack (most recent call first):\n"


def test_who_is_condemned(tmp_path: Path) -> None:
    on_crash, shard = Quarantine(tmp_path), Shard("网-0")
    assert not on_crash(shard)  # it died before its first note: an import that fails, for example
    (tmp_path / ".网-0.journal.tmp").write_bytes(b"\0" * 64 + FAULT.encode())
    assert not on_crash(shard)
    journal(tmp_path, Place(WRITING, 0, 0), FAULT)
    assert not on_crash(shard) and condemned(tmp_path, "网-0") == {}
    expected = {}
    for place, trace, reason in (
        (Place(CLEANING, 0, 7), TIMER, TIMEOUT),
        (Place(READING, 2, 9), TIMER, TIMEOUT),
        (Place(CLEANING, 1, 8), FAULT, CRASH),
    ):
        journal(tmp_path, place, trace)
        expected[place] = reason
        assert on_crash(shard) and condemned(tmp_path, "网-0") == expected
        journal(tmp_path, place, trace)
        assert not on_crash(shard)  # it has been left out already: this cannot be the reason
    assert [row["document"] for row in json.loads((tmp_path / "quarantine" / "网-0.json").read_text())] == [7, 8, 9]
    assert Quarantine(tmp_path) and condemned(tmp_path, "网-0") == expected  # as after a restart


def test_a_vanished_process_counts_only_the_second_time_at_the_same_place(tmp_path: Path) -> None:
    on_crash, shard = Quarantine(tmp_path), Shard("网-0")
    for document in (3, 4, 3):
        assert condemned(tmp_path, "网-0") == {}
        journal(tmp_path, Place(CLEANING, 0, document))
        assert on_crash(shard)
    assert condemned(tmp_path, "网-0") == {Place(CLEANING, 0, 3): CRASH}
    for document in range(10, 10 + quarantine.MAX_VANISHED):  # ever elsewhere: the machine, not the documents
        journal(tmp_path, Place(CLEANING, 0, document))
        learned = on_crash(shard)
    assert not learned and len(condemned(tmp_path, "网-0")) == 1


def test_journals_of_a_killed_run_are_thrown_away(tmp_path: Path) -> None:
    journal(tmp_path, Place(CLEANING, 0, 3), FAULT)
    assert not Quarantine(tmp_path)(Shard("网-0")) and not list(tmp_path.iterdir())


def test_without_seconds_nothing_is_noted(tmp_path: Path) -> None:
    with watch(tmp_path, "网-0", 0) as note:
        note(CLEANING, 0, 1)
    assert not list(tmp_path.iterdir()) and signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
