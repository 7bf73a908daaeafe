"""Ratings on the screen, as an HTML page of its own, and as the section that other pages have of them.

All text is escaped (mindllm/page.py). Cost: milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mindllm import page
from mindllm.stage import read_json, write_text

TEMPLATE, SECTION = (Path(__file__).with_name(name) for name in ("elo.html.j2", "elo_section.html.j2"))
PAGE = "elo.html"
RATINGS = "ratings.json"


def write_page(folder: Path) -> None:
    """elo.html beside ratings.json."""
    write_text(folder / PAGE, render(read_json(folder / RATINGS)))


def render(ratings: dict[str, Any]) -> str:
    """The page as HTML text, of what ratings.json holds."""
    return page.render(TEMPLATE, section=section(ratings))


def section(ratings: dict[str, Any]) -> str:
    """What ratings.json holds as markup below a heading: ratings, notes, ratings by language, shares of points."""
    return page.markup(page.render(SECTION, {"points": show_points, "interval": show_interval}, elo=ratings))


def show_points(value: float | None) -> str:
    """A rating without decimals; - for None."""
    return "-" if value is None else f"{value:.0f}"


def show_interval(row: dict[str, Any]) -> str:
    """The interval of a rating without decimals; - for none."""
    return "-" if row["low"] is None else f"{row['low']:.0f} to {row['high']:.0f}"


def print_ratings(ratings: dict[str, Any], console: Console | None = None) -> None:
    """The table of all prompts, ratings by language beside it, and the notes."""
    level, languages = ratings["settings"]["level"], ratings["languages"]
    title = f"Elo ratings, judged by {escape(ratings['judge'])}"
    table = Table("model", title=title, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("rating", f"{level:.0%} interval", "games", "wins", "ties", "losses", *languages):
        table.add_column(column, justify="right")
    by_language = {lang: {row["name"]: row["rating"] for row in rows} for lang, rows in languages.items()}
    for row in ratings["models"]:
        counts = [f"{row[key]:,}" for key in ("games", "wins", "ties", "losses")]
        own = [show_points(by_language[lang].get(row["name"])) for lang in languages]
        table.add_row(escape(row["name"]), show_points(row["rating"]), show_interval(row), *counts, *own)
    console = console or Console()
    console.print(table)
    for note in ratings["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)
