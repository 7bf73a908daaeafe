"""HTML to text: charsets, main content, lists, links, limits; hostile pages end soon, no bytes raise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.cleaners import html
from data_pipeline.cleaners.html import Html, extract_text
from data_pipeline.document import Document, Drop
from data_pipeline.pages.charset import decode
from data_pipeline.pages.nesting import MAX_NESTING, nesting

HANS = "这条河从山里流出来，绕过旧城的北门，在码头边上分成两股。每年春天，水面会涨到石阶的第三级。"
HANT = "這條河從山裡流出來，繞過舊城的北門，在碼頭邊上分成兩股。每年春天，水面會漲到石階的第三級。"
EN = "The river leaves the hills, goes round the north gate of the old town, and divides in two beside the landing."
MENU = '<nav><a href="/">Home 首页</a><a href="/news">News 新闻</a></nav>'
FOOTER = "<footer><p>All rights reserved 版权所有 版權所有</p></footer>"


def page(text: str, charset: str = "utf-8", meta: str = "", head: str = "") -> bytes:
    declared = f'<meta charset="{meta}">' if meta else ""
    body = f"{MENU}<article><h1>{text[:6]}</h1>{''.join(f'<p>{text}{n}</p>' for n in range(5))}</article>{FOOTER}"
    return f"<html><head>{declared}<title> {text[:6]} </title>{head}</head><body>{body}</body></html>".encode(
        charset, "xmlcharrefreplace"
    )


def run(data: bytes, **meta: str) -> Document | Drop:
    return Html()(Document("", "1", meta={"html": data, **meta}))


@pytest.mark.parametrize(("text", "lang"), [(HANS, "zh-Hans"), (HANT, "zh-Hant"), (EN, "en")])
def test_main_text(text: str, lang: str) -> None:
    result = run(page(text))
    assert isinstance(result, Document)
    assert result.text.split("\n\n") == [text[:6].strip(), *(f"{text}{n}" for n in range(5))]
    assert (result.lang, result.meta) == (lang, {"charset": "utf-8", "title": text[:6].strip(), "link_chars": 0})
    assert extract_text(page(text), "http://a.example/b") == result.text


@pytest.mark.parametrize(
    ("text", "charset", "meta", "used"),
    [
        (HANS, "gbk", "gb2312", "gb18030"),
        (HANS, "gb18030", "", "gb18030"),
        (HANS + "㛃𠮷", "gb18030", "gbk", "gb18030"),  # characters that only GB18030 has
        (HANT, "big5", "big5", "big5hkscs"),
        (HANT + "嘅啲", "big5hkscs", "big5", "big5hkscs"),  # Hong Kong characters
        (HANT, "big5", "", "big5hkscs"),
        (HANS, "utf-8", "gb2312", "utf-8"),  # the declaration is wrong
        (HANS, "utf-8-sig", "gb2312", "utf-8"),
        (HANT, "utf-16", "", "utf-16-le"),
        (EN, "ascii", "gbk", "utf-8"),
        (EN + " Café naïve déjà vu", "cp1252", "iso-8859-1", "cp1252"),
    ],
)
def test_charsets(text: str, charset: str, meta: str, used: str) -> None:
    result = run(page(text, charset, meta))
    assert isinstance(result, Document)
    assert result.meta["charset"] == used
    assert f"{text}4" in result.text


@pytest.mark.parametrize(("text", "charset"), [("你好", "gbk"), ("茶壺", "big5")])
def test_few_bytes_are_read_as_declared(text: str, charset: str) -> None:
    assert decode(f'<meta charset="{charset}"><p>{text}</p>'.encode(charset))[0].endswith(f"<p>{text}</p>")
    assert decode(text.encode(charset), charset)[0] == text


def test_broken_bytes_become_replacement_characters() -> None:
    cut = HANS.encode()[:-1]
    assert decode(cut) == (HANS[:-1] + "\ufffd", "utf-8")
    middle = HANS.encode() + b"\xff" + HANT.encode()
    assert decode(middle) == (f"{HANS}\ufffd{HANT}", "utf-8")
    text, charset = decode(HANS.encode("gbk") + b"\xff" + HANS.encode("gbk")[:-1])
    assert charset == "gb18030" and text.startswith(HANS) and "\ufffd" in text


@pytest.mark.parametrize("charset", ["no-such-charset", "hex", "utf-7", "rot13", "undefined", "idna", "\x00"])
def test_unknown_declared_charset(charset: str) -> None:
    assert "caf" in decode(b"caf\xe9", charset)[0]


def test_plain_text() -> None:
    result = Html()(
        Document("", "1", meta={"plain": f"{HANT}\r\n    缩进\u200b\n\n\n\n{EN}  ".encode("big5hkscs", "ignore")})
    )
    assert isinstance(result, Document)
    assert result.text == f"{HANT}\n    缩进\n\n{EN}".replace("缩进", "")[: len(HANT)] + "\n\n" + EN
    assert result.meta == {"charset": "big5hkscs", "link_chars": 0} and result.lang == "zh-Hant"


def test_a_document_without_bytes_passes() -> None:
    document = Document(EN, "1", lang="en", meta={"charset": "x"})
    assert Html()(document) == Document(EN, "1", lang="en", meta={"charset": "x"})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b"<p>" + b"x" * 100, "too_large"),
        (b"%PDF\x00\x01", "binary"),
        (b"\x01\x02\x03" + b"x" * 20, "binary"),
        (b"<html><body></body></html>", "no_text"),
        (b"<script>var a = 'text';</script>", "no_text"),
        ("<p>\u200b\U0001f600\u3000</p>".encode(), "no_text"),
    ],
)
def test_drops(data: bytes, reason: str) -> None:
    for key in ("html", "plain") if reason in ("empty", "too_large", "binary") else ("html",):
        document = Document("", "1", meta={key: data})
        assert Html(max_bytes=100)(document) == Drop(f"html:{reason}")
        assert key not in document.meta


def test_lists_and_tables() -> None:
    """Bullet lists at the top of the tree survive, with plain marks; empty items and cells leave nothing behind."""
    items = "<ul><li>第一项说明</li><li><p>two words</p></li><li>第三項<ul><li>inner</li></ul></li><li></li></ul>"
    numbers = "<ol><li>first step</li><li>第二步</li></ol>"
    table = "<table><tr><th>城市</th><th>km</th></tr><tr><td>北京</td><td>12</td></tr></table>"
    text = extract_text(f"<body><p>{HANS}</p>{items}{numbers}{table}<p>{EN}</p></body>".encode())
    lines = [line for line in text.split("\n") if line]
    assert lines == [
        HANS,
        "- 第一项说明",
        "- two words",
        "- 第三項",
        "  - inner",
        "1. first step",
        "2. 第二步",
        "城市\tkm",
        "北京\t12",
        EN,
    ]


def test_code_keeps_its_indentation() -> None:
    code = "def f(x):\n    if x:\n        return '文本'\n\n    return 2"
    assert code in extract_text(f"<body><p>{EN}</p><pre><code>{code}</code></pre><p>{HANS}</p></body>".encode())


def test_indentation_by_layout_goes() -> None:
    text = extract_text(f"<body><p>　　{HANS}</p><p>&nbsp;　{HANT}</p><p>&nbsp;&nbsp;{HANS}</p></body>".encode())
    assert text == f"{HANS}\n\n{HANT}\n\n{HANS}"
    cells = (
        f"<table><tr><td></td><td>{HANT}</td></tr></table><ul><li><p>one</p><p>{EN}</p></li><li>第二项说明</li></ul>"
    )
    text = extract_text(f"<body><p>{HANS}</p>{cells}<p>&nbsp;&nbsp;&nbsp;&nbsp;return x</p><p>{EN}</p></body>".encode())
    assert [line for line in text.split("\n") if line] == [HANS, HANT, "- one", EN, "- 第二项说明", "    return x", EN]


def test_article_header_with_title_stays() -> None:
    text = extract_text(
        f"<body><header><p>Site name 站名</p></header><article><header><h1>标题 Title</h1></header><p>{HANS}</p>"
        f"<p>{EN}</p></article></body>".encode()
    )
    assert "标题 Title" in text and "Site name" not in text


def test_title_and_markup_are_text() -> None:
    result = run(f"<title>\n 甲 &lt;b&gt;\n 乙 </title><body><p>{EN}</p><p>1 &lt; 2 &amp;amp; 3</p></body>".encode())
    assert isinstance(result, Document)
    assert result.meta["title"] == "甲 <b> 乙" and "1 < 2 &amp; 3" in result.text
    given_title = run(page(EN), title="kept")
    assert isinstance(given_title, Document) and given_title.meta["title"] == "kept"


def test_link_lines() -> None:
    """Only whole lines of link texts count; white space and symbols in them do not; `a` without href is no link."""
    body = (
        '<p><a href="1">首页</a> | <a href="2">新闻 中心</a></p>'
        '<ol><li><a href="3">About us</a></li><li>第二 item</li></ol>'
        f'<p>{HANS}<a href="4">在这里</a></p><p><a name="x">Anchor only, no link</a></p><p>{EN}</p>'
        '<p><a href="5">Contact</a> <a href="6">Privacy policy</a></p>'
    )
    result = run(f"<body>{body}</body>".encode())
    assert isinstance(result, Document)
    links = ["首页", "|", "新闻中心", "1.Aboutus", "ContactPrivacypolicy"]
    assert result.meta["link_chars"] == sum(map(len, links)) - 1  # "|" is a symbol


@pytest.mark.parametrize("text", [HANS, HANT, EN])
def test_body_where_there_is_no_main_content(text: str) -> None:
    """Pages that show their text by script have it in hidden elements, which are no main content."""
    hidden = f'<span hidden="true">{f"<p>{text}</p>" * 5}</span>'
    result = run(f"<body>{MENU}<h1>{text[:3]}</h1>{hidden}{FOOTER}</body>".encode())
    assert isinstance(result, Document)
    assert result.meta["extraction"] == "body" and result.text == "\n\n".join([text[:3], *[text] * 5])
    short = run(f'<body><h1>{text[:3]}</h1><span hidden="true"><p>{text[:20]}</p></span></body>'.encode())
    assert isinstance(short, Document) and short.text == text[:3] and "extraction" not in short.meta


@pytest.mark.parametrize(
    "data",
    [
        "<div>" * 800_000,
        "<div></span>" * 20_000,
        "<div><!--</div>-->" * 20_000,
        "<div><script></div></script>" * 20_000,
        "<div><template></div></template>" * 20_000,
        "".join(f"<p><font c={n}>x</p>" for n in range(20_000)),
        "<select>" + "<option>x" * 20_000,
        "<div " + " ".join(f"a{n}" for n in range(50_000)) + ">",
        "<ul><li>x" * 20_000,
        "<DIV>" * 20_000,
    ],
)
def test_hostile_nesting_is_dropped(data: str) -> None:
    assert Html()(Document("", "1", meta={"html": data.encode()})) == Drop("html:too_deep")
    wide = Document("", "1", meta={"html": data[:2_000_000].encode("utf-16")})
    assert Html()(wide) == Drop("html:too_deep")


@pytest.mark.parametrize(
    "data",
    [
        "<div>x</div>" * 20_000,
        "<p>x" * 20_000,
        "<table>" + "<tr><td>x<td>y" * 10_000,
        "<a href=x>y</a> " * 20_000,
        "<!--" * 500_000,
        "<" * 500_000,
        "<script>" * 100_000,
        "x<br>" * 20_000,
        "&amp;" * 100_000,
        "<p>" + " \t" * 500_000 + "x",
        "<pre>" + "\t" * 500_000 + "x",
        f'<img src="data:{"A/" * 500_000}">',
    ],
)
def test_wide_pages_are_read(data: str) -> None:
    assert nesting(data) <= MAX_NESTING
    Html()(Document("", "1", meta={"html": data.encode()}))


def test_nesting_counts_open_elements() -> None:
    assert nesting("<div><div><p>a<p>b<br></div></div>") == 0 + 1 + 2 + 2 + 2
    assert nesting("<ul><li>a<li>b</ul><ul></ul>") == 0 + 1 + 1 + 0
    assert nesting("<div><!-- <div> --><script>'<div>'</script><img/></div>") == 0 + 1


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.text(max_size=100).map(str.encode),
        st.text("<>/ab=\"'!-é中\n&;", max_size=80).map(str.encode),
    )
)
def test_any_bytes(data: bytes) -> None:
    for key in ("html", "plain"):
        result = Html()(Document("", "1", meta={key: data}))
        if isinstance(result, Document):
            assert result.text.strip() and result.lang
            assert 0 <= result.meta["link_chars"] <= len(result.text)
            result.text.encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_utf8_and_utf16_decode_to_themselves(text: str) -> None:
    assert decode(text.encode()) == (text.removeprefix("\ufeff") if text.startswith("\ufeff") else text, "utf-8")
    assert decode(text.encode("utf-16"))[0] == text


def test_settings() -> None:
    assert list(Html(max_bytes=0).problems()) and not list(Html().problems())
    assert html.MAX_TITLE == 300


def test_a_vertical_tab_does_not_part_a_word() -> None:
    words = "The tension\x0b of a ro\x0bpe holds the bridge, and 吊\x0b桥的缆绳、吊\x0b橋的纜繩也是如此。"
    text = extract_text(f"<body><article><p>{words}</p></article></body>".encode())
    assert text == "The tension of a rope holds the bridge, and 吊桥的缆绳、吊橋的纜繩也是如此。"
