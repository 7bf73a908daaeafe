"""data_pipeline.report: the numbers are those of the stages, the examples are fair, and no text in the page can run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.clean import KEPT, Stats
from data_pipeline.config import DataConfig, Source
from data_pipeline.dedup import CLUSTERS
from data_pipeline.document import Document
from data_pipeline.parquet import DROPPED_SCHEMA, SCHEMA, write_rows
from data_pipeline.report import page as module
from data_pipeline.report.examples import mask, show_example, show_pair
from data_pipeline.report.facts import read_facts, sum_rows
from data_pipeline.report.figures import HEIGHT, TOP, bin_labels, histogram_shape
from data_pipeline.report.page import PAGE, fit, render, report
from data_pipeline.report.scan import DENSITIES, LENGTHS, NUM_EXAMPLES, Scan, find_pairs, list_items, scan
from data_pipeline.report.warnings import find_warnings
from mindllm.config import UserError

EVIL = "</script><script>alert('x')</script>"
ZH, HANT, EN = "春天来了，桥头的柳树先绿。", "臺灣的夏天很熱，蟬聲不斷。", "The rain of the night has stopped."
Row = tuple[str, str, str, str, str, dict[str, Any]]  # shard, language, site, reason, text, meta


def write_stage(run: Path, name: str, rows: Sequence[Row], inputs: dict[str, Any] | None = None) -> None:
    """A stage's folder as the verbs leave it."""
    folder, stats = run / name, Stats()
    by_shard: dict[str, list[tuple[Document, str]]] = defaultdict(list)
    for number, (shard, lang, site, reason, text, meta) in enumerate(rows):
        url = f"https://{site}/{number}"
        document = Document(text, meta.get("id", f"web/{site}/{number}.html"), url, site, lang, "web", dict(meta))
        stats.add(document, reason)
        by_shard[shard].append((document, reason))
    for shard, documents in by_shard.items():
        with write_rows(folder / f"{shard}.parquet", SCHEMA) as kept:
            with write_rows(folder / "dropped" / f"{shard}.parquet", DROPPED_SCHEMA) as dropped:
                for document, reason in documents:
                    if reason == KEPT:
                        kept.add_document(document)
                    else:
                        fields = {k: getattr(document, k) for k in ("id", "url", "site", "lang", "text")}
                        dropped.add({**fields, "reason": reason, "meta": json.dumps(document.meta)})
    counts = {"in": stats.documents(), "out": stats.documents(kept=True), "bytes": stats.text_bytes()}
    meta = {"hash": name, "inputs": inputs or {}, "config": {}, "counts": counts, "seconds": 2.0}
    (folder / "stats.json").write_text(json.dumps(stats.counts), encoding="utf-8")
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def write_clusters(run: Path, rows: Sequence[tuple[str, str, float, str]]) -> None:
    with write_rows(run / "dedup" / "clusters" / "clusters.parquet", CLUSTERS) as file:
        for row in rows:
            file.add(dict(zip(CLUSTERS.names, row, strict=True)))


CLEAN: list[Row] = [
    *[("web-0", "zh-Hans", "a.example", KEPT, ZH * n, {"density": 0.9}) for n in range(1, 8)],
    *[("web-0", "zh-Hans", "a.example", "density:too_short", ZH, {"density": 0.75}) for _ in range(3)],
    *[("web-1", "en", "b.example", KEPT, EN * n, {"density": 1.0}) for n in range(1, 5)],
    *[("web-1", "en", "b.example", "density:low_density", EN, {"density": 0.5}) for _ in range(2)],
    ("web-1", "en", "a.example", "density:too_short", EN, {"density": 0.8}),
    ("web-1", "zh-Hant", "茶館.tw", KEPT, HANT, {"density": 0.95}),
    ("web-1", "", "c.example", "html:binary", "", {}),
]
DEDUP: list[Row] = [row for row in CLEAN if row[3] == KEPT]
DEDUP[0] = (*DEDUP[0][:3], "dedup:near", *DEDUP[0][4:])
DEDUP[7] = (*DEDUP[7][:3], "dedup:exact", *DEDUP[7][4:])
REFINE: list[Row] = [(*r[:5], {**r[5], "pii": {"phone": 2, "email": 1}}) for r in DEDUP if r[3] == KEPT]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "first"
    write_stage(run, "clean", CLEAN, {"web": {"files": 3, "bytes": 12345}})
    write_stage(run, "dedup", DEDUP, {"clean": "clean"})
    write_stage(run, "refine", REFINE, {"dedup": "dedup"})
    return run


def config(run: Path, **changes: Any) -> DataConfig:
    return DataConfig(sources={"web": Source("nowhere")}, clean={}, refine={}, run=str(run), num_workers=1, **changes)


def page(run: Path) -> str:
    assert report(config(run)) == 0
    return (run / PAGE).read_text(encoding="utf-8")


class Parsed(HTMLParser):
    """Tags that nest, attributes, texts of elements with data-f, and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[tuple[str, dict[str, str]]] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.numbers: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in ("meta", "br"):
            self.stack.append(self.seen[-1])

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, attrs = self.stack[-1] if self.stack else ("", {})
        if "data-f" in attrs:
            self.numbers[attrs["data-f"], attrs["data-k"], attrs.get("data-of", "")].add(data)
        if tag == "script":
            self.scripts.append((attrs, data))

    def data(self) -> dict[str, Any]:
        (text,) = [text for attrs, text in self.scripts if attrs.get("type") == "application/json"]
        return dict(json.loads(text))


def count(rows: Sequence[Row], fate: str, lang: str, site: str, reason: str = "") -> int:
    """Documents of `rows`, counted without the code under test; "" stands for any."""
    found = [r for r in rows if lang in ("", r[1] or "?") and site in ("", r[2]) and reason in ("", r[3])]
    return len([r for r in found if fate == "in" or (r[3] == KEPT) == (fate == "kept")])


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


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://a.example/ x", 'http://a/"x', "data:text/html,x", "//a"]
)
def test_only_web_addresses_become_links(url: str, run: Path) -> None:
    facts = read_facts(run)
    row = {"id": "a", "url": url, "site": "a.example", "lang": "en", "text": EN, "length": 9, "meta": {}}
    assert show_example(row, facts, {})["href"] == ""
    assert show_example({**row, "url": "https://a.example/茶?x=1&y"}, facts, {})["href"] == "https://a.example/茶?x=1&y"


def test_private_data_in_examples_is_masked(tmp_path: Path) -> None:
    texts = ("联系电话：13800138000，谢谢。", "Mail me at jane.doe@mailbox.org today.")
    rows: list[Row] = [
        ("s", lang, "a", "density:too_short", t, {}) for lang, t in zip(("zh-Hans", "en"), texts, strict=True)
    ]
    write_stage(tmp_path, "clean", [*rows, ("s", "en", "a", KEPT, EN, {})])
    html = page(tmp_path)
    assert "13800138000" not in html and "jane.doe" not in html
    assert "联系电话：&lt;|phone|&gt;" in html and "&lt;|email|&gt; today" in html


def test_a_mask_that_fails_shows_its_error_not_the_text() -> None:
    def broken(document: Document) -> Document:
        raise ValueError("no")

    assert mask(ZH, {"pii": broken}) == "(error:pii:ValueError)"


def test_five_examples_a_reason_from_different_sites_and_languages(tmp_path: Path) -> None:
    rows: list[Row] = [("s", "en", f"site{n % 9}", "density:x", f"{EN}{n}", {}) for n in range(90)]
    rows += [("t", "zh-Hans", "中文", "density:x", f"{ZH}{n}", {}) for n in range(9)]
    write_stage(tmp_path, "clean", rows)
    shown = [a for tag, a in Parsed(page(tmp_path)).seen if "data-example" in a]
    assert len(shown) == 10 and len([a for a in shown if "hidden" not in a]) == NUM_EXAMPLES
    assert [a["data-lang"] for a in shown[:4]] == ["0", "1", "0", "1"]  # languages take turns
    assert len({a["data-site"] for a in shown if a["data-lang"] == "0"}) == 5


keys = st.integers(0, 30)


@given(st.lists(st.tuples(keys, keys)), st.integers(0, 1 << 30))
def test_examples_are_the_same_in_any_order_and_any_parts(documents: list[tuple[int, int]], cut: int) -> None:
    def pick(rows: list[tuple[int, int]]) -> Scan:
        found = Scan()
        for site, rank in rows:
            found.offer((0, "r", 0), site, rank, lambda row={"key": (site, rank)}: row)  # type: ignore[misc]
        return found

    middle = cut % (len(documents) + 1)
    lowest = sorted({site for site, _ in documents})[:NUM_EXAMPLES]
    for found in (pick(documents), pick(documents[::-1]), pick(documents[middle:]) + pick(documents[:middle])):
        kept = found.examples.get((0, "r", 0), {})
        assert sorted(kept) == lowest
        for site in lowest:
            assert sorted(kept[site]) == sorted({r for s, r in documents if s == site})[:NUM_EXAMPLES]
    chosen = [row["key"] for row in pick(documents).chosen((0, "r", 0))]
    assert len(chosen) == min(NUM_EXAMPLES, len({(s, r) for s, r in documents if s in lowest}))
    assert len({site for site, _ in chosen}) == min(len(lowest), len(chosen))


def test_same_run_same_bytes_for_any_number_of_processes(run: Path) -> None:
    facts = read_facts(run)
    first = page(run)
    assert page(run) == first
    items = list_items(run, facts)
    found = scan(items[::-1], facts, 2)
    assert render(run, facts, found, find_pairs(run / "dedup", module.PAIRS)) == first


def test_bins_hold_what_they_say(tmp_path: Path) -> None:
    sizes, densities = (
        [0, 9, 10, 99, 100, 149, 150, 1_000_000, 2_000_000],
        [0, 0.049, 0.05, 0.3, 0.749, 0.75, 0.999, 1.0, 1],
    )
    rows: list[Row] = [("s", "en", "a", "r", "字" * n, {"density": d}) for n, d in zip(sizes, densities, strict=True)]
    write_stage(
        tmp_path, "clean", [*rows, ("s", "en", "a", "r", "x", {"density": "?"}), ("s", "en", "a", "r", "x", {})]
    )
    facts = read_facts(tmp_path)
    found = scan(list_items(tmp_path, facts), facts, 1)
    lengths, density = found.lengths[0, 0, 1], found.densities[0, 0, 1]
    assert {LENGTHS[bin]: n for bin, n in enumerate(lengths) if n} == {0: 4, 10: 1, 70: 1, 100: 2, 150: 1, 1_000_000: 2}
    assert {DENSITIES[bin]: n for bin, n in enumerate(density) if n} == {
        0: 2,
        0.05: 1,
        0.3: 1,
        0.7: 1,
        0.75: 1,
        0.95: 3,
    }
    labels = bin_labels()
    assert labels["length"][:2] == ["0 to 9 characters", "10 to 14 characters"] and len(labels["length"]) == len(
        LENGTHS
    )
    assert labels["density"][15] == "density 0.75 to 0.80" and len(labels["density"]) == len(DENSITIES)


def test_histogram_hangs_the_dropped_below_the_axis() -> None:
    axis, (kept, first, second) = histogram_shape([[3, 0], [1, 0], [0, 0]])
    assert axis == TOP + HEIGHT * 3 / 4
    assert kept == f"M4.4,{TOP:.1f}h155.2v{HEIGHT * 3 / 4:.1f}h-155.2z"
    assert first == f"M4.4,{axis:.1f}h155.2v{HEIGHT / 4:.1f}h-155.2z" and second == ""
    assert histogram_shape([[0], [0]]) == (TOP + HEIGHT, ["", ""])


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
    small, found, data = fit(facts, scan(list_items(tmp_path, facts), facts, 1))
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


def test_pairs_show_both_texts_as_dedup_saw_them(run: Path) -> None:
    folder = run / "dedup"
    texts = {"a": EN * 9 + "One.", "b": EN * 9 + "Two.", "c": EN * 9 + "One.", "d": ZH}
    reasons = {"b": "dedup:near", "c": "dedup:exact"}
    same: list[Row] = [("s", "en", "x", reasons.get(id, KEPT), text, {"id": id}) for id, text in texts.items()]
    shutil.rmtree(folder)
    write_stage(run, "dedup", same, {"clean": "clean"})
    write_clusters(run, [("b", "a", 0.9, "near"), ("c", "a", 1.0, "exact")])
    near, exact = find_pairs(folder, {"near": 5, "exact": 2})
    assert (near.kind, near.ids, near.texts) == ("near", ("b", "a"), (EN * 9 + "Two.", EN * 9 + "One."))
    assert exact.ids == ("c", "a") and exact.texts[0] == exact.texts[1]
    left, right = show_pair(near)["sides"]
    assert left["text"].startswith("…") and left["text"].endswith("Two.") and right["text"].endswith("One.")
    assert find_pairs(folder, {"near": 0}) == [] == find_pairs(run / "clean", {"near": 5})


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
