"""Documents as Parquet: they come back the same, and a writer that fails leaves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline.document import Document
from data_pipeline.parquet import SCHEMA, count_documents, read_documents, write_rows

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
documents = st.builds(Document, texts, texts, texts, texts, st.sampled_from(["en", "zh-Hans", "zh-Hant"]), texts,
                      st.dictionaries(texts, texts | st.integers(-5, 5), max_size=3))  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(documents, max_size=7))
def test_documents_come_back_the_same(tmp_path: Path, some: list[Document]) -> None:
    path = tmp_path / "deep" / "x.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipeline.parquet.ROWS_PER_GROUP", 3)
        with write_rows(path, SCHEMA) as rows:
            for document in some:
                rows.add_document(document)
    assert list(read_documents(path)) == some and count_documents(path) == len(some)
    assert pq.ParquetFile(path).num_row_groups == -(-len(some) // 3)
    assert [d.text for d in read_documents(path, ("text",))] == [d.text for d in some]
    assert all(d.id == "" and d.meta == {} for d in read_documents(path, ("text",)))


@pytest.mark.parametrize("wrong", [{"text": 5}, {"text": "\ud800"}, RuntimeError()])
def test_a_failed_writer_leaves_nothing(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises((RuntimeError, pa.ArrowException, TypeError, UnicodeEncodeError)):
        with write_rows(tmp_path / "x.parquet", SCHEMA) as rows:
            rows.add_document(Document("正文", "1", meta={"html": b"raw bytes stay behind"}))
            if isinstance(wrong, Exception):
                raise wrong
            rows.add(wrong)
    assert list(tmp_path.iterdir()) == []
