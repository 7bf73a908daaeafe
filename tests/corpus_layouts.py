"""Small corpora of our own in the layouts of known ones, each with what a run has to make of them: a dict by place.

The texts are put together from lists of phrases, so that any number of different ones can be had in three scripts.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

from raw_inputs import http, parquet, record, zstd

ENGLISH = (
    "The baker,Her neighbour,A young teacher,The old captain,Our postman,The gardener,A tired nurse,The clockmaker",
    "repaired,carried,painted,sold,counted,hid,borrowed,measured",
    "the wooden boat,a basket of pears,seven brass lamps,the garden gate,an empty cart,two letters,the long ladder",
    "behind the mill,near the harbour,on the market square,at the edge of the forest,under the bridge,in the yard",
    "before the rain came,while the bells were ringing,after a long winter,on the first day of spring,at dawn",
)
SIMPLIFIED = (
    "面包师傅,隔壁的邻居,年轻的老师,退休的船长,镇上的邮递员,种花的园丁,疲惫的护士,修钟表的师傅",
    "下雨之前,钟声响起的时候,漫长的冬天过去以后,春天的头一天,天刚亮的时候",
    "在磨坊后面,在码头旁边,在集市广场上,在树林边上,在石桥下面,在自家院子里",
    "修好了,搬走了,重新漆过了,卖掉了,一件件数过了,悄悄藏起了,借来了,仔细量过了",
    "那条木船,一篮子梨,七盏铜灯,花园的铁门,一辆空马车,两封书信,那架长梯子",
)
TRADITIONAL = (
    "麵包師傅,隔壁的鄰居,年輕的老師,退休的船長,鎮上的郵遞員,種花的園丁,疲憊的護士,修鐘錶的師傅",
    "下雨之前,鐘聲響起的時候,漫長的冬天過去以後,春天的頭一天,天剛亮的時候",
    "在磨坊後面,在碼頭旁邊,在集市廣場上,在樹林邊上,在石橋下面,在自家院子裡",
    "修好了,搬走了,重新漆過了,賣掉了,一件件數過了,悄悄藏起了,借來了,仔細量過了",
    "那條木船,一籃子梨,七盞銅燈,花園的鐵門,一輛空馬車,兩封書信,那架長梯子",
)
PILE_SETS = (
    "Pile-CC,PubMed Central,Books3,OpenWebText2,ArXiv,Github,FreeLaw,StackExchange,USPTO Backgrounds,PubMed Abstracts,"
    "Gutenberg (PG-19),OpenSubtitles,Wikipedia (en),DM Mathematics,Ubuntu IRC,BookCorpus2,EuroParl,HackerNews,"
    "YoutubeSubtitles,PhilPapers,NIH ExPorter,Enron Emails"
).split(",")
WUDAO_TYPES = (  # those of more than 10 documents
    "百科 博客 新闻 汽车 娱乐 科技 教育 农业 经济 资讯 旅行 游戏 文化 体育 国际 经验 社会 军事 房产 "
    "百家号文章 医学问答 豆瓣话题 小红书攻略 网页文本 科普文章 财经 孕育常识 法律 日报 健康 评论 文旅 观点 "
    "股票 时尚 国学 天气 期货 酒业 理论 黄金 保险 信托 快讯 亲子 生活 水利资讯 国内 公益"
).split()
CODE = "def area(width, height):\n    return width * height\n\nassert area(2, 3) == 6\nassert area(0, 9) == 0\n"
EXERCISE = "Solve 13812345678 + x = 13812345679 for x.\n1\nSolve 2*x - 13912345678 = 0 for x.\n6956172839\n"
REPLIES = {"en": "Are you still there, my friend?", "zh": "你还在那里等着我回来吗？"}


class Put(NamedTuple):
    """What was put in at one place: the source it has to get, its text, and why `clean` drops it ("": it stays)."""

    source: str
    text: str
    reason: str = ""


def prose(seed: int, lists: tuple[str, ...] = ENGLISH, sentences: int = 15, between: str = "\n\n") -> str:
    """Different sentences in paragraphs of three; 15 have some 180 words, or 300 Chinese characters."""
    rng = random.Random(seed)
    join, end = (" ", ". ") if lists is ENGLISH else ("", "。")
    said = [join.join(rng.choice(words.split(",")) for words in lists) + end for _ in range(sentences)]
    return between.join("".join(said[at : at + 3]).strip() for at in range(0, sentences, 3))


def repeated(language: str, lists: tuple[str, ...], seed: int) -> str:
    """A dialogue in which one line comes five times in a row."""
    return "\n".join([prose(seed, lists), *[REPLIES[language]] * 5, prose(seed + 1, lists)])


def pile(folder: Path) -> dict[str, Put]:
    """train/*.jsonl.zst of several frames, which end inside of lines, as parallel compressors write them; val, test."""
    card = "Call Anna on +1 415 555 0132 or write to anna.lee@river.org. "
    short = prose(1, sentences=4)
    puts = {
        "00.jsonl.zst": [
            ("Pile-CC", prose(2), ""),
            ("Github", CODE, ""),
            ("Pile-CC", CODE + "# copy\n", "density:"),
            ("DM Mathematics", EXERCISE, ""),
            ("Pile-CC", EXERCISE + "Solve 3 = x.\n3\n", "density:"),
            ("PubMed Abstracts", short, ""),
            ("Pile-CC", prose(3, sentences=4), "density:too_short"),
            ("OpenSubtitles", repeated("en", ENGLISH, 4), ""),
            ("Pile-CC", repeated("en", ENGLISH, 6), ""),
        ],
        "01.jsonl.zst": [
            ("Enron Emails", card + prose(8), ""),
            ("USPTO Backgrounds", card + prose(9), ""),
            ("Pile-CC", prose(10, TRADITIONAL), ""),
            ("Wikipedia (en)", prose(11, sentences=6), ""),
            ("Gutenberg (PG-19)", prose(12, sentences=60), ""),
        ],
    }
    found = {}
    for name, rows in puts.items():
        lines = [json.dumps({"text": text, "meta": {"pile_set_name": subset}}) for subset, text, _ in rows]
        _write(folder / "train" / name, *_frames("\n".join(lines).encode() + b"\n"))
        for number, (subset, text, reason) in enumerate(rows):
            words = subset.lower().replace("(", "").replace(")", "").replace(" ", "-")
            found[f"{name}#{number}"] = Put(f"pile-{words}", text.strip(), reason)
    for name in ("val.jsonl.zst", "test.jsonl.zst"):  # not read: they lie beside train/
        _write(folder / name, zstd(json.dumps({"text": prose(99), "meta": {"pile_set_name": "Pile-CC"}}).encode()))
    return found


def wudao(folder: Path) -> dict[str, Put]:
    """part-*.json, an array each: one written over many lines, one without a space."""
    short = prose(21, SIMPLIFIED, 4)
    puts = {
        "part-2021011893.json": [
            ("百科", "铜灯", short, ""),
            ("博客", "短文", short + "完。", "density:too_short"),
            ("博客", "", prose(22, SIMPLIFIED), ""),
            ("新闻", "镇上的事", prose(23, SIMPLIFIED), ""),
            ("", "無類", prose(24, TRADITIONAL), ""),
        ],
        "part-2021278643.json": [
            ("豆瓣话题", "在吗", repeated("zh", SIMPLIFIED, 25), ""),
            ("博客", "等人", repeated("zh", SIMPLIFIED, 27), ""),
            ("科技", "A note in English", prose(29), ""),
            ("科技", "只有题目", "", "read:no_text_field"),
        ],
    }
    found = {}
    for layout, (name, rows) in zip(({"indent": 4}, {"separators": (",", ":")}), puts.items(), strict=True):
        records = []
        for number, (kind, title, content, reason) in enumerate(rows):
            keys = {"id": number + 1, "uniqueKey": f"{number:032x}", "titleUkey": f"{number + 16:032x}"}
            records.append({**keys, "dataType": kind, "title": title, "content": content})
            text = "\n\n".join(part for part in (title, content) if part)
            found[f"{name}#{number}"] = Put(f"wudao-{kind}" if kind else "wudao", text, reason)
        _write(folder / name, json.dumps(records, ensure_ascii=False, **layout).encode())  # type: ignore[arg-type]
    return found


def cbooks(folder: Path) -> dict[str, Put]:
    """{epub,mobi,pdf}/<md5>.epub.txt and so on, a paragraph a line, and the books themselves beside them."""
    notice = "本书由镇上的小书店印行，未经许可不得翻印，读者若发现缺页可到店里调换。"
    books = {f"epub/{n:032x}.epub": prose(30 + n, SIMPLIFIED, 60, "\n") for n in range(4)}
    books[f"mobi/{4:032x}.mobi"] = prose(34, TRADITIONAL, 60, "\n")
    books[f"pdf/{5:032x}.pdf"] = prose(35, ENGLISH, 120, "\n")
    heads = {"epub": b"PK\x03\x04mimetypeapplication/epub+zip", "mobi": b"\0" * 60 + b"BOOKMOBI", "pdf": b"%PDF-1.4\n"}
    found = {}
    for name, text in books.items():
        text = notice + "\n" + text if name.startswith("epub") else text
        _write(folder / f"{name}.txt", text.encode() + b"\n")
        _write(folder / name, heads[name.partition("/")[0]] + bytes(range(200)))
        found[f"{name}.txt"] = Put("cbooks", text)
        found[name] = Put("cbooks", "", "read:unknown_format")
    scanned = f"pdf/{6:032x}.pdf.txt"
    _write(folder / scanned, prose(36, SIMPLIFIED, 12, "\n").encode())  # a page of text in a book of pictures
    return {**found, scanned: Put("cbooks", prose(36, SIMPLIFIED, 12, "\n"), "density:too_short")}


def crawl(folder: Path) -> dict[str, Put]:
    """warc.paths.gz and the files it lists, a gzip member a record; by URL, which every document has."""
    found, names = {}, []
    for number in range(3):
        name = f"crawl-data/CC-MAIN-2026-25/segments/1780000000.{number}/warc/CC-MAIN-20260605-{number:05d}.warc.gz"
        records = [record(b"software: ours\r\n", kind="warcinfo", type="application/warc-fields")]
        texts = [prose(40 + number), prose(50 + number, SIMPLIFIED), prose(60 + number, TRADITIONAL), "短 short"]
        for at, text in enumerate(texts):
            url = f"https://site{number}.example/{at}.html"
            shown = "".join(f"<p>{paragraph}</p>" for paragraph in text.split("\n\n"))
            page = f"<html><head><title>页 {at}</title></head><body><main>{shown}</main></body></html>"
            records.append(record(http(page.encode()), uri=url))
            found[url] = Put("crawl", text, "density:too_short" if at == 3 else "")
        _write(folder / name, *map(gzip.compress, records))
        names.append(name)
    _write(folder / "warc.paths.gz", gzip.compress("".join(f"{name}\n" for name in names).encode()))
    return found


def open_bilingual(folder: Path) -> dict[str, Put]:
    """Five data sets, each a folder as a clone from the hub is one: a card with its configs, and Parquet files."""
    formula = "\\[ \\sum_{i=1}^{n} x_i^2 = \\frac{a+b}{c} < \\sqrt{d} \\]\n" * 2
    frame = {"en": "References and further reading can be found below.", "zh": "参考文献和外部链接请见条目末尾的列表。"}
    rows: dict[str, list[dict[str, Any]]] = {
        "web-en": [{"text": prose(70), "url": "https://a.example/1"}, {"text": CODE, "url": "https://a.example/2"}],
        "web-zh": [
            {"text": prose(71, SIMPLIFIED), "url": "https://b.example/1"},
            {"text": prose(72, TRADITIONAL), "url": "https://c.example/1"},
            {"text": prose(73, SIMPLIFIED, 3), "url": "https://b.example/2"},
        ],
        "wiki-en": [{"text": f"{prose(80 + n, ENGLISH, 6)}\n\n{frame['en']}"} for n in range(5)],
        "wiki-zh": [{"text": f"{prose(90 + n, SIMPLIFIED, 3)}\n\n{frame['zh']}"} for n in range(5)],
        "math": [{"text": formula + "13812345678", "url": "https://d.example/1", "date": "2023-03-21 02:12:48"}],
    }
    rows["web-zh"] += [{"text": f"{prose(75 + n, SIMPLIFIED)}\n\n{frame['zh']}"} for n in range(4)]
    places = {
        "web-en": ("sample-10BT", "sample/10BT/*", "sample/10BT/000_00000.parquet"),
        "web-zh": ("cmn_Hani", "data/cmn_Hani/train/*", "data/cmn_Hani/train/000_00000.parquet"),
        "wiki-en": ("20231101.en", "20231101.en/train-*", "20231101.en/train-00000-of-00041.parquet"),
        "wiki-zh": ("20231101.zh", "20231101.zh/train-*", "20231101.zh/train-00000-of-00006.parquet"),
        "math": ("default", "data/train-*", "data/train-00000-of-00114-5d8a.parquet"),
    }
    found = {}
    for name, (config, pattern, file) in places.items():
        for number, row in enumerate(rows[name]):
            row.setdefault("url", f"https://{name}.example/{number}")
            if name.startswith("wiki"):
                row["title"] = f"条目 {number}"
            title = f"{row['title']}\n\n" if "title" in row else ""
            short = name == "web-zh" and number == 2
            found[row["url"]] = Put(name, title + row["text"].strip(), "density:too_short" if short else "")
        configs = _config("other", "other/*") + _config(config, pattern)
        _write(folder / name / "README.md", f"---\nlicense: odc-by\nconfigs:\n{configs}---\n# {name}\n".encode())
        _write(folder / name / file, parquet([{**row, "id": str(n)} for n, row in enumerate(rows[name])]))
        _write(folder / name / "other" / "0.parquet", parquet([{"text": prose(98), "url": "https://other.example/"}]))
    return found


def _config(name: str, pattern: str) -> str:
    return f'- config_name: "{name}"\n  data_files:\n  - split: train\n    path: "{pattern}"\n'


def _write(path: Path, *pieces: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(pieces))


def _frames(data: bytes) -> list[bytes]:
    """Three frames of zstd."""
    cut = len(data) // 3
    return [zstd(part) for part in (data[:cut], data[cut : 2 * cut], data[2 * cut :])]
