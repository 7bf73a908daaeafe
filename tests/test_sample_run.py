"""The sample web through clean, dedup and refine: every trap that samples/web.json names ends as it should."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_pipeline.clean import clean, refine
from data_pipeline.config import DataConfig
from data_pipeline.dedup import dedup
from data_pipeline.reading.files import read
from data_pipeline.reading.inputs import list_shards
from mindllm.config import load
from mindllm.text import PII_MASKS

PLAIN = ["workers.num_workers=1", "document_seconds=0"]
ROOT = Path(__file__).resolve().parent.parent
KEY: list[dict[str, Any]] = json.loads((ROOT / "samples" / "web.json").read_text(encoding="utf-8"))
SITES: dict[str, Any] = tomllib.loads((ROOT / "samples" / "sites.toml").read_text(encoding="utf-8"))["sites"]
GOES = {"index", "tag", "stub", "spam", "empty", "binary"}  # traps whose pages must not stay


class Run:
    """What became of every page, by its name in the key: the `kept` documents, and the reasons of the `dropped`."""

    def __init__(self, folder: Path):
        config = load(
            DataConfig,
            ROOT / "configs" / "data" / "sample.yaml",
            [
                f"run={folder}",
                f"sources.web.path={ROOT / 'samples' / 'web'}",
                "workers.num_workers=1",
                "document_seconds=0",
            ],
        )
        for stage in (clean, dedup, refine):
            stage(config)
        documents = [d for shard in list_shards(config.sources, config.shard_bytes) for d in read(shard)]
        names = {d.id: d.url or d.id.removeprefix("web/") for d in documents}
        files = {row["file"]: row["url"] or row["file"] for row in KEY}
        self.names = {id: files.get(name, name) for id, name in names.items()}
        self.kept = {self.names[row["id"]]: row for row in rows_below(folder / "refine")}
        folders = (folder / stage / "dropped" for stage in ("clean", "dedup", "refine"))
        self.dropped = {self.names[row["id"]]: row["reason"] for f in folders for row in rows_below(f)}

    def reason(self, row: dict[str, Any]) -> str:
        """Why a page of the key was dropped; "" if it was not."""
        return self.dropped.get(row["url"] or row["file"], "")


def rows_below(folder: Path) -> list[dict[str, Any]]:
    """The rows of all shards in a folder."""
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("samples"))


def rows(*traps: str) -> list[dict[str, Any]]:
    return [row for row in KEY if set(traps) & set(row["traps"])]


def test_every_page_ends_in_one_place(run: Run) -> None:
    assert not run.kept.keys() & run.dropped.keys()
    assert {row["url"] or row["file"] for row in KEY} == run.kept.keys() | run.dropped.keys()


def test_pages_without_an_article_go(run: Run) -> None:
    for row in rows("index", "tag", "stub"):
        assert run.reason(row) in ("density:too_short", "density:low_density"), row["url"]
    assert [run.reason(row) for row in rows("spam", "empty", "binary")] == [
        {"spam": "repetition:low_information", "empty": "html:empty", "binary": "html:binary"}[row["traps"][0]]
        for row in rows("spam", "empty", "binary")
    ]


def test_of_a_page_and_its_reprint_one_stays(run: Run) -> None:
    found = {}
    for row in rows("near-duplicate", "exact copy"):
        site, slug = row["source"].split("/")
        (original,) = (r for r in KEY if f"{site}.example/" in r["url"] and r["url"].endswith(f"/{slug}.html"))
        reasons = sorted((run.reason(row), run.reason(original)))
        expected = "dedup:near" if "near-duplicate" in row["traps"] else "dedup:exact"
        assert reasons == ["", expected], (row["url"], reasons)
        found[row["url"]] = row["lang"]
    assert len(found) == 8 and sum(lang == "zh-Hans" for lang in found.values()) == 4


def test_articles_stay_in_their_language_and_encoding(run: Run) -> None:
    for row in KEY:
        if not GOES & set(row["traps"]) and not run.reason(row).startswith("dedup:"):
            document = run.kept[row["url"] or row["file"]]
            assert document["lang"] == row.get("lang", document["lang"]), row["url"]
            assert "\ufffd" not in document["text"] and row.get("title", "")[:4] in document["text"] + document["meta"]


def test_no_private_data_advertising_or_odd_characters_are_left(run: Run) -> None:
    text = "\n".join(document["text"] for document in run.kept.values())
    assert not re.search(r"[\w.]+@[\w.]+\.example|1\d{10}(?!\d)|\d{17}[\dX]|555-01\d\d", text, re.ASCII)
    assert {mask for mask in PII_MASKS if mask in text} >= {"<|email|>", "<|phone|>", "<|id_card|>", "<|bank_card|>"}
    for site in ("riverbend", "baichuan", "xiaobu", "haiwan"):
        for advertisement in SITES[site]["ads"]:
            assert advertisement not in text
    assert not re.search("[😀🌏\u200b\u200d\ufeff\u2060\u00ad\x08\x0b\x1f\x7f]", text)
