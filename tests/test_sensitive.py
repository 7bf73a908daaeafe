"""Sensitive content: our lexicon, word borders, thresholds, categories; spam goes, news and reference works stay."""

from pathlib import Path

import opencc
import pytest

from data_pipeline.cleaners.lexicon import fold, read_lexicon
from data_pipeline.cleaners.sensitive import EVIDENCE, LEXICON, Sensitive
from data_pipeline.document import Document, Drop

NEWS = {
    "zh-Hans": """警方昨日通报，一个网络赌博团伙被端。嫌疑人曾用时时彩和百家乐吸引居民投注，参与的人多半
在半年里输光了积蓄，直到今年三月才有人报案。办案民警用了两个月查清账目，在邻市的一处民居里把六名嫌疑人带走。镇上的老人说，起初大家只当是消遣，
后来才明白钱回不来了。警方提醒大家不要相信稳赚不赔的说法，遇到陌生人拉群推荐，应当先和家里人商量。""",
    "zh-Hant": """警方昨日通報，一個網路賭博集團被查獲。嫌犯曾以百家樂和六合彩吸引居民投注，參與的人多半
在半年裡輸光了積蓄，直到今年三月才有人報案。辦案員警用了兩個月查清帳目，在鄰市的一處民宅裡把六名嫌犯帶走。鎮上的老人說，起初大家只當是消遣，
後來才明白錢回不來了。警方提醒大家不要相信穩賺不賠的說法，遇到陌生人拉群推薦，應當先和家裡人商量。""",
    "en": """Police said on Monday that they had closed an online casino. It had promised a welcome bonus, free spins
and more to people in the town, who lost most of their savings before the first of them went to the police in March.
Officers needed two months to go through the books, and took six men away from a house in the next town. It was
a pastime at first, an old man said, and nobody thought much of it until the money did not come back. The police
ask everybody to talk to the family first when a stranger has a tip for them.""",
}
SPAM = {
    "zh-Hans": "线上赌场首存送彩金，百家乐平台稳赚不赔，时时彩平台充值返利，欢迎加入！",
    "zh-Hant": "線上賭場首存送彩金，百家樂平臺穩賺不賠，時時彩平臺儲值返利，歡迎加入！",
    "en": "Online casino bonus! Free spins bonus, no deposit bonus, real money slots, casino promo code inside.",
}


def call(text: str, **settings: float) -> Document | Drop:
    return Sensitive(**settings)(Document(text, "1"))  # type: ignore[arg-type]


@pytest.mark.parametrize("lang", SPAM)
def test_spam_goes_and_news_stays(lang: str) -> None:
    assert call(SPAM[lang]) == Drop("sensitive:gambling")
    news = call(NEWS[lang])
    assert isinstance(news, Document) and news.text == NEWS[lang] and news.meta == {}
    assert len(Sensitive().find(NEWS[lang])) >= 3  # it does hit, but not densely


def test_both_limits_must_be_passed() -> None:
    two = "线上赌场首存送彩金" * 10
    assert isinstance(call(two), Document)  # dense, but two different terms only
    assert call(two, min_terms=2) == Drop("sensitive:gambling")
    assert isinstance(call(two, min_terms=2, max_density=0.5), Document)
    assert isinstance(call(""), Document) and isinstance(call("普通的一句话。A plain sentence."), Document)


def test_exact_threshold(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text("one\t1\ten\tred fish\none\t0.5\tzh\t红鱼\ntwo\t2\tzh-Hant\t藍鯨\n", encoding="utf-8")
    cleaner = Sensitive(max_density=0.1, min_terms=1, lexicon=str(path))
    assert isinstance(cleaner(Document("红鱼" + "字" * 3, "1")), Document)  # .5 / 5 = .1: not above
    assert cleaner(Document("红鱼" + "字" * 2, "1")) == Drop("sensitive:one")
    assert cleaner(Document("red fish 藍鯨", "1")) == Drop("sensitive:two")  # the category with most weight
    assert cleaner(Document("red fish red fish 蓝鲸", "1")) == Drop("sensitive:one")  # equal weights: by name


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("cialis", 1),
        ("CIALIS!", 1),
        ("specialist, cialist, xcialis, cialis2", 0),
        ("买cialis吧，(Cialis)", 2),
        ("porn videos", 1),
        ("porn", 1),
        ("pornographyx", 0),
        ("我们在线上赌场看到", 1),
        ("六合彩特码", 1),
    ],
)
def test_word_borders_and_longest(text: str, hits: int) -> None:
    found = Sensitive().find(text)
    assert len(found) == hits
    assert all(term.text in fold(text) for term in found)


def test_own_lexicon() -> None:
    terms = read_lexicon(LEXICON)
    assert 900 <= len(terms) <= 1100
    categories = {t.category for t in terms} - EVIDENCE.keys()
    assert categories == set("gambling pornography fraud loans documents drugs weapons medical".split())
    assert {t.weight for t in terms if t.category not in EVIDENCE} == {0.5, 1.0}
    assert {(t.category, t.weight) for t in terms if t.category in EVIDENCE} == {("contact", 0.25), ("report", 0.5)}
    for category in categories:
        of = [t.language for t in terms if t.category == category]
        assert of.count("zh-Hans") >= 20 and of.count("en") >= 20, category
        assert of.count("zh-Hant") + of.count("zh") >= 20, category  # besides what is found from Simplified terms


def test_languages_of_terms_are_right() -> None:
    """Simplified terms hold no character that only Traditional has, and the other way round; `zh` ones are both."""
    to_hans, to_hant = opencc.OpenCC("t2s"), [opencc.OpenCC("s2t"), opencc.OpenCC("s2tw")]
    for line in LEXICON.read_text("utf-8").split("\n"):
        if line and not line.startswith("#"):
            language, text = line.lower().split("\t")[2:]
            hans, hant = to_hans.convert(text) == text, text in [c.convert(text) for c in to_hant]
            right = {"zh": hans and hant, "zh-hans": hans, "zh-hant": hant and not hans, "en": text.isascii()}
            assert right[language], line


PAGES = [
    ("loans", "急用钱找我！私人放款，无视黑白户，黑户贷款当天放款，凭身份证借款，加微信详谈，诚信经营。"),
    ("loans", "急用錢立即撥款，免聯徵借款，證件借款免押，小額借錢立即拿，加賴洽詢，警示戶可借。"),
    (
        "loans",
        "Bad credit loans, same day payday loan, guaranteed loan approval! Cash loan in minutes. Apply on WhatsApp.",
    ),
    ("documents", "专业办证联系：代办毕业证、办理身份证、驾照代办免考，假发票出售，刻章办证，电话微信同号。"),
    ("documents", "辦理假證件、假學歷辦理、代辦畢業證書、假護照辦理，代開統一發票，意者請洽。"),
    (
        "documents",
        "Buy real passport, registered drivers license for sale, counterfeit money for sale, fake transcripts.",
    ),
    ("medical", "祖传秘方根治牛皮癣，根治糖尿病，无效退款，三天见效，货到付款，老中医祖传秘方。"),
    ("medical", "祖傳秘方根治高血壓，降糖神藥，一個療程見效，無效退費，包治百病，癌症剋星。"),
    (
        "medical",
        "Lose 30 pounds in 30 days! Miracle weight loss, cures cancer naturally, no prescription pharmacy. Order now.",
    ),
    ("pornography", "成人直播，激情裸聊，约炮平台，免费成人看片神器，学生妹上门，加薇信。"),
    ("pornography", "全台外送茶，定點茶，約砲平台，成人直播，視訊辣妹，本土自拍影片，加LINE。"),
    ("pornography", "Live sex cams and amateur porn, hd porn, escort service, casual sex dating, join our channel."),
    ("drugs", "迷奸药、昏睡药、听话水、三唑仑出售，冰毒货源，货到付款，加我微信。"),
    ("drugs", "愷他命販售，喪屍菸彈出售，大麻宅配，彩虹菸販售，私訊洽詢。"),
    ("drugs", "Cocaine for sale, weed for sale, buy LSD online, buy MDMA online. Stealth shipping, Wickr."),
    ("weapons", "高压气枪专卖，猎枪货源，秃鹰气枪，子弹出售，气枪货到付款，飞机号见下。"),
    ("weapons", "改造手槍販售，彈藥販售，黑槍貨源，滅音管出售，私訊洽詢。"),
    ("weapons", "Ghost gun kit, suppressors for sale, glock switch for sale, ammo for sale, telegram only."),
    ("fraud", "刷单兼职日赚千元，免费荐股，带单老师喊单群，躺赚日入过千，扫码添加。"),
    ("fraud", "人頭帳戶收購，老師帶單，飆股群組，保證獲利，代操保證獲利，加入飆股群。"),
    ("fraud", "Bitcoin doubler! 100% guaranteed profit, make money online fast, claim your prize now. Act now."),
]


@pytest.mark.parametrize(("category", "text"), PAGES)
def test_advertising_goes_in_either_script(category: str, text: str) -> None:
    assert call(text) == Drop(f"sensitive:{category}")
    to_other = opencc.OpenCC("t2s" if opencc.OpenCC("t2s").convert(text) != text else "s2t")
    assert call(to_other.convert(text)) == Drop(f"sensitive:{category}")


@pytest.mark.parametrize(
    "text",
    [
        "加 微 信 ，线 上 赌 场 ，百*家*乐 平-台，稳..赚..不..赔，时·时·彩平台，首存送彩金",
        "ＯＮＬＩＮＥ ＣＡＳＩＮＯ bonus, free spins bonus, REAL MONEY SLOTS",
        "線*上*賭*場，百 家 樂 平 臺，首存送彩金，六_合_彩",
    ],
)
def test_evasions(text: str) -> None:
    assert call(text) == Drop("sensitive:gambling")


REFERENCE = [
    "毒品是指鸦片、海洛因、冰毒、吗啡、大麻、可卡因以及国家规定管制的其他能够使人形成瘾癖的麻醉药品和精神药品。走私、贩卖、运输、制造毒品，无论"
    "数量多少，都应当追究刑事责任，予以刑事处罚。氯胺酮、三唑仑等列入管制目录。",
    "刑法第二百八十條規定，偽造、變造身分證、護照、駕駛證者，處三年以下有期徒刑。以營利為目的聚眾賭博，或以賭博為業者，亦同。警方呼籲民眾勿出租人頭"
    "帳戶，遇到保證獲利的說法應立即查證，切勿向地下錢莊借款。",
    "Sildenafil, sold under the brand name Viagra among others, is a medication used to treat erectile dysfunction and "
    "pulmonary hypertension. It should not be taken without prescription. Common side effects include headaches, "
    "flushed skin and heartburn; its use is not advised in people with heart disease.",
    "小额贷款公司的利息不得超过法定上限，高利贷不受法律保护。银行提醒，信用卡套现属违法行为，征信修复多为骗局，消费者应当通过正规渠道申请贷款，妥善保管"
    "身份证件和账户密码，发现可疑情况及时向公安机关报案，切勿轻信陌生来电和短信。",
]


@pytest.mark.parametrize("text", REFERENCE)
def test_law_and_medicine_stay(text: str) -> None:
    assert isinstance(call(text), Document) and Sensitive().find(text)


def test_contact_adds_weight_and_is_no_reason() -> None:
    contact = "加微信，扫码添加，货到付款，联系客服，诚信经营。Order now, buy now, whatsapp!"
    assert isinstance(call(contact), Document)
    text = "百家乐，时时彩，六合彩" + "这里是一段普通的话语。" * 8
    assert isinstance(call(text), Document)
    assert isinstance(call(text, max_density=0.019), Document)
    assert call(text + "加微信", max_density=0.019) == Drop("sensitive:gambling")


def test_reports_take_weight_away() -> None:
    text = "百家乐，时时彩，六合彩，真人荷官。" + "这里是一段普通的话语。" * 4
    assert call(text) == Drop("sensitive:gambling")
    assert isinstance(call(text + "警方查处该案，嫌犯被判处有期徒刑。"), Document)
    text = "free spins, sportsbook, online casino, betting odds, welcome bonus"
    assert call(text) == Drop("sensitive:gambling")
    assert isinstance(call(text + ": prosecutors charged with, police, court, arrested"), Document)


def test_categories(tmp_path: Path) -> None:
    both = SPAM["zh-Hans"] * 2 + PAGES[0][1]
    assert call(both) == Drop("sensitive:gambling")
    assert Sensitive(ignore=["gambling"])(Document(both, "1")) == Drop("sensitive:loans")
    assert isinstance(Sensitive(ignore=["gambling", "fraud", "loans"])(Document(both, "1")), Document)
    alone = Sensitive(category_density={"gambling": 0.9})
    assert alone(Document(both, "1")) == Drop("sensitive:loans")
    assert isinstance(alone(Document(SPAM["zh-Hans"], "1")), Document)
    strict = Sensitive(max_density=1, category_density={"loans": 0})
    assert strict(Document(both, "1")) == Drop("sensitive:loans")
    assert isinstance(strict(Document(SPAM["zh-Hans"], "1")), Document)


def test_lists_join_the_lexicon(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("某种特别的广告,另一种广告词\n", encoding="gbk")
    (tmp_path / "b.txt").write_text("百家乐\n第三种广告词\n", encoding="utf-8")
    lists = {str(tmp_path / "a.txt"): "adverts", str(tmp_path / "b.txt"): "other"}
    cleaner = Sensitive(lists=lists, list_weight=2)
    assert not list(cleaner.problems())
    assert cleaner(Document("某種特別的廣告，另一种广告词，第三种广告词", "1")) == Drop("sensitive:adverts")
    (term,) = cleaner.find("百家乐")
    assert (term.category, term.weight) == ("other", 1.0)  # the list's 2, halved for three characters, beats our .5
    wrong = Sensitive(lists={str(tmp_path / "none.txt"): "adverts"})
    assert "cannot be read" in next(wrong.problems())
    assert "category 'A b'" in next(Sensitive(lists={str(tmp_path / "a.txt"): "A b"}).problems())


def test_a_list_is_read_once_a_process_and_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("某种特别的广告")
    assert Sensitive(lists={str(path): "adverts"})._lexicon is Sensitive(lists={str(path): "adverts"})._lexicon
    path.write_text("另外一种特别的廣告")
    assert Sensitive(lists={str(path): "adverts"}).find("另外一種特別的廣告")


@pytest.mark.parametrize("lang", SPAM)
def test_measures(lang: str) -> None:
    measures = {m.name: m for m in Sensitive().measures(Document(SPAM[lang], "1"))}
    assert not measures["weighted density"].passes and not measures["different terms"].passes
    assert "gambling" in str(measures["weight by category"].value)
    news = {m.name: m for m in Sensitive().measures(Document(NEWS[lang], "1"))}
    assert news["weighted density"].passes and 0 <= float(news["weighted density"].value) <= 0.02
    (nothing,) = Sensitive().measures(Document("平常的话。A plain word.", "1"))
    assert nothing.value == "none"


def test_settings(tmp_path: Path) -> None:
    assert not list(Sensitive().problems())
    wrong = Sensitive(-1, 0, {"gambling": -1, "gamblin": 1}, ["politics"], list_weight=0)
    found = list(wrong.problems())
    for key in ("max_density", "min_terms", "list_weight", "ignore", "category_density", "category_density.gambling"):
        assert any(p.startswith(f"{key}:") for p in found), key
    assert "no.tsv: cannot be read" in next(Sensitive(lexicon=str(tmp_path / "no.tsv")).problems())
