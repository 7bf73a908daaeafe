"""Private data: a table of lines that must be masked or must stay, in both languages, checks of numbers, properties."""

import datetime
import ipaddress
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.cleaners.pii import MASKS, Pii
from data_pipeline.cleaners.pii_checks import (
    country_code,
    is_bank_card,
    is_date_like,
    is_hong_kong_id,
    is_iban,
    is_id_card,
    is_luhn,
    is_old_id_card,
    is_public_ip,
    is_public_ipv6,
    is_social_security,
    is_taiwan_id,
)
from data_pipeline.document import Document, Measure
from mindllm.text import PII_MASKS

KINDS = ["id_card", "phone", "email", "bank_card", "ip", "passport", "plate", "account"]
ONE_OF_EACH = (
    "电话13800138000，邮箱a@b.cn，卡4242424242424242，IP 93.184.216.34，证99999919920229000X，"
    "護照K01234567，车牌京A12345，QQ：12345678"
)


def read_table() -> list[tuple[str, str, str, dict[str, int]]]:
    """(line of the table, text, masked text, counts by kind) of every line of pii_lines.tsv."""
    rows = []
    for line in Path(__file__).with_name("pii_lines.tsv").read_text(encoding="utf-8").split("\n"):
        if not line or line.startswith("# "):
            continue
        kinds, _, rest = line.partition("\t")
        if kinds == "none":
            rows.append((line, rest, rest, {}))
            continue
        inside = re.findall(r"\{[^}]*\}", rest)
        each = kinds.split(",") if "," in kinds else [kinds] * len(inside)
        masked = rest
        for kind, part in zip(each, inside, strict=True):
            masked = masked.replace(part, MASKS[kind], 1)
        rows.append((line, re.sub("[{}]", "", rest), masked, {k: each.count(k) for k in sorted(set(each))}))
    return rows


TABLE = read_table()


def test_the_table_is_large_and_holds_every_kind() -> None:
    kinds = {kind for line, *_ in TABLE for kind in line.partition("\t")[0].split(",")}
    assert kinds == {*KINDS, "none"}
    assert sum(bool(row[3]) for row in TABLE) >= 300 and sum(not row[3] for row in TABLE) >= 300


@pytest.mark.parametrize(("text", "masked", "counts"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_table(text: str, masked: str, counts: dict[str, int]) -> None:
    assert Pii().mask(text) == (masked, counts)


def test_lines_in_a_long_text() -> None:
    """Every line comes out the same in the middle of others."""
    assert Pii().mask("。\n".join(row[1] for row in TABLE))[0] == "。\n".join(row[2] for row in TABLE)


def test_words_at_the_end_of_a_line() -> None:
    """A label on a line of its own counts in Chinese, and with a colon; a sentence that ends there does not."""
    assert Pii().mask("电话\n65550123")[0] == "电话\n<|phone|>"
    assert Pii().mask("Phone:\n60-56-85-91")[0] == "Phone:\n<|phone|>"
    assert Pii().mask("We will call\n192384576 the product")[1] == {}


def test_document_and_counts() -> None:
    result = Pii()(Document(ONE_OF_EACH, "1"))
    assert result.text == (
        "电话<|phone|>，邮箱<|email|>，卡<|bank_card|>，IP <|ip|>，证<|id_card|>，"
        "護照<|passport|>，车牌<|plate|>，QQ：<|account|>"
    )
    assert result.meta["pii"] == dict.fromkeys(sorted(KINDS), 1)
    assert Pii()(Document("nothing here 什么也没有", "2")).meta["pii"] == {}


def test_measures_leave_the_document_alone() -> None:
    document = Document("手機0912-345-678，0922-345-678；call 202-555-0143", "1")
    assert list(Pii(plate=False).measures(document)) == [
        Measure(kind, 3 if kind == "phone" else 0, "", True) for kind in KINDS if kind != "plate"
    ]
    assert document.meta == {} and "0912" in document.text


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_can_be_switched_off(kind: str) -> None:
    masked, counts = Pii(**{kind: False}).mask(ONE_OF_EACH)
    assert set(counts) == set(MASKS) - {kind} and MASKS[kind] not in masked


def test_masks_are_those_of_the_tokenizer() -> None:
    assert tuple(MASKS.values()) == PII_MASKS and list(MASKS) == KINDS
    assert all(MASKS[kind] == f"<|{kind}|>" for kind in MASKS)


def check_character(first: str) -> str:
    """GB 11643's check character by the table printed in the standard."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(d) * w for d, w in zip(first, weights, strict=True)) % 11]


@given(
    st.integers(100000, 999999), st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)), st.integers(0, 999)
)
def test_id_card_check(region: int, born: datetime.date, order: int) -> None:
    first = f"{region}{born:%Y%m%d}{order:03d}"
    good = check_character(first)
    assert [c for c in "0123456789X" if is_id_card(first + c)] == [good]
    assert Pii().mask(f"号码{first}{good}。") == ("号码<|id_card|>。", {"id_card": 1})


def test_other_identity_numbers() -> None:
    assert is_taiwan_id("A123456789") and not is_taiwan_id("A123456780")  # the number of the official examples
    assert sum(is_taiwan_id(f"A12345678{d}") for d in range(10)) == 1
    assert not is_taiwan_id("A323456789")  # 1 and 2 stand for men and women
    assert sum(is_hong_kong_id("A123456" + c) for c in "0123456789A") == 1 and is_hong_kong_id("A1234563")
    assert sum(is_hong_kong_id("AB123456" + c) for c in "0123456789A") == 1 and is_hong_kong_id("AB1234569")
    assert is_old_id_card("110105800101123") and not is_old_id_card("110105801301123")
    assert is_social_security("078051120") and not any(map(is_social_security, ("000121234", "666121234", "900121234")))
    assert is_date_like("20240229") and not is_date_like("20230229") and not is_date_like("18990101")


@given(st.text("0123456789", min_size=1, max_size=18))
def test_luhn_has_one_check_digit(digits: str) -> None:
    assert sum(is_luhn(digits + c) for c in "0123456789") == 1


def test_cards_need_an_issuer() -> None:
    assert is_bank_card("4242424242424242") and is_bank_card("2221000000000009")
    assert is_luhn("1234567890123452") and not is_bank_card("1234567890123452")  # no issuer begins with 1
    assert is_luhn("356600202036056") and not is_bank_card("356600202036056")  # 15 digits after 35: a device number
    assert is_bank_card("4222222222222", named=True) and not is_bank_card("4222222222222")  # goods have 13 digits, too
    assert is_iban("GB29NWBK60161331926819") and not is_iban("GB29NWBK60161331926818")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("203.0.113.9", True),
        ("172.32.0.1", True),
        ("10.1.2.3", False),
        ("256.1.1.10", False),
        ("8.8.8.8", False),
        ("01.2.3.40", False),
        ("224.0.0.251", False),
        ("100.64.0.10", False),
        ("0.10.20.30", False),
    ],
)
def test_public_ip(address: str, public: bool) -> None:
    assert is_public_ip(address) == public


@given(st.integers(0x2000 << 112, (0x4000 << 112) - 1))
def test_public_ipv6(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    assert is_public_ipv6(address.exploded) and is_public_ipv6(str(address)) == (str(address).count(":") > 2)
    assert Pii().mask(f"地址{address.exploded}，") == ("地址<|ip|>，", {"ip": 1})


@pytest.mark.parametrize(
    "address", ["fe80::1", "fc00::1:2", "ff02::fb:1", "::1", "0:0:0:0:0:0:0:1", "12:30:45", "a::b"]
)
def test_not_public_ipv6(address: str) -> None:
    assert not is_public_ipv6(address)


@pytest.mark.parametrize(("digits", "code"), [("8613", "86"), ("85291", "852"), ("1202", "1"), ("44", "44"), ("0", "")])
def test_country_code(digits: str, code: str) -> None:
    assert country_code(digits) == code


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [*"0123456789+-()（）. @aX\t\n=/:·：１", "电话", "手機", "QQ", "微信：", "京A", "护照", "tel ", "138"]
        ),
        max_size=50,
    ).map("".join)
)
def test_any_text(text: str) -> None:
    """What is outside of masks is untouched and in order; spans are inside the text and do not overlap."""
    spans = list(Pii().find(text))
    assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    masked, counts = Pii().mask(text)
    assert sum(counts.values()) == len(spans) == sum(masked.count(mask) for mask in PII_MASKS)
    at = 0
    for piece in re.split("|".join(map(re.escape, PII_MASKS)), masked):
        at = text.index(piece, at) + len(piece)


@given(
    st.sampled_from([row for row in TABLE if row[3]]), st.integers(0, 400), st.sampled_from(["。", "\n", "、一", "字"])
)
@settings(max_examples=100)
def test_place_in_the_text_does_not_matter(row: tuple[str, str, str, dict[str, int]], far: int, piece: str) -> None:
    assert Pii().mask(piece * far + "\n" + row[1])[0] == piece * far + "\n" + row[2]


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "1",
        "1 ",
        "a.",
        "1.",
        "a@",
        "@",
        "138-",
        "(",
        "（",
        "4242 ",
        "0-",
        "+1 ",
        "9.9.9.9.",
        "a-",
        "%",
        "１",
        "QQ",
        "微信",
    ]
    + [
        ":a",
        "1:",
        "::",
        "京A",
        "a(at)",
        "AB12 ",
        "电话 1",
        "call on ",
        "12345678/",
        "(0)",
        "+44 (",
        "A123456(",
        "a.a@a.",
    ],
)
def test_hostile_input_is_linear(piece: str) -> None:
    """Ends soon whatever comes; a quadratic rule would take minutes."""
    Pii().mask(piece * (30_000 // len(piece)))
    Pii().mask("电话" + piece * (3_000 // len(piece)) + "x")
