"""The html cleaner: charsets, headline and meta, lists, links, limits, drops; no bytes raise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.cleaners.density import num_text_chars, num_visible_chars
from data_pipeline.cleaners.html import Html, extract_text
from data_pipeline.document import Document, Drop

HANS = "这条河从山里流出来，绕过旧城的北门，在码头边上分成两股。每年春天，水面会涨到石阶的第三级。"
HANT = "這條河從山裡流出來，繞過舊城的北門，在碼頭邊上分成兩股。每年春天，水面會漲到石階的第三級。"
EN = "The river leaves the hills, goes round the north gate of the old town, and divides in two beside the landing."
MENU_TEXT, FOOTER_TEXT = "News 新闻 新聞", "All rights reserved 版权所有 版權所有"
MENU = f'<nav><a href="/news">{MENU_TEXT}</a></nav>'
FOOTER = f"<footer><p>{FOOTER_TEXT}</p></footer>"


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
    assert result.lang == lang and result.meta == {
        "charset": "utf-8",
        "title": text[:6].strip(),
        "link_chars": 0,
        "page_chars": result.meta["page_chars"],
    }
    visible = num_visible_chars("".join([*result.text, MENU_TEXT, FOOTER_TEXT]))
    assert result.meta["page_chars"] == visible
    assert extract_text(page(text), "http://a.example/b") == result.text.partition("\n\n")[2]
    bare = Html(headline=False)(Document("", "1", meta={"html": page(text)}))
    assert isinstance(bare, Document) and bare.text == extract_text(page(text))
    assert bare.meta["title"] == text[:6].strip()


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
    assert [line for line in text.split("\n") if line] == [HANS, HANT, "- one", EN, "- 第二项说明", "return x", EN]


@pytest.mark.parametrize("text", [HANS, HANT, EN])
def test_headline(text: str) -> None:
    """The h1 that the title repeats, in a header, too; else the h1 at the top; the site's name is none."""
    name = text[:12]
    site = "<header><h1>Site name 站名</h1></header>"
    body = f"<body>{site}<article><header><h1>{name}</h1></header>{f'<p>{text}</p>' * 3}</article></body>"
    for head in (f"<title>{name}_Site name</title>", f"<title>x</title><meta property='og:title' content='{name}'>"):
        result = run(f"{head}{body}".encode())
        assert isinstance(result, Document) and result.text == "\n\n".join([name.strip(), text, text, text])
        assert result.meta["title"] == name.strip()
    top = run(f"<title>x</title><body>{MENU}<h1>{name}</h1>{f'<p>{text}</p>' * 3}</body>".encode())
    assert isinstance(top, Document) and top.text.startswith(name) and top.meta["title"] == name.strip()
    none = run(f"<title>Site &amp; name</title><body>{MENU}{f'<p>{text}</p>' * 3}</body>".encode())
    assert isinstance(none, Document) and none.text == "\n\n".join([text] * 3) and none.meta["title"] == "Site & name"


def test_title_and_markup_are_text() -> None:
    result = run(f"<title>\n 甲 &lt;b&gt;\n 乙 </title><body><p>{EN}</p><p>1 &lt; 2 &amp;amp; 3.</p></body>".encode())
    assert isinstance(result, Document)
    assert result.meta["title"] == "甲 <b> 乙" and "1 < 2 & 3." in result.text  # escaped twice: repaired
    given_title = run(page(EN), title="kept")
    assert isinstance(given_title, Document) and given_title.meta["title"] == "kept"


def test_link_lines_go() -> None:
    """Lines of nothing but links at both ends are menus; a link in a sentence stays, `a` without href is no link."""
    body = (
        '<p><a href="1">首页</a> | <a href="2">新闻 中心</a></p>'
        f'<p>{HANS}<a href="4">在这里。</a></p><p><a name="x">Anchor only, no link.</a></p><p>{EN}</p>'
        '<p><a href="5">Contact</a> <a href="6">Privacy policy</a></p>'
    )
    result = run(f"<body>{body}</body>".encode())
    assert isinstance(result, Document) and result.meta["link_chars"] == 0
    assert result.text == f"{HANS}在这里。\n\nAnchor only, no link.\n\n{EN}"


@pytest.mark.parametrize("text", [HANS, HANT, EN])
def test_body_where_there_is_no_main_content(text: str) -> None:
    """A page of nothing but links is taken whole, and its link characters are counted for the density cleaner."""
    names = [f"{text[n : n + 20].strip()} {n}" for n in range(20)]
    links = "".join(f'<li><a href="/{n}">{name}</a></li>' for n, name in enumerate(names))
    result = run(f"<title>{text[:9]}</title><body>{MENU}<h1>{text[:9]}</h1><ul>{links}</ul></body>".encode())
    assert isinstance(result, Document) and result.meta["extraction"] == "body"
    lines = [f"- {name}" for name in names]
    assert result.text.split("\n\n") == [text[:9].strip(), "\n".join(lines)]
    assert result.meta["link_chars"] == num_text_chars("".join(lines)) - 20 * num_text_chars("- ")


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
            result.text.encode()  # no lone surrogates
            assert not any(c < " " and c not in "\n\t" or "\x7f" <= c <= "\x9f" for c in result.text)
    assert Html()(Document("", "1", meta={"html": data})) == Html()(Document("", "1", meta={"html": data}))
    assert isinstance(extract_text(data), str)


def test_settings() -> None:
    assert list(Html(max_bytes=0).problems()) and not list(Html().problems())
    assert Html() == Html(max_bytes=5_000_000, headline=True, comments=False)


def test_measures() -> None:
    (size,) = Html(max_bytes=10).measures(Document("", "1", meta={"html": b"x" * 11}))
    assert (size.value, size.passes) == (11, False)
    assert not list(Html().measures(Document(EN, "1")))


def test_a_vertical_tab_does_not_part_a_word() -> None:
    words = "The tension\x0b of a ro\x0bpe holds the bridge, and 吊\x0b桥的缆绳、吊\x0b橋的纜繩也是如此。"
    text = extract_text(f"<body><article><p>{words}</p></article></body>".encode())
    assert text == "The tension of a rope holds the bridge, and 吊桥的缆绳、吊橋的纜繩也是如此。"


@pytest.mark.parametrize("text", [HANS, HANT, EN + " It’s “old” — a café."])
def test_repairs_are_noted(text: str) -> None:
    """Text that was read with the wrong charset once, and what a script left behind."""
    # The bytes A0 and 85 became white space, which is gone before the repair.
    text = "".join(c for c in text if not {0x85, 0xA0} & set(c.encode()))
    wrong = text.encode().decode("latin-1")
    junk = "<p>var _hmt = _hmt || [];</p>"
    clean, broken, littered = (
        run(f"<body>{f'<p>{t}</p>' * 3}</body>".encode()) for t in (text, wrong, f"{text}{junk}")
    )
    assert isinstance(clean, Document) and isinstance(broken, Document) and isinstance(littered, Document)
    assert clean.text == broken.text == littered.text == "\n\n".join([text] * 3)
    assert "mojibake" not in clean.meta and "remains" not in clean.meta
    assert broken.meta["mojibake"] and littered.meta["remains"] > 0
