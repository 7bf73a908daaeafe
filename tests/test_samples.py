"""The sample web: it rebuilds to the same bytes, its pages hold their prose, and every trap is where the key says."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tomllib
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
WEB = SAMPLES / "web"
KEY: list[dict[str, Any]] = json.loads((SAMPLES / "web.json").read_text(encoding="utf-8"))
CONFIG: dict[str, Any] = tomllib.loads((SAMPLES / "sites.toml").read_text(encoding="utf-8"))
LEGACY = ("gb18030", "big5")


def warc_pages(path: Path) -> dict[str, bytes]:
    """The HTML answers of a WARC file, by address; checks that the records follow each other without a gap."""
    pages: dict[str, bytes] = {}
    data, at = gzip.decompress(path.read_bytes()), 0
    while at < len(data):
        assert data.startswith(b"WARC/1.0\r\n", at)
        start = data.index(b"\r\n\r\n", at) + 4
        fields = dict(line.split(": ", 1) for line in data[at : start - 4].decode().split("\r\n")[1:])
        at = start + int(fields["Content-Length"])
        assert data[at : at + 4] == b"\r\n\r\n"
        head, _, payload = data[start:at].partition(b"\r\n\r\n")
        at += 4
        if fields["WARC-Type"] == "response" and b" 200 OK" in head and b"text/html" in head:
            pages[fields["WARC-Target-URI"]] = payload
    return pages


def load_web() -> dict[str, bytes]:
    """The bytes of every page, by address (of a loose file that has none in the key, by its name)."""
    names = {row["file"]: row["url"] for row in KEY}
    pages: dict[str, bytes] = {}
    for path in sorted(path for path in WEB.rglob("*") if path.is_file()):
        name = path.relative_to(WEB).as_posix()
        if name.endswith(".warc.gz"):
            pages |= warc_pages(path)
        elif name.endswith(".jsonl.gz"):
            rows = map(json.loads, gzip.decompress(path.read_bytes()).decode("utf-8").splitlines())
            pages |= {row["url"]: row["html"].encode("utf-8") for row in rows}
        else:
            pages[names[name] or name] = path.read_bytes()
    return pages


PAGES = load_web()


def with_trap(trap: str) -> list[dict[str, Any]]:
    """The rows of the key that name a trap."""
    return [row for row in KEY if trap in row["traps"]]


def html_of(row: dict[str, Any]) -> str:
    """A page as text."""
    return PAGES[row["url"] or row["file"]].decode(row["charset"])


def text_of(row: dict[str, Any]) -> str:
    """What a reader sees of a page, blanks apart."""
    html = re.sub(r"(?is)<(script|style)\b.*?</\1>", "", html_of(row))
    return re.sub(r"\s+", "", unescape(re.sub(r"<[^>]*>", "", html)))


def prose_lines(site: str, slug: str) -> list[str]:
    """The lines of a prose file without marks and blanks."""
    body = (SAMPLES / "prose" / site / f"{slug}.md").read_text(encoding="utf-8").split("\n---\n", 1)[1]
    lines = (line for line in body.splitlines() if line.strip() and not line.startswith(("```", "|")))
    return [re.sub(r"\s+", "", re.sub(r"^(#+|-|\d+\.) +", "", line)) for line in lines]


def missing(row: dict[str, Any], site: str, slug: str) -> int:
    """How many lines of a prose file a page lacks."""
    text = text_of(row)
    return sum(line not in text for line in prose_lines(site, slug))


def home(row: dict[str, Any]) -> tuple[str, str]:
    """Site and slug of the prose file that a page was made from, by its place."""
    if row["source"]:
        site, slug = row["source"].split("/")
        return site, slug
    site = next(site for site in CONFIG["sites"] if site in row["url"])
    return site, row["url"].rsplit("/", 1)[1].removesuffix(".html")


def articles() -> list[dict[str, Any]]:
    """The pages that hold a prose file word for word."""
    other = {"index", "tag", "stub", "spam", "noise", "near-duplicate", "plain text", "empty", "truncated", "binary"}
    return [row for row in KEY if not other & set(row["traps"])]


def content(path: Path) -> bytes:
    """What a file holds; packed files are unpacked, as compressors differ from one zlib to another."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def tree(folder: Path) -> dict[str, Path]:
    """The files under a folder by relative name."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_rebuild_gives_the_same_bytes(tmp_path: Path) -> None:
    for turn in ("1", "2"):
        command = [sys.executable, str(SAMPLES / "build.py"), "--out", str(tmp_path / turn / "web")]
        env = os.environ | {"PYTHONHASHSEED": turn}
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=env)
    first, second, kept = tree(tmp_path / "1"), tree(tmp_path / "2"), tree(WEB)
    assert {name: path.read_bytes() for name, path in first.items()} == {n: p.read_bytes() for n, p in second.items()}
    assert set(first) == {f"web/{name}" for name in kept} | {"web.json"}
    assert [name for name in kept if content(kept[name]) != content(first[f"web/{name}"])] == []
    assert first["web.json"].read_bytes() == (SAMPLES / "web.json").read_bytes()


def test_the_web_is_large_enough_and_small_enough() -> None:
    rows = articles()
    assert len(rows) >= 60
    assert len({home(row)[0] for row in rows}) >= 6
    assert {row["lang"] for row in rows} == {"en", "zh-Hans", "zh-Hant"}
    sizes = [path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(sizes) < 3_000_000
    assert max(sizes) < 1_000_000


def test_the_key_lists_every_page() -> None:
    assert set(PAGES) == {row["url"] or row["file"] for row in KEY}
    used = {home(row) for row in KEY if row["url"]} | {("", Path(row["file"]).stem) for row in with_trap("plain text")}
    slugs = {path.stem for path in (SAMPLES / "prose").glob("*/*.md")}
    assert slugs <= {slug for _, slug in used}


@pytest.mark.parametrize("row", articles(), ids=lambda row: row["url"])
def test_a_page_holds_its_prose(row: dict[str, Any]) -> None:
    assert missing(row, *home(row)) == 0


def test_legacy_encodings() -> None:
    found = {charset: [row for row in articles() if row["charset"] == charset] for charset in LEGACY}
    assert len(found["gb18030"]) >= 8
    assert 4 <= len(found["big5"]) <= sum("haiwan" in row["url"] for row in KEY) - 4
    for row in found["gb18030"] + found["big5"]:
        with pytest.raises(UnicodeDecodeError):
            PAGES[row["url"]].decode("utf-8")
    assert {row["claimed"] for row in found["gb18030"]} == {"gb2312", "gbk", ""}


def test_charset_traps() -> None:
    (wrong,), (silent,) = with_trap("wrong charset"), with_trap("silent charset")
    assert b'charset="gb2312"' in PAGES[wrong["url"]]
    assert wrong["title"] in PAGES[wrong["url"]].decode("utf-8")
    assert b"charset" not in PAGES[silent["url"]].lower()


def test_reprints_are_near_and_copies_exact() -> None:
    assert len(with_trap("near-duplicate")) >= 6
    for row in with_trap("near-duplicate"):
        site, slug = home(row)
        assert row["file"].split(".")[0] != site
        assert 1 <= missing(row, site, slug) <= len(prose_lines(site, slug)) / 2
    assert len(with_trap("exact copy")) == 2
    assert all(missing(row, *home(row)) == 0 for row in with_trap("exact copy"))


def luhn(digits: str) -> bool:
    """Whether a card number's check digit is right."""
    turned = [int(d) for d in reversed(digits)]
    return sum(turned[::2] + [sum(divmod(2 * d, 10)) for d in turned[1::2]]) % 10 == 0


def test_contact_data_belongs_to_nobody() -> None:
    rows = with_trap("contact")
    assert len(rows) >= 8
    assert {row["lang"] for row in rows} == {"en", "zh-Hans", "zh-Hant"}
    texts = [html_of(row) for row in rows]
    mails = re.findall(r"[\w.]+@[\w.]+", "\n".join(texts), re.ASCII)
    assert len(mails) >= 6
    assert all(mail.rstrip(".").endswith(".example") for mail in mails)
    cards = [re.sub(r"\D", "", card) for text in texts for card in re.findall(r"(?<!\d)[46](?: ?\d){15}(?!\d)", text)]
    assert len(cards) >= 2
    assert all(map(luhn, cards))
    assert any(re.search(r"[\u4e00-\u9fff]1\d{10}[\u4e00-\u9fff]", text) for text in texts)
    assert any("555-01" in text for text in texts)


def test_identity_numbers_check_out_for_regions_that_do_not_exist() -> None:
    numbers = [n for row in with_trap("contact") for n in re.findall(r"(?<!\d)\d{17}[\dX](?!\d)", html_of(row))]
    assert len(numbers) >= 2
    for number in numbers:
        weights = [2**i % 11 for i in range(17, -1, -1)]
        values = [10 if digit == "X" else int(digit) for digit in number]
        assert sum(w * v for w, v in zip(weights, values, strict=True)) % 11 == 1
        assert date(int(number[6:10]), int(number[10:12]), int(number[12:14])) < date(2016, 1, 1)
        assert number[2:6] == "9999"


def test_odd_characters_and_repeated_advertisements() -> None:
    noise = "".join(map(html_of, with_trap("noise")))
    assert all(char in noise for char in "😀🌏\u200b\u200d\ufeff\u2060\u00ad\x08\x0b\x1f\x7f")
    (spam,) = with_trap("spam")
    assert text_of(spam).count(CONFIG["spam"]["text"]) == CONFIG["spam"]["times"]
    for site in ("riverbend", "baichuan", "xiaobu", "haiwan"):
        for ad in CONFIG["sites"][site]["ads"]:
            rows = [row for row in articles() if home(row)[0] == site and not row["source"]]
            assert all(text_of(row).count(re.sub(r"\s+", "", ad)) == 1 for row in rows)


def test_lists_and_stubs() -> None:
    assert len(with_trap("index")) == len(CONFIG["sites"])
    assert len(with_trap("tag")) == 2
    for row in with_trap("index") + with_trap("tag"):
        assert PAGES[row["url"]].count(b"<a href") >= 40
    assert len(with_trap("stub")) == 2
    assert all(len(entry["text"]) < 100 for entry in CONFIG["stub"])


def test_broken_files() -> None:
    (empty,), (cut,), (binary,) = (with_trap(trap) for trap in ("empty", "truncated", "binary"))
    assert PAGES[empty["file"]] == b""
    assert PAGES[cut["file"]].rpartition(b"<")[2].count(b">") == 0
    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        PAGES[cut["file"]].decode("utf-8")
    assert len(PAGES[binary["file"]]) == 4096
    assert len(set(PAGES[binary["file"]])) == 256
