"""How boilerplate looks, in both languages: the words that name it in class and id attributes, and its phrases.

The words were chosen by what they gain on pages of many sites; they are few, because names lie ("post-sidebar" may hold
the article). extract.py therefore takes them as hints only, and spares what holds most of a page's prose. This is the
one place of the extractor that knows English from Chinese (Simplified and Traditional).
"""

from __future__ import annotations

import re

# Shares of the prose from which on marked elements are spared: a single one; all with one word of layout; comments.
SPARED, SPARED_LAYOUT, SPARED_COMMENTS = 0.4, 0.8, 0.95
REST = 300  # bytes of prose that must be left, for the texts of others and calls to go

# Parts of layout: no part of the article, unless nearly all prose of the page lies in them.
_LAYOUT = frozenset(
    "side aside foot header heads nav navs navbar menu ad ads adv promo promos hot ranking teaser teasers more crumb "
    "crumbs pager shares sharing signup popup modal credit credits toolbar tools login search qrcode disclaimer "
    "masthead topbar jump banner navigation contentinfo dialog complementary alert".split()
)
# May as well name the posts of a forum ("reply", "user-rank") or the whole article ("tag-news"): spared more easily.
_LOOSE = frozenset(
    "respond reply replies share shared social widget widgets tag tags byline caption captions print hidden hide meta "
    "rank".split()
)
_NAMED = _LAYOUT | _LOOSE
_STEMS = tuple(
    "related recommend sidebar footer navigation cookie consent onetrust promotion advert sponsor newsletter outbrain "
    "taboola trending popular copyright breadcrumb paginat subscri disqus gdpr".split()
)
# Other texts than the page's own, often longer than it: never spared while an article remains.
OTHERS = tuple(
    "footer copyright recommend related popular trending consent cookie onetrust gdpr outbrain taboola".split()
)
_COMMENTS = frozenset("comment comments commentlist commentbox commentwrap commenting pinglun".split())
_AUTHORS = frozenset("author authors bio".split())
_AROUND_AUTHORS = _AUTHORS | frozenset(
    "box info about the name card section wrap wrapper details detail post article entry meta description block "
    "content".split()
)
_PICTURES = frozenset("photo photos pic picture wp-caption-text".split())
_ROLES = frozenset("navigation banner contentinfo search dialog complementary alert".split())
_STATES = frozenset("has is no not with without enable disable show can".split())  # "has-sidebar" is no side bar
_SHORT = frozenset("ad ads adv more hot side foot tag tags meta hide hidden nav share print rank".split())
_STARTS = {word[:3] for word in (*_NAMED, *_STEMS, *_COMMENTS, *_AUTHORS, *_PICTURES)}  # a quick look
_MAX_PARTS = 3  # of a name, for its short words to count: "enableInArticleAds" is no advertisement
_PART = re.compile(r"[a-z]+|[A-Z][a-z]*|[A-Z]+")
_DIGIT = re.compile("[0-9]")


def find_noise(classes: str, id: str, role: str) -> str:
    """The word by which an element's attributes call it boilerplate ("comment" for comments); "" for none."""
    found = ""
    for name in f"{classes} {id}".split() if id else classes.split():
        word = _words.get(name)
        if word is None:
            word = _remember(name)
        if word:
            if word == "comment":
                return word
            found = found or word
    return found or (role if role in _ROLES else "")


_words: dict[str, str] = {}  # names of classes and ids -> their word: most come again on every page of a site
_MAX_WORDS = 100_000


def _remember(name: str) -> str:
    if len(_words) >= _MAX_WORDS:
        _words.clear()
    word = _words[name] = _name_noise(name)
    return word


def _name_noise(name: str) -> str:
    if ":" in name or "[" in name or "(" in name:  # a utility class: how it looks, not what it is
        return ""
    if name.islower() and not _DIGIT.search(name):
        parts = name.replace("_", "-").split("-")  # the same, quicker
    else:
        parts = [part.lower() for part in _PART.findall(name)]
    if not any([part[:3] in _STARTS for part in parts]) or parts[0] in _STATES:
        return ""
    if not _COMMENTS.isdisjoint(parts):
        return "comment"
    if name in _PICTURES or (not _AUTHORS.isdisjoint(parts) and _AROUND_AUTHORS.issuperset(parts)):
        return parts[0]
    many = len(parts) > _MAX_PARTS
    for part in parts:
        if part.startswith(_STEMS) or (part in _NAMED and not (many and part in _SHORT)):
            return part
    return ""


def may_be_spared(word: str, size: int, size_of_word: int, prose: int) -> bool:
    """Whether a marked element might be main text, from the bytes of its text and of all elements with its word.

    prose: bytes of prose outside marked elements. True where the rules of centre.py could spare it.
    """
    if prose < REST:
        return True
    if not is_sparing(word):
        return False
    share = SPARED if is_loose(word) else SPARED_LAYOUT
    return size * (1 - SPARED) >= SPARED * prose or size_of_word * (1 - share) >= share * prose


def is_sparing(word: str) -> bool:
    """Whether an element with this word is spared for what it holds: not comments, and not other texts."""
    return word != "comment" and not word.startswith(OTHERS)


def is_loose(word: str) -> bool:
    """Whether a word of `find_noise` is one that often names main text, too."""
    return word in _LOOSE


# Names of the posts of a thread, the entries of a list, the sections of a chapter.
POST = re.compile("post|repl|message|answer|comment|topic|thread|floor|entry|item|sect|chapter", re.IGNORECASE)

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    r"(?:19|20)\d\d ?[-/.年] ?\d{1,2} ?[-/.月] ?\d{1,2}|(?<!\d)\d{1,2}[:：]\d\d(?!\d)"
    rf"|\b{_MONTH} \d{{1,2}},? (?:19|20)\d\d|\b\d{{1,2}} {_MONTH},? (?:19|20)\d\d",
    re.IGNORECASE,
)
# How the lines around an article begin: by-line, source, tags, "share this", "previous article". Words that begin
# sentences, too, need a colon, a name or a number behind them.
_EDGE = re.compile(
    r"(?:posted|published|written|edited|reporting|photos?|images?|credit|share|related|read more|read also|see also"
    r"|follow|sign up|subscribe|copyright|tags?|categories|category|filed under|more on|originally|contact|write to"
    r"|last updated|listen to|watch:|advertisement|comments?|leave a|reach (?:us|me|him|her|the))\b|©"
    r"|(?-i:[Bb]y|BY) (?-i:[A-Z])|(?:updated|source)\b(?! the\b)"
    r"|[（(【\[＊*#\s]*(?:文[/／]|图[/／]|圖[/／]|作者|撰文|编辑|編輯|责编|責編|责任|責任|编审|監製|监制|校对|校對|审核|審核"
    r"|发表于|發表於|浏览|瀏覽|点击[量数]|點擊[量數]|字号|字體|字体|扫一扫|扫码|掃一掃|掃碼|原标题|原標題|本文来源|本文來源|上一篇|下一篇"
    r"|免责|免責|特别声明|特別聲明|稿源|首页|首頁|当前位置|您的位置|目前位置|[^。]{2,12}[讯訊]$"
    r"|(?:来源|來源|记者|記者|发布|發布|时间|時間|日期|更新|阅读|閱讀|分享|收藏|打印|列印|评论|評論|关注|關注|版权|版權"
    r"|声明|聲明|转载|轉載|标签|標籤|相关|相關|推荐|推薦|返回|关键词|關鍵字|图片|圖片|实习|實習)"
    r"(?:[^。！？]{0,8}[:：|｜丨/／\d]|[^。！？]{0,12}$))",
    re.IGNORECASE,
)
# What stands after an article: credits, calls to subscribe, notes on rights.
_TAIL = re.compile(
    r"contributed to this|^[\[(]?(?:additional )?(?:reporting|editing|writing|compiled)\b.{0,40} by\b"
    r"|^follow (?:us|him|her|them|me|@|(?-i:[A-Z]\w+(?:'s)?(?: \w+){0,3}) on)\b|^follow @"
    r"|^(?:write|email|contact|reach)\b.*\bat\b|share (?:it|this)\b"
    r"|^this (?:article|story|post|content) (?:was|first|originally|appeared|is)"
    r"|^(?:for )?more (?:information|news|stories|on|from)"
    r"|^(?:read|see|watch|listen) (?:more|also|next|live)\b(?! of\b)"
    r"|^originally published|^download (?:the|our|this)\b.{0,30}\bapps?\b|^get (?:more|the latest)"
    r"|^(?:have|got) a (?:tip|story)"
    r"|^copyright|^©"
    r"|^[（(【\[]?(?:责任编辑|責任編輯|编辑|編輯|责编|責編|作者|来源|來源|声明|聲明|免责声明|免責聲明|特别声明|特別聲明|原标题|原標題"
    r"|附|注|註)[:：]|^(?:版权|版權)(?:所有|归|歸|声明|聲明)|^(?:免责|免責|特别|特別)(?:声明|聲明)"
    r"|^本文(?:来源|來源|由|转自|轉自|首发|首發|系|为|為|原载|原載|作者|仅|僅|已|经|經|禁止|不代表)"
    r"|^更多(?:精彩|内容|內容|资讯|資訊|新闻|新聞|信息|报道|報導)|^(?:欢迎|歡迎)(?:关注|關注|扫|掃|订阅|訂閱|加入|下载|下載|转|轉)"
    r"|^(?:关注|關注)(?:我们|我們|微信|公众号|公眾號|本)|^[（(]?完[）)]?$",
    re.IGNORECASE,
)
# Calls that stand anywhere in an article; those of one or two words only where a sentence begins with them.
_CALLS = (
    "we use cookies", "uses cookies", "by signing up", "all rights reserved", "enable javascript",
    "requires javascript", "require javascript", "error has occurred", "thank you for signing",
    "thank you for subscribing", "already a subscriber",
)  # fmt: skip
_CALLS_AT_START = ("sign up", "subscribe", "newsletter", "follow us", "click here", "log in")
_CALL_START = 40  # characters
_CALL_ZH = re.compile(
    r"版权所有|版權所有|未[经經].{0,10}(?:许可|授权|許可|授權)|转载请注明|轉載請註明|关注(?:我们|微信)|關注我們|扫码|掃碼|扫一扫"
    r"|掃一掃|微信公众号|微信公眾號|责任编辑|責任編輯|下载(?:客户端|APP)|下載(?:客戶端|APP)|仅代表作者|僅代表作者|免责声明"
    r"|免責聲明|信息存储空间|点击(?:查看|下载|进入)|點擊(?:查看|下載|進入)|打开(?:微信|APP)|打開(?:微信|APP)"
)
_COOKIES = re.compile(
    r"\bcookies?\b.*\b(?:consent|experience|privacy|accept|website|browser)", re.IGNORECASE | re.DOTALL
)
STOPS = (".", "!", "?", "。", "！", "？")
_LABEL = re.compile("[:：©|｜/／]")
_EDGE_SIZE, _DATE_SIZE, _TAIL_SIZE, _CALL_SIZE, _COOKIES_SIZE = 120, 80, 300, 200, 800  # bytes: longer is prose


def is_edge(text: str, size: int) -> bool:
    """Whether a block of `size` bytes reads like the lines right before or after an article: by-line, date, source."""
    if size >= _EDGE_SIZE or (text.endswith(STOPS) and not _LABEL.search(text)):  # a sentence is none
        return False
    return _EDGE.match(text) is not None or (size < _DATE_SIZE and _DATE.search(text) is not None)


def is_tail(text: str, size: int) -> bool:
    """Whether a block reads like what follows an article: credits, rights, "follow us"."""
    return size < _TAIL_SIZE and _TAIL.search(text) is not None


def is_call(text: str, size: int) -> bool:
    """Whether a block calls the reader to subscribe, to scan a code, to accept cookies, or states rights."""
    if size >= _COOKIES_SIZE:
        return False
    if "ookie" in text and _COOKIES.search(text) is not None:
        return True
    if size >= _CALL_SIZE:
        return False
    if not text.isascii() and _CALL_ZH.search(text) is not None:
        return True
    lower = text.lower()
    start = lower[:_CALL_START]
    return any(call in lower for call in _CALLS) or any(call in start for call in _CALLS_AT_START)
