"""data_pipeline.report: which documents are shown and how, what the bins of the histograms hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import (
    EN,
    ZH,
    Parsed,
    Row,
    page,
    write_clusters,
    write_run,
    write_stage,
)

from data_pipeline.clean import KEPT
from data_pipeline.document import Document
from data_pipeline.report.examples import mask, show_example, show_pair
from data_pipeline.report.facts import read_facts
from data_pipeline.report.figures import HEIGHT, TOP, bin_labels, histogram_shape
from data_pipeline.report.scan import DENSITIES, LENGTHS, NUM_EXAMPLES, Scan, find_pairs, list_items, scan
from data_pipeline.workers import WorkersConfig

ONE = WorkersConfig(num_workers=1)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "first")


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
    found = scan(list_items(tmp_path, facts), facts, ONE)
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
