"""Bytes to text: which charset a page is in. The only file that knows resiliparse.

The bytes themselves are asked first (strict UTF-8 excludes nearly everything else), then what HTTP and the page
declare, since a few bytes of Chinese look like Greek; gb2312 and gbk are read as gb18030, big5 as big5hkscs, because
pages use more than they declare. Nothing raises: what no charset explains becomes U+FFFD. Cost: .1 ms for UTF-8, .5 ms
for other pages.
"""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CODECS = {"gbk": "gb18030", "gb2312": "gb18030", "big5": "big5hkscs"}
_META_CHARSET = re.compile(rb"<meta[^<>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_MANY_BROKEN = 0.1  # share of the characters outside ASCII


def decode(data: bytes, http_charset: str = "") -> tuple[str, str]:
    """(text, charset used). Never raises.

    Byte order mark, else UTF-8 where it is valid or nearly so (a page cut inside a character, a bad byte among many
    good), else what the bytes look like, else what HTTP or the page declares. Declarations come last: they are often
    wrong on old Chinese pages.
    """
    for mark, charset in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(charset, "replace"), charset
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError as error:
        if not _is_nearly_utf8(data, error):
            return _detect(data, http_charset)
    return data.decode("utf-8", "replace"), "utf-8"


def _is_nearly_utf8(data: bytes, error: UnicodeDecodeError) -> bool:
    """Whether few enough characters are broken. The first bytes after the first error settle most pages."""
    sample = data[error.start : error.start + 2000].decode("utf-8", "replace")
    if (
        sample.count("\ufffd") > 0.5 * (len(sample) - len(sample.encode("ascii", "ignore")))
        and error.end < len(data) - 8
    ):
        return False
    text = data.decode("utf-8", "replace")
    return text.count("\ufffd") < _MANY_BROKEN * (len(text) - len(text.encode("ascii", "ignore")))


def _detect(data: bytes, http_charset: str) -> tuple[str, str]:
    """(text, codec name). A few bytes of Chinese look like Greek or Western; there a declared CJK charset wins."""
    meta = _META_CHARSET.search(data[:4096])
    declared = [_known(http_charset), _known(meta[1].decode("ascii", "ignore") if meta else "")]
    detected = _known(detect_encoding(data, html5_compatible=False) or "")
    if detected not in _CODECS.values():
        for charset in dict.fromkeys(c for c in declared if c in _CODECS.values()):
            text = _decode_strictly(data, charset)
            if text is not None:
                return text, charset
    charset = next((c for c in [detected, *declared] if c and not c.startswith("utf")), "cp1252")
    return data.decode(charset, "replace"), charset


def _known(charset: str) -> str:
    """The Python codec for a charset label of the web; "" for an unknown one."""
    name = (map_encoding_to_html5(charset, fallback_utf8=False) if charset else None) or ""
    return _CODECS.get(name.lower(), name.lower())


def _decode_strictly(data: bytes, charset: str) -> str | None:
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        return None
