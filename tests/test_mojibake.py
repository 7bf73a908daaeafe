"""Broken text comes back, whole text stays: charsets read as others, escaped entities, what is beyond repair."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_pipeline.pages.mojibake import broken_share, repair

HANS = "今天，天气很好，我们一起去公园看花。他说：“这是最好的时候！”"
HANT = "今天，天氣很好，我們一起去公園看花。他說：「這是最好的時候！」"
EN = "I don’t think so — “really”, he said… It costs £5 or €6 at 20 °C; see §2 in the café’s résumé."
FR = "Il a dit : «\xa0L’été, c’est déjà fini\xa0», où ça ? À Noël, l’œuvre sera achevée… voilà\xa0!"
DE = "Über die Straße gehen größere Möwen; „schön“, sagte Jörg – und die Äpfel? »Süß«, heißt es."
ES = "¿Dónde está el niño? ¡Mañana! El año pasado, 3.º y 1.ª, «España»… MÁS INFORMACIÓN»"
PT = "AMANHÃ… A manhã não é má: «corações», “pão”, IRMÃ” À LA CARTE"
VI = "Trẻ em thả diều trên bãi cỏ, còn người già ngồi trên ghế dài… “đẹp quá”, ông à”"
EL = "Η άνοιξη ήρθε και οι ιτιές είναι πράσινες· «ωραία»."
RU = "Привет, как дела? «Хорошо» — сказал он."
JA = "春が来て、川辺の柳が芽を出しました。「きれいですね」"
RARE = "𠮷野家の前，龘靐齉爩的字，锛子、鈥、銆和鏄字；浜松、鐨字，犲狼。涓涓细流，鍦、瀛、鎴"
WESTERN = (EN, FR, DE, ES, VI, EL, RU)
CLEAN = (*WESTERN, HANS, HANT, PT, JA, RARE)


def read_as(data: bytes, charset: str) -> str:
    """As a browser decodes: bytes that cp1252 lacks are control characters, what GBK cannot pair is lost to "?"."""
    if charset == "cp1252":
        return "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in data)
    if charset == "latin-1":
        return data.decode("latin-1")
    text, at = "", 0
    while at < len(data):
        pair = data[at : at + 2].decode("gbk", "ignore") if data[at] >= 0x81 else ""
        text += pair if len(pair) == 1 else "€" if data[at] == 0x80 else chr(data[at]) if data[at] < 0x80 else "?"
        at += 2 if len(pair) == 1 and data[at] >= 0x80 else 1
    return text


@pytest.mark.parametrize("text", CLEAN)
def test_whole_text_stays(text: str) -> None:
    assert repair(text) == (text, "") and broken_share(text) == 0
    assert repair("\n".join(CLEAN)) == ("\n".join(CLEAN), "")


@pytest.mark.parametrize("charset", ["cp1252", "latin-1"])
@pytest.mark.parametrize("text", [*WESTERN, HANS, HANT, JA])
def test_utf8_read_as_a_western_charset(text: str, charset: str) -> None:
    once = read_as(text.encode(), charset)
    assert repair(once) == (text, "utf8_as_cp1252")
    assert repair(read_as(once.encode(), charset)) == (text, "utf8_as_cp1252")


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("donâ€™t", "don’t"),
        ("cafÃ©", "café"),
        ("20Â°C", "20°C"),
        ("ä½\xa0å¥½", "你好"),
        ("he said â€œyesâ€ and left", "he said “yes” and left"),  # a control character was deleted
        ("ï»¿Title", "\ufeffTitle"),
        ("great ðŸ˜€ news", "great 😀 news"),
        ("Ã¢â‚¬â„¢", "’"),
        ("price: 5â‚¬", "price: 5€"),
        ("naïve cafÃ©s and voilà», Spaß“", "naïve cafés and voilà», Spaß“"),  # only the broken word changes
    ],
)
def test_western_words(broken: str, whole: str) -> None:
    assert repair(broken) == (whole, "utf8_as_cp1252")


@pytest.mark.parametrize("text", [HANS, HANT, "你好", "你好世界", "這是中文", "我们的问题"])
def test_chinese_charsets_read_as_latin1(text: str) -> None:
    for charset in ("cp1252", "latin-1"):
        if text.encode("gb2312", "ignore").decode("gb2312") == text:
            assert repair(read_as(text.encode("gb2312"), charset)) == (text, "gbk_as_latin1")
        elif text != "這是中文":
            assert repair(read_as(text.encode("big5"), charset)) == (text, "big5_as_latin1")
    assert repair("§A¦n") == ("你好", "big5_as_latin1")


def test_russian_in_utf8_is_not_gbk() -> None:
    assert repair(read_as("Скопје, Албания, Россия".encode(), "cp1252")) == (
        "Скопје, Албания, Россия",
        "utf8_as_cp1252",
    )
    assert repair("mewááóítyuróne jäääär ÀÁÂÃÄÅÆÇÈÉ") == ("mewááóítyuróne jäääär ÀÁÂÃÄÅÆÇÈÉ", "")


def test_utf8_read_as_gbk() -> None:
    assert repair("浣犲ソ涓栫晫") == ("你好世界", "utf8_as_gbk")
    assert repair("标题：浣犲ソ涓栫晫") == ("标题：浣犲ソ涓栫晫", "")  # one run with whole text: it does not go back
    assert repair("标题: 鎴戜滑") == ("标题: 我们", "utf8_as_gbk")
    for text in (HANS, HANT):
        found, kind = repair(read_as(text.encode(), "gbk"))
        assert kind == "utf8_as_gbk+lost"  # characters whose bytes did not pair
        assert len(text) - len(found) <= 10 and [c for c in found if c not in text + "?"] == []


@pytest.mark.parametrize(
    ("text", "whole", "kind"),
    [
        ("Tom &amp; Jerry&#8217;s &quot;house&quot;", 'Tom & Jerry’s "house"', "entities"),
        ("春天&nbsp;&nbsp;来了&hellip;&hellip;", "春天\xa0\xa0来了……", "entities"),
        ("Q&amp;amp;A &amp;nbsp; 3&times;4", "Q&A \xa0 3×4", "entities"),
        ("AT&T; R&D a&b=c &unknown; &#0; &#xD800;", None, ""),
        ("In HTML, write &nbsp; for a blank and &amp; for an ampersand.", None, ""),
        ("空格的实体是 &nbsp; 。", None, ""),
        ("Type &lt;b&gt; and &quot;", None, ""),
        ("<a href='x'>a &amp; b</a>", None, ""),
    ],
)
def test_entities(text: str, whole: str | None, kind: str) -> None:
    assert repair(text) == (text if whole is None else whole, kind)


@pytest.mark.parametrize(
    ("text", "whole", "lost"),
    [
        ("春\ufffd天来了\ufffd\ufffd", "春天来了", 3),
        ("my mother\ufffds house", "my mother’s house", 1),
        ("锟斤拷锟斤拷天气", "天气", 6),
        ("烫烫烫烫烫烫烫烫天", "天", 8),
        ("程序输出“锟斤拷”，是 `锟斤拷`；这水烫烫烫！", None, 0),
    ],
)
def test_what_is_beyond_repair(text: str, whole: str | None, lost: int) -> None:
    assert repair(text) == ((text, "") if whole is None else (whole, "lost"))
    assert broken_share(text) == pytest.approx(lost / len(text))


def test_broken_share() -> None:
    assert broken_share("") == broken_share("plain") == 0
    assert broken_share("a\x81\x8d\x85b") == pytest.approx(2 / 5)


def test_kinds_add_up() -> None:
    assert repair("cafÃ©\ufffd &amp; 浣犲ソ涓栫晫") == ("café & 你好世界", "utf8_as_cp1252+utf8_as_gbk+entities+lost")


# Generated texts of the two languages, with the characters that are most often broken or mistaken.
WORDS_EN = st.sampled_from("the of don’t café naïve “yes” — river, town; £5 20°C §2 résumé … it’s was and".split())
WORDS_FR = st.sampled_from("été où déjà «\xa0là\xa0» l’œuvre À ça Noël voilà\xa0! et les des forêt île où».".split(" "))
HANS_CHARS = st.sampled_from(
    "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对，。"
)
HANT_CHARS = st.sampled_from(
    "的一是不了在人有我他這中大來上國個到說們為子和你地出道也時年得就那要下以生會自著去之過家學對，。"
)
CLEAN_TEXT = st.one_of(
    st.lists(WORDS_EN).map(" ".join), st.lists(WORDS_FR).map(" ".join), st.text(HANS_CHARS), st.text(HANT_CHARS)
)


@given(st.lists(CLEAN_TEXT).map("\n".join))
@example("voilà\xa0» publié\xa0» été\xa0«")
def test_generated_whole_text_stays(text: str) -> None:
    assert repair(text) == (text, "")


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=30))
def test_any_han_stays_or_proves_itself(text: str) -> None:
    """Random characters may happen to be UTF-8 read as GBK, but only all of a run at once."""
    found, kind = repair(text)
    assert found == text or (kind == "utf8_as_gbk" and found.encode().decode("gbk", "ignore") in text)


@given(st.text(HANS_CHARS, min_size=12), st.sampled_from(["cp1252", "latin-1"]))
def test_generated_broken_chinese_comes_back(text: str, charset: str) -> None:
    text = f"我们{text}"  # punctuation alone proves nothing
    assert repair(read_as(text.encode(), charset)) == (text, "utf8_as_cp1252")
    assert repair(read_as(text.encode("gb2312"), charset)) == (text, "gbk_as_latin1")


@given(st.text(HANT_CHARS, min_size=12))
def test_generated_broken_traditional_comes_back(text: str) -> None:
    text = f"我們{text}"
    assert repair(read_as(text.encode(), "cp1252")) == (text, "utf8_as_cp1252")
    assert repair(read_as(text.encode("big5"), "latin-1")) == (text, "big5_as_latin1")


@given(st.lists(WORDS_EN, min_size=1).map(" ".join), st.sampled_from(["cp1252", "latin-1"]))
def test_generated_broken_english_comes_back(text: str, charset: str) -> None:
    text += " don’t"
    assert repair(read_as(text.encode(), charset)) == (text, "utf8_as_cp1252")


@given(st.text())
def test_nothing_raises_and_shares_are_shares(text: str) -> None:
    found, kind = repair(text)
    assert (found == text) == (kind == "") and 0 <= broken_share(text) <= 1


def test_long_hostile_runs_end_soon() -> None:
    for piece in ("Ã", "â€", "¤", "锛", "锛?", "&amp;", "&amp", "\ufffd", "锟斤", "烫", "é\xa0»", "ð", "¤@"):
        repair(piece * 200_000)
