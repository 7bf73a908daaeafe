"""Private data: a table of lines that must be masked, one of lines that must not, in both languages, and properties."""

import datetime
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.cleaners.pii import MASKS, Pii, is_bank_card, is_id_card, is_luhn, is_public_ip
from data_pipeline.document import Document
from mindllm.text import PII_MASKS

# I identity card, P phone, E e-mail, B bank card, A (IP) address: the mask that stands at the place in braces.
LETTERS = {"I": "id_card", "P": "phone", "E": "email", "B": "bank_card", "A": "ip"}

# Identity numbers have a right check character and regions that do not exist; card numbers are published for tests.
MUST = """
I 身份证号码{999999199202290157}已登记
I 我的身份证是{99999919920229000X}。
I 身份證字號：{999999200001010011}，請核對
I 号码{99999919850312000x}请失主来电
I ID card {999999 19920229 000X} was found
I ID: {999999200001010011}
I 姓名张三{999999200001010011}男
P 电话13800138000请联系 -> 电话{13800138000}请联系
P 手机：{138-0013-8000}
P 手機{138 0013 8000}（微信同號）
P 拨打{+86 138 0013 8000}或留言
P 拨打{+86-138-0013-8000}或留言
P 请拨{8613800138000}咨询
P 请拨{0086-13800138000}咨询
P Call {(+86) 13800138000} now
P Call {+8613800138000} now
P 我的号是{1380 013 8000}
P 两个号：{13800138000}、{13900139000}
P 两个号：{13800138000}/{13900139000}
P tel:{13800138000}
P phone={13800138000}
P 热线{010-65550123}转8001
P 热线{010-65550123-8001}
P 热线{（010）65550123}
P 热线{(010)65550123}
P 热线{(010) 6555-0123}
P 传真：{0755-8655 0123}
P 座机{0320-5550123}，找王先生
P 总机{+86 10 6555 0123}
P Office {+86-755-8655-0123}
P Office {86-010-65550123}
P 手機{0912-345-678}請洽
P 手機{0912345678}請洽
P 手機{0912 345 678}請洽
P 請撥{+886 912 345 678}
P 請撥{+886-912-345-678}
P 市話{(02)2345-6789}轉分機
P 市話{(02) 2345-6789#123}
P 市話{02-2345-6789}
P 市話{+886-2-2345-6789}
P 致電{+852 9123 4567}
P 致電{852-91234567}
P 致電{(852) 9123 4567}
P 查詢電話：{9123 4567}
P 手提 {91234567}
P WhatsApp: {9123-4567}
P 电话：{65550123}
P 電話號碼：{6555-0123}
P Telephone her first on {555-0119}, please
P Call me at {9123 4567}.
P Call {(212) 555-0123} today
P Call {(212)555-0123} today
P Call {212-555-0123} today
P Call {212.555.0123} today
P Call {+1 212 555 0123} today
P Call {+1-212-555-0123} today
P Call {1-800-555-0199} toll free
P Reach us at {(212) 555-0123 ext. 45}.
P Reach us at {212-555-0123 x45}.
P 美国号码{212-555-0123}也可以
E 邮箱{li.ming@mail.example}，谢谢
E 请写信给{zhujiao_yuan@xiaobu.example}
E 信箱{tips@haiwan.example}專線
E Write to {john.o-neil+news@mail.co.uk}.
E <{a.b@example.com}>
E mailto:{user@example.com}?subject=x
E 联系{a@b.cn}吧
E Two: {a1@example.com}, {b2@example.org}; more
E 邮箱：{123456@qq.com}
B 卡号{4242424242424242}已扣款
B 卡号{4242 4242 4242 4242}已扣款
B 卡號{4242-4242-4242-4242}已扣款
B Card {5555 5555 5555 4444}, thanks
B Card {378282246310005}
B Card {3782 822463 10005}
B Card {30569309025904}
B Card {6011111111111117}
B 收款卡号{6200000000000005}，
B 收款卡号{6200 0000 0000 0005}，
B 卡号{6222020200112233446}转账
B 卡号{6222 0202 0011 2233 446}转账
B 卡号{622202 0200112233446}转账
B Visa {4111111111111111}
B Visa {4222222222222}
B Visa {4111 1111 1111 1111} 123
A 服务器{93.184.216.34}已下线
A 伺服器位址{93.184.216.34}
A ping {203.0.113.9} works
A http://{93.184.216.34}/index.html
A host {8.8.4.40}:8080
A IP为{123.125.114.144}的用户
A from {151.101.1.69}, port 80.
"""

MUST_NOT = """
版本号1.2.3.4已发布
版本 10.2.30.4 已发布
固件版本：12.4.18.2
version 10.11.12.13 is out
Upgrade to v12.4.18.2 now
release 4.15.20.11
Chrome/91.42.11.10 on Linux
内网地址192.168.1.100和10.0.0.8
localhost is 127.0.0.1, mask 255.255.255.0
The range 172.16.0.0 to 172.31.255.255 is private
link-local 169.254.10.20
第1.2.3.4节
See section 3.2.1.4 for details
OID 1.3.6.1.4.1.311
999.999.999.999 is no address
日期2023-10-05 12:30:45
2023年10月05日，20231005
时间戳1700000000和1700000000123
timestamp 1696500000000
Date: 2023/10/05 - 2023/11/06
ISBN 978-7-302-12345-6
ISBN 9787302123456
ISBN 0-306-40615-2
ISBN: 0912345678
书号：7-5327-1234-5
ISSN 1234-5678
条码6901234567892
EAN 4006381333931
价格￥13800138000元
售价1,380,013,800元
Total $13800138000.00
€4242424242424242
收入13800138000.50元
3.13800138000是小数
0.13912345678 of it
从1990-2000年到2019-2020年
in the years 1914-1918 and 1939-1945
2010-2020 2021-2023
坐标39.9042, 116.4074
坐标116.404269,39.915378
Lat 40.712776, lon -74.005974
订单号：13912345678
訂單編號13912345678
快递单号 13912345678901
物流單號：6200000000000005
Order number: 13912345678
order no. 4242424242424242
Invoice 13912345678
Tracking number 13912345678
https://item.shop.example/item/13912345678.html
https://shop.example/item?id=13912345678
身份证999999199202290158校验错
身份证999999199202300159没有这一天
身份证999999199213290152没有这个月
卡号4242424242424243校验错
卡号4242 4242 4242 4243校验错
序列9242424242424242
123456789012345678901234567890
a13800138000b and 13800138000a
uuid 550e8400-e29b-41d4-a716-446655440000
sha 4a44dc15364204a80fe80e9039455cc1608281820fe2b24f1e5233ade6af1dd5
圆周率3.14159265358979323846
256 512 1024 2048 4096
200 400 1600 and 250 300 1200
1000-2000元，5000-6000元
10000 20000 30000 40000
电话会议2019-2020年
電話 2019-2020
call for papers 2019-2020
phone models of 2019 2020
pages 212-2345 and 300-5000
QQ群123456789
邮编100080，区号010
拨打110或12345
call 911 or 411
@username said hi
foo@bar and user@localhost
logo@2x.png
git@github.com:user/repo.git
npm install pkg@1.2.3
a decorator @app.route("/x")
12800138000和10012345678不是手机号
1+1=2, 2*3=6, 10/5=2
(2020)京01民终12345号
编号：GB 11643-1999
第13800章第138节
RFC 1918 and 3927
"""


def expand(line: str) -> tuple[str, str, dict[str, int]]:
    """(text, masked text, counts) of a line of MUST."""
    letter, _, rest = line.partition(" ")
    kind = LETTERS[letter]
    rest = rest.rpartition(" -> ")[2]
    text = rest.replace("{", "").replace("}", "")
    return text, re.sub(r"\{[^}]*\}", MASKS[kind], rest), {kind: rest.count("{")}


def lines(table: str) -> list[str]:
    return table.strip().split("\n")


def test_tables_are_large() -> None:
    assert len(lines(MUST)) >= 60 and len(lines(MUST_NOT)) >= 60


@pytest.mark.parametrize("line", lines(MUST))
def test_must_match(line: str) -> None:
    text, masked, counts = expand(line)
    assert Pii().mask(text) == (masked, counts)


@pytest.mark.parametrize("line", lines(MUST_NOT))
def test_must_not_match(line: str) -> None:
    assert Pii().mask(line) == (line, {})


def test_glued_and_joined() -> None:
    """Every line that must match also does so in the middle of a long text, beside other lines."""
    pairs = [expand(line) for line in lines(MUST)]
    text, masked = "。\n".join(p[0] for p in pairs), "。\n".join(p[1] for p in pairs)
    assert Pii().mask(text)[0] == masked
    assert Pii().mask("\n".join(lines(MUST_NOT)))[1] == {}


def test_document_and_counts() -> None:
    document = Document("电话13800138000，邮箱a@b.cn，卡4242424242424242，IP 93.184.216.34，证99999919920229000X", "1")
    result = Pii()(document)
    assert result.text == "电话<|phone|>，邮箱<|email|>，卡<|bank_card|>，IP <|ip|>，证<|id_card|>"
    assert result.meta["pii"] == {"bank_card": 1, "email": 1, "id_card": 1, "ip": 1, "phone": 1}
    assert Pii()(Document("nothing here 什么也没有", "2")).meta["pii"] == {}


@pytest.mark.parametrize("kind", sorted(MASKS))
def test_each_kind_can_be_switched_off(kind: str) -> None:
    text = "电话13800138000，邮箱a@b.cn，卡4242424242424242，IP 93.184.216.34，证99999919920229000X"
    masked, counts = Pii(**{kind: False}).mask(text)
    assert set(counts) == set(MASKS) - {kind} and MASKS[kind] not in masked


def test_masks_are_those_of_the_tokenizer() -> None:
    assert sorted(MASKS.values()) == sorted(PII_MASKS)
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


@given(st.text("0123456789", min_size=1, max_size=18))
def test_luhn_has_one_check_digit(digits: str) -> None:
    assert sum(is_luhn(digits + c) for c in "0123456789") == 1


def test_cards_need_an_issuer() -> None:
    assert is_bank_card("4242424242424242") and is_bank_card("2221000000000009")
    assert is_luhn("1234567890123452") and not is_bank_card("1234567890123452")  # no issuer begins with 1
    assert is_luhn("356600202036056") and not is_bank_card("356600202036056")  # 15 digits after 35: a device number


@pytest.mark.parametrize(
    ("address", "public"),
    [("93.184.216.34", True), ("203.0.113.9", True), ("10.1.2.3", False), ("256.1.1.10", False), ("8.8.8.8", False)]
    + [
        ("01.2.3.40", False),
        ("224.0.0.251", False),
        ("100.64.0.10", False),
        ("172.32.0.1", True),
        ("0.10.20.30", False),
    ],
)
def test_public_ip(address: str, public: bool) -> None:
    assert is_public_ip(address) == public


@settings(max_examples=200)
@given(st.text(st.sampled_from("0123456789+-()（）. @aX电话手機:\n=/"), max_size=60))
def test_any_text(text: str) -> None:
    """Masking is stable: nothing new is found in masked text; what is outside of masks is untouched and in order."""
    masked, counts = Pii().mask(text)
    assert sum(counts.values()) == sum(masked.count(mask) for mask in PII_MASKS)
    rest = re.split("|".join(map(re.escape, PII_MASKS)), masked)
    at = 0
    for piece in rest:
        at = text.index(piece, at) + len(piece)


@pytest.mark.parametrize(
    "piece", ["a", "1", "1 ", "a.", "1.", "a@", "@", "138-", "(", "（", "4242 ", "0-", "+1 ", "9.9.9.9.", "a-", "%"]
)
def test_hostile_input_is_linear(piece: str) -> None:
    """Ends soon whatever comes; a quadratic rule would take minutes."""
    Pii().mask(piece * (200_000 // len(piece)))
