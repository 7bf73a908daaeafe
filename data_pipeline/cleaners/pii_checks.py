"""Checks of numbers that are private data: check digits, issuers, dates, address ranges. Pure functions of strings.

A check digit alone is right for one random number in ten, so every rule here looks at length, first digits or dates,
too, and pii_numbers.py at what stands before. Cost: a few microseconds a call; only candidates get here.
"""

from __future__ import annotations

import datetime
import ipaddress
import re

_TAIWAN_LETTERS = "ABCDEFGHJKLMNPQRSTUVXYWZIO"  # A is 10, B is 11, ... in the order of the counties' letters
_RESERVED = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 224.0.0.0/3"
_NOT_PUBLIC = [ipaddress.ip_network(network) for network in _RESERVED.split()]
_NOT_PUBLIC_6 = [ipaddress.ip_network(network) for network in "::/8 fc00::/7 fe80::/9 ff00::/8".split()]
# Country codes (ITU-T E.164); a zone that is named by its first digits has codes of three digits.
_COUNTRY = re.compile(
    "1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|2[1234569][0-9]|3[578][0-9]|42[0-9]|50[0-9]|59[0-9]|6[789][0-9]|80[08]|85[02356]|87[0-9]|88[0-68]|9[679][0-9]"
)
# Most digits of a national number; 12 elsewhere (E.164 ends at 15 with the code).
_NATIONAL = {"1": 10, "7": 10, "33": 9, "34": 9, "44": 10, "61": 9, "65": 8, "81": 10, "82": 10, "86": 11, "91": 10}
_NATIONAL |= {"852": 8, "853": 8, "886": 9}


def is_id_card(value: str) -> bool:
    """Whether 18 characters are a mainland identity number: a date that exists, and GB 11643's check character.

    The check is ISO 7064 MOD 11-2: the digits (X is 10) weighted with 2**(17 - i) sum up to 1 mod 11.
    """
    if value[6:8] not in ("19", "20") or not _is_date(value[6:14]):
        return False
    digits = [10 if c in "Xx" else int(c) for c in value]
    return sum(d * pow(2, 17 - i, 11) for i, d in enumerate(digits)) % 11 == 1


def is_old_id_card(value: str) -> bool:
    """Whether 15 digits may be a mainland identity number as issued before 1999: no check digit, a date of 19yy."""
    return value[0] in "12345689" and _is_date("19" + value[6:12])


def _is_date(value: str) -> bool:
    try:
        datetime.date(int(value[:4]), int(value[4:6]), int(value[6:8]))
    except ValueError:
        return False
    return True


def is_date_like(value: str) -> bool:
    """Whether eight digits are a date yyyymmdd between 1900 and 2099."""
    return len(value) == 8 and value[:2] in ("19", "20") and _is_date(value)


def is_taiwan_id(value: str) -> bool:
    """Whether a letter and nine digits are a Taiwan identity number (citizens 1, 2; residents 8, 9) with check digit.

    The letter stands for two digits; the eleven digits weighted 1, 9, 8, ..., 1, 1 sum up to 0 mod 10.
    """
    tens, ones = divmod(10 + _TAIWAN_LETTERS.index(value[0].upper()), 10)
    digits = [tens, ones, *map(int, value[1:])]
    weighted = sum(d * w for d, w in zip(digits, (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True))
    return value[1] in "1289" and weighted % 10 == 0


def is_hong_kong_id(value: str) -> bool:
    """Whether one or two letters, six digits and a check character (0-9, A) are a Hong Kong identity number.

    Letters count 10 to 35, a missing first letter 36; weighted 9, 8, ..., 1 the sum is 0 mod 11 (A at the end is 10).
    """
    value = value.upper()
    values = [36] * (9 - len(value)) + [int(c, 36) for c in value]
    return sum(v * (9 - i) for i, v in enumerate(values)) % 11 == 0


def is_social_security(digits: str) -> bool:
    """Whether nine digits may be a US social security number: areas 000, 666, 9xx, group 00, serial 0000 never are."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def is_luhn(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1): from the right every second digit doubled, all cross sums add up to 0 mod 10."""
    doubled = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    total = sum(int(d) if i % 2 == 0 else doubled[int(d)] for i, d in enumerate(reversed(digits)))
    return total % 10 == 0


def is_bank_card(digits: str, named: bool = False) -> bool:
    """Whether the digits have an issuer's prefix with its length (ISO/IEC 7812) and Luhn's check digit.

    `named`: a word for a card stands before; then the short forms count, too, which goods and devices have as well.
    """
    return _issued(digits, named) and is_luhn(digits)


def _issued(digits: str, named: bool) -> bool:
    length = len(digits)
    if named and (12 <= length <= 19 and digits[0] in "56" or digits[:4] in ("9558", "0604")):
        return True  # Maestro, old cards of mainland banks
    if named and (digits[0] == "4" and length == 13 or digits[:4] in ("1800", "2131") and length == 15):
        return True  # Visa, JCB
    if digits[:2] == "62":
        return 16 <= length <= 19
    if digits[:2] in ("34", "37"):
        return length == 15
    if digits[:2] in ("30", "36", "38", "39"):
        return named and length == 14
    sixteen = "50" <= digits[:2] <= "58" or "2221" <= digits[:4] <= "2720" or digits[:2] in ("35", "60", "64", "65")
    return length == 16 and sixteen or length in (16, 19) and digits[0] == "4"


def is_iban(value: str) -> bool:
    """Whether letters and digits are an IBAN: the first four moved to the end, letters as 10 to 35, 1 mod 97."""
    moved = value[4:] + value[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def is_public_ip(value: str) -> bool:
    """Whether a dotted quad is a public IPv4 address. Four single digits are taken for a version or section number."""
    octets = value.split(".")
    if any(len(o) > 1 and o[0] == "0" or int(o) > 255 for o in octets) or all(len(o) == 1 for o in octets):
        return False
    return not any(ipaddress.ip_address(value) in network for network in _NOT_PUBLIC)


def is_public_ipv6(value: str) -> bool:
    """Whether text is a public IPv6 address; a shortened one (::) must be of the block in use, 2000::/3.

    Eight pairs of digits are a hardware address.
    """
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    if any(address in network for network in _NOT_PUBLIC_6):
        return False
    if "::" in value:
        return address in ipaddress.ip_network("2000::/3") and value.count(":") >= 3
    return any(len(group) > 2 for group in value.split(":"))


def country_code(digits: str) -> str:
    """The country code (ITU-T E.164) that the digits begin with; "" for none."""
    found = _COUNTRY.match(digits)
    return found[0] if found else ""


def most_national_digits(code: str) -> int:
    """How many digits may follow a country code."""
    return _NATIONAL.get(code, 12)
