"""Which blocks are main text: whole pages of many kinds in three languages, and properties of all pages."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_pages import EN, HANS, LANGUAGES, Words, around, article, comments, links, paragraphs, story, teasers

from data_pipeline.cleaners.html import Html, extract_text
from data_pipeline.document import Document
from data_pipeline.pages import extract
from data_pipeline.pages.blocks import read_page

each = pytest.mark.parametrize("words", LANGUAGES, ids=[words.lang for words in LANGUAGES])


def text_of(words: Words, content: str, head: str = "") -> str:
    return extract_text(around(words, content, head).encode())


def headline(words: Words) -> str:
    return f"<h1>{words.title}</h1>\n"


@each
@pytest.mark.parametrize("num", [1, 2, 3, 6])
def test_article_among_everything_else(words: Words, num: int) -> None:
    """Not a word of menus, breadcrumbs, by-line, share bar, related links, credit, side bar, cookies or footer."""
    assert text_of(words, article(words, num)) == story(words, num)


@each
def test_cleaner_sets_headline_and_meta(words: Words) -> None:
    html = around(words, article(words), '<meta property="article:published_time" content="2021-03-12T08:30:00+08:00">')
    with_headline = Html()(Document("", "1", meta={"html": html.encode()}))
    assert isinstance(with_headline, Document)
    assert with_headline.text == f"{words.title}\n\n{story(words)}" and with_headline.lang == words.lang
    page_chars = with_headline.meta.pop("page_chars")
    assert page_chars > len(with_headline.text.replace(" ", "")) and with_headline.meta == {
        "charset": "utf-8",
        "title": words.title,
        "date": "2021-03-12",
        "link_chars": 0,
    }
    without = Html(headline=False)(Document("", "1", meta={"html": html.encode()}))
    assert isinstance(without, Document) and without.text == story(words)


@each
def test_blog_with_comments(words: Words) -> None:
    html = around(words, article(words) + comments(words)).encode()
    assert extract_text(html) == story(words)
    kept = Html(headline=False, comments=True)(Document("", "1", meta={"html": html}))
    assert isinstance(kept, Document) and kept.text.startswith(story(words))
    assert all(remark in kept.text for remark in words.remarks)


@each
def test_encyclopedia(words: Words) -> None:
    edit = '<span class="mw-editsection">[<a href="/edit">edit</a>]</span>'
    rows = "".join(f"<tr><th>{name}</th><td>{n} km</td></tr>" for n, (name, _) in enumerate(words.terms))
    notes = "".join(
        f'<li id="n{n}"><a href="#r{n}">^</a> {other}, {words.site}, 200{n}.</li>'
        for n, other in enumerate(words.others)
    )
    body = (
        f'<table class="infobox">{rows}</table>{paragraphs(words.story[:2])}'
        f"<h2>{words.terms[0][0]}{edit}</h2>{paragraphs(words.story[2:4])}"
        f"<h2>{words.terms[1][0]}{edit}</h2>{paragraphs(words.story[4:])}"
        f'<h2>{words.terms[2][0]}{edit}</h2><ol class="references">{notes}</ol>'
    )
    text = text_of(words, f'{headline(words)}<div id="bodyContent">{body}</div>')
    places = [text.index(part) for part in (*words.story[:2], words.terms[0][0], *words.story[2:])]
    assert all(place >= 0 for place in places)
    assert [text.index(p) for p in words.story] == sorted(text.index(p) for p in words.story)


@each
@pytest.mark.parametrize("name", ["post", "reply", "message floor", "topic-entry"])
def test_forum_thread(words: Words, name: str) -> None:
    """Every post is kept, in order; who wrote it and the buttons below it are not."""
    posts = "".join(
        f'<div class="{name}" id="p{n}"><div class="author-box"><a href="/u/{n}">user{n}</a></div>'
        f'<div class="body">{text}</div><div class="tools"><a href="#q">quote {n}</a></div></div>\n'
        for n, text in enumerate(words.story)
    )
    assert text_of(words, f'{headline(words)}<div class="thread">{posts}</div>') == story(words)


CODE = "def cross(boat):\n    while boat.river:\n        boat.steer()\n\n    return 2  # 到岸 / 上岸"


@each
def test_manual_page(words: Words) -> None:
    """Headings, nested lists, code, definitions and a table of options, each in its form."""
    (name, what), (name2, what2), (name3, what3) = words.terms
    one, two, three, four = words.others[:4]
    definitions = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in words.terms)
    options = "".join(
        f"<tr><td><code>--o{n}</code></td><td>{n}</td><td>{t[1]}</td></tr>" for n, t in enumerate(words.terms)
    )
    body = f"""<div class="section">{headline(words)}<p>{words.story[0]}</p>
        <h2>{name}</h2><p>{words.story[1]}</p>
        <ul><li>{what}<ul><li>{one}</li><li>{two}<ol><li>{three}</li><li>{four}</li></ol></li></ul></li>
        <li>{what2}</li></ul>
        <pre><code>{CODE}</code></pre><h2>{name2}</h2><dl>{definitions}</dl>
        <table><tr><th>--</th><th>n</th><th>{name3}</th></tr>{options}</table><p>{words.story[2]}</p></div>"""
    assert text_of(words, body).split("\n\n") == [
        words.story[0],
        name,
        words.story[1],
        f"- {what}\n  - {one}\n  - {two}\n    1. {three}\n    2. {four}\n- {what2}",
        *CODE.split("\n\n"),
        name2,
        "\n".join(part for term in words.terms for part in term),
        "\n".join([f"--\tn\t{name3}", *(f"--o{n}\t{n}\t{text[1]}" for n, text in enumerate(words.terms))]),
        words.story[2],
    ]


@each
def test_list_page(words: Words) -> None:
    lines = [*words.story, *(text for _, text in words.terms)]
    expected = "\n".join(f"- {line}" for line in lines)
    assert text_of(words, headline(words) + f"<ul>{paragraphs(lines, 'li')}</ul>") == expected


@each
def test_table_page(words: Words) -> None:
    rows = [("No.", "Name", "Text"), *((str(n), *words.terms[n % 3]) for n in range(9))]
    table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    assert text_of(words, f"{headline(words)}<table>{table}</table>") == "\n".join("\t".join(row) for row in rows)


@each
@pytest.mark.parametrize("br", ["<br>", "<br/>\n", "\n<BR />\n"])
def test_verse(words: Words, br: str) -> None:
    """Lines parted by breaks stand on lines of their own, stanzas apart."""
    lines = [line for line in re.split("(?<=[,.:，。：]) ?", "".join(words.story[:2])) if line]
    stanzas = [lines[n : n + 4] for n in range(0, len(lines), 4)]
    html = headline(words) + "".join(f"<p>{br.join(stanza)}</p>" for stanza in stanzas)
    assert text_of(words, html) == "\n\n".join("\n".join(stanza) for stanza in stanzas)


@each
def test_long_article_before_teasers_of_others(words: Words) -> None:
    assert text_of(words, article(words) + teasers(words, 20)) == story(words)


@pytest.mark.xfail(reason="short articles lose to longer lists of teasers in the same container")
@pytest.mark.parametrize("num", [1, 2])
@each
def test_short_article_before_teasers_of_others(words: Words, num: int) -> None:
    assert text_of(words, article(words, num) + teasers(words, 20)) == story(words, num)


@pytest.mark.xfail(reason="short articles take in a long list of teasers from a container beside them")
@each
def test_short_article_before_a_list_elsewhere(words: Words) -> None:
    html = around(words, article(words, 3)).replace(
        '<div class="sidebar">', f'{teasers(words, 20)}<div class="sidebar">'
    )
    assert extract_text(html.encode()) == story(words, 3)


@each
def test_chapter_that_begins_with_a_section(words: Words) -> None:
    sections = [f"<div class='section'><h2>{n}. {words.others[n]}</h2><p>{words.story[n]}</p></div>" for n in range(3)]
    text = text_of(words, f"<div class='chapter'>{headline(words)}{''.join(sections)}</div>")
    assert text == "\n\n".join(f"{n}. {words.others[n]}\n\n{words.story[n]}" for n in range(3))


@each
def test_table_layout_of_2003(words: Words) -> None:
    """Tables all the way down, fonts, blanks as indentation, no class names; GBK where the language allows it."""
    menu = "".join(f'<td><a href="/{n}"><font color=white>{text}</font></a></td>' for n, text in enumerate(words.menu))
    body = "<br><br>\n".join(f"&nbsp;&nbsp;&nbsp;&nbsp;{text}" for text in words.story)
    html = (
        f"<HTML><HEAD><TITLE>{words.title} - {words.site}</TITLE>"
        '<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset=gb2312"></HEAD><BODY BGCOLOR=#ffffff>'
        f"<TABLE WIDTH=760><TR>{menu}</TR></TABLE><TABLE><TR><TD WIDTH=160>"
        + "".join(f'<a href="/{n}">{text}</a><br>' for n, text in enumerate(words.others))
        + f"</TD><TD WIDTH=600><TABLE><TR><TD ALIGN=center><FONT SIZE=5><B>{words.title}</B></FONT></TD></TR>"
        f"<TR><TD ALIGN=center>{words.byline}</TD></TR><TR><TD><FONT SIZE=3>{body}</FONT></TD></TR></TABLE></TD></TR>"
        f"</TABLE><CENTER><FONT SIZE=2>{words.rights}</FONT></CENTER></BODY></HTML>"
    )
    data = html.encode("utf-8" if words.lang == "en" else "gbk", "xmlcharrefreplace")
    assert extract_text(data) == story(words).replace("\n\n", "\n")


@each
def test_page_inside_a_form(words: Words) -> None:
    state = '<input type="hidden" name="__VIEWSTATE" value="dDwtMTI3OTMzNDM4NDs7Pg==">'
    html = around(words, article(words)).replace("<body>", f'<body><form method="post" action="a.aspx">{state}<div>')
    assert extract_text(html.replace("</body>", "</div></form></body>").encode()) == story(words)


@each
def test_text_that_stands_only_in_json_ld(words: Words) -> None:
    body = "\\n".join(words.story)
    data = f'<script type="application/ld+json">{{"@type": "NewsArticle", "articleBody": "{body}"}}</script>'
    html = around(words, f'<div id="app"></div>{headline(words)}', data).encode()
    assert extract_text(html) == story(words)
    result = Html()(Document("", "1", meta={"html": html}))
    assert isinstance(result, Document) and result.meta["extraction"] == "json-ld"
    assert result.text == f"{words.title}\n\n{story(words)}"


@each
def test_landing_page_is_taken_whole(words: Words) -> None:
    """Many sections with a little text each: none is the article."""
    sections = "".join(
        f'<section class="s{n}"><div><h2>{words.others[n]}</h2><p>{text}</p></div></section>'
        for n, text in enumerate(words.story)
    )
    text = text_of(words, sections)
    assert [text.index(paragraph) for paragraph in words.story] == sorted(text.index(p) for p in words.story)
    assert all(other in text for other in words.others[1:])  # the first is the headline of the page's first section


@each
def test_what_no_reader_sees(words: Words) -> None:
    """Scripts, styles, templates and noscript are never text."""
    unseen = "".join(
        f"<{tag}><p>unseen {words.story[5]}</p></{tag}>"
        for tag in ("noscript", "template", "script", "style", "textarea")
    )
    html = headline(words) + unseen + paragraphs(words.story[:3]) + f"<!-- {words.story[4]} -->" + unseen
    assert text_of(words, html + paragraphs(words.story[3:5])) == story(words, 5)


@each
@pytest.mark.parametrize("tag", ["div", "section", "span style='display:block'"])
def test_text_without_paragraphs(words: Words, tag: str) -> None:
    end = tag.split()[0]
    lines = [f"<{tag}>{text}</{end}>" for text in words.story]
    if end == "span":  # in line: only line breaks part them
        assert text_of(words, f"{headline(words)}<div>{'<br><br>'.join(lines)}</div>") == story(words).replace(
            "\n\n", "\n"
        )
    else:
        assert text_of(words, headline(words) + "".join(lines)) == story(words)


def test_line_wraps_are_blanks_in_english_only() -> None:
    wrapped = EN.story[0].replace(" ", "\n      ")
    assert text_of(EN, headline(EN) + f"<p>{wrapped}</p>" + paragraphs(EN.story[1:])) == story(EN)
    for words in LANGUAGES[1:]:
        parts = "\n\t".join(re.findall("[^，]+，?", words.story[0]))
        han = re.sub("(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])", "\r\n    ", words.story[1])
        html = headline(words) + f"<p>{parts}</p><p>{han}</p>" + paragraphs(words.story[2:])
        assert text_of(words, html) == story(words)


@each
def test_inline_tags_part_no_words(words: Words) -> None:
    inline = "<p>" + "".join(f"{c}<b></b>" if n % 3 else f"<i>{c}</i>" for n, c in enumerate(words.story[0])) + "</p>"
    html = (
        headline(words) + inline + paragraphs(words.story[1:]) + "<p>micro<b>soft</b>，中<b>国</b>、<em>中</em>國。</p>"
    )
    assert text_of(words, html) == f"{story(words)}\n\nmicrosoft，中国、中國。"


@each
def test_comments_alone_are_the_text(words: Words) -> None:
    """A page that holds nothing but comments is a thread, whatever its class names say."""
    posts = "".join(f'<div class="comment">{text}</div>' for text in words.story)
    assert text_of(words, f'<div id="comments">{posts}</div>') == story(words)


# --- properties ---

BOILERPLATE = {
    "nav": lambda words: f"<nav>{links(words.menu)}</nav>",
    "menu": lambda words: f'<div class="menu">{links(words.menu * 3)}</div>',
    "footer": lambda words: f"<footer><p>{words.rights}</p><p>{words.teaser}</p></footer>",
    "aside": lambda words: f"<aside><h3>{words.subscribe}</h3><p>{words.teaser}</p></aside>",
    "related": lambda words: f'<div class="related-posts"><h3>{words.related}</h3>{links(words.others)}</div>',
    "links": lambda words: links(words.others * 2),
    "cookies": lambda words: f'<div id="cookie-notice"><p>{words.cookies}</p></div>',
    "script": lambda words: f"<script>var story = '<p>{words.story[0]}</p>';</script>",
}
CLASSES = st.lists(
    st.sampled_from(
        "w-full md:flex hover:bg-gray-50 p-4 text-lg grid container clearfix has-sidebar no-footer is-hidden "
        "col-md-8 lg:w-[calc(100%-1rem)] css-1x9f css-ad1kz2 dark:text-white sm:hidden".split()
    ),
    max_size=5,
).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(LANGUAGES),
    st.integers(3, 6),
    st.lists(st.sampled_from(sorted(BOILERPLATE)), max_size=4),
    st.lists(st.sampled_from(sorted(BOILERPLATE)), max_size=4),
    st.integers(0, 5),
    CLASSES,
)
def test_furniture_wrappers_and_utility_classes_change_nothing(
    words: Words, num: int, before: list[str], after: list[str], depth: int, classes: str
) -> None:
    content = article(words, num).replace("<article>", f'<div class="{classes}">').replace("</article>", "</div>")
    around_it = ["".join(BOILERPLATE[name](words) for name in names) for names in (before, after)]
    html = around(words, around_it[0] + content + around_it[1])
    opened = f'<div class="{classes}">' * depth
    html = html.replace("<body>", f"<body>{opened}").replace("</body>", "</div>" * depth + "</body>")
    assert extract_text(html.encode()) == story(words, num)


_TAGS = "p div span a b ul li ol table tr td h1 h2 br hr nav section article blockquote form dl dt dd em img".split()
_WORDS = ["alpha", "beta gamma.", "中文，句子。", "繁體字、", "one; two.", "甲乙丙丁", "x", EN.story[0], HANS.story[0]]


def _element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda tag, inside, name: (
            f'<{tag} class="{name}" title="ATTRIBUTE" href="/ATTRIBUTE">{"".join(inside)}</{tag}>'
        ),
        st.sampled_from(_TAGS),
        st.lists(children, max_size=5),
        st.sampled_from(["", "post", "sidebar", "related", "comment", "content", "footer", "meta"]),
    )


trees = st.recursive(
    st.sampled_from([*_WORDS, "<script>SCRIPT</script>", "<style>SCRIPT</style>", "<!-- SCRIPT -->", "&amp;", "\n"]),
    _element,
    max_leaves=25,
)


@settings(max_examples=120, deadline=None)
@given(st.lists(trees, min_size=1, max_size=6))
def test_text_is_visible_text_in_document_order(parts: list[str]) -> None:
    html = "<title>ATTRIBUTE title</title><body>" + " ".join(parts) + "</body>"
    text = extract_text(html.encode())
    assert "SCRIPT" not in text and "ATTRIBUTE" not in text
    page = read_page(html)
    letters = _letters("".join(block.text for block in page.blocks))
    extract.select(page, [])
    kept = [block for block in page.blocks if not block.dropped]
    for some in (_letters("".join(block.text for block in kept)), _letters(re.sub(r"(?m)^ *\d+\. ", "", text))):
        rest = iter(letters)
        assert all(letter in rest for letter in some)  # a subsequence: same order, nothing added


@pytest.mark.parametrize("unseen", ["<script>SCRIPT</script>", "<style>SCRIPT</style>", "<!-- SCRIPT -->"])
@each
def test_no_scripts_in_code(words: Words, unseen: str) -> None:
    html = f"{headline(words)}<p>{words.story[0]}</p><pre>a = 1{unseen}\nb = 2</pre>{paragraphs(words.story[1:])}"
    assert "SCRIPT" not in text_of(words, html)


def _letters(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


@settings(max_examples=60, deadline=None)
@given(st.lists(trees, min_size=1, max_size=6), st.lists(st.text(max_size=20), max_size=3))
def test_select_keeps_something_and_drops_with_a_reason(parts: list[str], titles: list[str]) -> None:
    page = read_page("<body>" + " ".join(parts) + "</body>", comments=True)
    before = [block.text for block in page.blocks]
    found = extract.select(page, titles)
    assert [block.text for block in page.blocks] == before and (found == "" or found in before)
    reasons = {"", "title", "before", "boilerplate", "outside", "links", "call", "start", "end"}
    assert {block.dropped for block in page.blocks} <= reasons
    assert all(parent < element for element, parent in enumerate(page.parents))


def test_nothing_to_select() -> None:
    assert extract.select(read_page(""), ["title"]) == "" and extract.select(read_page("<p> </p>"), []) == ""
