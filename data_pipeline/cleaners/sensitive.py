"""Drops advertising for gambling, pornography, fraud, drugs and the like by the weighted density of lexicon terms.

Never on a single hit: ordinary pages hit public word lists a dozen times, and a news report on a crime uses its words.
Terms weigh by how specific they are. Two categories are evidence only: how a seller asks to be reached adds weight, the
words of police reports, laws and medicine take it away.
The terms are found in one pass of an Aho-Corasick automaton (leftmost, longest) over folded text (cleaners/lexicon.py):
20 to 40 MB/s, however many terms. Built once a process: a second for 50,000 terms; memory some 500 bytes a term.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ahocorasick_rs import AhoCorasick, MatchKind

from data_pipeline.cleaners.lexicon import Term, check_category, fold, merge, read_lexicon, read_list
from data_pipeline.document import Document, Drop, Measure
from data_pipeline.lists import Stamp, stamp
from mindllm.config import UserError
from mindllm.text import units

LEXICON = Path(__file__).with_name("lexicon.tsv")
EVIDENCE = {"contact": 1, "report": -1}  # categories that are no reason: their weight is added, or taken away
_WORD_CHARACTER = re.compile("[0-9a-z]")
_MAX_SHOWN = 8


@dataclass
class _Group:
    """Categories that are judged together, and what was found: `names` empty means all without a limit of their own."""

    names: tuple[str, ...]
    limit: float
    length: int = 0  # units of text
    num_terms: int = 0
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sensitive:
    """Drops sensitive:<category> (the one with most weight) when both limits are passed.

    max_density: summed weight of all hits, per unit of text.  min_terms: number of different terms that must hit.
    category_density: categories with a limit of their own; these are judged alone, the others together.
    ignore: categories that do not count.  Terms of the categories contact and report (EVIDENCE) add to the sums, or
    take from them; they are no reason, and not counted as different terms.
    lexicon: path of a file for `read_lexicon`; empty: ours.  lists: path of a plain list (`read_list`) -> its category.
    list_weight: weight of their longer terms.
    English terms hit only between word borders. Case, width, script and separators between characters do not matter.
    """

    max_density: float = 0.02
    min_terms: int = 3
    category_density: dict[str, float] = field(default_factory=dict)
    ignore: list[str] = field(default_factory=list)
    lexicon: str = ""
    lists: dict[str, str] = field(default_factory=dict)
    list_weight: float = 0.25

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each; the lexicon and the lists are read and checked."""
        if self.max_density < 0:
            yield f"max_density: {self.max_density} is below 0"
        if self.min_terms < 1:
            yield "min_terms: must be at least 1"
        if self.list_weight <= 0:
            yield f"list_weight: {self.list_weight} is not above 0"
        try:
            known = {term.category for term in _read_terms(*self._files(), self.list_weight)}
        except UserError as error:
            yield f"lexicon: {error}"
            return
        for key, names in (("ignore", self.ignore), ("category_density", list(self.category_density))):
            for name in names:
                if name not in known or (name in EVIDENCE and key == "category_density"):
                    yield f"{key}: no terms of category {name!r}; there are {', '.join(sorted(known))}"
        yield from (f"category_density.{name}: {d} is below 0" for name, d in self.category_density.items() if d < 0)

    def __call__(self, document: Document) -> Document | Drop:
        """The document unchanged, or why it goes."""
        for group in self._judged(document.text):
            if self._is_bad(group):
                named = sorted(group.weights.keys() - EVIDENCE.keys())
                return Drop(f"sensitive:{max(named, key=group.weights.__getitem__)}")
        return document

    def measures(self, document: Document) -> Iterator[Measure]:
        """Density and different terms of each group of categories against the limits; what was found."""
        for group in self._judged(document.text):
            of = f" ({', '.join(group.names)})" if group.names else ""
            weight, good = sum(group.weights.values()), not self._is_bad(group)
            density = max(0.0, weight) / max(1, group.length)
            yield Measure(f"weighted density{of}", density, f"at most {group.limit}, or few different terms", good)
            yield Measure(f"different terms{of}", group.num_terms, f"fewer than {self.min_terms}, or low density", good)
            by_category = ", ".join(f"{name} {group.weights[name]:g}" for name in sorted(group.weights))
            yield Measure(f"weight by category{of}", by_category or "none")
        found = list(dict.fromkeys(term.text for term in self.find(document.text)))
        more = f" and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
        yield Measure("terms found", ", ".join(found[:_MAX_SHOWN]) + more if found else "none")

    def find(self, text: str) -> list[Term]:
        """The terms that hit, in reading order, repeats included."""
        return [self._lexicon.terms[index] for index in self._lexicon.hits(text)]

    def _judged(self, text: str) -> list[_Group]:
        """The groups of categories that are judged together; none where too few terms hit for any limit."""
        counts = Counter(self._lexicon.hits(text))
        if len(counts) < self.min_terms:
            return []
        hits = [(self._lexicon.terms[index], count) for index, count in counts.items()]
        length = len(units(text))
        alone = [_Group((name,), limit) for name, limit in self.category_density.items()]
        groups = [_Group((), self.max_density), *alone]
        for group in groups:
            group.length = length
            for term, count in hits:
                common = not group.names and term.category not in self.category_density
                if common or term.category in group.names or term.category in EVIDENCE:
                    weight = term.weight * count * EVIDENCE.get(term.category, 1)
                    group.weights[term.category] = group.weights.get(term.category, 0.0) + weight
                    group.num_terms += term.category not in EVIDENCE
        return groups

    def _is_bad(self, group: _Group) -> bool:
        return group.num_terms >= self.min_terms and sum(group.weights.values()) > group.limit * group.length

    @functools.cached_property
    def _lexicon(self) -> _Lexicon:
        return _build(*self._files(), self.list_weight, tuple(self.ignore))

    def _files(self) -> tuple[Stamp, tuple[tuple[Stamp, str], ...]]:
        """The lexicon, and each list with its category."""
        lists = tuple((stamp(path), category) for path, category in self.lists.items())
        return stamp(self.lexicon or LEXICON), lists


class _Lexicon:
    """Terms and the automaton that finds them."""

    def __init__(self, terms: list[Term]):
        self.terms = terms
        self._needs_borders = [term.language == "en" for term in terms]
        self._automaton = AhoCorasick([term.text for term in terms], matchkind=MatchKind.LeftmostLongest)

    def hits(self, text: str) -> Iterator[int]:
        """The numbers of the terms that hit, in reading order."""
        text = fold(text)
        for index, start, end in self._automaton.find_matches_as_indexes(text):
            if not self._needs_borders[index] or _stands_alone(text, start, end):
                yield index


@functools.lru_cache(maxsize=2)  # cleaners are built anew for every shard
def _read_terms(lexicon: Stamp, lists: tuple[tuple[Stamp, str], ...], list_weight: float) -> tuple[Term, ...]:
    """The terms of all files. Raises UserError for the first mistake in them."""
    terms = read_lexicon(Path(lexicon[0]))
    for (path, _, _), category in lists:
        check_category(category, f"lists.{path}")
        terms += read_list(Path(path), category, list_weight)
    return tuple(merge(terms))


@functools.lru_cache(maxsize=2)
def _build(
    lexicon: Stamp, lists: tuple[tuple[Stamp, str], ...], list_weight: float, ignore: tuple[str, ...]
) -> _Lexicon:
    return _Lexicon([t for t in _read_terms(lexicon, lists, list_weight) if t.category not in ignore])


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] touches no Latin letter or digit (a Han character beside it is a border)."""
    return not (start and _WORD_CHARACTER.match(text[start - 1])) and not _WORD_CHARACTER.match(text[end : end + 1])
