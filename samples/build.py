"""Builds the sample web: python samples/build.py [--out samples/web].

Reads samples/prose and samples/sites.toml, writes the pages as a crawler would have brought them home, and beside the
folder a key (web.json) that says of every page where it stands, how it is encoded and which traps it carries.
The same prose always gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pack
import traps
from blocks import Doc, Links, View
from furniture import render
from pages import Page, plain_text, read_prose

HERE = Path(__file__).resolve().parent
ARTICLES = frozenset({"encyclopedia", "news", "howto", "story", "poem", "dialogue", "arithmetic", "code"})
Config = dict[str, Any]
Files = dict[str, bytes]


def address(config: Config, site: str, page: Page) -> str:
    """The path of a page on a site."""
    year, month, _ = page.date.split("-")
    return str(config["sites"][site]["path"]).format(slug=page.slug, year=year, month=month)


def place(config: Config, site: str, page: Page, *marks: str, path: str = "", source: str = "") -> Doc:
    """A page put on a site."""
    return Doc(page, site, path or address(config, site, page), list(marks), source)


def mark(docs: list[Doc], page: Page | None, changed: Page | None, label: str) -> None:
    """Puts a changed page in the place of a page, and notes the trap."""
    for doc in docs:
        if page and doc.page.slug == page.slug and doc.site == page.site:
            doc.page = changed or doc.page
            doc.traps.append(label)


def changed_docs(config: Config, prose: traps.Prose) -> list[Doc]:
    """The articles of all sites, some of them with contact data or odd characters, some as plain text."""
    docs = [place(config, site, page) for site in sorted(prose) for page in prose[site]]
    for entry in config["contact"]:
        if page := traps.nth(prose, entry["site"], entry["page"]):
            mark(docs, page, traps.with_contact(page, entry), "contact")
    for site, n in config["noise"]["pages"]:
        if page := traps.nth(prose, site, n):
            mark(docs, page, traps.noisy(page), "noise")
    for site, n in config["notes"]["pages"]:
        mark(docs, traps.nth(prose, site, n), None, "plain text")
    for label, (site, n) in config["charset"].items():
        mark(docs, traps.nth(prose, site, n), None, f"{label} charset")
    return docs


def reposts(config: Config, prose: traps.Prose) -> list[Doc]:
    """The articles that stand at a second address, edited or not."""
    docs = []
    for entry in config["repost"]:
        source, site = traps.nth(prose, entry["from"], entry["page"]), entry["to"]
        if not (source and site in prose):
            continue
        page, label = replace(source, slug=source.slug + "-2"), "exact copy"
        if not entry.get("exact"):
            words, name = config["words"][source.lang], config["sites"][source.site]["name"]
            page, label = traps.reprint(source, words, name), "near-duplicate"
        docs.append(place(config, site, page, label, source=f"{source.site}/{source.slug}"))
    return docs


def small_docs(config: Config, prose: traps.Prose) -> list[Doc]:
    """The stubs, and the page that says one sentence over and over."""
    docs = []
    for entry in [*config["stub"], config["spam"]]:
        label, times = ("spam", entry["times"]) if "times" in entry else ("stub", 1)
        if model := traps.nth(prose, entry["site"], 0):
            page = traps.made(entry["site"], entry, model, traps.spam_blocks(entry["text"], times), model.kind)
            docs.append(place(config, entry["site"], page, label))
    return docs


def listing(config: Config, docs: list[Doc], site: str) -> Links:
    """Links to the articles of a site, then to those of its neighbours in the same language."""
    lang = config["sites"][site].get("lang") or next(doc.page.lang for doc in docs if doc.site == site)
    own = [("/" + doc.path, doc.page.title) for doc in docs if doc.site == site]
    near = [(doc.url, doc.page.title) for doc in docs if doc.site != site and doc.page.lang == lang]
    more = config["sites"][site].get("more", [])
    return [*own, *((f"/more/{i + 1}.html", title) for i, title in enumerate(more)), *near]


def list_docs(config: Config, docs: list[Doc]) -> list[Doc]:
    """The index page of every site and the tag pages: links and nothing else."""
    made = []
    for site in sorted({doc.site for doc in docs}):
        mine = [doc.page for doc in docs if doc.site == site]
        newest, links = max(mine, key=lambda page: page.date), listing(config, docs, site)
        title = f"{config['sites'][site]['name']} - {config['sites'][site]['slogan']}"
        page = traps.made(site, {"slug": "index", "title": title}, newest, [traps.link_block(links)], "links")
        made.append(place(config, site, page, "index", path="index.html"))
        for entry in (entry for entry in config["tag"] if entry["site"] == site):
            page = traps.made(site, entry, newest, [traps.link_block(links[::-1])], "links")
            made.append(place(config, site, page, "tag", path=f"tag/{entry['slug']}.html"))
    return made


def all_docs(config: Config, prose: traps.Prose) -> list[Doc]:
    """Every page of the web, in the order of sites and paths."""
    docs = changed_docs(config, prose)
    docs += list_docs(config, [doc for doc in docs if "plain text" not in doc.traps])
    docs += reposts(config, prose) + small_docs(config, prose)
    return sorted(docs, key=lambda doc: (doc.site, doc.path))


def view_of(config: Config, docs: list[Doc], doc: Doc) -> View:
    """A page with its neighbours."""
    mine = [d for d in docs if d.site == doc.site and d.page.kind in ARTICLES and "plain text" not in d.traps]
    at = next((i for i, d in enumerate(mine) if d is doc), 0)
    near = [mine[(at + step) % len(mine)] for step in range(1, 6)] if mine else []
    names = {d.page.title.lower(): "/" + d.path for d in mine if d is not doc and len(d.page.title) > 1}
    links = [("/" + d.path, d.page.title) for d in near]
    return View(doc, config["sites"][doc.site], config["words"][doc.page.lang], links, names)


def written(view: View, turn: int) -> tuple[str, bytes]:
    """A page as text and as bytes in the encoding of its site; `turn` decides where a site uses several."""
    doc, charset = view.doc, view.site.get("charset", "utf-8")
    if charset == "gb18030":
        doc.charset, doc.claimed = charset, "" if "silent charset" in doc.traps else ("gb2312", "gbk")[turn % 2]
    elif charset == "big5" and turn % 2 == 0:
        doc.charset = doc.claimed = charset
    elif "wrong charset" in doc.traps:
        doc.claimed = "gb2312"
    try:
        return (html := render(view)), html.encode(doc.charset)
    except UnicodeEncodeError:
        doc.charset = doc.claimed = "utf-8"
        return (html := render(view)), html.encode("utf-8")


def site_files(config: Config, docs: list[Doc], site: str) -> Files:
    """The files of one site: loose pages or one package, and plain text."""
    mine = [doc for doc in docs if doc.site == site and "plain text" not in doc.traps]
    texts = {f"notes/{d.page.slug}.txt": plain_text(d.page).encode() for d in docs if d.site == site and d not in mine}
    pairs = [(doc, written(view_of(config, docs, doc), turn)) for turn, doc in enumerate(mine)]
    htmls, kind = [(doc, html) for doc, (html, _) in pairs], config["sites"][site]["pack"]
    if kind == "warc":
        mime = "text/html; charset=utf-8" if config["sites"][site].get("schema") else "text/html"
        return texts | {f"{site}.warc.gz": pack.warc(site, htmls, mime)}
    if kind == "jsonl":
        return texts | {f"{site}.jsonl.gz": pack.json_lines(htmls)}
    return texts | {f"{site}.example/{doc.path}": data for doc, (_, data) in pairs}


def broken_files(config: Config, docs: list[Doc]) -> Files:
    """A file with nothing in it, one that breaks off, and one that is no page at all."""
    files = {"workbench.example/guides/empty.html": b"", "haiwan.example/news/binary.html": traps.binary("binary")}
    whole = [doc for doc in docs if doc.site == "qiaotou" and not doc.traps]
    if whole:
        view = view_of(config, docs, whole[-1])
        files["qiaotou.example/a/truncated.html"] = traps.cut_short(render(view))
    return files


def key_row(config: Config, doc: Doc) -> Config:
    """What the key says about a page."""
    kind, text = config["sites"][doc.site]["pack"], "plain text" in doc.traps
    file = f"{doc.site}.example/{doc.path}" if kind == "files" else f"{doc.site}.{kind}.gz"
    row: Config = {"file": f"notes/{doc.page.slug}.txt" if text else file, "url": "" if text else doc.url}
    row |= {"title": doc.page.title, "lang": doc.page.lang, "kind": doc.page.kind}
    return row | {"charset": doc.charset, "claimed": doc.claimed, "traps": doc.traps, "source": doc.source}


def write(out: Path, files: Files, rows: list[Config]) -> None:
    """Writes the files and the key beside their folder; files of an earlier key go."""
    key = out.with_name(out.name + ".json")
    for row in json.loads(key.read_text(encoding="utf-8")) if key.exists() else []:
        (out / row["file"]).unlink(missing_ok=True)
    for name, data in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    key.write_bytes(f"[\n{lines}\n]\n".encode())


def build(prose: Path, out: Path) -> Files:
    """Builds the web into a folder."""
    config = tomllib.loads((HERE / "sites.toml").read_text(encoding="utf-8"))
    docs, files = all_docs(config, read_prose(prose)), Files()
    for site in sorted({doc.site for doc in docs}):
        files |= site_files(config, docs, site)
    broken = broken_files(config, docs)
    rows = [{"file": name, "url": "", "traps": [Path(name).stem]} for name in sorted(broken)]
    files |= broken
    write(out, files, [key_row(config, doc) for doc in docs] + rows)
    return files


def main() -> None:
    """Reads the command line and builds."""
    parser = argparse.ArgumentParser(description="Builds the sample web from the sample prose.")
    parser.add_argument("--out", type=Path, default=HERE / "web", help="the folder to write (default: samples/web)")
    parser.add_argument("--prose", type=Path, default=HERE / "prose", help="the folder of prose to read")
    args = parser.parse_args()
    files = build(args.prose, args.out)
    print(f"{args.out}: {len(files)} files, {sum(map(len, files.values()))} bytes")


if __name__ == "__main__":
    main()
