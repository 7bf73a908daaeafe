"""The whole vocabulary of the package: a Document, a Drop with its reason, a Cleaner that turns one into the other.

A cleaner may also have `measures(document) -> Iterable[Measure]`: what it measures on a document as it comes in, for
`python -m data_pipeline inspect`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(slots=True)
class Document:
    """One text with its origin. Until the html cleaner has run, `text` is empty and the bytes lie in meta["html"]."""

    text: str
    id: str
    url: str = ""
    site: str = ""
    lang: str = ""
    source: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """Why a document goes: "rule:reason" ("density:low_text"). Counted, and written to dropped/ with the document."""

    reason: str


class Measure(NamedTuple):
    """One figure that a cleaner looks at: what was measured, the limit as words ("at least .75"), whether it is kept.

    `limit` is "" for a figure that decides nothing.
    """

    name: str
    value: float | int | str
    limit: str = ""
    passes: bool = True


Cleaner = Callable[[Document], Document | Drop]
