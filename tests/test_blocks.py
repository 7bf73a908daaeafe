"""The walk over a page's tree: blocks in document order, what is inline, what is never read, what reads as prose."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_pages import EN, HANS, HANT, LANGUAGES, Words, around, article, comments

from data_pipeline.pages import blocks
from data_pipeline.pages.blocks import read_page

each = pytest.mark.parametrize("words", LANGUAGES, ids=[words.lang for words in LANGUAGES])


def texts(html: str) -> list[str]:
    return [block.text for block in read_page(html).blocks]


@each
def test_blocks_of_a_page(words: Words) -> None:
    one, two, three, four = words.story[:4]
    html = f"{one}<p>{two}<div><span>{three[:9]}</span><b>{three[9:]}</b><hr>{four}</div>{words.title}"
    page = read_page(html)
    assert [block.text for block in page.blocks] == [one, two, three, four, words.title]
    assert page.tags == ["body", "div"] and page.parents == [-1, 0]
    assert [block.element for block in page.blocks] == [0, 0, 1, 1, 0]
    assert read_page(html.encode()).blocks[2].text == three


def test_empty_pages() -> None:
    for html in ("", " ", "<p></p>", "<frameset><frame src=x></frameset>", "<!-- x -->", "<div>&nbsp;<br> \n</div>"):
        assert texts(html) == []


@each
def test_sizes_are_bytes(words: Words) -> None:
    for block, text in zip(read_page("<p>".join(words.story)).blocks, words.story, strict=True):
        assert block.size == len(text.encode()) == block.good and block.links == 0


@pytest.mark.parametrize("tag", "b i em strong span a font u s code sub sup small time bdo abbr q ins label".split())
def test_inline_tags(tag: str) -> None:
    assert texts(f"<p>micro<{tag}>soft</{tag}>，中<{tag}>国</{tag}>中<{tag}> 國 </{tag}>x") == [
        "microsoft，中国中 國 x"
    ]


@pytest.mark.parametrize(
    "tag", "p div h1 h6 li dt td section article blockquote center pre form fieldset x-own".split()
)
def test_block_tags(tag: str) -> None:
    wrapped = {"td": "<table><tr>{}</table>", "li": "<ul>{}</ul>"}.get(tag, "{}").format(f"<{tag}>中国</{tag}>")
    assert texts(f"甲乙{wrapped}one") == ["甲乙", "中国", "one"] or tag == "td"


@pytest.mark.parametrize(
    "tag", "script style noscript template iframe object canvas audio video title select button nav textarea".split()
)
def test_what_is_never_text(tag: str) -> None:
    for inside in (f"<{tag}>unseen 字</{tag}>", f"<{tag} title='x'><b>unseen</b> 字</{tag}>"):
        assert texts(f"<p>中国 one</p>{inside}<p>two</p>") == ["中国 one", "two"]
    assert texts(f"<p>中国<{tag}>unseen</{tag}>國 one</p>")[0].startswith("中国")


def test_drawings_and_frames_are_never_text() -> None:
    assert texts("<p>中国</p><svg><text>unseen</text></svg><embed src=x><math><mi>x</mi></math><p>中國</p>") == [
        "中国",
        "中國",
    ]
    assert texts("<p>one</p><frameset><frame></frameset><noframes>unseen</noframes>") == ["one"]


def test_attributes_are_never_text() -> None:
    html = '<p title="T">a <img alt="T" src="T"><a href="T" title="T">b</a><input value="T" placeholder="T"> c</p>'
    assert texts(html + '<abbr title="T">d</abbr><meta content="T">') == ["a b c", "d"]


@each
def test_links(words: Words) -> None:
    """The share of a block's characters in links; an anchor without address is none."""
    name = words.title
    page = read_page(
        f'<p><a href="/"> {name} </a></p><p><a name="x">{name}</a></p><p>{name}<a href="/">{name}</a></p>'
        f'<ul><li><a href="/">{name}<p>{name}</p></a></li></ul><a href="/"><div>{name}</div></a>'
    )
    assert [(block.text, block.links) for block in page.blocks] == [
        (name, 1), (name, 0), (name * 2, 0.5), (name, 1), (name, 1), (name, 1)
    ]  # fmt: skip


@each
def test_what_reads_as_prose(words: Words) -> None:
    text = words.story[0]
    good = {
        f"<p>{text}</p>": True,
        f"<p>{re.sub(r'[^0-9A-Za-z一-鿿]+', ' ', text)}</p>": False,  # no punctuation
        f"<p>{words.title}</p>": False,
        f"<p>{text[:9]}.</p>": False,  # too short
        f'<p><a href="/">{text}</a></p>': False,
        f'<p>{text}{text}<a href="/">{words.title}</a></p>': True,
        f"<figure><figcaption>{text}</figcaption></figure>": False,
        f"<pre>{text}</pre>": True,
        f"<p>{'<br>'.join(words.story)}</p>": True,
        f"<p>{'<br>'.join(words.others)}</p>": False,
    }
    for html, expected in good.items():
        assert all((block.good > 0) == expected for block in read_page(html).blocks), html


@each
def test_comments_are_marked_unless_they_are_wanted(words: Words) -> None:
    html = around(words, article(words) + comments(words))
    assert "comment" in read_page(html).noise and "comment" not in read_page(html, comments=True).noise


def test_elements_know_their_marks() -> None:
    page = read_page(
        '<div class="sidebar x" id="y">a</div><aside>b</aside><div role="navigation">c</div>'
        '<div class="md:sidebar">d</div>'
        '<article class="sidebar">e</article><div itemprop="articleBody">f</div>'
    )
    assert page.noise == ["", "sidebar", "aside", "navigation", "", "", ""]
    assert page.classes[1] == "sidebar x" and page.is_body == [False] * 6 + [True]


@pytest.mark.parametrize("wrap", ["\n", "\r\n", " \n\t ", "\n\n"])
def test_line_wraps(wrap: str) -> None:
    """A wrapped line leaves a blank in English, none inside Chinese, and one between the two."""
    for chinese in ("这条河，\n从山里\n流出来。", "這條河，\n從山裡\n流出來。", "“这是”\n《書》\n（註）。"):
        assert texts(f"<p>{chinese.replace(chr(10), wrap)}</p>") == [chinese.replace("\n", "")]
    assert texts(f"<p>the river{wrap}leaves 山{wrap}and 水</p>") == ["the river leaves 山 and 水"]
    assert texts(f"<p>说{wrap}hello{wrap}一次</p>") == ["说 hello 一次"]


def test_line_wraps_between_quotes() -> None:
    assert texts("<p>“Is it late?”\n“It is.”</p>") == ["“Is it late?” “It is.”"]
    assert texts("<p>“晚了吗？”\n“晚了。”</p>") == ["“晚了吗？”“晚了。”"]


def test_blanks_in_chinese_stay() -> None:
    assert texts("<p>这 是　中　文  x</p>") == ["这 是 中 文 x"]


@pytest.mark.parametrize(
    ("html", "code"),
    [
        ("<pre>a = 1<br>  b = 2<br/>\n丙</pre>", "a = 1\n  b = 2\n\n丙"),
        ("<pre><div>甲 = 1</div><div>  b = 2</div></pre>", "甲 = 1\n  b = 2"),
        ("<pre><ol><li>甲 = 1</li><li>  b = 2</li></ol></pre>", "甲 = 1\n  b = 2"),
    ],
)
def test_line_breaks_in_code(html: str, code: str) -> None:
    assert texts(html) == [code]


_TAGS = "p div span a b ul li table tr td h1 br hr section article blockquote form dl dt em select nav footer".split()
_TREES = st.recursive(
    st.one_of(
        st.sampled_from(["alpha", "中文，句。", "繁體", " ", "&lt;", "<br>"]),
        st.integers(0, 999).map(lambda n: f"w{n}"),
    ),
    lambda inner: st.builds(
        lambda tag, parts: f"<{tag}>{' '.join(parts)}</{tag}>", st.sampled_from(_TAGS), st.lists(inner, max_size=4)
    ),
    max_leaves=30,
)


@settings(max_examples=120, deadline=None)
@given(st.lists(_TREES, max_size=6), st.booleans())
def test_lists_fit_together(parts: list[str], with_comments: bool) -> None:
    html = "".join(parts)
    page = read_page(html, with_comments)
    num = len(page.parents)
    assert len(page.tags) == len(page.noise) == len(page.classes) == len(page.is_body) == num
    assert all(parent < element for element, parent in enumerate(page.parents))
    for block in page.blocks:
        assert (
            0 <= block.element < num and 0 <= block.links <= 1 and block.good in (0, block.size) and not block.dropped
        )
        assert block.text == " ".join(block.text.split()) != "" and block.size == len(block.text.encode())
    plain = "".join(re.findall(r"w\d+|alpha", re.sub(r"<(select|nav|footer)\b.*?</\1>", "", html)))
    found = "".join(re.findall(r"w\d+|alpha", " ".join(texts(html))))
    if not re.search("<(select|nav|footer|table|tr|td|a|b|form|p|h1)", html):  # those that the parser may move or close
        assert found == plain


@pytest.mark.parametrize("tag", ["div", "b", "ul><li"])
def test_elements_too_deep_are_read_as_text(tag: str) -> None:
    depth = 3 * blocks.MAX_DEPTH
    inside = "<p>甲 x</p><script>unseen</script>"
    found = " ".join(texts(f"<{tag}>{EN.title}" * depth + inside + HANS.title + f"<p>{HANT.title}</p>"))
    assert found.count(EN.title) == depth and HANS.title in found and found.index("甲 x") < found.index(HANT.title)
    assert "unseen" not in found


def test_many_lines_in_one_paragraph() -> None:
    assert texts("<p>" + "字\n" * 100_000) == ["字" * 100_000]
    assert len(texts("<p>" + "a\n字\n" * 30_000)[0]) == 120_000 - 1
