"""Scripts and languages: four answers, foreign languages in Latin letters, Japanese without kana, code, mixtures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentences import ENGLISH, FRENCH, JAPANESE, KOREAN, SIMPLIFIED, TRADITIONAL

from mindllm import language as module
from mindllm import text as text_module
from mindllm.language import (
    LANGUAGES,
    english_score,
    is_chinese,
    language,
    language_group,
    num_han,
    scripts,
    trigram_shares,
)

MIXED = st.text(
    st.one_of(st.sampled_from("今天氣气台。，「」 \n\ud800b1Zé_-’．１ＡかナーŸßΣ한ж\u0307İ😀発気"), st.characters())
)
ANY = st.text(st.characters())


FOREIGN = {
    "French": FRENCH,
    "French without accents": "Nous avons pris le train pour aller voir la mer et les bateaux dans le port.",
    "German": "Die Weiden am Fluss sind schon ausgetrieben, und die Kinder spielen auf der Wiese hinter dem Haus.",
    "Dutch": "Het was de eerste dag van de lente en is of was het weer goed genoeg om buiten te spelen met haar broer.",
    "Spanish": "Los sauces que crecen al lado del camino ya tienen hojas nuevas y la gente sale a pasear.",
    "Italian": "I salici lungo il fiume sono diventati verdi e i bambini giocano nel prato con gli aquiloni colorati.",
    "Portuguese": "Os meninos brincam no campo com as suas pipas enquanto os velhos conversam sentados no banco.",
    "Swedish": "Barnen leker med drakar i gräset och de gamla sitter på bänken och pratar om hur varmt det har blivit.",
    "Danish": "Det er blevet varmt igen, og alle siger, at vejret i år er bedre end det var sidste år ved floden.",
    "Afrikaans": "Die kinders speel op die gras met hulle vlieërs en die ou mense sit op die bank en gesels.",
    "Latin": "Pueri in prato ludunt dum senes in scamno sedent et inter se colloquuntur de temporibus anni novi.",
    "Indonesian": "Anak-anak bermain layang-layang di padang rumput dan orang tua duduk di bangku sambil berbincang.",
    "Vietnamese": "Trẻ em thả diều trên bãi cỏ, còn người già ngồi trên ghế dài trò chuyện về thời tiết năm nay.",
    "Turkish": "Çocuklar çimenlerde uçurtma uçuruyor, yaşlılar bankta oturup sohbet ediyor ve hava çok güzel.",
    "Polish": "Dzieci puszczają latawce na łące, a starsi ludzie siedzą na ławce i rozmawiają o pogodzie.",
    "Finnish": "Lapset lennättävät leijoja nurmikolla ja vanhukset istuvat penkillä ja juttelevat säästä.",
    "pinyin": "chun tian lai le he bian de liu shu fa ya le hai zi men zai cao di shang fang feng zheng lao ren zuo",
    "pinyin with tones": "chūntiān lái le hébiān de liǔshù fāyá le háizi men zài cǎodì shàng fàng fēngzheng",
    "Russian": "Весна пришла, и ивы у реки зеленые.",
    "Greek": "Η άνοιξη ήρθε και οι ιτιές δίπλα στο ποτάμι είναι πράσινες.",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_language_is_other(name: str) -> None:
    assert language(FOREIGN[name]) == "other"
    assert language(f"{FOREIGN[name]}\n" * 300) == "other"


@pytest.mark.parametrize(
    "text",
    [
        "Home | News | Sports | Weather | Video | Contact us | About this site | Log in",
        "File\tEdit\tView\tInsert\tFormat\tTools\tWindow\tHelp\nSave as\tUndo typing\tFull screen\tPage break",
        "Insert a new column: choose Table - Insert - Columns. Shortcut: Ctrl + Shift + K. Default value: 10 mm.",
        "def read_lines(path):\n    with open(path) as file:\n        return [line.strip() for line in file if line]\n",
        "Question: Tom buys 4 books for $3 each. How much money does he spend? Answer: 4 x 3 = 12 dollars.",
        "What's up? Nothing much, just hanging out. Wanna grab lunch? Sure, where? That new noodle place.",
        "Call me Ishmael’s friend: café owners, naïve poets and fiancées say “hello” to everybody in town.",
        "USE OF THIS SOFTWARE IS AT YOUR OWN RISK. NO WARRANTY OF ANY KIND IS GIVEN BY THE AUTHORS.",
    ],
)
def test_english_of_all_kinds(text: str) -> None:
    assert language(text) == "en"
    assert language(text.upper()) == "en"


def test_a_menu_does_not_decide() -> None:
    menu = "Home News Sports Weather Video Contact us About this site Log in\n"
    for name, foreign in FOREIGN.items():
        assert language(menu + f"{foreign}\n" * 4) == "other", name
    assert language("Accueil Actualités Sports Météo Vidéo Contact\n" + f"{ENGLISH}\n" * 4) == "en"
    assert language(f"{menu * 40}{FRENCH * 1000}") == "other"  # only parts of a long text are read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("東京駅の時刻表", "other"),
        (
            "気象庁発表 関東地方 大雨警報 鉄道各社 運転見合\n円相場続落 売買代金 過去最高 経済対策検討",
            "other",
        ),  # no kana
        ("国際連合安全保障理事会決議案採択 総選挙実施 労働組合 図書館 開館時間変更", "other"),
        ("総務省統計局 労働力調査", "other"),
        ("國語辭典裡說：産婦與發燒的關係，是醫生説的，他啓程了。", "zh-Hant"),  # variant forms that Hong Kong prints
        ("在日本，“気”和“図”这样的汉字叫新字体，它们和中国的简化字不一样，学习的人要记住。", "zh-Hans"),
        ("の字在台灣的招牌上很常見，例如「鮮の味」、「優の良品」，大家都看得懂這是什麼意思。", "zh-Hant"),
        ("佢哋喺度食緊飯，我哋唔知佢幾時返嚟，不過冇所謂啦，等陣先至講。", "zh-Hant"),
        ("后里台中云林", "zh-Hans"),  # names that both scripts write so: nothing says Traditional
        ("「后里」、台中", "zh-Hant"),  # but the quotation marks do
        ("皇后在台上說話，里長和干將都在聽，范先生姓于。", "zh-Hant"),
        ("他说：「这个问题很简单。」大家都笑了。", "zh-Hans"),
        ("國民政府 大韓民國 獨立宣言 대한민국의 독립을 선언하는 글이다 우리는 이에 조선의 독립국임을", "other"),
        (
            "FastAPI を使うと API を簡単に作れます。from fastapi import FastAPI; app = FastAPI(); uvicorn main:app",
            "other",
        ),
    ],
)
def test_scripts_of_east_asia(text: str, expected: str) -> None:
    assert language(text) == expected


def test_chinese_that_explains_code_is_chinese() -> None:
    code = (
        "import asyncio\n\nasync def main() -> None:\n    reader, writer = await asyncio.open_connection(host, port)\n"
    )
    for chinese, lang in ((SIMPLIFIED, "zh-Hans"), (TRADITIONAL, "zh-Hant")):
        assert language(chinese + code * 5) == lang
    assert language(f"{ENGLISH}\n" * 20 + SIMPLIFIED) == "en"  # English that quotes Chinese
    assert language(f"{FRENCH}\n" * 8 + SIMPLIFIED) == "other"
    assert language(code * 5 + "# 打开") == "en"


@given(ANY)
def test_trigrams_are_in_the_table_and_have_length_one(text: str) -> None:
    found, shares = trigram_shares(text)
    assert len(found) == len(shares) and (found < module.SYMBOLS**3).all()
    totals: dict[int, float] = {}
    for trigram, share in zip(found.tolist(), shares.tolist(), strict=True):
        totals[trigram] = totals.get(trigram, 0.0) + share
    assert not totals or sum(total**2 for total in totals.values()) == pytest.approx(1)


@given(ANY)
def test_trigrams_know_no_case_and_no_distances(text: str) -> None:
    text = f"the quick brown fox {text}"
    apart = text.replace(" ", " \n12. ")
    assert english_score(text.swapcase()) == english_score(text) or not text.isascii()
    assert english_score(text) == pytest.approx(english_score(apart)) or not text.isascii()


def test_texts_with_hardly_any_letters_say_nothing() -> None:
    assert english_score("Hello 2026-11-21") == english_score("") == english_score("1 2 3 " * 100) == 0


def test_the_names_can_be_had_from_text() -> None:
    for name in ("LANGUAGES", "language", "language_group", "is_chinese", "scripts", "num_han", "Scripts"):
        assert getattr(text_module, name) is getattr(module, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("国語，", {"han": 2, "simplified": 1, "traditional": 1, "punctuation": 1}),
        ("中文 𠀀〇", {"han": 4, "space": 1}),
        ("It’s 5。", {"latin": 3, "punctuation": 2, "space": 1, "digit": 1}),
        ("été １Ａ", {"latin": 4, "space": 1, "digit": 1}),
        ("かナー・ｱ", {"kana": 5}),
        ("한국\u1112", {"hangul": 3}),
        ("мир\u3000", {"letter": 3, "space": 1}),
        ("\U000f0000\U0010ffff😀\n", {"space": 1}),
        ("", {}),
    ],
)
def test_scripts(text: str, expected: dict[str, int]) -> None:
    counts = {k: v for k, v in scripts(text)._asdict().items() if v}
    assert counts == expected | ({"total": len(text)} if text else {})


@given(ANY, ANY)
def test_scripts_add_up(a: str, b: str) -> None:
    one, other, both = scripts(a), scripts(b), scripts(a + b)
    assert both == tuple(x + y for x, y in zip(one, other, strict=True))
    kinds = both._replace(simplified=0, traditional=0, total=0)
    assert sum(kinds) <= both.total == len(a + b) and both.simplified + both.traditional <= both.han == num_han(a + b)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SIMPLIFIED, "zh-Hans"),
        (TRADITIONAL, "zh-Hant"),
        (ENGLISH, "en"),
        (JAPANESE, "other"),
        (KOREAN, "other"),
        (FRENCH, "other"),
        ("Die Weiden am Fluss sind grün, und die Kinder spielen auf der Wiese, während der Wind weht.", "other"),
        ("Весна пришла, и ивы у реки зеленые.", "other"),
        ("白日依山尽，黄河入海流。欲穷千里目，更上一层楼。", "zh-Hans"),
        ("白日依山盡，黃河入海流。欲窮千里目，更上一層樓。", "zh-Hant"),
        ("床前明月光，疑是地上霜。", "zh-Hans"),  # the same in both scripts
        ("使用 Python 的 asyncio 模块编写网络服务，可以在一个线程里处理很多连接。", "zh-Hans"),
        ("使用 Python 的 asyncio 模組編寫網路服務，可以在一個執行緒裡處理很多連線。", "zh-Hant"),
        ("The word 春天 is Chinese for spring, and it is one of the first words that you learn.", "en"),
        ("def area(x): return x * x", "other"),
        ("2026-11-21 19:00 +86 138", "other"),
        ("", "other"),
        ("\n\t ……", "other"),
    ],
)
def test_language(text: str, expected: str) -> None:
    assert language(text) == expected in module.LANGUAGES
    assert is_chinese(language(text)) == (expected in ("zh-Hans", "zh-Hant"))


@given(MIXED)
def test_language_is_always_one_of_ours(text: str) -> None:
    assert language(text) in module.LANGUAGES


def test_language_groups() -> None:
    assert [language_group(lang) for lang in LANGUAGES] == ["zh", "zh", "en", "other"] and language_group("") == "other"
