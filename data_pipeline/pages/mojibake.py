"""Text that was decoded with the wrong charset, back to what it was: repairs only what proves itself; or measures it.

Rules: UTF-8 read as cp1252 or Latin-1 (several times over, too); UTF-8 read as GBK; GBK or Big5 read as Latin-1;
entities escaped twice. A piece changes only when all of it goes back to bytes and on to characters that people write,
and real text would not look so: a French é before a no-break space and » could be one Han character, and stays. False
repairs are worse than misses. What is beyond repair (U+FFFD, 锟斤拷, 烫烫烫) is taken out; `broken_share` measures it.
Cost: a table look-up or two a character where nothing is suspicious, 100 to 500 MB/s. To be called before `normalise`,
which deletes the control characters that broken text has. ftfy knows more Western kinds, but no Chinese ones.
"""

from __future__ import annotations

import functools
import html
import re

import numpy as np

# What characters can be a sign of: the first byte of UTF-8, two bytes of GBK or Big5, UTF-8 read as GBK, lost text.
_LEAD, _HIGH_BYTE, _PAIR, _GBK, _LOST = 1, 2, 4, 8, 16

_HIGH = bytes(range(0x80, 0x100))
# Five bytes are undefined in cp1252; browsers read them as control characters, as Latin-1 does all of 80 to 9F.
_CP1252 = [bytes([b]).decode("cp1252", "ignore") or chr(b) for b in _HIGH]
_TO_BYTE = {ord(c): chr(b) for b, c in zip(_HIGH, _CP1252, strict=True)}  # byte as a Latin-1 character; others stay


def _any_of(low: int, high: int) -> str:
    """The characters that bytes low to high become, as a class of a regular expression."""
    return "".join(sorted({re.escape(c) for b in range(low, high + 1) for c in (_CP1252[b - 0x80], chr(b))}))


_TAIL = f"[{_any_of(0x80, 0xBF)}]"
_TWO, _THREE = f"[\u00c2-\u00df]{_TAIL}", f"[\u00e0-\u00ef]{_TAIL}{{2}}"
_FOUR = f"[\u00f0-\u00f4]{_TAIL}{{3}}"
_HIGH_BYTES = re.compile("[\u0080-\u00ff]")
_UTF8_RUN = re.compile(f"(?:{_TWO}|{_THREE}|{_FOUR})+")
# Single sequences that no language writes: Ã or Â before a sign that follows no letter, the beginnings of dashes,
# quotes, arrows, euro and trade mark, of the byte order mark and of emoji; a capital and a sign after a small letter.
_SURE = re.compile(
    f"(?<=[a-zß-ÿ])[\u00c3-\u00c8]{_TAIL}|(?<![^\\W\\d_])Ã\u00a0|[\u00c2-\u00df][\u0080-\u009f]|"
    "Ã[¡-ªµ¬®-º¼-¿\u0080-\u009f€ŒŽŠœžšŸƒ]|Â[\u00a0-¿\u0080-\u009f]|â[€\u0080][\u0080-\u00bf™˜œž“”¢¦]"
    f"|â(?:„¢|\u0084¢|‚¬|\u0082¬|[†\u0086]{_TAIL}|[ˆ\u0088]{_TAIL})|ï»¿|ð[Ÿ\u009f]{_TAIL}{{2}}"
)
_CLOSING_QUOTE = re.compile(r"â€(?=[\s.,;:!?)]|\Z)")  # its third byte is a control character that others deleted
# What repaired Western text may hold: Latin, Greek, Cyrillic, punctuation, signs, CJK and its punctuation, emoji.
_WRITTEN = re.compile(
    "[\u00a0-\u024f\u02c6\u02dc\u0370-\u052f\u1e00-\u1eff\u2010-\u2027\u2030-\u205e\u20a0-\u27bf\u3000-\u30ff\u3400-\u9fff"
    "\uac00-\ud7a3\uff01-\uffee\ufe0f\ufeff\U0001f000-\U0001faff\u0080-\u009f]+"
)
_CJK = re.compile("[\u3000-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff01-\uffee]")
_ROUNDS = 3

# The first half of ， 。 “ 的 在 是 有 一 and others in UTF-8 when read as GBK: rare or unheard of in real text.
_GBK_SIGNS = "锛銆鈥鐨鍦鏄鏈涓浜鎴杩鍙鍚鍜瀛犲"
_GBK_RUN = re.compile("[\u00a0-\uffef]{2,}(?:[?\ufffd][\u00a0-\uffef]*)*")
_CHINESE = re.compile("[\u4e00-\u9fff]")

_GBK_BYTES = re.compile(f"(?:[{_any_of(0xA1, 0xF7)}][{_any_of(0xA1, 0xFE)}]){{2,}}")
_BIG5_BYTES = re.compile(f"(?:[{_any_of(0xA1, 0xC6)}][@-~{_any_of(0xA1, 0xFE)}]){{2,}}")
# Every fifth character of Chinese text is one of these; of Han characters that come out by chance, one in fifty.
_COMMON = frozenset(
    "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都"
    "然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实"
    "這來國個說們為時學對裡後麼沒於還發當無開見經頭從動兩長樣現將與進實"
)
_MIN_COMMON = 0.1
_ALPHABETIC = re.compile("[\u00c0-\u017f\u0391-\u03c9\u0400-\u045f]+")  # Russian in UTF-8 also makes common Han
_MIN_LETTERS, _SIGN = 8, re.compile("[\u00a1-\u00bf\u00d7\u00f7]")

_LOST_TEXT = re.compile("\ufffd+|(?<![“「『‘\"'`])(?:锟斤拷)+锟?斤?|烫{6,}|屯{6,}")
_APOSTROPHE = re.compile("(?<=[A-Za-z])\ufffd{1,3}(?=(?:s|t|d|m|re|ve|ll)\\b)")  # mother\ufffds: cp1252 in a UTF-8 page
_LOST_SIGNS = "\ufffd锟烫屯"

_ENTITY = re.compile(r"&(?:amp;)*(#x[0-9a-fA-F]{2,6}|#[0-9]{2,7}|[A-Za-z][a-z]{1,7}[0-9]{0,2});")
_TEACHES = re.compile(r"\bhtml\b|\bxml\b|entit|escap|实体|實體|转义|轉義|跳脫|&(?:amp;)*[lg]t;|</?[a-z]", re.IGNORECASE)
_KEPT_ENTITIES = frozenset("<>\ufffd")


def repair(text: str) -> tuple[str, str]:
    """The text with what is surely broken put right, and what was done: kinds joined by +, "" when nothing was.

    Kinds: utf8_as_cp1252, utf8_as_gbk, gbk_as_latin1, big5_as_latin1, entities, lost (taken out for good).
    """
    kinds: list[str] = []
    signs = 0 if text.isascii() else _signs(text)
    charset = _chinese_charset(text) if signs & _PAIR else ""
    steps = (
        ("gbk_as_latin1", charset == "gb2312", functools.partial(_repair_chinese, charset)),
        ("big5_as_latin1", charset == "big5", functools.partial(_repair_chinese, charset)),
        ("utf8_as_cp1252", bool(signs & _LEAD), _repair_western),
        ("utf8_as_gbk", bool(signs & _GBK), _repair_gbk),
        ("entities", "&" in text, _repair_entities),
        ("lost", bool(signs & (_LOST | _GBK)), lambda part: _LOST_TEXT.sub("", _APOSTROPHE.sub("’", part))),
    )
    for kind, suspicious, step in steps:
        if suspicious:
            changed = step(text)
            if changed != text:
                text = changed
                kinds.append(kind)
    return text, "+".join(kinds)


def broken_share(text: str) -> float:
    """Share of the characters that are beyond repair: U+FFFD, 锟斤拷, runs of 烫 or 屯, C1 controls; in [0, 1].

    Measure it before `repair` takes them out. Above some percent the text around them has holes, too.
    """
    if text.isascii() or not _signs(text) & _LOST:
        return 0.0
    lost = sum(len(match[0]) for match in _LOST_TEXT.finditer(text))
    controls = len(re.findall("[\u0080-\u0084\u0086-\u009f]", text))  # U+0085 is a line end
    return (lost + controls) / len(text)


@functools.lru_cache(maxsize=1)  # asked by broken_share, then by repair
def _signs(text: str) -> int:
    """Which kinds of suspicious characters there are. memory: 6 bytes a character."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.int32)
    signs = _sign_table().take(points, mode="clip")
    found = int(np.bitwise_or.reduce(signs))
    if found & _HIGH_BYTE:
        high = signs & _HIGH_BYTE
        if (high[1:] & high[:-1]).any() or (high[2:] & high[:-2]).any():  # the second byte of Big5 may be ASCII
            found |= _PAIR
    return found


@functools.lru_cache(maxsize=1)
def _sign_table() -> np.ndarray:
    """uint8 (0x10001,): signs by code point, the last for all beyond."""
    table = np.zeros(0x10001, dtype=np.uint8)
    table[0x80:0x100] = _HIGH_BYTE
    table[0xC2:0xF5] |= _LEAD
    table[[ord(c) for c in _GBK_SIGNS]] = _GBK
    table[[ord(c) for c in _LOST_SIGNS]] |= _LOST
    table[0x80:0xA0] |= _LOST
    return table


def _repair_western(text: str) -> str:
    """UTF-8 read as cp1252. Doubtful pieces change only beside a sure one; the result may be broken once more."""
    for _ in range(_ROUNDS):
        runs = list(_UTF8_RUN.finditer(text))
        if not any(map(_is_sure, runs)):
            break
        # Where most of the high bytes are UTF-8, a Han character or Hangul syllable may stand alone.
        alone = 2 * sum(len(run[0]) for run in runs) > len(_HIGH_BYTES.findall(text))
        changed = _UTF8_RUN.sub(lambda match: _reread_western(match[0], alone), text)  # noqa: B023
        if changed == text:
            break
        text = _CLOSING_QUOTE.sub("”", changed)
    return text


def _is_sure(run: re.Match[str]) -> bool:
    if _reread_western(run[0]) == run[0]:
        return False
    return _SURE.search(run.string, run.start(), run.end()) is not None or len(_decode_utf8(run[0])) > 1


def _reread_western(run: str, alone: bool = False) -> str:
    """The run as UTF-8; as it is where that gives what nobody writes, or (unless `alone`) one CJK character."""
    changed = _decode_utf8(run)
    if not changed or not _WRITTEN.fullmatch(changed) or (len(changed) == 1 and not alone and _CJK.match(changed)):
        return run
    return changed


def _decode_utf8(run: str) -> str:
    """The characters of which these would be the bytes in UTF-8; "" if they are none."""
    try:
        return run.translate(_TO_BYTE).encode("latin-1").decode("utf-8")
    except UnicodeError:
        return ""


def _repair_chinese(charset: str, text: str) -> str:
    """GBK or Big5 read as Latin-1: pairs of bytes that make common Chinese.

    Short runs of letters alone are some language's own, such as Bora's "mewááóítyuróne".
    """
    pattern = _BIG5_BYTES if charset == "big5" else _GBK_BYTES

    def reread(match: re.Match[str]) -> str:
        short = len(match[0]) < _MIN_LETTERS and not _SIGN.search(match[0])
        if short or _ALPHABETIC.fullmatch(_decode_utf8(match[0])):
            return match[0]
        try:
            changed = match[0].translate(_TO_BYTE).encode("latin-1").decode(charset)
        except UnicodeError:
            return match[0]
        return changed if _is_common(changed) else match[0]

    return pattern.sub(reread, text)


def _chinese_charset(text: str) -> str:
    """gb2312 or big5, in which more common characters come out; "" when few do (UTF-8 has pairs of both by chance)."""
    before = _num_common(text)
    gains = {charset: _num_common(_repair_chinese(charset, text)) - before for charset in ("gb2312", "big5")}
    best = max(gains, key=lambda charset: gains[charset])
    enough = 2 * gains[best] > _MIN_COMMON * len(_HIGH_BYTES.findall(text))
    return best if enough and gains[best] > _num_common(_repair_western(text)) - before else ""


def _num_common(text: str) -> int:
    return sum(c in _COMMON for c in _CHINESE.findall(text))


def _is_common(text: str) -> bool:
    """Whether so many of the Han characters are very common that the text is Chinese and not Han by chance."""
    han = _CHINESE.findall(text)
    return len(han) > 1 and _num_common(text) > _MIN_COMMON * len(han)


def _repair_gbk(text: str) -> str:
    """UTF-8 read as GBK. Characters of which GBK lost a byte to a question mark become U+FFFD."""
    return _GBK_RUN.sub(lambda match: _reread_gbk(match[0]), text)


def _reread_gbk(run: str) -> str:
    if not any(c in _GBK_SIGNS for c in run):
        return run
    marked = run.replace("\ufffd", "?")
    try:
        data = b"\x80".join(part.encode("gbk") for part in marked.split("€"))  # 80 is the euro in Windows' GBK
    except UnicodeError:
        return run
    changed = re.sub("\ufffd+[?]?", "\ufffd", data.decode("utf-8", "replace"))
    num_lost = changed.count("\ufffd")
    whole = changed.replace("\ufffd", "").replace("?", "")
    han = _CHINESE.findall(whole)
    if num_lost > marked.count("?") or num_lost * 3 > len(changed) or not _WRITTEN.fullmatch(whole):
        return run
    return changed if len(han) * 2 >= len(whole) and all(map(_is_known, han)) else run


@functools.lru_cache(maxsize=8192)
def _is_known(character: str) -> bool:
    """Whether it is in the sets that everyday Simplified or Traditional needs."""
    return any(character.encode(charset, "ignore") for charset in ("gb2312", "big5"))


def _repair_entities(text: str) -> str:
    """&nbsp; &quot; &#8217; &amp;amp; in running text; not < and >, not in texts that speak of markup."""
    if _ENTITY.search(text) is None or _TEACHES.search(text):
        return text
    return _ENTITY.sub(_unescape, text)


def _unescape(match: re.Match[str]) -> str:
    character = html.unescape(f"&{match[1]};")
    return match[0] if len(character) != 1 or character in _KEPT_ENTITIES else character
