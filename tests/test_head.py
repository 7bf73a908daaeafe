"""Titles, dates and JSON-LD of a page's head; entities as html.unescape reads them."""

import datetime
import html
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_pages import EN, LANGUAGES, Words

from data_pipeline.pages.head import MAX_TITLE, article_body, find_date, find_titles

each = pytest.mark.parametrize("words", LANGUAGES, ids=[words.lang for words in LANGUAGES])


@each
def test_titles_most_exact_first(words: Words) -> None:
    page = (
        f"<html><head><title>\n {words.title} -\n {words.site}</title>"
        f"<meta content=\"{words.title}\" property=\"og:title\"/><meta name='twitter:title' content='{words.site}'>"
        f"</head><body><title>{words.others[0]}</title><h1>x</h1>"
    )
    assert find_titles(page) == [words.title, words.site, f"{words.title} - {words.site}"]
    assert find_titles(page.upper())[0] == words.title.upper()


def test_titles_that_are_none() -> None:
    assert find_titles("") == find_titles("<title></title><title>x</title>") == []
    assert find_titles("<title>a" + "b" * 9_000) == []
    assert find_titles("<title> \n&nbsp; </title>") == []
    assert find_titles(f"<title>{'字' * 900}</title>") == ["字" * MAX_TITLE]
    assert find_titles("</head><title>later</title>") == []


def test_first_meta_of_a_name_counts() -> None:
    metas = "<meta name=Date content=2021-01-02><meta content='2021-03-04' name=DATE><meta name=pubdate>"
    assert find_date(metas, "") == "2021-01-02"


_ENTITIES = st.lists(
    st.sampled_from(
        "&amp; &lt; &#20013; &#x570B; &hellip; &nbsp; &quot; &apos; &#39; &copy &notit; &#0; &#x80; &#xD800; "
        "&#1114112; &ZeroWidthSpace; &bogus; & ; 中 國 a b".split()
    ),
    max_size=8,
).map("".join)


@given(_ENTITIES)
def test_entities_as_the_standard_library_reads_them(text: str) -> None:
    expected = " ".join(html.unescape(text).split())
    assert find_titles(f"<title>{text}</title>") == ([expected] if expected else [])
    assert find_titles(f'<meta property="og:title" content="{text}">') == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("page", "url", "date"),
    [
        ('<meta property="article:published_time" content="2021-03-12T08:30:00+08:00">', "", "2021-03-12"),
        ('<meta content="2021/3/2 08:30" name="PubDate">', "", "2021-03-02"),
        ('<meta name="publishdate" content="20210312">', "", "2021-03-12"),
        ('<meta name="date" content="2021年3月12日">', "", "2021-03-12"),
        ('<meta name="date" content="2021 年 3 月 12 日">', "", "2021-03-12"),
        ('<script type="application/ld+json">{"datePublished": "2021-03-12"}</script>', "", "2021-03-12"),
        ('<p><time class="x" datetime="2021-03-12T00:00Z">yesterday</time></p>', "", "2021-03-12"),
        ("", "http://a.example/news/2021/03/12/story.html", "2021-03-12"),
        ("", "http://a.example/2021-03-12/1.html", "2021-03-12"),
        ("", "http://a.example/a/20210312/1.html", "2021-03-12"),
        ('<meta name="date" content="last week">', "http://a.example/2021/03/12", "2021-03-12"),
        ('<meta name="date" content="2021-02-30"><time datetime="2021-02-28">', "", "2021-02-28"),
        ('<meta name="date" content="2021-03">', "http://a.example/2021/03/", ""),
        ('<meta name="date" content="12.03.2021">', "http://a.example/2021/13/12/x", ""),
        ('<meta name="date" content="2021-03 08:30">', "", ""),
        ('<meta name="date" content="20210312083000">', "", "2021-03-12"),
        ('<meta name="modified" content="2021-03-12">', "http://a.example/id/120210312", ""),
    ],
)
def test_dates(page: str, url: str, date: str) -> None:
    assert find_date(page, url) == date


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)))
def test_dates_in_all_forms(date: datetime.date) -> None:
    iso = date.isoformat()
    values = [
        iso,
        f"{iso}T12:00:00Z",
        f"{date.year}/{date.month}/{date.day}",
        f"{date.year}年{date.month}月{date.day}日",
    ]
    for value in [*values, date.strftime("%Y%m%d"), f"{date.year}.{date.month}.{date.day} 8:00"]:
        assert find_date(f"<meta name=date content='{value}'>", "") == iso
    for path in ("/%Y/%m/%d/", "/%Y-%m-%d.html", "/%Y%m%d/x", "/a/%Y%m%d"):
        assert find_date("", "http://a.example" + date.strftime(path)) == iso


@each
def test_article_body(words: Words) -> None:
    for ascii in (True, False):
        data = json.dumps(
            {"@type": "Article", "articleBody": "\r\n".join(words.story), "author": "x"}, ensure_ascii=ascii
        )
        assert article_body(f"<script type=application/ld+json>{data}</script>") == "\n\n".join(words.story)
    data = json.dumps({"articleBody": "".join(f"&lt;p&gt;{text} &amp;lt; 3&lt;/p&gt;" for text in words.story)})
    assert article_body(data) == "\n\n".join(f"{text} &lt; 3" for text in words.story)
    data = json.dumps({"articleBody": "".join(f"<p>{text}</p>" for text in words.story)})
    assert article_body(data) == "\n\n".join(words.story)


@pytest.mark.parametrize("data", ["", '"articleBody": 3', '"articleBody": "cut', '"articleBody": "bad \\x escape"'])
def test_no_article_body(data: str) -> None:
    assert article_body(data) == ""


@given(st.text(st.sampled_from("<title>meta name=\"'content&/!-{}:articleBody\\ud2021中"), max_size=200))
def test_any_text(text: str) -> None:
    for page in (text, f"<meta {text}>", f"<title>{text}", f'"articleBody": "{text}"', f'"datePublished": "{text}"'):
        head = find_titles(page)
        assert all(len(title) <= MAX_TITLE and title == " ".join(title.split()) for title in head)
        find_date(page, text)
        article_body(page)


@pytest.mark.parametrize(
    "page",
    ["<meta " * 200_000, "<title" * 200_000, "<title>" * 150_000, "<time " * 200_000,
     '"articleBody": "' + "\\\\" * 2_000_000,
     '"articleBody":' * 300_000, "<meta name=" + "a" * 3_000_000, "<meta " + "a=" * 1_900 + ">",
     '<meta content="' * 200_000,
     EN.story[0] * 20_000],
    ids=range(10),
)  # fmt: skip
def test_hostile_heads_end_soon(page: str) -> None:
    find_titles(page)
    find_date(page, "/2021" * 50_000)
    article_body(page)
