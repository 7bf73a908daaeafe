"""Words that name boilerplate, and the phrases around articles, in both languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_pages import LANGUAGES, Words

from data_pipeline.pages.noise import POST, find_noise, is_call, is_edge, is_loose, is_tail


def size(text: str) -> int:
    return len(text.encode())


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("sidebar", "sidebar"), ("left-sidebar", "sidebar"), ("leftSideBar", "side"), ("page_footer", "footer"),
        ("nav-main", "nav"), ("navbar", "navbar"), ("breadcrumbs", "breadcrumbs"), ("cookieConsent", "cookie"),
        ("related-posts", "related"), ("recommendations", "recommendations"), ("share-bar", "share"), ("ad-slot", "ad"),
        ("adv", "adv"), ("newsletterBox", "newsletter"), ("wp-caption-text", "wp"), ("author-box", "author"),
        ("comments", "comment"), ("comment-list", "comment"), ("pinglun", "comment"), ("disqus_thread", "disqus"),
        ("pagination", "pagination"), ("copyright", "copyright"),
    ],
)  # fmt: skip
def test_names_of_boilerplate(name: str, word: str) -> None:
    assert find_noise(name, "", "") == find_noise("", name, "") == find_noise(f"x  {name} content", "", "") == word


@pytest.mark.parametrize(
    "name",
    [
        "", "content", "article-body", "post", "entry-content", "main", "story", "has-sidebar", "no-sidebar",
        "is-hidden",
        "with-ads", "md:sidebar", "hover:nav", "w-[calc(100%-sidebar)]", "enableInArticleAds", "hero-image-top-left-ad",
        "download", "shadow", "readable", "loading", "address", "navy", "inside", "considered", "asideways", "footage",
        "authority", "author-of-the-year", "正文", "_", "---", "123", "col-md-8", "css-1x9f",
    ],
)  # fmt: skip
def test_names_of_main_text(name: str) -> None:
    assert find_noise(name, "", "") == find_noise("", name, "") == ""


def test_roles_and_order() -> None:
    assert find_noise("", "", "navigation") == "navigation" and find_noise("", "", "main") == ""
    assert find_noise("footer", "sidebar", "banner") == "footer"
    assert find_noise("footer", "comments", "") == "comment"  # readers' comments have rules of their own
    assert is_loose("share") and not is_loose("footer")


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=20))
def test_any_names(classes: str, id: str, role: str) -> None:
    word = find_noise(classes, id, role)
    assert word == "" or word == "comment" or word in (classes + id + role).lower()


@pytest.mark.parametrize("name", ["post", "reply-3", "forumMessage", "topic", "floor", "entry"])
def test_names_of_posts(name: str) -> None:
    assert POST.search(name)


@pytest.mark.parametrize("words", LANGUAGES, ids=[words.lang for words in LANGUAGES])
def test_a_story_is_no_phrase_and_the_words_around_it_are(words: Words) -> None:
    for text in [*words.story, *(text for _, text in words.terms)]:
        assert not is_edge(text, size(text)) and not is_tail(text, size(text)) and not is_call(text, size(text))
    assert is_edge(words.byline, size(words.byline))
    assert is_call(words.cookies, size(words.cookies)) and is_call(words.subscribe, size(words.subscribe))
    assert is_tail(words.credit, size(words.credit)) and is_call(words.rights, size(words.rights))


EDGES = """By Jane Doe|Published 12 March 2021|March 3, 2021|3 Mar 2021|Updated: 08:30|Source: The Courier
Photo: Jane Doe|Tags: river, boat|Share this|2021-03-12 08:30|2021年3月12日|来源：新华社|來源：中央社|作者：何玛莎
编辑：李明|編輯：李明|责任编辑：李明|責任編輯：李明|发布时间：昨天|發布時間：昨天|更新：昨天|更新時間：昨天|瀏覽：1024次
点击数：33|點擊數：33|字号：大 中 小|字體：大 中 小|上一篇：河|下一篇：橋|标签：河|標籤：橋|分享到|（文/何玛莎）
作者：何瑪莎|浏览：1024次|图片来源：河谷晚报"""
SENTENCES = """By default, the picture is centred above the paragraph.|Source code is what a programmer writes.
Share prices fell again on Tuesday, and nobody knew why.|Written Chinese has no blanks between words.
更新当前文档中所有的链接、字段、索引和目录。|更新目前文件中所有的連結、欄位與索引。|返回输入年份的复活节的日期。|返回輸入年份的復活節日期。
时间过得很快，转眼又是一年。|時間過得很快，轉眼又是一年。|记者走进村子的时候，天已经黑了。|記者走進村子的時候，天已經黑了。
阅读是一件安静的事。|閱讀是一件安靜的事。"""


@pytest.mark.parametrize("text", EDGES.replace("\n", "|").split("|"))
def test_lines_around_articles(text: str) -> None:
    assert is_edge(text, size(text))


@pytest.mark.parametrize("text", SENTENCES.replace("\n", "|").split("|"))
def test_sentences_that_begin_like_them(text: str) -> None:
    assert not is_edge(text, size(text))


LAST_SENTENCES = """本文档用标记语言写成，可以转成多种格式。|本文件用標記語言寫成，可以轉成多種格式。
作者在书里写了一个人的一生，从出生写到死去。|作者在書裡寫了一個人的一生，從出生寫到死去。|附近的村民说，这条河从来没有干过。
注意到这一点的人很少，他们多半已经走了。|更多的人选择留下来，在岸上等水退。|更多的人選擇留下來，在岸上等水退。
关注这条河的人越来越多。|關注這條河的人越來越多。|Follow the river for two miles and you reach the mill.
Download speeds fell to a tenth of what they had been.|See more of the river than of the town, he said."""


@pytest.mark.parametrize("text", LAST_SENTENCES.replace("\n", "|").split("|"))
def test_last_sentences_that_begin_like_credits(text: str) -> None:
    assert not is_tail(text, size(text))


def test_long_blocks_are_prose() -> None:
    for text in ("By Jane Doe", "来源：新华社", "來源：中央社", "© 2021", "Follow us", "关注我们", "關注我們"):
        long = text + "甲乙丙丁 and so on, " * 40
        assert not is_edge(long, size(long)) and not is_tail(long, size(long)) and not is_call(long, size(long))
