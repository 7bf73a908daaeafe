"""A record (an object of JSON lines, a row of Parquet or of a data set) as a document: which keys count, and how.

Raw HTML where a record has some, else its text. A key a.b lies below the key a, for data sets that keep what belongs to
a document in an object of its own, or in a string that holds such an object as JSON. Any record gives a document and
none raises: one without text is broken and lists its keys, so that the right one can be seen in dropped/.
Cost: some microseconds a record, and the parsing of `meta` where that is a string. Memory: the record's text, twice.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipeline.document import Document
from data_pipeline.reading import input_shard
from data_pipeline.reading.input_shard import InputShard, broken, new_document
from data_pipeline.sources import Source, subset_name

_KEPT_FIELDS = ("title", "date", "author")
_URL_FIELDS = ("url", "meta.url")
_SHOWN_KEYS = 50


def to_document(shard: InputShard, id: str, record: dict[str, Any]) -> Document:
    """The document of one record; `id` is its place in the shard. `shard.settings` names the keys (sources.Source)."""
    fields = shard.settings
    url = next((shown for key in _URL_FIELDS if (shown := _shown(look_up(record, key)))), "")
    data = _as_bytes(look_up(record, fields.html_field))
    kind = "html" if data else "plain"
    data = data or _paragraphs(record, fields.text_field)
    if not data:
        document = broken(shard, id, "read:no_text_field", f"keys: {', '.join(_keys(record))}", url)
    elif len(data) > input_shard.MAX_DOCUMENT_BYTES:
        document = broken(shard, id, "read:too_large", url=url)
    else:
        meta = {key: shown for key in _KEPT_FIELDS if (shown := _shown(record.get(key)))}
        document = new_document(shard, id, url, **{kind: data}, **meta)
    if fields.subset_field:
        document.source = _source(shard, record)
    return document


def columns(settings: Source, names: Sequence[str]) -> list[str] | None:
    """Those of a table's columns that a document is made of; None (all) where there is neither text nor HTML.

    Tables may hold far more than text: embeddings, scores, pictures.
    """
    body = [settings.html_field, settings.text_field.split(",")[-1].strip()]
    keys = [*body, *(key.strip() for key in settings.text_field.split(",")), settings.subset_field]
    keys += [*_URL_FIELDS, *_KEPT_FIELDS]
    found = [name for name in names if any(_leads_to(name, key) for key in keys)]
    return found if any(_leads_to(name, key) for name in found for key in body) else None


def _leads_to(name: str, key: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def look_up(record: Any, key: str) -> Any:
    """What `key` names: itself in the record, else, at a dot, a key of what lies below; None where there is nothing.

    A string on the way that holds a JSON object counts as that object.
    """
    if isinstance(record, str):
        record = _object_in(record)
    if not isinstance(record, dict):
        return None
    value = record.get(key)
    for at, letter in enumerate(key if value is None else ""):
        if letter == "." and value is None and record.get(key[:at]) is not None:
            value = look_up(record[key[:at]], key[at + 1 :])
    return value


def _object_in(text: str) -> Any:
    if len(text) > input_shard.MAX_DOCUMENT_BYTES or not text[:100].lstrip().startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or a thousand brackets deep
        return None


def _paragraphs(record: dict[str, Any], text_field: str) -> bytes:
    """The text; of several fields those that have some, as paragraphs. Without the last one (the body) there is none:
    a title alone is no document."""
    texts = [_as_bytes(look_up(record, key.strip())) for key in text_field.split(",")]
    return b"\n\n".join(text for text in texts if text) if texts[-1] else b""


def _as_bytes(value: Any) -> bytes:
    """Text in UTF-8, without lone surrogates, and bytes as they are; of a list of texts a line each; b"" for others."""
    if isinstance(value, list):
        if not all(isinstance(line, str | None) for line in value):
            return b""
        value = "\n".join(line for line in value if line)
    if not isinstance(value, str | bytes) or value.isspace():
        return b""
    return value.encode("utf-8", "ignore") if isinstance(value, str) else value


def _shown(value: Any) -> str:
    """A value as one text; "" for what is empty."""
    if isinstance(value, bytes):  # Parquet columns that are not marked as text
        value = value.decode("utf-8", "replace")
    try:
        return str(value) if value else ""
    except RecursionError:  # json reads objects a little deeper than str can write them
        return "(nested too deeply)"


def _source(shard: InputShard, record: dict[str, Any]) -> str:
    """The source of the document: the subset that the record names, a text or a number, else the shard's."""
    value = look_up(record, shard.settings.subset_field)
    value = _shown(value) if isinstance(value, bytes) else value
    named = isinstance(value, str | int | float) and not isinstance(value, bool)
    return subset_name(shard.source, str(value)) if named else shard.source


def _keys(record: dict[str, Any]) -> Iterator[str]:
    """The first keys of a record as a text_field would name them, with those below."""
    for key, value in itertools.islice(record.items(), _SHOWN_KEYS):
        inner = value if isinstance(value, dict) else {}
        yield from [f"{key}.{below}" for below in itertools.islice(inner, _SHOWN_KEYS)] or [str(key)]
