"""Records to documents: which keys count, keys below keys, several text fields, subsets; nothing raises."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.document import Document
from data_pipeline.parquet import meta_json
from data_pipeline.reading import input_shard
from data_pipeline.reading.records import columns, look_up, to_document
from data_pipeline.sources import Source


@dataclass
class Shard:
    """What to_document needs of an InputShard."""

    settings: Source
    source: str = "wiki"


def read(record: dict[str, Any], **settings: str) -> Document:
    """The document of one record."""
    return to_document(Shard(Source("x", **settings)), "a.jsonl#0", record)  # type: ignore[arg-type]


def text(record: dict[str, Any], **settings: str) -> str:
    """The plain text of one record's document, or why it has none."""
    meta = read(record, **settings).meta
    return meta["broken"] if "broken" in meta else meta["plain"].decode()


def test_html_wins_where_there_is_some() -> None:
    assert read({"html": "<p>雨</p>", "text": "rain"}).meta == {"html": "<p>雨</p>".encode()}
    assert read({"html": b"\xd3\xea", "text": "rain"}).meta == {"html": b"\xd3\xea"}
    for nothing in (None, "", b"", 7, [], {}, " \n"):
        assert text({"html": nothing, "text": "雨 rain"}) == "雨 rain"
    assert read({"page": {"raw": "<p>雨"}, "text": "rain"}, html_field="page.raw").meta == {"html": "<p>雨".encode()}


def test_what_is_kept() -> None:
    record = {
        "text": "正文",
        "title": "題",
        "author": ["甲"],
        "date": 2024,
        "url": "https://a.example/新",
        "lang": "en",
    }
    document = read(record)
    assert document.meta == {"plain": "正文".encode(), "title": "題", "author": "['甲']", "date": "2024"}
    assert (document.id, document.url, document.site) == ("wiki/a.jsonl#0", "https://a.example/新", "a.example")
    assert (document.source, document.lang, document.text) == ("wiki", "", "")


@pytest.mark.parametrize("meta", [{"url": "https://a.example/"}, '{"url": "https://a.example/"}'])
def test_the_url_may_lie_in_meta(meta: Any) -> None:
    assert read({"text": "雨", "meta": meta}).url == "https://a.example/"
    assert read({"text": "雨", "meta": meta, "url": "https://b.example/"}).url == "https://b.example/"
    assert read({"meta": meta}).url == "https://a.example/"  # also of what is broken


def test_keys_below_keys() -> None:
    nested = {"a": {"b": "裡面", "b.c": "dot", "d": '{"e": {"f": "in JSON 文"}}'}, "a.b": "literally"}
    assert look_up(nested, "a.b") == "literally"
    assert look_up(nested | {"a.b": None}, "a.b") == "裡面"
    assert look_up(nested, "a.b.c") == "dot"
    assert look_up(nested, "a.d.e.f") == "in JSON 文"
    assert look_up({"a.b": {"c": 1}, "a": {"b": {"c": 2}}}, "a.b.c") == 2  # the shortest key first
    for absent in ("a.x", "x.b", "a.b.x", "a.", ".a", ".", ""):
        assert look_up(nested, absent) is None, absent
    assert text({"data": {"text": "雨 rain"}}, text_field="data.text") == "雨 rain"


@pytest.mark.parametrize("meta", ["{'b': 1}", '{"b": ', "[1]", "5", "", "x" * 200, "[" * 5000, '{"b":' * 5000, None, 5])
def test_strings_that_hold_no_object(meta: Any) -> None:
    assert look_up({"a": meta}, "a.b") is None


def test_several_texts_become_paragraphs() -> None:
    both = {"title": "標題", "content": "正文。\nBody."}
    assert text(both, text_field="title, content") == "標題\n\n正文。\nBody."
    assert text({**both, "title": " "}, text_field="title,content") == "正文。\nBody."
    assert text({**both, "title": None}, text_field="title,content") == "正文。\nBody."
    assert text({"content": "x"}, text_field="title,abstract,content") == "x"
    for empty in ("", "\u3000 \n", None):
        assert text({**both, "content": empty}, text_field="title,content") == "read:no_text_field"
    assert text({"content": "標題"}, text_field="content,") == "read:no_text_field"


def test_lists_of_texts_become_lines() -> None:
    assert text({"text": ["第一段。", "", None, "Second paragraph."]}) == "第一段。\nSecond paragraph."
    for nothing in ([], [None], [["x"]], [{"text": "x"}], ["x", 1]):
        assert text({"text": nothing}) == "read:no_text_field", nothing


def test_without_text_the_keys_are_named() -> None:
    document = read({"正文": "x", "meta": {"b": {"c": 1}, "d": 2}, "e": {}, "url": "https://a.example/"})
    assert (document.meta, document.text) == ({"broken": "read:no_text_field"}, "keys: 正文, meta.b, meta.d, e, url")
    assert read({}).text == "keys: "
    assert len(read({str(k): {str(n): 0 for n in range(90)} for k in range(90)}).text) == 500


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_shard, "MAX_DOCUMENT_BYTES", 6)
    assert (text({"text": "风雨"}), text({"text": "风雨r"})) == ("风雨", "read:too_large")
    assert text({"title": "rain", "text": "x"}, text_field="title,text") == "read:too_large"  # with what joins them


def test_subsets() -> None:
    def source(record: dict[str, Any], field: str = "meta.pile_set_name") -> str:
        return read({"text": "雨 rain", **record}, subset_field=field).source

    assert source({"meta": {"pile_set_name": "Pile-CC"}}) == "wiki-pile-cc"
    assert source({"meta": '{"pile_set_name": "StackExchange"}'}) == "wiki-stackexchange"
    assert source({"dataType": "百科/歷史"}, "dataType") == "wiki-百科-歷史"
    assert (source({"n": 3}, "n"), source({"n": 0}, "n"), source({"n": 2.5}, "n")) == ("wiki-3", "wiki-0", "wiki-2-5")
    for nothing in (None, "", "--", True, [], ["x"], {"y": 1}, "\ud800"):
        assert source({"n": nothing}, "n") == "wiki", nothing
    assert source({"n": "x" * 1000}, "n") == "wiki-" + "x" * 40
    assert read({"n": "x"}, subset_field="n").source == "wiki-x"  # what is broken, too
    assert read({"text": "雨", "n": "x"}).source == "wiki"
    assert read({"text": "雨", "n": "x"}, subset_field="n").id == "wiki/a.jsonl#0"


def test_lone_surrogates() -> None:
    document = read({"text": "雨\ud800r", "title": "\udc00題", "url": "https://a.example/\ud800"})
    assert document.meta == {"plain": "雨r".encode(), "title": "\\udc00題"}
    assert document.url == "https://a.example/\\ud800"
    assert text({"text": "\ud800"}) == "read:no_text_field"


def test_nested_as_deep_as_json_reads() -> None:
    depths = range(700, 1000)  # around what json.loads refuses; str(value) fails a little before
    for depth in depths:
        for line in ('{"text": "雨", "title": %s1%s}', '{"text": %s1%s}', '{"text": "x", "url": %s1%s, "n": [1]}'):
            try:
                record = json.loads(line % ("[" * depth, "]" * depth))
            except RecursionError:
                continue
            assert isinstance(read(record, subset_field="n.x"), Document)


NAMES = st.sampled_from(["text", "html", "title", "url", "meta", "a", "a.b", "b", "date", "author"]) | st.text(
    max_size=4
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(codec=None), max_size=9)
)
VALUES = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=4), max_leaves=12)
JSON_TEXTS = st.dictionaries(NAMES, VALUES, max_size=3).map(json.dumps)
FIELDS = st.sampled_from(["text", "a.b", "title,text", "meta.a.b,text", "a", "", ",", ".", "meta.meta", "b..b"])


@given(st.dictionaries(NAMES, VALUES | JSON_TEXTS | st.binary(max_size=5)), FIELDS, FIELDS, FIELDS)
def test_any_record_gives_a_document(record: dict[str, Any], text_field: str, html_field: str, subset: str) -> None:
    document = read(record, text_field=text_field, html_field=html_field, subset_field=subset)
    strings = (document.id, document.url, document.site, document.source, document.text, meta_json(document))
    assert "".join(strings).encode()
    contents = {"html", "plain", "broken"} & set(document.meta)
    assert len(contents) == 1 and document.meta[contents.pop()]
    assert document.source.startswith("wiki") and not document.lang


@given(
    st.dictionaries(
        st.sampled_from(["text", "html", "url", "title", "meta", "a", "a.b", "other", "正文"]),
        st.one_of(
            st.text(max_size=5),
            st.none(),
            st.dictionaries(st.sampled_from(["url", "b", "c"]), st.text(max_size=5), max_size=3),
        ),
    ),
    st.sampled_from(["text", "a.b", "title, a.b", "正文", "a.c"]),
)
def test_columns_that_are_left_out_change_no_document(record: dict[str, Any], text_field: str) -> None:
    """Only that of a row without text lists fewer keys."""
    settings = {"text_field": text_field, "subset_field": "a.b"}
    found = columns(Source("x", **settings), list(record))  # type: ignore[arg-type]
    if found is None:
        assert text(record, **settings) == "read:no_text_field"
        return
    part, whole = read({key: record[key] for key in found}, **settings), read(record, **settings)
    if "broken" in whole.meta:
        whole.text = part.text
    assert part == whole


def test_columns() -> None:
    names = ["id", "url", "embedding", "text", "meta", "metadata"]
    assert columns(Source("x", subset_field="meta.name"), names) == ["url", "text", "meta"]
    assert columns(Source("x", text_field="content"), names) is None


def test_columns_that_are_not_marked_as_text() -> None:
    record = {"text": "正文".encode(), "url": b"https://a.example/x", "title": "題".encode(), "kind": b"Web"}
    document = read(record, subset_field="kind")
    assert (document.url, document.site, document.source) == ("https://a.example/x", "a.example", "wiki-web")
    assert document.meta == {"plain": "正文".encode(), "title": "題"}
