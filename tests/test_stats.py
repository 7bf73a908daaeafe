"""Counts by language, site and reason: added up from files in any grouping, and bounded where sites are many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline import stats as module
from data_pipeline.document import Document
from data_pipeline.stats import KEPT, OTHER_SITES, Stats, add_up
from mindllm.stage import write_json

names = st.text(st.sampled_from("a\tb\n中 "), max_size=4)
rows = st.lists(
    st.tuples(st.sampled_from(["zh-Hans", "en", ""]), names, st.sampled_from([KEPT, "x:y"]), names), max_size=6
)


def counted(some: list[tuple[str, str, str, str]]) -> Stats:
    stats = Stats()
    for lang, site, reason, text in some:
        stats.add(Document(text, "", site=site, lang=lang), reason)
    return stats


def written(folder: Path, parts: list[Stats]) -> list[Path]:
    paths = [folder / f"{number}.json" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        write_json(path, part.counts)
    return paths


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows, rows, rows)
def test_files_add_up(tmp_path: Path, a: Any, b: Any, c: Any) -> None:
    every = [*a, *b, *c]
    total = add_up(written(tmp_path, [counted(a), counted(b), counted(c)]))
    assert total.counts == counted(every).counts and list(total.counts) == sorted(total.counts)
    assert total.documents() == total.documents(kept=True) + total.documents(kept=False) == len(every)
    assert total.documents(kept=True) == sum(reason == KEPT for _, _, reason, _ in every)
    assert total.text_bytes() == sum(len(text.encode()) for _, _, reason, text in every if reason == KEPT)
    assert {row[:3] for row in total.rows()} == {(lang or "?", site, reason) for lang, site, reason, _ in every}


def test_sites_of_few_documents_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    parts = [counted([("en", f"site{number}", KEPT, "文字")] * (number + 1)) for number in range(9)]
    parts += [counted([("zh-Hant", "站", "x:y", "字")])]
    total = add_up(written(tmp_path, parts))
    assert total.documents() == 46 and total.text_bytes() == 45 * 6
    assert {row[1] for row in total.rows()} == {"site6", "site7", "site8", OTHER_SITES}
    assert sum(n for lang, site, _, n, _ in total.rows() if site == OTHER_SITES and lang == "en") == 21
    assert add_up([]).counts == {}
