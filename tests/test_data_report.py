"""data_pipeline.report: the numbers are those of the stages, no text in the page can run, warnings say what is off."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_runs import (
    CLEAN,
    DEDUP,
    EN,
    EVIL,
    HANT,
    REFINE,
    Parsed,
    Row,
    config,
    count,
    page,
    write_clusters,
    write_run,
    write_stage,
)

from data_pipeline.clean import KEPT
from data_pipeline.report import page as module
from data_pipeline.report.facts import read_facts, sum_rows
from data_pipeline.report.page import PAGE, fit, render, report
from data_pipeline.report.scan import find_pairs, list_items, scan
from data_pipeline.report.warnings import find_warnings
from data_pipeline.workers import WorkersConfig
from mindllm.config import UserError

ONE, TWO = WorkersConfig(num_workers=1), WorkersConfig(num_workers=2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "first")


def test_every_number_is_that_of_the_stages(run: Path) -> None:
    """Each number of documents that the page shows, by the meaning of its key, against a count of the rows."""
    parsed = Parsed(page(run))
    data, stages = parsed.data(), [CLEAN, DEDUP, REFINE]
    every = [row for rows in stages for row in rows]
    keys = {key: shown for (form, key, _), shown in parsed.numbers.items() if form == "count" and "mask" not in key}
    assert len(keys) > 35
    for key, shown in keys.items():
        words, _, site = key.partition("@")
        kind, *numbers = words.split(":")
        place = data["sites"][int(site)] if site else ""
        lang = data["languages"][int(numbers.pop())] if len(numbers) == (1 if kind == "dropped" else 2) else ""
        if kind == "dropped":
            number = count(every, "dropped", lang, place)
        elif kind == "drop":
            number = count(every, "dropped", lang, place, data["reasons"][int(numbers[0])])
        else:
            number = count(stages[int(numbers[0])], kind, lang, place)
        assert shown == {f"{number:,}"}, key


def test_no_two_sums_share_a_key(run: Path) -> None:
    """Keys of reasons, stages, languages and sites are numbers: a clash would add unlike things."""
    facts = read_facts(run)
    sums = sum_rows(facts)
    kept_or_not = sum(n for (stage, _, _, reason), (n, _) in facts.rows.items() if reason >= 0)
    assert sums["dropped"][0] == kept_or_not == 9
    assert sum(sums[f"drop:{r}"][0] for r in range(len(facts.reasons))) == 9
    assert sums["in:0"] == [len(CLEAN), sum(len(r[4].encode()) for r in CLEAN)]


def test_data_for_the_script_adds_up_to_what_is_shown(run: Path) -> None:
    data = Parsed(page(run)).data()
    assert sum(row[4] for row in data["rows"] if row[0] == 0) == len(CLEAN)
    assert {kind for kind, *_ in data["masks"]} == {"email", "phone"}
    assert sum(masks for kind, _, _, masks, _ in data["masks"] if kind == "phone") == 2 * len(REFINE)
    for kind, num_documents in (("length", len(CLEAN)), ("density", len(CLEAN) - 1)):
        rows = data["histograms"][kind]
        assert sum(sum(counts) for _, _, _, _, *counts in rows) == num_documents
        assert all(first + len(counts) <= len(data["bins"][kind]) for _, _, _, first, *counts in rows)


def test_page_is_offline_and_text_cannot_run(tmp_path: Path) -> None:
    meta = {"density": 0.1, "title": EVIL, EVIL: EVIL, "pii": {EVIL: 1}, "id": f"web/{EVIL}"}
    text = f'{EVIL} 中文 & " \u202e \u2028 <!-- <script>'
    rows: list[Row] = [("s", EVIL, EVIL, reason, text, meta) for reason in (KEPT, EVIL, "read:" + EVIL)]
    run = tmp_path / "<b>x"
    for name in ("clean", "dedup", "refine"):
        write_stage(run, name, rows)
    write_clusters(run, [(f"web/{EVIL}", f"web/{EVIL}", 0.9, "near")])
    html = page(run)
    parsed = Parsed(html)
    assert EVIL not in html and "&lt;script&gt;" in html and "\u202e" not in html
    assert not {tag for tag, _ in parsed.seen} & {"link", "img", "iframe", "object", "base", "form", "embed", "b>x"}
    assert not any(name.startswith("on") for _, attrs in parsed.seen for name in attrs)
    assert [attrs.get("type", "") for attrs, _ in parsed.scripts] == ["application/json", ""]
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[1][1].encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none';") and f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"\bsrc=|url\(|@import", html)
    for tag, attrs in parsed.seen:
        if tag == "a":
            assert attrs["href"].startswith("#") or attrs["rel"] == "noopener noreferrer nofollow"
            assert attrs["href"].startswith(("#", "http://", "https://"))


def test_same_run_same_bytes_for_any_number_of_processes(run: Path) -> None:
    facts = read_facts(run)
    first = page(run)
    assert page(run) == first
    items = list_items(run, facts)
    found = scan(items[::-1], facts, TWO)
    assert render(run, facts, found, find_pairs(run / "dedup", module.PAIRS)) == first


def test_stages_that_have_not_run_are_named(tmp_path: Path, run: Path) -> None:
    html = page(tmp_path)
    Parsed(html)
    assert re.findall(r"(\w+): not run: <code>", html) == ["clean", "dedup", "refine"]
    shutil.rmtree(run / "refine")
    (run / "dedup" / "meta.json").unlink()
    (run / "dedup" / "plan.json").write_text('{"hash": "dedup"}')
    html = page(run)
    assert "dedup: begun, not complete: <code>" in html and "refine: not run: <code>" in html
    assert "Stage dedup was begun and is not complete" in html


def test_a_run_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        report(config(tmp_path / "nothing"))


def test_files_that_are_gone_are_said_and_damaged_ones_are_named(run: Path) -> None:
    shutil.rmtree(run / "clean" / "dropped")
    assert "Read: 12 documents of 19" in page(run)
    (run / "refine" / "web-0.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(RuntimeError, match=r"refine/web-0\.parquet: damaged"):
        page(run)


def test_many_sites_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row] = [
        ("s", "en", f"s{n:03}.example", KEPT if n % 2 else "r", EN, {"density": 0.9}) for n in range(300)
    ]
    write_stage(tmp_path, "clean", [*rows, *rows[:1]])
    html = page(tmp_path)
    data = Parsed(html).data()
    assert len(data["sites"]) == 201 and data["sites"][0] == "s000.example" and "the other 100 are added up" in html
    assert sum(row[4] for row in data["rows"] if row[2] == 200) == 100
    monkeypatch.setattr(module, "MAX_DATA", 5000)
    facts = read_facts(tmp_path)
    small, found, data = fit(facts, scan(list_items(tmp_path, facts), facts, ONE))
    assert len(json.dumps(data)) < 6000 and 0 < len(small.sites.named) < 200
    assert len(small.sites.named) + small.sites.num_others == 300
    assert sum(n for n, _ in small.rows.values()) == 301 == sum(map(sum, found.lengths.values()))


def test_rare_reasons_and_languages_are_added_up(tmp_path: Path) -> None:
    rows: list[Row] = [("s", f"l{n:02}", "a", f"r{n:02}", EN, {}) for n in range(60)]
    write_stage(tmp_path, "clean", rows)
    data = Parsed(page(tmp_path)).data()
    assert len(data["reasons"]) == 41 and data["reasons"][-1] == "rare reasons of clean"
    assert len(data["languages"]) == 11 and sum(row[4] for row in data["rows"]) == 60


def test_warnings_say_what_is_wrong(tmp_path: Path) -> None:
    rows: list[Row] = [("s", "en", "a.example", KEPT if n < 9 else "density:too_short", EN, {}) for n in range(20)]
    rows += [("s", "zh-Hant", "丟了.tw", "error:html:ValueError", HANT, {}) for _ in range(6)]
    rows += [
        ("s", "", "b.example", reason, "", {}) for reason in ("read:clipped", "read:clipped", "quarantine:html:timeout")
    ]
    write_stage(tmp_path, "clean", rows)
    write_stage(tmp_path, "dedup", [r for r in rows if r[3] == KEPT], {"clean": "another"})
    found = "\n".join(find_warnings(read_facts(tmp_path)))
    assert "55% of the 20 documents in en were dropped, most of them for density:too_short." in found
    assert "6 documents made a cleaner fail" in found and "error:html:ValueError 6" in found
    assert "2 documents could not be read" in found and "1 document hung or crashed a cleaner" in found
    assert "1 site lost every document: 丟了.tw (6)." in found
    assert "Stage dedup was not made from the clean that lies here now" in found
    assert "zh-Hant were" not in found  # six documents are too few for a share
    write_stage(tmp_path, "refine", [("s", "en", "a.example", "r", EN, {})], {"dedup": "dedup"})
    assert "No document is left." in find_warnings(read_facts(tmp_path))


def test_all_well_no_warnings(run: Path) -> None:
    assert find_warnings(read_facts(run)) == []
    assert "Worth a look" not in page(run)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_the_script_shows_the_numbers_of_the_server(run: Path, tmp_path: Path) -> None:
    """With no filter the script has to leave the page as it is; with one, it shows the counts of those rows only."""
    static = Parsed(page(run))

    def browse(address: str) -> Parsed:
        quiet = ("background-networking", "component-update", "sync", "quic", "gpu")
        flags = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
        command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        done = subprocess.run([*command, (run / PAGE).as_uri() + address], capture_output=True, text=True, timeout=120)
        return Parsed(re.sub(r"<(meta|br)\b([^>]*)>", r"<\1\2/>", done.stdout))

    whole = browse("#all")
    assert whole.numbers == static.numbers
    drawn = [[a["d"] for tag, a in p.seen if tag == "path"] for p in (static, whole)]
    assert drawn[0] == drawn[1]
    bars = [
        [(a["data-k"], a["x"], a["width"]) for tag, a in p.seen if tag == "rect" and "data-k" in a]
        for p in (static, whole)
    ]
    assert sorted(bars[0]) == sorted(bars[1])
    part = browse("#lang=en&site=b.example").numbers
    assert part["count", "in:0", ""] == {"6"} and part["count", "kept:2", ""] == {"3"}
    assert part["share", "kept:2", "in:0"] == {"50.0%"} and part["count", "mask:phone", ""] == {"6"}
