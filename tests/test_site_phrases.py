"""What of a site's phrases is cut from a page: everywhere, around the text on small sites; which ones are frequent."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.phrases import find_phrases
from data_pipeline.site_phrases import SitePhrases, cut_site, read_sites
from data_pipeline.sites import SCHEMA

BODY = "河水绕过旧城的北门，分成两股。\n\nThe river divides in two beside the landing.\n\n河水繞過舊城的北門。"


def keys(*texts: str) -> frozenset[int]:
    """The keys of texts that are one phrase each (the largest, if they hold others)."""
    return frozenset(int(find_phrases(text).keys[0]) for text in texts)


def test_cut_site() -> None:
    site = SitePhrases(
        9,
        keys(
            "关注公众号看更多内容吧！", "Subscribe to our newsletter today. ", "首页\n新闻\n体育", "延伸閱讀與更多文章"
        ),
    )
    text = (
        f"首页\n新闻\n体育\n\n{BODY}\n\n延伸閱讀與更多文章\n\nA first one. Subscribe to our newsletter today.  Words."
    )
    text += "\n说完了。关注公众号看更多内容吧！"
    assert cut_site(text, site) == f"{BODY}\n\nA first one. Words.\n说完了。"
    assert cut_site(BODY, site) == BODY and cut_site("", site) == ""
    assert cut_site("首页\n新闻\n体育", site) == ""


def test_titles_and_code_stay() -> None:
    """A page whose title is in the side bars of other pages keeps its own heading."""
    site = SitePhrases(9, keys("喊鱼的人和他的船", "喊鱼的人和他的船\n图/本报", "The honest scale"))
    text = f"喊鱼的人和他的船\n图/本报\n\n{BODY}\n\n    import numpy as np"
    assert cut_site(text, site, "喊鱼的人和他的船 - 海湾日报") == text
    assert cut_site(text, site, "别的") == f"{BODY}\n\n    import numpy as np"
    assert (
        cut_site(f"# The honest scale\n{BODY}", site, "The honest scale | Riverbend") == f"# The honest scale\n{BODY}"
    )


def test_frames_of_small_sites() -> None:
    """What half of a few pages share goes at both ends only, and only while it is little."""
    head, foot = "新闻中心首页导航", "Copyright notice of the company"
    site = SitePhrases(3, frozenset(), keys(head, foot, "两页都引用的一句话"))
    text = f"{head}\n我们的标题在这里\n2023-05-06 10:22\n{BODY}\n两页都引用的一句话\n{BODY}\n\n{foot}"
    assert cut_site(text, site) == f"我们的标题在这里\n2023-05-06 10:22\n{BODY}\n两页都引用的一句话\n{BODY}"
    relative = SitePhrases(2, frozenset(), keys(*BODY.split("\n\n")))
    updated = f"{BODY}\n\n后来又发生了一件事，大家都没有想到。"
    assert cut_site(updated, relative) == updated  # most of it is shared: another version of the page, no frame


def site_file(path: Path, rows: list[tuple[str, str, int, int]]) -> Path:
    columns = list(zip(*((site, min(keys(line)), n, of) for site, line, n, of in rows), strict=True))
    pq.write_table(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA), path)
    return path


def test_read_sites(tmp_path: Path) -> None:
    short, long = "关注公众号吧", "关注公众号，每天一个词条，三十天读懂一门学问。"
    rows = [("a", short, 30, 100), ("b", short, 29, 100), ("c", short, 3, 3), ("d", long, 4, 100), ("e", long, 3, 100)]
    rows += [("f", long, 3, 6), ("g", short, 2, 6), ("h", long, 2, 4)]
    path = site_file(tmp_path / "sites.parquet", rows)
    sites = read_sites(path, 4, 0.3, True)
    assert {s: (n, len(many), len(few)) for s, (n, many, few) in sites.items()} == {
        "a": (100, 1, 0), "c": (3, 0, 1), "d": (100, 1, 0), "f": (6, 0, 1), "h": (4, 0, 1),
    }  # fmt: skip
    assert set(read_sites(path, 4, 0.3, False)) == {"a", "d"}
    assert set(read_sites(path, 2, 0.3, False)) == {"a", "c", "d", "e", "f", "g", "h"}
