"""What private data looks like: the pattern that finds places worth a look, and the patterns of candidates there.

Two kinds of patterns. TRIGGER runs over the whole text and finds the few places that are worth a look: it begins with
one set of characters, which Python's re skips to (15 ns a character). All others run on a short window around such a
place, translated by PLAIN to ASCII digits, letters and signs, so that full-width forms need no patterns of their own.
Every repetition is bounded or consumes what no other could: nothing here backtracks further than one number.
Digits are [0-9] and borders are named: for \\b a Han character is a letter, for \\d other scripts have digits.
"""

from __future__ import annotations

import re

# One character to one character, so that places in the window are places in the text.
PLAIN = {0xFF01 + i: 0x21 + i for i in range(94)}
PLAIN |= {dash: ord("-") for dash in (*range(0x2010, 0x2016), 0x2212)}
PLAIN |= {0x3000: ord(" "), 0xA0: ord(" "), 0x3010: ord("["), 0x3011: ord("]")}

_DIGIT = "0-9０-９"
_GAP = f"[ ().（）．－—–‐\u00a0\u3000-]{{0,3}}[{_DIGIT}]"
_PROVINCE = "京津沪滬渝冀豫云雲辽遼黑湘皖鲁魯新苏蘇浙赣贛鄂桂甘晋晉蒙陕陝吉闽閩贵貴粤粵青藏川宁寧琼瓊"
_DATE = r"(?:(?<=1)9|(?<=2)0)[0-9]{2}[-./–—](?:[0-9]{4}|[0-9]{1,2}[-./][0-9]{1,2})(?![0-9])"

_OPEN, _CLOSE = "(?<=[(（\\[【].)", " ?[)）\\]】]"
# Alternatives begin with a character, not with a look back: re passes over those that do not fit without trying them.
TRIGGER = re.compile(
    f"[{_DIGIT}@＠:(（\\[【QqVvWwPpL微薇威扣企群车車牌{_PROVINCE}](?:"
    + "|".join(
        (
            "[0-9A-Za-z０-９Ａ-Ｚａ-ｚ](?<=[0-9A-Za-z_０-９Ａ-Ｚａ-ｚ][@＠].)",
            ":(?<=::)|[0-9A-Fa-f](?<=:.)(?![0-9]:[0-5][0-9](?![0-9A-Fa-f:]))[0-9A-Fa-f]{0,3}:",
            f"[A-ZＡ-Ｚ](?<=[{_PROVINCE}].)",
            f" {_OPEN}(?:[Aa][Tt]|[@＠]){_CLOSE}|[Aa]{_OPEN}[Tt]{_CLOSE}|[@＠]{_OPEN}{_CLOSE}",
            "[Qq](?<=[Qq].)|群(?<=[Qq].)|信(?<=[微薇威Vv].)|扣(?<=扣.)|[鹅鵝](?<=企.)|[号號](?<=群.)|牌(?<=[车車].)",
            "[Xx](?<=[VvWw].)|[Ee](?<=[Ww].)(?:[Cc][Hh][Aa][Tt]|[Ii][Xx][Ii][Nn])|late(?<=[Pp]late)",
            "[Ii](?<=L.)(?:ne|NE) ?(?:ID|id|Id)",
            f"(?<=[{_DIGIT}])(?<![{_DIGIT}][{_DIGIT}])(?!{_DATE})(?![0-9]{{0,9}}\\.[0-9]++(?!{_GAP}))"
            f"(?:(?:{_GAP}){{6,}}|[{_DIGIT}]{{0,2}}(?:[.．][{_DIGIT}]{{1,3}}){{3}}|[{_DIGIT}]{{5}}[(（][AＡ])",
        )
    )
    + ")"
)

# A number begins where no letter or digit is before.
START = re.compile(
    r"(?:(?<![0-9A-Za-z])|(?<=[Ii][Pp])|(?<=[Tt]el)|(?<=TEL))(?<![0-9A-Za-z]_)(?<![0-9]\.)"
    r"(?:[(+]{0,2}[0-9]|[A-Za-z]{1,2} ?[0-9])"
)
RIGHT = r"(?![0-9A-Za-z@_])(?![.-][0-9])(?!\.(?:html?|php|aspx?|jsp|jpe?g|png|gif|webp|pdf|zip|rar|mp[34]|txt|docx?)\b)"

EMAIL = re.compile(
    r"(?<![0-9A-Za-z._%+-])[0-9A-Za-z_](?:[0-9A-Za-z._%+-]|(?<=[a-z])'(?=[a-z])){0,63}@(?:[0-9A-Za-z-]{1,63}\.){1,8}[A-Za-z]{2,24}"
    r"(?![0-9A-Za-z_-])(?!\.[0-9A-Za-z])(?!:[0-9A-Za-z_.-]+/)"  # git@host:path/ is an address of a repository
    r"(?:(?!\()|(?<=\.com)|(?<=\.[a-z]{2})|(?<=\.net)|(?<=\.org)|(?<=\.edu)|(?<=example))"  # a@b.call() is a program
)
_AT, _DOT = r" ?[(\[{] ?(?:at|AT|At|@) ?[)\]}] ?", r"(?:\.| ?[(\[{] ?(?:dot|DOT|Dot|\.) ?[)\]}] ?| (?:dot|DOT) )"
SPELLED_EMAIL = re.compile(
    rf"(?<![0-9A-Za-z._%+-])[0-9A-Za-z_][0-9A-Za-z._%+-]{{0,63}}{_AT}"
    rf"(?:[0-9A-Za-z-]{{1,63}}{_DOT}){{1,4}}[A-Za-z]{{2,10}}(?![0-9A-Za-z_])"
)
IPV4 = re.compile(r"(?<![A-Za-z]\.)(?<![0-9]-)[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9A-Za-z_])(?!\.[0-9])(?!-[0-9])")
IPV6 = re.compile(r"(?<![0-9A-Za-z:.])[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{2,34}(?![0-9A-Za-z_:]|\.[0-9])")

ID_18 = re.compile(rf"[1-9][0-9]{{5}}(?:[ -]?)(?:19|20)[0-9]{{6}}[ -]?[0-9]{{3}}[0-9Xx]{RIGHT}")
ID_15 = re.compile(rf"[1-9][0-9]{{14}}{RIGHT}")
ID_TAIWAN = re.compile(rf"[A-Za-z][ -]?[1289][0-9]{{8}}{RIGHT}")
ID_HONG_KONG = re.compile(rf"[A-Za-z]{{1,2}} ?[0-9]{{6}} ?(?:\([0-9Aa]\)|[0-9Aa]{RIGHT})")
ID_MACAU = re.compile(r"[1578]/?[0-9]{6}(?:\([0-9]\)|/[0-9])(?![0-9])")
SOCIAL_SECURITY = re.compile(rf"[0-9]{{3}}([ -]?)[0-9]{{2}}\1[0-9]{{4}}{RIGHT}")
PASSPORT = re.compile(rf"(?:[A-Za-z]{{1,2}} ?[0-9]{{6,10}}|[0-9]{{8,9}}){RIGHT}")
IBAN = re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ -]?[0-9A-Za-z]{4}){2,7}(?:[ -]?[0-9A-Za-z]{1,3})?(?![0-9A-Za-z])")
CARD = re.compile(
    r"(?:[0-9]{12,19}"
    r"|[0-9]{4}(?P<gap>[ -])[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{1,4}(?:(?P=gap)[0-9]{1,3})?"
    r"|3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5}"  # American Express, Diners
    rf"|6[0-9]{{5}}[ -][0-9]{{10,13}}){RIGHT}"
)

_S = "(?: ?- ?|[ .])"
_86 = rf"\(?(?:\+ ?|00)?86\)?{_S}?"
_MOBILE = "1(?:3[0-9]|4[014-9]|5[0-35-9]|6[2567]|7[0-8]|8[0-9]|9[0-35-9])"
_AREA = "(?:10|2[0-9]|[3-9][0-9]{2})"  # mainland area codes, without the 0
_EXTENSION = r"(?: ?(?:x|ext\.?|#) ?[0-9]{1,5})?"
EXTENSION_END = re.compile(r" ?(?:x|ext\.?|#) ?[0-9]{1,5}$")
PHONE = re.compile(
    "(?:"
    + "|".join(
        (
            # mainland mobile: 11 digits in one, or in groups
            rf"(?:{_86})?{_MOBILE}(?:[0-9]{{8}}|{_S}[0-9]{{4}}{_S}?[0-9]{{4}}|[0-9]{_S}[0-9]{{3}}{_S}[0-9]{{4}}"
            rf"|[0-9]{{2}}{_S}[0-9]{{3}}{_S}?[0-9]{{3}}|{_S}[0-9]{{3}}{_S}[0-9]{{5}})",
            # mainland landline: area code and number parted by a bracket, a dash or a space; maybe an extension
            rf"(?:\(0{_AREA}\) ?-? ?|(?:{_86})0?{_AREA}{_S}|\(?\+86\)?{_S}?\(0?{_AREA}\){_S}?)"
            rf"[2-9][0-9]{{2,3}}{_S}?[0-9]{{4}}(?:-[0-9]{{1,5}})?",
            rf"\((?:86-?)?0?{_AREA}\) ?[2-9][0-9]{{2,3}}{_S}?[0-9]{{4}}",
            rf"0(?:(?:10|2[0-9]){_S}[2-9][0-9]{{3}}|[3-9][0-9]{{2}}{_S}[2-9][0-9]{{2,3}}){_S}?[0-9]{{4}}"
            "(?:-[0-9]{1,5})?",
            "[48]00-(?:[0-9]{3}-?[0-9]{4}|[0-9]{4}-?[0-9]{3})",
            # Taiwan: mobile 09xx-xxx-xxx, landline (0x)xxxx-xxxx, 03x-xxxxxx
            rf"(?:\(?(?:\+ ?|00)886\)?{_S}?(?:\(0\)|0)?|0)9[0-9]{{2}}{_S}?[0-9]{{3}}{_S}?[0-9]{{3}}",
            rf"(?:\(0[2-8]\)[ -]?|0[2-8]-|\(?(?:\+ ?|00)886\)?{_S}?(?:\(0\))?[2-8]{_S})[2-9][0-9]{{2,3}}[ -]?[0-9]{{4}}"
            + _EXTENSION,
            rf"(?:\(0(?:37|49|8[29])\)[ -]?|0(?:37|49|8[29])-)[0-9]{{3}}-?[0-9]{{3,4}}{_EXTENSION}",
            # Hong Kong and Macau: eight digits with the code
            rf"(?:\(?(?:\+ ?|00)85[23]\)?{_S}?|\(85[23]\){_S}?|85[23][ -])[2-9][0-9]{{3}}{_S}?[0-9]{{4}}",
            # North America: 3-3-4; plain spaces only after +1 or brackets, since columns of numbers look so, too
            r"(?:(?:\+?1[-. ]?)?\([2-9][0-9]{2}\) ?|\+1[-. ]?[2-9][0-9]{2}[-. ]|001-[2-9][0-9]{2}-)"
            "[2-9][0-9]{2}[-. ][0-9]{4}" + _EXTENSION,
            rf"(?:1[-.])?[2-9][0-9]{{2}}(?:-[2-9][0-9]{{2}}-|\.[2-9][0-9]{{2}}\.)[0-9]{{4}}{_EXTENSION}",
            # elsewhere: a trunk code in brackets; British and Japanese groups
            r"\(0[1-9][0-9]{0,3}\) ?-?[0-9]{3,4}[ -]?[0-9]{3,4}",
            r"07[0-9]{3} (?:[0-9]{6}|[0-9]{3} [0-9]{3})|0(?:20|2[3489]|11[3-8]|1[2-69]1) [0-9]{3,4} [0-9]{4}",
            "0(?:[1-9]-[0-9]{4}|[1-9][0-9]-[0-9]{3,4}|[1-9][0-9]{2}-[0-9]{2,3})-[0-9]{4}",
        )
    )
    + f"){RIGHT}"
)
# The digits of a number with country code are counted by pii_numbers.py.
INTERNATIONAL = re.compile(
    rf"\(?(?:\+ ?|00(?=[1-9]))(?:\([1-9][0-9]{{0,3}}\)|[1-9][0-9]{{0,14}}+\)?)"
    rf"(?:(?:[ .-][ (]?|\(|(?<=\)))[0-9]{{1,12}}+\)?){{0,7}}"
    rf"{_EXTENSION}(?![0-9A-Za-z@_])"
)
# A national number in any grouping; needs a word for telephone.
NATIONAL = re.compile(
    rf"(?:\+ ?)?\(?[0-9]{{1,13}}+\)?(?:(?: ?- ?|[ ./]\(?|\(|(?<=\)))[0-9]{{1,8}}+\)?){{0,6}}"
    rf"{_EXTENSION}(?![0-9A-Za-z@_%])"
)

PLATE = re.compile(
    f"(?<![北南东東天四江西])[{_PROVINCE}][A-HJ-NP-Z](?: ?[·•・.-] ?| )?"
    "(?:(?=[A-HJ-NP-Z]{0,2}[0-9][A-HJ-NP-Z0-9]*)(?![0-9]*[A-Z][0-9]*[A-Z][0-9]*[A-Z])[A-HJ-NP-Z0-9]{4}"
    "(?:[A-HJ-NP-Z0-9]|(?<=[0-9])[挂掛学學警港澳])"
    "|[A-HJK][A-HJ-NP-Z0-9][0-9]{4}|[0-9]{5}[A-HJK])(?![0-9A-Za-z_])(?![.-][0-9])"
)

IBAN_COUNTRIES = frozenset(
    "AD AE AL AT AZ BA BE BG BH BR BY CH CR CY CZ DE DK DO EE ES FI FO FR GB GE GI GL GR GT HR HU IE IL IQ IS IT JO KW"
    " KZ LB LC LI LT LU LV MC MD ME MK MR MT MU NL NO PK PL PS PT QA RO RS SA SC SE SI SK SM ST SV TL TN TR"
    " UA VA VG XK".split()
)
FILE_ENDINGS = tuple(".png .jpg .jpeg .gif .webp .svg .css .js .html .py .class .so .dll".split())
