"""URL blocklists: normal forms of hosts and paths, the three kinds of lists, files and their mistakes."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import lists
from data_pipeline.cleaners.urls import Hosts, Prefixes, Urls, Words, normal_host, read_list, split_url
from data_pipeline.document import Document, Drop
from mindllm.config import UserError
from mindllm.text import units


def verdict(url: str, site: str = "", **settings: Any) -> str:
    cleaner = Urls(**settings)
    assert not list(cleaner.problems())
    result = cleaner(Document("正文", "1", url=url, site=site))
    return result.reason if isinstance(result, Drop) else ""


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("News.Example.COM", "news.example.com"),
        ("a.example.", "a.example"),
        ("a.example:8080", "a.example"),
        ("新闻.中国", "xn--efvy88h.xn--fiqs8s"),
        ("xn--efvy88h.XN--FIQS8S", "xn--efvy88h.xn--fiqs8s"),
        ("新聞。台灣", "xn--efvv70d.xn--kpry57d"),
        ("ＥＸＡＭＰＬＥ.com", "example.com"),
        ("%E6%96%B0%E9%97%BB.cn", "xn--efvy88h.cn"),
        ("☃.example", "xn--n3h.example"),
        ("🀄.example", "xn--mt7h.example"),
        ("192.168.0.1", "192.168.0.1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("a b", ""),
        ("", ""),
        ("a" * 300, ""),
    ],
)
def test_normal_host(host: str, expected: str) -> None:
    assert normal_host(host) == expected


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("https://User:p@ss@A.Example:443/x/Y?q=1#part", "a.example", "/x/Y?q=1"),
        ("http://a.example", "a.example", "/"),
        ("a.example/x", "a.example", "/x"),
        ("//a.example/x", "a.example", "/x"),
        ("a.example:8080/x?u=http://b.example/", "a.example", "/x?u=http://b.example/"),
        ("http://新闻.中国/赌博/%E6%96%B0?词=繁體", "xn--efvy88h.xn--fiqs8s", "/赌博/新?词=繁體"),
        ("http://[2001:db8::1]:80/x", "2001:db8::1", "/x"),
        (" http://a.example/x ", "a.example", "/x"),
        ("/x/y", "", "/x/y"),
        ("http://[broken/x", "", ""),
        ("", "", "/"),
    ],
)
def test_split_url(url: str, host: str, path: str) -> None:
    assert split_url(url) == (host, path)


@given(st.text(st.characters(), max_size=60) | st.from_regex(r"https?://[^/]{1,20}(/.{0,20})?"))
def test_no_url_raises(url: str) -> None:
    """Not even one with lone surrogates."""
    cleaner = Urls(hosts=["a.example"], prefixes=["b.example/x"], words=["赌博", "casino"])
    cleaner(Document("", "1", url=url, site=url))


@pytest.mark.parametrize(
    ("url", "blocked"),
    [
        ("http://bad.example/", True),
        ("https://WWW.Bad.Example:8443/x", True),
        ("http://user:pw@a.b.bad.example./x", True),
        ("http://notbad.example/", False),
        ("http://bad.example.org/", False),
        ("http://example/", False),
        ("http://www.坏站.中国/x", True),
        ("http://xn--7esy04f.xn--fiqs8s/x", True),
        ("http://壞站.台灣/x", True),
        ("http://好站.中国/x", False),
        ("http://10.0.0.7/x", True),
    ],
)
def test_hosts_and_what_is_below(url: str, blocked: bool) -> None:
    hosts = ["bad.example", "坏站.中国", "*.壞站.台灣", "10.0.0.7"]
    assert verdict(url, hosts=hosts) == ("urls:blocked_host" if blocked else "")


@pytest.mark.parametrize(
    ("url", "blocked"),
    [
        ("http://a.example/ads", True),
        ("https://a.example:444/ads/1.html", True),
        ("http://a.example/ads-2", True),
        ("http://a.example/Ads", False),
        ("http://a.example/x/ads", False),
        ("http://www.a.example/ads", False),
        ("http://b.example/新闻/1", True),
        ("http://b.example/%E6%96%B0%E9%97%BB/1", True),
        ("http://b.example/新聞/1", False),
        ("http://c.example/anything", True),
        ("http://d.example/a/b/c", True),
        ("http://d.example/a/x", True),
        ("http://d.example/b", False),
    ],
)
def test_prefixes(url: str, blocked: bool) -> None:
    prefixes = ["http://a.example/ads", "b.example/新闻/", "c.example", "d.example/a", "d.example/a/b"]
    assert verdict(url, prefixes=prefixes) == ("urls:blocked_url" if blocked else "")


@pytest.mark.parametrize(
    ("path", "blocked"),
    [
        ("/casino/1", True),
        ("/x/Best-CASINO_888.html", True),
        ("/casinos/", False),
        ("/news?tag=casino", True),
        ("/free-spins/", True),
        ("/free_spins", True),
        ("/spins-free", False),
        ("/freespins", False),
        ("/澳门赌博网", True),
        ("/赌/博", True),
        ("/赌徒博客", False),
        ("/%E8%B5%8C%E5%8D%9A", True),
        ("/賭博", True),
        ("/博弈", False),
        ("/", False),
    ],
)
def test_words_in_paths(path: str, blocked: bool) -> None:
    words = ["casino", "Free Spins", "赌博", "賭博"]
    assert verdict(f"http://a.example{path}", words=words) == ("urls:blocked_word" if blocked else "")
    assert verdict("http://casino.example/", words=words) == ""  # hosts have lists of their own


def test_documents_without_url_are_judged_by_site() -> None:
    assert verdict("", "www.bad.example", hosts=["bad.example"]) == "urls:blocked_host"
    assert verdict("", "坏站.中国", hosts=["坏站.中国"]) == "urls:blocked_host"
    assert verdict("", "notes", hosts=["bad.example"]) == ""
    assert verdict("http://good.example/", "bad.example", hosts=["bad.example"]) == ""  # the URL says more
    assert verdict("http://[broken/", "bad.example", hosts=["bad.example"]) == "urls:blocked_host"
    assert verdict("", "c.example", prefixes=["c.example"]) == ""  # a path is not known


def test_nothing_is_blocked_by_default() -> None:
    assert verdict("http://bad.example/casino") == "" and verdict("") == ""


def test_files(tmp_path: Path) -> None:
    (tmp_path / "hosts.txt").write_bytes(
        "\ufeff# 注释\r\nBad.Example  # why\r\n\r\n0.0.0.0 ads.example\n127.0.0.1\tlog.example\n坏站.中国\n".encode()
    )
    (tmp_path / "more.txt.gz").write_bytes(gzip.compress(b"gz.example\nno-newline.example"))
    (tmp_path / "prefixes.txt").write_text("a.example/x#part\n", encoding="utf-8")
    (tmp_path / "words.txt").write_text("# 词\ncasino\n赌博\n", encoding="utf-8")
    files = {
        "host_files": [str(tmp_path / "hosts.txt"), str(tmp_path / "more.txt.gz")],
        "prefix_files": [str(tmp_path / "prefixes.txt")],
        "word_files": [str(tmp_path / "words.txt")],
    }
    for host in ("bad.example", "ads.example", "log.example", "坏站.中国", "gz.example", "no-newline.example"):
        assert verdict(f"http://{host}/", **files) == "urls:blocked_host", host
    assert verdict("http://0.0.0.0/", **files) == "" and verdict("http://example/", **files) == ""
    assert verdict("http://a.example/xy", **files) == "urls:blocked_url"
    assert (
        verdict("http://b.example/赌博", **files) == verdict("http://b.example/casino", **files) == "urls:blocked_word"
    )
    assert list(read_list(tmp_path / "hosts.txt"))[0] == (2, "Bad.Example")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "hosts.txt"
    path.write_text("one.example\n")
    assert verdict("http://one.example/", host_files=[str(path)]) == "urls:blocked_host"
    path.write_text("other.example\n")
    assert verdict("http://one.example/", host_files=[str(path)]) == ""


@pytest.mark.parametrize(
    ("settings", "files", "expected"),
    [
        ({"hosts": ["a.example/x"]}, {}, "hosts: 'a.example/x' is no host"),
        ({"words": ["赌"]}, {}, "words: '赌' has fewer than two letters"),
        ({"words": ["--"]}, {}, "words: '--' has fewer"),
        ({"prefixes": ["/x"]}, {}, "prefixes: '/x' is no beginning of a URL"),
        ({"prefixes": ["http://[x"]}, {}, "prefixes: 'http://[x' is no beginning of a URL"),
        ({}, {"hosts": b"a.example\n\nb c d\n"}, "hosts: {}:3: 'b c d' is no host"),
        ({}, {"hosts": b"\xff\xfe"}, "hosts: {}: is no text in UTF-8"),
        ({}, {"words": "好词\n字\n".encode()}, "words: {}:2: '字' has fewer"),
        ({}, {"prefixes": b"x" * 2000}, "prefixes: {}: holds more than 1,000 bytes"),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], files: dict[str, bytes], expected: str
) -> None:
    monkeypatch.setattr(lists, "MAX_LIST_BYTES", 1000)
    path = tmp_path / "list.txt"
    keys = {"hosts": "host_files", "prefixes": "prefix_files", "words": "word_files"}
    for kind, data in files.items():
        path.write_bytes(data)
        settings = {keys[kind]: [str(path)]}
    problems = list(Urls(**settings).problems())
    assert [p[: len(expected.format(path))] for p in problems] == ([expected.format(path)] if expected else [])


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clipped.gz").write_bytes(gzip.compress(b"a.example\n" * 99)[:-9])
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"a" * 5000))
    monkeypatch.setattr(lists, "MAX_LIST_BYTES", 1000)
    for name, said in (("none.txt", "cannot be read"), ("clipped.gz", "EOFError"), ("bomb.gz", "holds more")):
        with pytest.raises(UserError, match=said):
            list(read_list(tmp_path / name)) if name != "none.txt" else Urls(word_files=[name])._words
    assert "none.txt" in next(Urls(host_files=[str(tmp_path / "none.txt")]).problems())


def test_measures() -> None:
    document = Document("", "1", url="http://www.Bad.example/casino")
    host, path = Urls(hosts=["bad.example"]).measures(document)
    assert (host.name, host.value, host.passes) == ("host", "www.bad.example", False)
    assert (path.name, path.value, path.passes) == ("path", "/casino", True)
    assert [m.passes for m in Urls(words=["casino"]).measures(document)] == [True, False]


labels = st.lists(st.sampled_from(["a", "b", "cc", "新"]), min_size=1, max_size=4).map(".".join)


@given(st.lists(labels, max_size=5), labels)
def test_hosts_against_the_plain_definition(listed: list[str], host: str) -> None:
    expected = any(host == h or host.endswith(f".{h}") for h in listed)
    assert (host in Hosts(h.encode() for h in listed)) == expected


@given(st.lists(st.text("ab/新", min_size=1, max_size=4), max_size=5), st.text("ab/新", max_size=6))
def test_prefixes_against_the_plain_definition(listed: list[str], url: str) -> None:
    assert (url in Prefixes(listed)) == any(url.startswith(p) for p in listed)


@given(st.lists(st.text("ab新闻", min_size=1, max_size=4), max_size=5), st.text("ab新闻/-", max_size=9))
def test_words_against_the_plain_definition(listed: list[str], path: str) -> None:
    """Written with a mark around every unit, a word hits where it is a part of the path."""
    marked = [f"|{'|'.join(units(text))}|" for text in (path, *listed)]
    assert (path in Words(listed)) == any(word in marked[0] for word in marked[1:])
