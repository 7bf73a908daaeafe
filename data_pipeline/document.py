"""The whole vocabulary of the package: a Document, a Drop with its reason, a Cleaner that turns one into the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


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


Cleaner = Callable[[Document], Document | Drop]
