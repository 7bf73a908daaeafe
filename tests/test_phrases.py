"""Phrases: where paragraphs, lines and sentences are, their keys, what is none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import phrases
from data_pipeline.phrases import LINE, PARAGRAPH, SENTENCE, find_phrases


def found(text: str, kind: int) -> list[str]:
    return [text[a:b] for a, b, k, _ in zip(*find_phrases(text), strict=True) if k == kind]


def keys(*texts: str) -> frozenset[int]:
    """The keys of texts that are one phrase each (the largest, if they hold others)."""
    return frozenset(int(find_phrases(text).keys[0]) for text in texts)


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("关注我们的微信公众号获取更多精彩内容。这一天我们去了海边看日落！", 2),
        ("關注我們的粉絲專頁獲得更多內容。」他說完就走了，留下我們幾個人；", 2),
        ("Sign up for our newsletter today. The river divides in two here.", 2),
        ('She asked, "Are you coming with us?" Nobody had an answer for her.', 2),
        ("你们好吗今天天气怎么样?我们都很好明天天气更好!再见了我的朋友们", 3),
        ("第一段的文字就到这里为止\u3000第二段的文字就从这里开始", 2),
        ("A headline that is wide enough  and another beside it after a gap", 2),
        ("版本号3.14159265和example.com.cn这样的地址不是句子的结尾", 0),
        ("Version 3.14159 of example.com is no end of a sentence, nor is a.b", 0),
        ("整行只有这样一个句子所以只是一行。", 0),
        ("One sentence that is the whole line is a line only.", 0),
    ],
)
def test_sentences(line: str, sentences: int) -> None:
    assert found(line, LINE) == [line]
    got = found(line, SENTENCE)
    assert len(got) == sentences
    assert not got or "".join(got) == line


def test_short_sentences_are_not_counted() -> None:
    assert found("他点了点头。这是一个长得足够的句子。好的。", SENTENCE) == ["这是一个长得足够的句子。"]
    assert found("Yes, of course. This one is long enough. No.", SENTENCE) == ["This one is long enough. "]


def test_paragraphs() -> None:
    text = "首页\n新闻\n体育\n\n一行成不了段落\n\nHome\nNews\nSport"
    assert found(text, PARAGRAPH) == ["首页\n新闻\n体育", "Home\nNews\nSport"]
    assert found(text, LINE) == ["一行成不了段落"]
    assert found("\n".join(["短"] * 40), PARAGRAPH) and not found("\n".join(["短"] * 41), PARAGRAPH)
    assert find_phrases("首页\n新闻\n体育").kinds.tolist() == [PARAGRAPH]
    nested = find_phrases("首页新闻体育。财经科技。\n第二行的文字在这里")
    assert nested.kinds.tolist() == [PARAGRAPH, LINE, LINE]
    nested = find_phrases("首页新闻体育娱乐财经。财经科技汽车房产。\n第二行的文字在这里")
    assert nested.kinds.tolist() == [PARAGRAPH, LINE, SENTENCE, SENTENCE, LINE]


@pytest.mark.parametrize(
    "line",
    [
        "", "   ", "}", "----------------", "2019 / 2020 / 2021", "短一行", "Related",
        "    four blanks are code", "\ta tab is code, too", "名称\t类型\t说明", "| Name | Type | Default |",
        "x = compute the value", "for (int i = 0; i < n; i++) {", "import numpy as np", "def name_of(it): pass",
        "$ sudo apt-get update now", "> quoted words of a mail", "return the_value_of_it", "std::vector of things",
        "call_the_function() twice", "// comment of a program", "end of a statement;",
        "2023-05-06 10:22 来源：新华网", "发布时间：2023年5月6日 10:30", "發布：2023/5/6 記者王小明",
        "发布时间：09-3022:46",
        "Posted May 6, 2023 by the editor", "6 May 2023, 10:22", "Updated 10:22, staff writer 2",
    ],
)  # fmt: skip
def test_what_is_no_phrase(line: str) -> None:
    assert len(find_phrases(line).keys) == 0


def test_a_date_keeps_its_paragraph() -> None:
    share = "分享到微信微博空间以及朋友圈还有别的地方"
    assert found(f"{share}\n来源：本报", PARAGRAPH) and not found(f"{share}\n2023-05-06 10:22\n来源：本报", PARAGRAPH)


def test_keys() -> None:
    assert keys("Page 3 of 10") == keys("  Page  12 of 9 ") == keys("Page ３ of 10") != keys("Page of 10 pages")
    assert keys("上一篇：第３章") == keys("上一篇：第12章") != keys("下一篇：第12章")
    assert (
        keys("相关主题") and keys("Related topics") != keys("Related topicz") and keys("ab cdefgh") == keys("abcdefgh ")
    )
    assert keys("首页\n新闻中心") == keys("首页新闻中心")
    (short,), (long,) = keys("x" * 39), keys("x" * 40)
    assert (short & 1, long & 1) == (0, 1)
    (short,), (long,) = keys("字" * 19), keys("字" * 20)
    assert (short & 1, long & 1) == (0, 1)
    words = [f"{a}{b}的一行文字" for a in "甲乙丙丁戊己庚辛壬癸" for b in "子丑寅卯辰巳午未申酉戌亥"]
    assert len(keys(*words)) == len(words)


def test_a_key_does_not_depend_on_the_place() -> None:
    line = "关注公众号 and win 3 prizes"
    for text in (
        f"{line}\n甲乙丙丁戊己庚辛",
        f"一二三四五 67\n\n{line}",
        f"{'字' * 70_000}\n\n{line}\n\n{'x ' * 200_000}",
    ):
        assert keys(line) <= set(find_phrases(text).keys.tolist())


@settings(max_examples=300, deadline=None)
@given(st.text("甲乙丙丁ab1 2.。！!?”\n\u3000,=", max_size=120))
def test_any_text(text: str) -> None:
    all_found = find_phrases(text)
    starts, stops = all_found.starts.tolist(), all_found.stops.tolist()
    assert starts == sorted(starts) and all(0 <= a < b <= len(text) for a, b in zip(starts, stops, strict=True))
    for a, b, kind, key in zip(*all_found, strict=True):
        assert any(c.isalpha() for c in text[a:b])
        assert ("\n" in text[a:b]) == (kind == PARAGRAPH)
        if kind == LINE:
            assert text[a:b] in text.split("\n")
            assert int(find_phrases(text[a:b]).keys[0]) == key  # the same words elsewhere: the same key


def test_long_texts_are_looked_at_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(
        f"第{n}段文字：{chr(0x4E00 + n) * 30}。{chr(0x5E00 + n) * 30}。\nline {chr(97 + n % 26) * 9}"
        for n in range(200)
    )
    whole = find_phrases(text)
    monkeypatch.setattr(phrases, "_PIECE", 500)
    assert all((a == b).all() for a, b in zip(whole, find_phrases(text), strict=True))
