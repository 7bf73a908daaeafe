"""Web pages for the tests of the page extractor, in three languages: the same story inside the same furniture.

`LANGUAGES` holds, for English, Simplified and Traditional Chinese, a story of six paragraphs and the words that sites
put around one (menus, by-line, cookie notice, related links, comments, footer). `around` builds a whole page.
"""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """One language's story, and what a site of that language puts around it."""

    lang: str
    title: str
    story: tuple[str, ...]  # six paragraphs, 200 to 450 bytes each
    site: str
    menu: tuple[str, ...]
    byline: str
    share: tuple[str, ...]
    cookies: str
    related: str  # heading of a list of other articles
    others: tuple[str, ...]  # their headlines
    teaser: str  # what stands below such a headline
    comments: str  # heading of the readers' comments
    remarks: tuple[str, ...]  # those comments
    credit: str
    rights: str
    subscribe: str
    terms: tuple[tuple[str, str], ...]  # name and explanation, in pairs


EN = Words(
    "en",
    "The ferry that outlived its bridge",
    (
        "The river leaves the hills in a hurry, goes round the north gate of the old town, and slows down beside the "
        "landing. A ferry has crossed here since at least 1687, when a clerk wrote down what a goose had to pay.",
        "In 1934 the county built a bridge two miles upstream. It was meant to end the ferry, and for a few summers it "
        "nearly did: farmers drove their carts over it, and the boat lay on the bank and dried out.",
        "Then came the flood of 1951. It took the middle of the bridge in one night, and the water carried the beams "
        "as far as the mill. By noon the next day, the old ferryman had caulked his boat and was carrying passengers.",
        "His granddaughter runs the boat today. She says that the work is mostly waiting, and that people who wait "
        "together start to talk: about the price of apples, about their knees, about who has died.",
        "The boat holds twelve people, or four people and a cow. There is no motor. A wire is stretched from bank to "
        "bank, the boat hangs on the wire, and the current pushes it over; all that the ferryman does is to steer.",
        "Nobody has tried to rebuild the bridge. Its two ends still stand in the reeds, and herons sit on them in the "
        "evening. The fare is two coins each way, and geese, as they have since 1687, pay half.",
    ),
    "The Valley Courier",
    ("Home", "Local news", "Sport", "Weather", "Classifieds", "Contact us"),
    "By Martha Holloway, 12 March 2021",
    ("Facebook", "Twitter", "E-mail", "Print this page"),
    "We use cookies to give you the best experience on our website. By clicking accept you consent to all cookies.",
    "Related articles",
    (
        "Mill pond to be dredged in the autumn",
        "Council votes on new bus timetable",
        "Apple harvest is late this year",
        "School choir wins regional prize",
        "Road works on the hill delayed again",
        "Library opens on Sundays from May",
    ),
    "What residents should know before the first snow falls.",
    "Comments",
    (
        "My uncle took this boat to school every day, and he never learned to swim, which worried my aunt a lot.",
        "You forgot to mention that the wire was replaced in 1978, after the barge accident. I was there that morning.",
    ),
    "Contact Martha Holloway at news@courier.example",
    "© 2021 The Valley Courier. All rights reserved.",
    "Sign up for our newsletter",
    (
        ("Ferry", "A boat that carries people and goods over a river, again and again, between the same two places."),
        ("Landing", "The place on the bank where a boat can lie, usually of stone, with steps down to the water."),
        (
            "Caulking",
            "Filling the gaps between the planks of a boat, so that no water comes in; done with tar and hemp.",
        ),
    ),
)
HANS = Words(
    "zh-Hans",
    "比桥活得更久的渡船",
    (
        "这条河急急忙忙地从山里流出来，绕过旧城的北门，到了码头边上才慢下来。至少从1687年起，这里就有渡船，"
        "那一年有个书吏记下了一只鹅过河要付多少钱。",
        "1934年，县里在上游三里的地方修了一座桥。修桥本来是为了不再摆渡，头几年夏天也差一点就成了："
        "农民赶着大车从桥上过，渡船搁在岸上，晒得裂了缝。",
        "后来就是1951年的大水。一夜之间，桥的中间一段没有了，水把梁木一直冲到磨坊那里。"
        "第二天中午，老船工已经补好了船缝，又开始渡人了。",
        "现在撑船的是他的孙女。她说，这个活儿多半是等，而一起等的人总会说起话来：苹果卖什么价，"
        "膝盖疼不疼，村里谁又走了。",
        "船上可以坐十二个人，或者四个人和一头牛。船没有马达。两岸之间拉着一根钢索，船挂在钢索上，"
        "水流把它推过去；撑船的人要做的只是掌好方向。",
        "没有人想过要把桥修起来。两头的桥墩还立在芦苇里，傍晚有苍鹭停在上面。单程两个铜板，"
        "鹅呢，从1687年到现在，一直是半价。",
    ),
    "河谷晚报",
    ("首页", "本地新闻", "体育", "天气预报", "分类广告", "联系我们"),
    "来源：河谷晚报　作者：何玛莎　2021-03-12 08:30",
    ("微信", "微博", "转发给朋友", "打印本页"),
    "本网站使用 cookies 来改善您的浏览体验，点击接受即表示您同意 cookies 的使用，详见 privacy 说明。",
    "相关阅读",
    (
        "磨坊水塘秋天开始清淤",
        "镇上讨论新的公交时刻表",
        "今年的苹果熟得晚",
        "学校合唱团获得地区奖",
        "山坡道路施工再次延期",
        "图书馆五月起周日开放",
    ),
    "第一场雪之前居民应该知道的几件事。",
    "网友评论",
    (
        "我舅舅上学天天坐这条船，可他一辈子没学会游泳，我舅妈为这事担心了几十年，直到他搬进城里去住。",
        "文章漏了一件事，1978年驳船出事以后钢索换过一次新的，那天早上我就在岸上，看得清清楚楚，一点也不会记错。",
    ),
    "责任编辑：何玛莎",
    "版权所有 © 2021 河谷晚报 未经许可不得转载",
    "关注我们的微信公众号",
    (
        ("渡船", "在同一条河的两个固定地点之间，来来回回地运送人和货物的船，大小不等，有的能装牛。"),
        ("码头", "岸边可以停船的地方，多半是石头砌的，有台阶一直通到水边，水大的时候台阶会被淹没。"),
        ("捻缝", "把船板之间的缝隙填满，不让水进来；一般用麻丝和桐油灰，填好以后要晾上几天才能下水。"),
    ),
)
HANT = Words(
    "zh-Hant",
    "比橋活得更久的渡船",
    (
        "這條河急急忙忙地從山裡流出來，繞過舊城的北門，到了碼頭邊上才慢下來。至少從1687年起，這裡就有渡船，"
        "那一年有個書吏記下了一隻鵝過河要付多少錢。",
        "1934年，縣裡在上游三里的地方修了一座橋。修橋本來是為了不再擺渡，頭幾年夏天也差一點就成了："
        "農民趕著大車從橋上過，渡船擱在岸上，曬得裂了縫。",
        "後來就是1951年的大水。一夜之間，橋的中間一段沒有了，水把梁木一直沖到磨坊那裡。"
        "第二天中午，老船工已經補好了船縫，又開始渡人了。",
        "現在撐船的是他的孫女。她說，這個活兒多半是等，而一起等的人總會說起話來：蘋果賣什麼價，"
        "膝蓋疼不疼，村裡誰又走了。",
        "船上可以坐十二個人，或者四個人和一頭牛。船沒有馬達。兩岸之間拉著一根鋼索，船掛在鋼索上，"
        "水流把它推過去；撐船的人要做的只是掌好方向。",
        "沒有人想過要把橋修起來。兩頭的橋墩還立在蘆葦裡，傍晚有蒼鷺停在上面。單程兩個銅板，"
        "鵝呢，從1687年到現在，一直是半價。",
    ),
    "河谷晚報",
    ("首頁", "本地新聞", "體育", "天氣預報", "分類廣告", "聯絡我們"),
    "來源：河谷晚報　作者：何瑪莎　2021-03-12 08:30",
    ("臉書", "噗浪", "轉寄給朋友", "列印本頁"),
    "本網站使用 cookies 來改善您的瀏覽體驗，點擊接受即表示您同意 cookies 的使用，詳見 privacy 說明。",
    "相關閱讀",
    (
        "磨坊水塘秋天開始清淤",
        "鎮上討論新的公車時刻表",
        "今年的蘋果熟得晚",
        "學校合唱團獲得地區獎",
        "山坡道路施工再次延期",
        "圖書館五月起週日開放",
    ),
    "第一場雪之前居民應該知道的幾件事。",
    "網友評論",
    (
        "我舅舅上學天天坐這條船，可他一輩子沒學會游泳，我舅媽為這事擔心了幾十年，直到他搬進城裡去住。",
        "文章漏了一件事，1978年駁船出事以後鋼索換過一次新的，那天早上我就在岸上，看得清清楚楚，一點也不會記錯。",
    ),
    "責任編輯：何瑪莎",
    "版權所有 © 2021 河谷晚報 未經許可不得轉載",
    "關注我們的微信公眾號",
    (
        ("渡船", "在同一條河的兩個固定地點之間，來來回回地運送人和貨物的船，大小不等，有的能裝牛。"),
        ("碼頭", "岸邊可以停船的地方，多半是石頭砌的，有台階一直通到水邊，水大的時候台階會被淹沒。"),
        ("捻縫", "把船板之間的縫隙填滿，不讓水進來；一般用麻絲和桐油灰，填好以後要晾上幾天才能下水。"),
    ),
)
LANGUAGES = (EN, HANS, HANT)


def paragraphs(texts: tuple[str, ...] | list[str], tag: str = "p") -> str:
    """Each text in an element of its own."""
    return "".join(f"<{tag}>{text}</{tag}>\n" for text in texts)


def links(texts: tuple[str, ...], path: str = "/a") -> str:
    """A list of links."""
    items = "".join(f'<li><a href="{path}/{n}">{text}</a></li>\n' for n, text in enumerate(texts))
    return f"<ul>{items}</ul>\n"


def teasers(words: Words, num: int = 6) -> str:
    """Headlines of other articles, each with a line below, as stand at the end of a news page."""
    cards = (
        f'<div class="card"><h3><a href="/n/{n}">{words.others[n % 6]}</a></h3><p>{words.teaser}</p></div>\n'
        for n in range(num)
    )
    return f'<div class="list"><h2>{words.related}</h2>\n{"".join(cards)}</div>\n'


def comments(words: Words) -> str:
    """Readers' comments."""
    posts = "".join(f'<li class="comment"><b>guest{n}</b> <p>{text}</p></li>\n' for n, text in enumerate(words.remarks))
    return f'<div id="comments" class="comments-area"><h2>{words.comments}</h2><ol>{posts}</ol></div>\n'


def article(words: Words, num: int = 6) -> str:
    """Headline, by-line, share bar, the story, related links, credit."""
    share = "".join(f'<a href="#s{n}">{text}</a> ' for n, text in enumerate(words.share))
    return (
        f'<article>\n<h1>{words.title}</h1>\n<p class="byline">{words.byline}</p>\n'
        f'<div class="share-bar">{share}</div>\n'
        f"{paragraphs(words.story[:num])}<p>{words.credit}</p>\n</article>\n"
        f'<div class="related"><h3>{words.related}</h3>{links(words.others)}</div>\n'
    )


def around(words: Words, content: str, head: str = "") -> str:
    """A whole page: menus, breadcrumbs, cookie notice, side bar and footer around `content`."""
    crumbs = f'<div class="breadcrumb"><a href="/">{words.menu[0]}</a> &gt; <a href="/l">{words.menu[1]}</a></div>'
    return (
        f"<!DOCTYPE html>\n<html lang='{words.lang}'><head><title>{words.title} - {words.site}</title>{head}\n"
        "<style>.byline { color: gray }</style><script>var hidden = '<p>no text</p>';</script></head>\n<body>\n"
        f'<div id="cookie-banner"><p>{words.cookies}</p><button>OK</button></div>\n'
        f'<div class="header"><a href="/">{words.site}</a></div>\n<nav>{links(words.menu)}</nav>\n{crumbs}\n'
        f'<div id="main">\n{content}</div>\n'
        f'<div class="sidebar"><h3>{words.subscribe}</h3>{links(words.others[::-1])}</div>\n'
        f'<div id="footer"><p>{words.rights}</p>{links(words.menu[3:])}</div>\n</body></html>\n'
    )


def story(words: Words, num: int = 6) -> str:
    """The text that the extractor is to find."""
    return "\n\n".join(words.story[:num])
