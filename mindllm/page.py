"""HTML pages of one file that need no network: Jinja templates, what both of our reports share, and how they stay safe.

All text is escaped unless it is our own markup, which says so with `markup`; a missing fact is an error, not a blank.
Data for a page's script is JSON that cannot end its element; the script is allowed by its hash, so that a page can
forbid every other. The same facts give the same bytes. Cost: some ms and the size of the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mindllm.text import language

BASE_STYLE = Path(__file__).with_name("page.css")
# What could end a script element, open a comment in it, or be a line end to old readers of JavaScript.
_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(template: Path, filters: Mapping[str, Callable[..., Any]] | None = None, /, **facts: Any) -> str:
    """The page as HTML text: `template` filled in with `facts`, with FILTERS and `filters` for their values.

    `base_style` in a template is the style that all pages begin with (mindllm/page.css). Raises
    jinja2.UndefinedError for a name that is no fact.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**FILTERS, **(filters or {})}
    base_style = markup(BASE_STYLE.read_text(encoding="utf-8").rstrip("\n"))
    return environment.get_template(template.name).render(base_style=base_style, **facts) + "\n"


def markup(html: str) -> Markup:
    """HTML or SVG that we wrote ourselves, which is not escaped; never text that came from a document."""
    return Markup(html)


def json_for_script(value: Any) -> Markup:
    """`value` as JSON for a <script type="application/json"> element: nothing in it can end the element.

    Raises ValueError for NaN and infinities, which JSON has no words for.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return markup(text.translate(_UNSAFE))


def script_hash(script: str) -> Markup:
    """The source expression that allows exactly this inline script (Content Security Policy Level 3, section 2.3.1)."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return markup(f"'sha256-{base64.b64encode(digest).decode()}'")  # base64 and hyphens: nothing to escape


def show_count(value: int | None) -> str:
    """1,234,567; - for None."""
    return "-" if value is None else f"{value:,}"


def show_bytes(value: int) -> str:
    """950 B, 12.3 kB, 4.5 MB, 6.7 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value} B"


def show_seconds(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def show_rate(rate: float | None) -> str:
    """Inputs a second: 12,345/s, 3.4/s; - for None."""
    if rate is None:
        return "-"
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.1f}/s"


def show_share(value: float) -> str:
    """.123 as 12.3%."""
    return f"{value:.1%}"


FILTERS: dict[str, Callable[..., Any]] = {
    "count": show_count,
    "size": show_bytes,
    "time": show_seconds,
    "rate": show_rate,
    "share": show_share,
    "lang": language,
}
