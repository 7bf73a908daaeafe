"""Words beside a number that say what it is: a telephone, a card, a version, an order, an amount.

The patterns whose names end in BEFORE are searched in the 48 characters before a candidate, in lower case, translated
by pii_patterns.PLAIN, and end where the candidate begins. Word, filling ("number is") and glue (": ") are bounded.
Cost: 5 to 20 microseconds a search, so they run last, on candidates that pass every other check.
"""

from __future__ import annotations

import re


def _any(words: str) -> str:
    """One of the words, which are parted by blanks; _ stands for a blank inside a word."""
    return "(?:" + "|".join(words.split()).replace("_", " ") + ")"


_LATIN = r"(?<![a-z])"  # a Latin word begins here
_GLUE = r"[ \t:=|\"'>(\[#*._-]{0,6}(?:(?<=[^ -~])\n|(?<=:)\n)?[ \t]{0,4}"  # a line may end after a Han word or a colon
_FILL = (
    r"(?:[ \t(]*(?:"
    + _any("号码 號碼 号 號 字号 字號 [统統]一[编編][号號] 编号 編號 证号 證號 为 是 為 係 即 填 写 寫 [1-3一二三]")
    + "|"
    + _any(r"nos?\.? num(?:ber)?s?\.? nr\.? id is was of")
    + r"|\([^()\n]{0,16}\))(?![a-z]))*"
)


def _before(words: str, fill: str = _FILL) -> re.Pattern[str]:
    return re.compile(rf"(?:{words}){fill}{_GLUE}\Z")


ID_BEFORE = _before(
    _any("身[份分][证證]件? 公民身[份分] 证件 證件 居留[证證]")
    + f"|{_LATIN}(?<!user )(?<!item )(?<!order )(?<!product )(?<!device )(?<!player )(?<!customer )"
    + f"(?:hkid|hkic|arc|{_any('identity identification national_id id')}(?: card| document)?(?: no\\.?| number)?)"
)
SSN_BEFORE = _before(f"{_any('社安 社会安全 社會安全 社会保障')}|{_LATIN}(?:ssn|social security(?: card| account)?)")
PASSPORT_BEFORE = _before(
    f"{_any('护照 護照 通行[证證] 回[乡鄉][证證] [台臺]胞[证證] 旅行[证證] 还乡证')}|passports?|travel document"
)
CARD_BEFORE = _before(
    f"卡|[账帐賬帳][号號户戶]|{_LATIN}"
    + _any("cards? visa mastercard maestro amex unionpay jcb diners(?:_club)? cc debit credit"),
    r"(?:[ \t]*"
    + _any(r"号码? 號碼? 为 是 為 no\.? num(?:ber)?\.? is was for ending to my the : \([^()\n]{0,16}\) number\?")
    + r"|\?|\. ?number is){0,4}",
)

_TELEPHONE = "|".join(
    (
        _any("电话 電話 手机 手機 手提 热线 熱線 专线 專線 致电 致電 来电 來電 传真 傳真 座机 座機 固话 市话 市話"),
        _any("总机 總機 拨打 撥打 请拨 請撥 [请請][电電] 电联 電聯 联系方式 聯繫方式 聯絡方式 短信 簡訊 小灵通"),
        _LATIN
        + "(?:"
        + _any("phone telephone tel mobile mob cell call(?:ing)? dial fax whatsapp sms landline hotline helpline")
        + "|switchboard|"
        # ordinary words, too: only with what follows them before a number
        + _any(
            "ring text contact reach messages? answering voicemail desk (?:my|our|his|her|your|their)_(?:new_)?number"
        )
        + _any(r"(?=_*:) (?=_(?:me|us|him|her|them|at|on|to|registered)\b)")
        + r"|office(?= *:)|(?<=\n)[tfm](?=:))",
    )
)
_TELEPHONE_FILL = (
    r"(?:[ .,\t]*(?:"
    + _any(r"号码 號碼 号 號 为 是 為 請洽 请拨 請撥 拨打 撥打 咨询 諮詢 洽 \+ [1-4一二三四][:.]")
    + r"|\([^()\n]{0,16}\)|"
    + _any(
        "nos? num(?:ber)?s? nr is was me us him her them at on to via first now today directly my our his your the or"
        " and home work office mobile cell fax phone desk line manager registered free toll back please ext"
    )
    + r"\b\.?)){0,5}"
)
_EARLIER_NUMBER = r"(?:[0-9+(][0-9 ()-]{4,20}(?:[,、/;和或与與及& \t]|and|or){1,3})?"
PHONE_BEFORE = re.compile(rf"(?:{_TELEPHONE}){_TELEPHONE_FILL}{_GLUE}{_EARLIER_NUMBER}\(?\Z")
PHONE_AFTER = re.compile(
    r"[ \t-]{0,2}(?:(?:office|fax|mobile|cell|home|work|desk|tel|phone)\b[ \t]*(?:$|[\n,;.\\)|。、])"
    r"|\((?:电话|電話|手机|手機|传真|傳真|办|办公|辦公|家|宅|mobile|cell|fax|office|home|work|[ohmtf])\))",
    re.IGNORECASE,
)
# The name of the parameter, where a URL holds a number.
PHONE_IN_URL = re.compile(
    r"(?:(?:tel|sms|phone|mobile|mob|cell|callto|whatsapp|shouji|sj)(?:_?no|_?num(?:ber)?)?[=:]|wa\.me/)(?:\+|%2b)?\Z"
)

# These say that a number is a code of something.
CODE_BEFORE = re.compile(
    "(?:"
    + "|".join(
        (
            _any(
                "[单單][号號] [订訂][单單] [编編][号號] 流水[号號]? [货貨][号號] 批[号號] 型[号號] [书書][号號]"
                " [条條][码碼]"
            ),
            _any(
                "条形码 序列[号號] 序[号號] 串[号號] [机機]身[号號]? 合同号? 文[号號] 备案号? 许可证号?"
                " 注册号 代[码碼] 税号"
            ),
            _any(
                "登记号 [学學][号號] 工[号號] 期号 [证證][书書] 专利号? 專利 申请号"
                " 邮编 公网安备 安备 密[码碼] [验驗][证證][码碼]"
            ),
            _any(
                "房间 房間 房 座位 取票 取件 提货 会员 客户 用户 员工? 考 报名 受理 案 病历 住院 就诊 保单 [产產]品 款"
            )
            + "[号號]",
            _any("[档檔]案 索书 凭证 交易 商品 商户 [项項]目 节目 支票 提单 箱 机") + "[号號]",
            _any("[价價] 金[额額] [营營]收 收入 [合共][计計] 第 [素质質整因][数數] 自然[数數]"),
            "[¥￥$€£]",
            _LATIN
            + _any(
                "rmb usd isbn(?:-1[03])? issn order invoice tracking serial sku item part barcode ean upc imei meid sn"
                " s/n uid uuid ref(?:erence)? model product ticket case patent doi pmid oclc lccn code key token hash"
                " seed id"
            ),
        )
    )
    + r")(?:[ .#]*"
    + _any(r"号码? 號碼? nos?\.? num(?:ber)?s? id is was 为 是 為")
    + r"){0,2}[\s:=#\"'|-]{0,4}\Z"
    r"|/[0-9a-z_%.-]+/\Z|\\\Z|[=/][0-9a-z_%.-]*[_-]\Z|[a-z0-9]-\Z|[a-z_]\(\Z|(?<![a-z])no\. ?\Z|&#x?\Z"
)
UNIT_AFTER = re.compile(
    " ?(?:[÷×=*^%°℃]|[千百字页頁秒岁歲票元块塊万萬亿億円圆圓人个個次吨噸户戶件条條年股吋米克]|"
    "[台臺](?![北中南东東湾灣])|"
    + _any(
        "公里 光年 平方 立方 型 款 美元 美金 港[元币幣] 人民[币幣] [台臺]幣 km kg mm cm MB GB KB Hz USD RMB dollars"
        " bytes years people"
    )
    + "|"
    + _any("times users units pieces yuan million billion")
    + ")"
)
VERSION_BEFORE = re.compile(
    "(?:"
    + _LATIN
    + _any("v ver version release build firmware driver kernel player chrome android oracle java oid section chapter")
    + "|version|"
    + _any("版本 版 固件 韌體 驱动 驅動 [升更][级級新][到至] [第§]")
    + r")[号號]?[为是為]?[ .:=\"']{0,3}\Z|[a-z]/\Z"
)
ADDRESS_BEFORE = re.compile(
    f"(?:{_LATIN}{_any('ips? ipv4 address host server ping gateway dns from')}"
    rf"|{_any('地址 位址 服务器 伺服器 主机 主機 网关')}|://|@) ?(?:为|是|為|is|was|:|=)?[\s:=\"'\[(]{{0,3}}\Z"
)

# The part of a URL before a number: read backwards up to a character that no URL holds; then tested forwards.
URL_PART = re.compile(r"[^\s\"'<>,;()\[\]{}\x7f-\U0010ffff]*")
URL = re.compile(
    r"://|^www\.|^[^@]*[a-z0-9]\.(?:com|cn|net|org|tw|hk|io|uk|de|jp|info|example)(?::[0-9]+)?/", re.IGNORECASE
)

# QQ and others, from the first letter of the word; the number or name is the group "id".
_END = r"(?![0-9A-Za-z_@(])(?![.:/-][0-9A-Za-z/])"
_QQ_FILL = (
    r"(?i:[ \t]*"
    + _any(
        r"交流群 [讨討][论論]群 群号码? 群號碼? 羣[号號] [群羣] [账帐賬帳][号號] 号码? 號碼?"
        r" 客服 在线 咨询 [或/和](?:微信|vx)"
    )
    + r"|[ \t]*"
    + _any(r"[0-9](?=:) number group no\.? is id 为 是 為")
    + r")*"
)
_NAME = r"(?P<id>[A-Za-z][0-9A-Za-z_-]{5,19})"
_DIGIT_INSIDE = "(?=[A-Za-z-]*[0-9_])"  # running text follows "WeChat:", too
ACCOUNTS = tuple(
    re.compile(pattern + _END)
    for pattern in (
        rf"(?i:(?<![a-z])q ?q|扣扣|企[鹅鵝]|(?<![a-z])q群|群[号號]){_QQ_FILL}[\s:=|\"'>(\[+]{{0,5}}"
        rf"(?P<id>[1-9][0-9]{{4,10}})",
        r"(?i:[微薇威v]信|(?<![a-z])(?:we ?chat|weixin|[vw]x|line))"
        r"[ \t]*(?i:[账帐賬帳][号號]|号码?|號碼?|id|number)(?i:[ \t]*(?:is|为|是|為))?"
        r"[\s:=|\"'>(\[]{0,5}(?P<id>[A-Za-z][0-9A-Za-z_-]{5,19}|[1-9][0-9]{5,9})",
        rf"(?:[微薇威vV]信)(?:同[号號]|\([^()\n]{{0,8}}\))?[ \t]*:[ \t]*(?!(?i:wechat|weixin)){_NAME}(?! [a-z])",
        rf"(?i:(?<![a-z])(?:we ?chat|weixin|[vw]x))[ \t]*[:=][ \t]*{_DIGIT_INSIDE}{_NAME}",
        r"(?:(?<=加)|(?<=加我)|(?<=加个)|(?<=我的)|(?<=[Aa]dd )|(?<=my ))(?i:[微薇威v]信|we ?chat|[vw]x)"
        rf"[ \t]*{_DIGIT_INSIDE}{_NAME}",
    )
)
LOCAL_PLATES = re.compile(
    r"(?:[车車]牌(?:号码?|號碼?)?|(?i:plate)(?i:[ \t]*(?:no\.?|number))?)"
    r"(?i:[ \t]*(?:is|was|reads?|为|是|為))?[\s:=|\"'(\[]{0,4}"
    r"(?P<id>(?=[0-9A-Z -]{0,4}[0-9])(?=[0-9 -]{0,4}[A-Z])[0-9A-Z]{1,4}[ -]?[0-9A-Z]{1,4})(?![0-9A-Za-z_])"
)
