"""Names of files as paths, URLs and ids; what is never shown of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.reading.addresses import base_of, check, is_url, join, label, scrub, shown
from mindllm.config import UserError


def test_joined_and_taken_apart() -> None:
    assert [join(*pair) for pair in (("", "a/b"), ("", "/a"), ("/", "a"), ("x/", "a"), ("s3://b/c", "/d"))] == [
        "a/b", "/a", "/a", "x/a", "s3://b/c//d",
    ]  # fmt: skip
    pairs = {
        "https://a.example": ("https://a.example", ""),
        "https://a.example/": ("https://a.example", ""),
        "https://a.example/d/?C=N": ("https://a.example/d", ""),
        "https://a.example/d/x.gz?p=a/b": ("https://a.example/d", "x.gz?p=a/b"),
        "s3://b/k?/x": ("s3://b/k?", "x"),
        "hf://datasets/o/n@c0ffee/页.parquet": ("hf://datasets/o/n@c0ffee", "页.parquet"),
    }
    assert {url: base_of(url) for url in pairs} == pairs
    assert [is_url(t) for t in ("s3://b", "a/b", "C:/x", "http:/x", "://x", "页://x")] == [True] + [False] * 5
    assert is_url("HTTPS://a", "http", "https") and not is_url("s3://a", "http")


@pytest.mark.parametrize(
    ("root", "name", "id"),
    [
        ("https://a.example/d", "x.jsonl", "x.jsonl"),
        ("https://a.example/d", "get.php?id=1", "get.php?d9fc91d4"),
        ("https://a.example/d", "x.jsonl?X-Amz-Date=1&X-Amz-Signature=hush", "x.jsonl"),
        ("https://a.example/d", "x.jsonl?sv=1&sig=hush", "x.jsonl"),
        ("https://a.example/d", "x.jsonl?access_token=hush", "x.jsonl"),
        ("", "https://a.example/页.html?a=1", "https://a.example/页.html?c22fea5d"),
        ("s3://b", "what?.txt", "what?.txt"),
        ("/data", "index.php?id=1", "index.php?id=1"),
    ],
)
def test_ids_hold_no_queries(root: str, name: str, id: str) -> None:
    assert label(root, name) == id


def test_what_is_shown() -> None:
    urls = {
        "https://u:hush@a.example:80/x?hush#hush": "https://a.example:80/x",
        "http://a.example?hush": "http://a.example",
        "s3://b/k?versionId=1": "s3://b/k?versionId=1",
        "sftp://u:hush@h/x@y": "sftp://h/x@y",
        "/data/x?y": "/data/x?y",
    }
    assert {url: shown(url) for url in urls} == urls
    text = "404, url='https://a.example/页?X-Amz-Signature=hush' and http://u:hush@b.example/x, (s3://c/d)"
    assert scrub(text) == "404, url='https://a.example/页' and http://b.example/x, (s3://c/d)"
    assert len(scrub("x" * 9999)) == 1000


def test_secrets_and_local_files_are_refused() -> None:
    for url in ("https://u@a.example/", "https://u:hush@a.example/", "ftp://u:hush@h/", "file:///x", "LOCAL://x"):
        with pytest.raises(UserError, match="^sources.w.path: ") as caught:
            check("sources.w.path", url)
        assert "hush" not in str(caught.value)
    for url in ("https://a.example/x@y:z", "hf://datasets/o/n@c0ffee/x", "abfs://c@account.example/x", "sftp://u@h/x"):
        check("sources.w.path", url)


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(["http", "https", "s3", ""]))
def test_any_text_goes_through(root: str, name: str, scheme: str) -> None:
    url = join(f"{scheme}://{root}" if scheme else root, name)
    assert "hush" not in scrub(f"{url} http://u:hush@{name}/x?hush=1 s3://b/ x?hush, 'http://{name}?hush'")
    assert isinstance(label(root, name), str) and isinstance(shown(url), str)
    if is_url(url, "http", "https"):
        assert "?" not in shown(url) and "#" not in shown(url)
        assert label("", url).partition("?")[0] == url.partition("?")[0]
        folder, last = base_of(url)
        assert is_url(folder) and not folder.endswith("//") or not last
