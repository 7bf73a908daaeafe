"""Pages that the parser would take too long for are refused; ordinary and merely odd pages are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser
from web_pages import LANGUAGES, Words, around, article, comments, teasers

from data_pipeline.cleaners.html import Html, extract_text
from data_pipeline.document import Document, Drop
from data_pipeline.pages.nesting import MAX_NESTING, is_too_deep, nesting

TOO_DEEP = {
    "div": "<div>" * 800_000,
    "div with closed spans": "<div></span>" * 20_000,
    "end tag in a comment": "<div><!--</div>-->" * 20_000,
    "end tag in a script": "<div><script></div></script>" * 20_000,
    "end tag in a template": "<div><template></div></template>" * 20_000,
    "formatting that is opened again": "".join(f"<p><font c={n}>x</p>" for n in range(20_000)),
    "options": "<select>" + "<option>x" * 20_000,
    "attributes": "<div " + " ".join(f"a{n}" for n in range(50_000)) + ">",
    "attributes without blanks": "<div " + "/".join(f"a{n}" for n in range(50_000)) + ">",
    "lists": "<ul><li>x" * 20_000,
    "capitals": "<DIV>" * 20_000,
    "b": "<b>" * 100_000,
    "span": "<span>字" * 100_000,
    "unknown": "<x-y>" * 100_000,
    "tables": "<table><tr><td>" * 20_000,
    "svg": "<svg><g>" * 50_000,
    "late": "<p>字</p>" * 20_000 + "<div>" * 20_000,
}
WIDE = {
    "div": "<div>x</div>" * 20_000,
    "paragraphs that are never closed": "<p>x" * 20_000,
    "cells that are never closed": "<table>" + "<tr><td>x<td>y" * 10_000,
    "links": "<a href=x>y</a> " * 100_000,
    "links that are never closed": "<a href=x>甲" * 100_000,
    "comments": "<!--" * 500_000,
    "angle brackets": "<" * 500_000,
    "scripts": "<script>" * 100_000,
    "breaks": "x<br>" * 20_000,
    "a million breaks": "<br>" * 1_000_000,
    "entities": "&amp;" * 100_000,
    "white space": "<p>" + " \t" * 500_000 + "x",
    "white space in code": "<pre>" + "\t" * 500_000 + "x",
    "a huge attribute": f'<img src="data:{"A/ " * 500_000}">',
    "a huge attribute that never ends": '<p title="' + "字" * 1_500_000,
    "one line": "<p>" + "word " * 990_000,
    "one line of Chinese": "<p>" + "字，" * 800_000,
    "one line of links": "<p>" + "<a href=/>甲 b</a>" * 60_000,
    "words without blanks": "<p>" + "x" * 4_900_000,
    "greater than": ">" * 1_000_000,
    "closing tags": "</div>" * 300_000,
    "definitions": "<dl>" + "<dt>a<dd>b" * 10_000,
    "titles": "<title>a</title>" * 100_000,
    "headings": "<h1>甲乙丙丁戊</h1>" * 10_000,
    "bullets": "<ol>" + "<li>x" * 30_000,
    "numbered lists": "<ol><li>x</ol>" * 20_000,
    "blocks of code": "<pre>x</pre>" * 20_000,
}


@pytest.mark.parametrize("data", TOO_DEEP.values(), ids=TOO_DEEP.keys())
def test_hostile_nesting_is_dropped(data: str) -> None:
    assert is_too_deep(data)
    assert Html()(Document("", "1", meta={"html": data.encode()})) == Drop("html:too_deep")
    wide = Document("", "1", meta={"html": data[:2_000_000].encode("utf-16")})
    assert Html()(wide) == Drop("html:too_deep")
    assert extract_text(data.encode()) == ""


@pytest.mark.parametrize("data", WIDE.values(), ids=WIDE.keys())
def test_wide_pages_are_read(data: str) -> None:
    """They end in a few seconds at most (here: a fraction of one), and without an error of recursion."""
    assert not is_too_deep(data) and nesting(data) <= MAX_NESTING
    result = Html()(Document("", "1", meta={"html": data.encode()}))
    assert isinstance(result, Document) or result.reason in ("html:no_text", "html:broken_text")


@pytest.mark.parametrize("depth", [100, 199, 200, 201, 900, 3_000])
@pytest.mark.parametrize("tag", ["div", "b", "a name=x", "blockquote", "ul><li", "table><tr><td", "form"])
def test_deeper_than_is_walked(tag: str, depth: int) -> None:
    """Elements that nest deeper than anything real, but not hopelessly, are read as plain text."""
    data = f"<{tag}>" * depth + "甲乙丙丁 the words at the bottom."
    assert not is_too_deep(data)
    assert "the words at the bottom." in extract_text(data.encode())


@pytest.mark.parametrize("words", LANGUAGES, ids=[words.lang for words in LANGUAGES])
def test_ordinary_pages_are_far_from_the_limit(words: Words) -> None:
    html = around(words, article(words) + comments(words) + teasers(words, 200))
    assert not is_too_deep(html) and nesting(html) < MAX_NESTING / 1000


def test_nesting_counts_open_elements() -> None:
    assert nesting("<div><div><p>a<p>b<br></div></div>") == 0 + 1 + 2 + 2 + 2
    assert nesting("<ul><li>a<li>b</ul><ul></ul>") == 0 + 1 + 1 + 0
    assert nesting("<div><!-- <div> --><script>'<div>'</script><img/></div>") == 0 + 1
    assert nesting("") == nesting("中文 < 3 <> </> </div> <1>") == 0


@given(
    st.lists(st.sampled_from(["<div>", "<span>", "<section>", "<ul>", "</div>", "</span>", "字", "<br>"]), max_size=60)
)
def test_estimate_is_no_less_than_the_depth_of_the_tree(parts: list[str]) -> None:
    """Of what the parser makes of a page; what it costs is about the sum of the depths of its elements."""
    html = "<body>" + "".join(parts)
    depths = 0
    body = LexborHTMLParser(html).body
    for node in body.css("*") if body is not None else []:
        while node.parent is not None and node.tag != "body":
            node, depths = node.parent, depths + 1
        assert node is not None
    opening = sum(part[1:2].isalpha() for part in parts)
    assert depths - opening <= nesting(html)


@given(st.text(st.sampled_from("<>/!-=\"' \ndivspanscriptp中&;"), max_size=300))
def test_any_text(text: str) -> None:
    assert 0 <= nesting(text) <= len(text) ** 2 and not is_too_deep(text)
