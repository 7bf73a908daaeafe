"""Remains of scripts, styles and comments go; lessons about them, fenced and indented code, and prose stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.pages.remains import strip_markup_remains

HANS = "今天，天气很好，我们一起去公园看花。"
HANT = "今天，天氣很好，我們一起去公園看花。"
EN = "The river leaves the hills and goes round the old town (see the map); it is slow {here}."

JUNK = [
    "var _hmt = _hmt || [];",
    "(function() {\nvar hm = document.createElement('s');\nhm.src = '//hm.example.com/hm.js?1';\n})();",
    "function resize(){ var w = 10; box.width = w; }",
    "$(document).ready(function(){\nshow(1);\n});",
    "document.write('<img src=1>');",
    "window.dataLayer = window.dataLayer || [];\ngtag('config', 'UA-1');",
    "(adsbygoogle = window.adsbygoogle || []).push({});",
    'google_ad_client = "ca-pub-1";\ngoogle_ad_slot = "2";',
    "_gaq.push(['_trackPageview']);",
    "@media screen and (max-width: 600px) {\n.menu{display:none}\n}",
    ".nav{float:left;width:10px} #top .b:hover{color:#fff;}",
    "@import url(a.css);",
    "<!--[if lt IE 9]>\n<![endif]-->",
    "<!-- 广告开始 -->",
    "//<![CDATA[\n//]]>",
    "-->",
]
LESSONS = [
    "用 JavaScript 写一个函数：",
    "用 JavaScript 寫一個函數：",
    "Put this script at the end of the page:",
    "The CSS of the menu:",
]


@pytest.mark.parametrize("junk", JUNK)
def test_remains_go(junk: str) -> None:
    num_lines = junk.count("\n") + 1
    for text in (HANS, HANT, EN):
        assert strip_markup_remains(f"{text}\n{junk}\n{text}") == (f"{text}\n{text}", num_lines)
    assert strip_markup_remains(f"{junk}\n\n{EN}") == (f"\n{EN}", num_lines)


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("lesson", LESSONS)
def test_lessons_keep_their_code(junk: str, lesson: str) -> None:
    text = f"{HANS}\n{lesson}\n{junk}\n{EN}"
    assert strip_markup_remains(text) == (text, 0)


@pytest.mark.parametrize("junk", JUNK)
def test_code_that_is_marked_as_code_stays(junk: str) -> None:
    indented = "\n".join(f"    {line}" for line in junk.split("\n"))
    for text in (f"{EN}\n```\n{junk}\n```\n{HANS}", f"{EN}\n\n{indented}\n\n{HANT}"):
        assert strip_markup_remains(text) == (text, 0)


@pytest.mark.parametrize(
    "text",
    [
        EN,
        "f(x) = {1, 2, 3};",
        "{name}，您好：",
        "函数 f(x) 的值域是 {y | y > 0}；",
        "window. The light came in {again};",
        "REVERSE = {value: key for key, value in TABLE.items()}",
        "The function (of time) is { a; b }.",
        "A set {1, 2} and an arrow -->  here",
        "document. write(again)",
        "他说：<这是书名> --> 下一页",
    ],
)
def test_prose_and_formulas_stay(text: str) -> None:
    assert strip_markup_remains(f"{HANS}\n{text}\n{HANT}") == (f"{HANS}\n{text}\n{HANT}", 0)


def test_what_follows_goes_only_while_it_is_code() -> None:
    text = f"var a = 1;\nb();\n{EN}\nc();\nvar d = 2;\n\ne();"
    assert strip_markup_remains(text) == (f"{EN}\nc();\n\ne();", 3)
    text = f"var a = 1;\n{HANS};\nb();"
    assert strip_markup_remains(text) == (f"{HANS};\nb();", 1)


@given(st.lists(st.sampled_from([*JUNK, EN, HANS, HANT, "", "```", "    x = 1;", "}", "a, b;"])).map("\n".join))
def test_lines_go_whole_and_once(text: str) -> None:
    found, num_lines = strip_markup_remains(text)
    lines = iter(text.split("\n"))
    assert all(line in lines for line in found.split("\n")) or num_lines == text.count("\n") + 1
    assert (found == text) == (num_lines == 0)
    if num_lines and found:
        assert found.count("\n") + num_lines == text.count("\n")


def test_long_hostile_lines_end_soon() -> None:
    for piece in (
        "a{b:",
        "a{b:c;",
        ".a{b:c}",
        "<!--",
        "function(){",
        "var a = ",
        "(",
        "a,",
        " ",
        "window.",
        "{}",
        ", ",
    ):
        strip_markup_remains(f"<!--\n{piece * 100_000}x")
        strip_markup_remains(f"<!--\na{piece * 100_000}\n")
