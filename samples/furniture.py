"""Page templates of the sample web: semantic HTML5, div soup, and nested tables with font tags."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape

from blocks import Links, View, anchors, items, new_block, old_block, stale
from pages import Block, roll

SCRIPT = """<script>
window._q = window._q || []; _q.push(["page", "%s"]);
(function (d) { var s = d.createElement("script"); s.async = true; s.src = "/static/stat.js?v=%d";
  if (d.cookie.indexOf("seen=1") < 0) { d.documentElement.className += " first-visit"; }
  d.head && d.head.appendChild(s); })(document);
</script>"""
STYLE = """<style>
body { margin: 0; font: 16px/1.6 serif; color: #222; background: #fdfdfb; }
nav a, footer a { margin-right: 1em; color: #%06x; }
.hide, .first-visit .later { display: none; } img { max-width: 100%%; }
</style>"""


def with_ads(view: View, parts: list[str], draw: Callable[[str], str]) -> str:
    """The blocks with the site's advertisements somewhere between them."""
    if view.doc.page.kind != "links":
        ads, size = view.site["ads"], len(parts)
        for i, text in enumerate(ads):
            at = size * (i + 1) // (len(ads) + 1) + i + roll(f"{view.doc.url} ad {i}", 3) - 1
            parts.insert(max(1, at), draw(text))
    return "\n".join(parts)


def body(view: View) -> str:
    """The body of the article."""
    draw = old_block if view.site["layout"] == "tables" else new_block
    return with_ads(view, [draw(view, block) for block in view.doc.page.blocks], lambda x: draw(view, Block("p", (x,))))


def head(view: View) -> str:
    """What stands in the head of every modern page."""
    page, title = view.doc.page, escape(view.doc.page.title)
    tags = [f'<meta charset="{view.doc.claimed}">'] if view.doc.claimed else []
    tags += [f"<title>{title} - {view.site['name']}</title>", '<meta name="viewport" content="width=device-width">']
    tags += ['<link rel="stylesheet" href="/static/main.css">', STYLE % roll(view.doc.site, 0x888888)]
    if view.site.get("schema"):
        writer = {"@type": "Person", "name": page.author}
        about = {"@context": "https://schema.org", "@type": "Article", "headline": page.title, "author": writer}
        about |= {"inLanguage": page.lang, "datePublished": page.date}
        tags += [f'<meta property="og:title" content="{title}">', '<meta property="og:type" content="article">']
        tags += [f'<meta property="og:url" content="{view.doc.url}">']
        tags += [f'<script type="application/ld+json">{json.dumps(about, ensure_ascii=False)}</script>']
    return "\n".join([*tags, SCRIPT % (view.doc.path, roll(view.doc.site, 100))])


def crumbs(view: View) -> Links:
    """The way from the front page to the page."""
    kind = view.words["kinds"].get(view.doc.page.kind, view.words["kinds"]["news"])
    return [("/index.html", view.words["home"]), (f"/{view.doc.page.kind}/", kind), ("#", view.doc.page.title)]


def comments(view: View) -> list[tuple[str, str]]:
    """Two to four readers and what they say."""
    pool, readers, url = view.site["comments"], view.site["readers"], view.doc.url
    first, step = roll(url + " first", len(pool)), 1 + roll(url + " reader", len(readers) - 1)
    count = 2 + roll(url + " count", 3)
    return [(readers[(first + i * step) % len(readers)], pool[(first + i) % len(pool)]) for i in range(count)]


def remarks(view: View, name: str) -> str:
    """The comments of a modern page."""
    said = (
        f'<li><b>{escape(who)}</b> <span class="when">#{i + 1}</span><div>{escape(text)}</div>'
        f'<a href="#reply{i}">{view.words["reply"]}</a></li>'
        for i, (who, text) in enumerate(comments(view))
    )
    return f'<div class="{name}"><h3>{view.words["comments"]}</h3>\n<ol>\n' + "\n".join(said) + "\n</ol></div>"


def contents(view: View) -> str:
    """The table of contents of a long page."""
    lines = [line for block in view.doc.page.blocks if block.kind == "h" for line in block.lines]
    links = [(f"#s{roll(escape(line, quote=False), 9999)}", line) for line in lines]
    return f'<nav class="toc">{items(links)}</nav>' if links and view.site.get("toc") else ""


def cookie(view: View) -> str:
    """The banner that asks for leave to store cookies."""
    buttons = f"<button>{view.words['accept']}</button> <button>{view.words['decline']}</button>"
    return f'<div id="cookie-banner" role="dialog"><p>{view.site["cookie"]}</p>{buttons}</div>'


def rights(view: View) -> str:
    """The copyright line."""
    return f"&copy; {view.doc.page.date[:4]} {view.site['name']}"


def semantic(view: View) -> str:
    """A page of HTML5 elements that say what they are."""
    page, words, site = view.doc.page, view.words, view.site
    share = anchors(stale(site["share"], "share"), " | ")
    return f"""<!DOCTYPE html>
<html lang="{words["code"]}">
<head>
{head(view)}
</head>
<body>
<header><a class="logo" href="/">{site["name"]}</a> <small>{site["slogan"]}</small>
<form action="/search"><input name="q" placeholder="{words["search"]}"></form>
<nav>{anchors(stale(site["nav"], "section"))}</nav></header>
<nav aria-label="breadcrumb">{anchors(crumbs(view), " &rsaquo; ")}</nav>
<main>
<article>
<header><h1>{escape(page.title)}</h1>
<p class="byline">{words["by"]} <span rel="author">{page.author}</span>,
<time datetime="{page.date}">{page.date}</time></p>
</header>
{contents(view)}
{body(view)}
</article>
<div class="share">{words["share"]}: {share}</div>
<section id="comments">{remarks(view, "thread")}</section>
</main>
<aside>
<h2>{words["related"]}</h2>
{items(view.related)}
{items(stale(site["side"], "tools"))}
</aside>
<footer><p>{rights(view)}. {" ".join(site["footer"])}</p>
<a href="#top">{words["top"]}</a></footer>
{cookie(view)}
</body>
</html>
"""


def soup(view: View) -> str:
    """A page of nothing but div elements."""
    page, words, site, name = view.doc.page, view.words, view.site, view.name
    tools = anchors(stale([*site["share"], words["print"]], "do"), "</span><span>")
    return f"""<!DOCTYPE html>
<html lang="{words["code"]}">
<head>
{head(view)}
</head>
<body class="page-{roll(view.doc.url, 9000)}">
{cookie(view)}
<div class="{name(0, "wrap")}">
<div class="top"><div class="logo">{site["name"]}</div><div class="slogan">{site["slogan"]}</div></div>
<div class="menu"><div>{anchors(stale(site["nav"], "c"), "</div><div>")}</div></div>
<div class="{name(3, "side")}"><div class="hd">{words["popular"]}</div>
{items(view.related)}
<div class="{name(5, "promo")}">{words["sponsored"]}: {anchors(stale(site["side"], "s"), " ")}</div></div>
<div class="{name(1, "main")}">
<div class="crumb">{anchors(crumbs(view), " &gt; ")}</div>
<div class="title"><h1>{escape(page.title)}</h1></div>
<div class="meta"><span>{words["by"]} {page.author}</span> <span>{page.date}</span></div>
<div class="{name(2, "text")}">
{body(view)}
</div>
<div class="tools"><span>{words["share"]}</span><span>{tools}</span></div>
<div class="pager">{words["previous"]}: {anchors(view.related[-1:])} {words["next"]}: {anchors(view.related[:1])}</div>
{remarks(view, name(4, "talk"))}
</div>
<div class="foot">{rights(view)}<br>{"<br>".join(site["footer"])}</div>
</div>
</body>
</html>
"""


def tables(view: View) -> str:
    """A page of tables in tables, as they were made before style sheets."""
    page, words, site = view.doc.page, view.words, view.site
    meta = f'<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset={view.doc.claimed}">'
    said = "".join(f"<TR><TD><B>{who}</B>：<TD>{text}" for who, text in comments(view))
    return f"""<HTML>
<HEAD>
{meta if view.doc.claimed else ""}
<TITLE>{escape(page.title)} - {site["name"]}</TITLE>
<SCRIPT LANGUAGE="JavaScript"><!--
function mark() {{ window.external.AddFavorite("{view.doc.url}", document.title); }}
//--></SCRIPT>
<STYLE>TD {{ font-size: 12pt }} A {{ text-decoration: none }}</STYLE>
</HEAD>
<BODY BGCOLOR=#FFFFFF TOPMARGIN=0>
<TABLE WIDTH=760 ALIGN=center CELLSPACING=0><TR><TD BGCOLOR=#{roll(view.doc.site, 0xCCCCCC):06X}>
<FONT SIZE=6 COLOR=white>{site["name"]}</FONT> <FONT SIZE=2>{site["slogan"]}</FONT></TD></TR>
<TR><TD ALIGN=center><FONT SIZE=2>{anchors(stale(site["nav"], "bbs"), " | ")}</FONT></TD></TR>
<TR><TD><TABLE WIDTH=100%><TR><TD WIDTH=160 VALIGN=top BGCOLOR=#EEEEEE>
<FONT SIZE=2><B>{words["related"]}</B><BR>{anchors(view.related, "<BR>")}<HR>
{anchors(stale(site["side"], "left"), "<BR>")}<HR>
<FORM><INPUT NAME=q SIZE=10><INPUT TYPE=submit VALUE={words["search"]}></FORM></FONT></TD><TD VALIGN=top>
<FONT SIZE=2>{anchors(crumbs(view), " &gt; ")}</FONT><BR>
<CENTER><FONT SIZE=5><B>{escape(page.title)}</B></FONT><BR>
<FONT SIZE=2 COLOR=gray>{words["by"]}{page.author}　{page.date}　{words["share"]}：{"　".join(site["share"])}</FONT>
</CENTER><HR>
{body(view)}
<HR>
<FONT SIZE=2>{words["previous"]}：{anchors(view.related[-1:])}　{words["next"]}：{anchors(view.related[:1])}</FONT><BR>
<TABLE BORDER=1 WIDTH=100%><TR><TD COLSPAN=2><B>{words["comments"]}</B>{said}</TABLE>
</TD></TR></TABLE></TD></TR>
<TR><TD ALIGN=center><FONT SIZE=2>{site["cookie"]}<BR>{"　".join(site["footer"])}<BR>{rights(view)}</FONT></TD></TR>
</TABLE></BODY></HTML>
"""


LAYOUTS: dict[str, Callable[[View], str]] = {"semantic": semantic, "soup": soup, "tables": tables}


def render(view: View) -> str:
    """The page in its site's layout."""
    return LAYOUTS[view.site["layout"]](view)
