"""Runs for the tests of deduplication: clean/ folders made by hand, texts with copies at known distances; readers."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import mindllm.stage
from data_pipeline.config import DataConfig, Source
from data_pipeline.document import Document
from data_pipeline.parquet import SCHEMA, read_documents, write_rows
from data_pipeline.workers import WorkersConfig
from mindllm.stage import Stage, hash_json
from mindllm.text import units

ONE = WorkersConfig(num_workers=1)

VOCABULARY = {
    "zh-Hans": [chr(0x4E00 + 7 * i) for i in range(500)],
    "zh-Hant": [chr(0x7000 + 5 * i) for i in range(500)],
    "en": ["".join(p) for p in itertools.product("bdfglmnprst", "aeiou", ("n", "rk", "st", "ll", "m", "", "d"))],
}
Shards = Mapping[str, Sequence[tuple[str, str]]]  # name -> (id, text)


def write_clean(run: Path, shards: Shards) -> DataConfig:
    """A complete clean/ folder with these documents, and the configuration that reads it."""
    stage = Stage(run / "clean", "clean", {}, {"made of": hash_json([[n, list(d)] for n, d in shards.items()])})
    stage.start()
    for name, documents in shards.items():
        with write_rows(run / "clean" / f"{name}.parquet", SCHEMA) as file:
            for id, text in documents:
                url = f"https://example.com/{id}"
                file.add_document(Document(text, id, url, "example.com", language(text), "web", {"title": f"題 {id}"}))
    stage.finish()
    return DataConfig({"web": Source("unused")}, {}, {}, run=str(run), workers=ONE)


def language(text: str) -> str:
    return next((lang for lang, words in VOCABULARY.items() if any(u in words for u in units(text.lower()))), "other")


def new_text(lang: str, num_units: int, rng: random.Random) -> list[str]:
    return [rng.choice(VOCABULARY[lang]) for _ in range(num_units)]


def edited(document: list[str], num_edits: int, lang: str, rng: random.Random) -> list[str]:
    """A copy with `num_edits` units replaced, far apart: Jaccard (n - 5e) / (n + 5e) for n shingles of five units."""
    out = list(document)
    for place in range(5, len(out) - 5, max((len(out) - 10) // max(num_edits, 1), 6))[:num_edits]:
        out[place] = rng.choice([w for w in VOCABULARY[lang] if w != out[place]])
    return out


def write(document: list[str], lang: str, layout: int = 0) -> str:
    """Text of units; the layout changes spaces, line ends, case and punctuation only."""
    if lang.startswith("zh"):
        return ("", "，", "。\n", "　")[layout].join(document)
    return (" ", ", ", ".\n", "  ")[layout].join(w.title() if layout else w for w in document)


def jaccard(a: str, b: str) -> float:
    sets = [{tuple(u[i : i + 5]) for i in range(max(len(u) - 4, 1))} for u in (units(a.lower()), units(b.lower()))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def kept(config: DataConfig) -> dict[str, Document]:
    return {d.id: d for path in sorted(config.folder("dedup").glob("*.parquet")) for d in read_documents(path)}


def dropped(config: DataConfig) -> dict[str, str]:
    paths = sorted((config.folder("dedup") / "dropped").glob("*.parquet"))
    return {row["id"]: row["reason"] for path in paths for row in pq.read_table(path).to_pylist()}


def copies(config: DataConfig) -> dict[str, tuple[str, float, str]]:
    paths = sorted((config.folder("dedup") / "clusters").glob("*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return {row["id"]: (row["kept_id"], row["similarity"], row["kind"]) for row in rows}


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file but meta.json, whose `seconds` is a measurement."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "meta.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def planted() -> Shards:
    """Three shards: in each language, twelve documents, each with copies in other shards at known numbers of edits."""
    rng = random.Random(1)
    shards: dict[str, list[tuple[str, str]]] = {"web-00000": [], "web-00001": [], "web-00002": []}
    for lang in VOCABULARY:
        for number in range(12):
            document = new_text(lang, 300, rng)
            shards["web-00000"].append((f"{lang}/{number}", write(document, lang)))
            shards["web-00001"].append((f"{lang}/{number}/exact", write(document, lang, 1 + number % 3)))
            for edits in (2, 4, 24):
                copy = write(edited(document, edits, lang, rng), lang)
                shards["web-00002" if edits == 4 else "web-00001"].append((f"{lang}/{number}/{edits}", copy))
    return shards


def small() -> Shards:
    rng = random.Random(5)
    texts = {lang: new_text(lang, 80, rng) for lang in VOCABULARY}
    return {
        name: [(f"{lang}-{name}", write(edited(t, i, lang, rng) if i < 2 else t, lang, i)) for lang, t in texts.items()]
        for i, name in enumerate("abc")
    }


def limit_renames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many renames are still allowed, to be set; every file appears by one, and the next one ends the run."""
    rename, left = os.replace, [10**9]

    def counting(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(mindllm.stage.os, "replace", counting)
    return left
