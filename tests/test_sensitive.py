"""Sensitive content: the lexicon, word borders, thresholds, checks of a user's lexicon."""

from pathlib import Path

import opencc
import pytest

from data_pipeline.cleaners.sensitive import LEXICON, Sensitive, Term, read_lexicon
from data_pipeline.document import Document, Drop
from mindllm.config import UserError

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
    path.write_text("one\t1\ten\tred fish\none\t0.5\tzh\t红鱼\ntwo\t2\tzh-Hant\t紅魚\n", encoding="utf-8")
    cleaner = Sensitive(max_density=0.1, min_terms=1, lexicon=str(path))
    assert isinstance(cleaner(Document("红鱼" + "字" * 3, "1")), Document)  # .5 / 5 = .1: not above
    assert cleaner(Document("红鱼" + "字" * 2, "1")) == Drop("sensitive:one")
    assert cleaner(Document("red fish 紅魚", "1")) == Drop("sensitive:two")  # the category with most weight
    assert cleaner(Document("red fish red fish 紅魚", "1")) == Drop("sensitive:one")  # equal weights: by name


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
    assert all(term.text in text.lower() for term in found)


def test_own_lexicon() -> None:
    terms = read_lexicon(LEXICON)
    assert 150 <= len(terms) <= 400 and len({t.text for t in terms}) == len(terms)
    assert {t.category for t in terms} == {"gambling", "pornography", "fraud", "drugs", "weapons"}
    assert {t.weight for t in terms} == {0.5, 1.0}
    for category in {t.category for t in terms}:
        count = {
            lang: sum(t.category == category and t.language == lang for t in terms)
            for lang in ("zh-Hans", "zh-Hant", "en")
        }
        assert min(count.values()) >= 10, (category, count)


def test_languages_of_terms_are_right() -> None:
    """Simplified terms hold no character that only Traditional has, and the other way round; `zh` ones are both."""
    to_hans, to_hant = opencc.OpenCC("t2s"), opencc.OpenCC("s2t")
    for term in read_lexicon(LEXICON):
        hans, hant = to_hans.convert(term.text) == term.text, to_hant.convert(term.text) == term.text
        assert {"zh": hans, "zh-Hans": hans, "zh-Hant": hant, "en": term.text.isascii()}[term.language], term


def test_comments_case_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_bytes(b"# a comment\r\n\r\ncat\t1.5\ten\tBig Word\r\n")
    assert read_lexicon(path) == [Term("cat", 1.5, "en", "big word")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cat\t1\ten", "separated by tabs"),
        ("cat\t1\ten\t", "separated by tabs"),
        ("cat 1 en word", "separated by tabs"),
        ("Cat\t1\ten\tword", "category 'Cat'"),
        ("cat\t-1\ten\tword", "weight '-1'"),
        ("cat\tnan\ten\tword", "weight 'nan'"),
        ("cat\t0\ten\tword", "weight '0'"),
        ("cat\t1\tfr\tmot", "language 'fr'"),
        ("cat\t1\tzh\t字", "single character"),
        ("cat\t1\ten\tFirst", "given twice"),
    ],
)
def test_mistakes_in_a_lexicon_name_their_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(f"cat\t1\ten\tfirst\n\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match="mine.tsv:3: ") as error:
        read_lexicon(path)
    assert said in str(error.value)
    assert list(Sensitive(lexicon=str(path)).problems()) == [f"lexicon: {error.value}"]


def test_unreadable_lexica(tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").write_text("# nothing\n")
    (tmp_path / "latin.tsv").write_bytes(b"cat\t1\ten\tcaf\xe9\n")
    for name, said in (("none.tsv", "cannot be read"), ("empty.tsv", "no terms"), ("latin.tsv", "UTF-8")):
        assert said in next(Sensitive(lexicon=str(tmp_path / name)).problems())


def test_settings() -> None:
    assert not list(Sensitive().problems())
    assert [p.partition(":")[0] for p in Sensitive(max_density=-1, min_terms=0).problems()] == [
        "max_density",
        "min_terms",
    ]
