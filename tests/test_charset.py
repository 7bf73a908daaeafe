"""Bytes to text: whole pages as Python's codecs read them, declarations that lie, broken bytes."""

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_pages import EN, HANS, HANT, LANGUAGES, Words, around, article

from data_pipeline.pages.charset import decode

HK = "嘅啲嚟咗喺冇佢哋"  # in Big5-HKSCS, not in Big5


def page(words: Words, declared: str = "", extra: str = "") -> str:
    return around(words, article(words) + f"<p>{extra}</p>", f'<meta charset="{declared}">' if declared else "")


@pytest.mark.parametrize("declared", ["", "gbk", "GB2312", "utf-8", "big5", "iso-8859-1", "windows-1252", "no-such"])
@pytest.mark.parametrize(
    ("words", "codec", "used", "extra"),
    [
        (HANS, "gbk", "gb18030", "朱镕基，镕是GBK才有的字"),
        (HANS, "gb18030", "gb18030", "㛃𠮷、四个字节的字"),
        (HANT, "gbk", "gb18030", "用GBK寫的繁體字"),
        (HANT, "big5", "big5hkscs", "用大五碼寫的字"),
        (HANT, "big5hkscs", "big5hkscs", HK),
        (HANS, "utf-8", "utf-8", "𠮷"),
        (HANT, "utf-8", "utf-8", HK),
        (EN, "utf-8", "utf-8", "naïve café"),
    ],
)
def test_pages_as_the_codec_reads_them(words: Words, codec: str, used: str, extra: str, declared: str) -> None:
    """Whatever the page declares: the bytes of a whole Chinese page say what they are."""
    text = page(words, declared, extra)
    data = text.encode(codec, "xmlcharrefreplace")
    assert decode(data) == (data.decode(codec), used)
    assert decode(data, declared) == decode(data)


@pytest.mark.parametrize("words", LANGUAGES, ids=[words.lang for words in LANGUAGES])
@pytest.mark.parametrize(
    ("codec", "mark", "used"),
    [
        ("utf-8", codecs.BOM_UTF8, "utf-8"),
        ("utf-16-le", codecs.BOM_UTF16_LE, "utf-16-le"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_byte_order_marks_win(words: Words, codec: str, mark: bytes, used: str) -> None:
    text = page(words, "gb2312")
    assert decode(mark + text.encode(codec), "big5") == (text, used)
    assert decode(mark) == ("", used)


@pytest.mark.parametrize("declared", ["", "iso-8859-1", "windows-1252", "us-ascii"])
def test_western_pages(declared: str) -> None:
    text = page(EN, declared, "The naïve café owner — “déjà vu”, she said — paid £5.")
    data = text.encode("cp1252")
    assert decode(data) == (data.decode("cp1252"), "cp1252")


def test_ascii_is_utf8_whatever_is_declared() -> None:
    for declared in ("gbk", "utf-16", "hz-gb-2312", "utf-7", "shift_jis"):
        text = page(EN, declared).replace("©", "(c)")
        assert decode(text.encode("ascii"), declared) == (text, "utf-8")


@pytest.mark.parametrize(
    ("text", "charset"), [("你好", "gbk"), ("茶壺", "big5"), ("渡船", "gb2312"), ("渡船", "gb18030")]
)
def test_few_bytes_are_read_as_declared(text: str, charset: str) -> None:
    assert decode(f'<meta charset="{charset}"><p>{text}</p>'.encode(charset))[0].endswith(f"<p>{text}</p>")
    old = f'<META http-equiv=Content-Type content="text/html; charset={charset}"><p>{text}</p>'
    assert decode(old.encode(charset))[0] == old
    assert decode(text.encode(charset), charset)[0] == text


@pytest.mark.parametrize("words", LANGUAGES[1:], ids=["zh-Hans", "zh-Hant"])
def test_broken_bytes_become_replacement_characters(words: Words) -> None:
    text = "".join(words.story)
    assert decode(text.encode()[:-1]) == (text[:-1] + "\ufffd", "utf-8")
    assert decode(text.encode() + b"\xff" + text.encode()) == (f"{text}\ufffd{text}", "utf-8")
    codec, used = ("gbk", "gb18030") if words is HANS else ("big5", "big5hkscs")
    data = text.encode(codec) + b"\xff\xff" + text.encode(codec)[:-1]
    found, charset = decode(data)
    assert charset == used and found.startswith(text) and "\ufffd" in found and found == data.decode(used, "replace")


def test_a_page_cut_anywhere_is_still_utf8() -> None:
    for words in LANGUAGES:
        data = page(words).encode()
        for end in range(len(data) - 60, len(data)):
            text, charset = decode(data[:end])
            assert charset == "utf-8" and text.rstrip("\ufffd") == data[:end].decode("utf-8", "ignore")


@pytest.mark.parametrize(
    "charset",
    ["no-such-charset", "hex", "base64", "utf-7", "rot13", "undefined", "idna", "punycode", "\x00", "中文", "x" * 999],
)
def test_unknown_declared_charset(charset: str) -> None:
    assert decode(b"caf\xe9", charset) == decode(b"caf\xe9")
    data = b'<meta charset="' + charset.encode() + b'"><p>caf\xe9</p>'
    assert "caf" in decode(data, charset)[0]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_utf8_and_utf16_decode_to_themselves(text: str) -> None:
    assert decode(text.encode()) == (text.removeprefix("\ufeff"), "utf-8")
    assert decode(text.encode("utf-16"))[0] == text
    assert decode(text.encode("utf-8-sig")) == (text, "utf-8")


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.binary(max_size=400), st.lists(st.binary(min_size=2, max_size=2), max_size=99).map(b"\xb5\xc4".join)),
    st.one_of(st.text(max_size=20), st.sampled_from(["gbk", "big5", "utf-8", "utf-16", "shift_jis", "iso-2022-jp"])),
)
def test_any_bytes(data: bytes, charset: str) -> None:
    text, used = decode(data, charset)
    assert isinstance(text, str) and codecs.lookup(used)
    text.encode()  # no surrogates
    assert decode(data, charset) == (text, used)


@pytest.mark.parametrize(
    "data",
    [b"<meta " * 300_000 + b"\xff", b"<meta charset=" * 100_000 + b"\xb0", b"\xff" * 1_000_000,
     b"\xb5\xc4" * 500_000 + b"\xff",
     b"a" * 3_000_000 + b"\xe9", "字".encode() * 500_000 + b"\xff" * 9],
    ids=range(6),
)  # fmt: skip
def test_large_and_hostile_bytes(data: bytes) -> None:
    assert len(decode(data)[0]) <= len(data)
