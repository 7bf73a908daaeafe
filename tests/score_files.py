"""Run folders with hand-made scores, bits per byte and exports, for the tests of eval.report."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

from eval.elo.games import Judgement
from eval.elo.ratings import summarise
from eval.importing.sets import BENCHMARKS

CHANCE = {"Arithmetic": None, "GSM8K": None, "MATH": None, "BBH": None, "WinoGrande": 0.5, "PIQA": 0.5}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def row(task: str, value: float | None = 0.5, **changes: Any) -> dict[str, Any]:
    """A line of scores.json with all keys, of 100 items."""
    stderr = None if value is None else math.sqrt(max(value * (1 - value), 0) / 100)
    keys = dict.fromkeys(("p_value", "members", "part_of", "weight_by_size", "parts", "length_baseline", "chance"))
    more = {"num_items": 100, "num_fewshot": 5, "higher_is_better": True, "group": "other", "benchmark": task}
    rest = {"is_mean": True, "marks": [], "shortened": 0.0, "cut": 0.0, "distinguishable": None}
    return {"task": task, "metric": "acc", "value": value, "stderr": stderr, **keys, **more, **rest, **changes}


def suite_rows(value: float = 0.4, without: Sequence[str] = (), groups: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each benchmark with choices or answers (Flores left out), as if all of it had been evaluated."""
    return [
        row(
            f"mindllm_{b.name}",
            value,
            group=b.group,
            benchmark=b.title,
            chance=CHANCE.get(b.title, 0.25),
            num_fewshot=b.num_fewshot,
            metric=b.metrics[0],
            parts=7 if "{subject}" in b.task else None,
            distinguishable=None if b.title in CHANCE and CHANCE[b.title] is None else True,
        )
        for b in BENCHMARKS
        if b.title not in without and b.title != "Flores-101" and (not groups or b.group in groups)
    ]


def write_scores(run: Path, rows: Sequence[dict[str, Any]], missing: Sequence[tuple[str, str]] = ()) -> Path:
    """RUN/harness/scores.json; returns RUN."""
    absent = [{"task": task, "why": why} for task, why in missing]
    write(run / "harness" / "scores.json", {"scores": list(rows), "missing": absent})
    return run


def bits(value: float | None, size: int = 2048) -> dict[str, Any]:
    """One source of bpb.json."""
    known = {"model": value, "unigram": 3.5, "trigram": 2.5} if value is not None else None
    per_byte = known or dict.fromkeys(("model", "unigram", "trigram"))
    gain = {name: None if bits is None else 1 - bits / 3.5 for name, bits in per_byte.items()}
    return {"documents": 3, "bytes": size, "tokens": 500, "bpb": per_byte, "gain": gain}


def write_bits(run: Path, sources: dict[str, dict[str, Any]], **more: Any) -> None:
    """RUN/bpb/bpb.json."""
    train = {"documents": 7, "bytes": 12_345}
    write(run / "bpb" / "bpb.json", {"sources": sources, "total": bits(1.875), "train": train, **more})


def write_export(run: Path, step: int, tokens: int | None = None, **counts: Any) -> None:
    """RUN/export as the stage leaves it, without weights."""
    known = {} if tokens is None else {"tokens": tokens}
    numbers = {"in": 5_000_000, "unit": "parameters -> bytes", "step": step, **known, **counts}
    write(run / "export" / "config.json", {"architectures": ["LlamaForCausalLM"], "hidden_size": 64})
    write(run / "export" / "meta.json", {"hash": f"hash{step}", "inputs": {"tokenizer": "t"}, "counts": numbers})


def write_ratings(run: Path, names: Sequence[str], judge: str = "王") -> Path:
    """RUN/elo/ratings.json, of as many prompts in each language as there are models; returns RUN."""
    langs = {f"{lang}{n}": lang for lang in ("zh-Hans", "en") for n in range(len(names))}
    found = [
        Judgement(prompt, *pair, "first" if (n + number) % 3 else "second", judge)
        for number, prompt in enumerate(langs)
        for n, pair in enumerate(combinations(names, 2))
    ]
    write(run / "elo" / "ratings.json", {"judge": judge, **summarise(found, langs, 50, 0.95, 1)})
    return run


class Page(HTMLParser):
    """Fails on tags that do not nest; gathers tags, attributes, visible text, bars and table rows."""

    VOID = ("meta", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.bars: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = {key: value or "" for key, value in attrs}
        self.seen.append((tag, given))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "div" and given.get("class", "").split(" ")[0] == "bar":
            self.bars.append([given["class"], ""])

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> does not nest"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        elif "span" in self.open and "div" in self.open and self.bars:
            self.bars[-1][1] += f"{data}|"

    @property
    def text(self) -> str:
        """All that a reader sees."""
        return " ".join(" ".join(self.texts).split())


def assert_safe(html: str) -> Page:
    """The page needs no network, runs nothing, and nests; returns it parsed."""
    page = Page(html)
    tags = {tag for tag, _ in page.seen}
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form", "a:script", "foreignobject"}
    assert "default-src 'none'" in html and "@import" not in html
    for _, attributes in page.seen:
        assert not any(name.startswith("on") for name in attributes)
        for name, value in attributes.items():
            if name in ("href", "src", "xlink:href"):
                assert value.startswith("#")
            assert "url(" not in value.replace("url(#", "")
    return page
