"""What the cleaning stages of a run counted: stats.json and meta.json as the few numbers that the data report shows.

Nothing here reads a document. Languages, sites and reasons get a number each, the frequent ones first; what lies beyond
a limit is added up under one last number, so a hundred thousand sites make no larger page than two hundred.
Cost: one stats.json at a time, about a second and 100 MB for 100,000 sites; milliseconds for the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from data_pipeline.clean import KEPT, Stats
from mindllm.stage import read_json

STAGES = ("clean", "dedup", "refine")
MAX_LANGUAGES = 10
MAX_SITES = 200
MAX_REASONS = 40  # of one stage
MIN_SITE_DOCUMENTS = 5  # a site with fewer may well lose them all
FAILURES = ("error:", "quarantine:", "read:")  # reasons that tell of something broken, not of poor text
UNKNOWN = "?"  # what Stats calls the language of a document that was dropped before anyone looked


@dataclass(frozen=True)
class Names:
    """Names with numbers: named[name] for the frequent ones, len(named) for all others together."""

    named: dict[str, int]
    num_others: int = 0

    def index(self, name: str) -> int:
        """The number of a name."""
        return self.named.get(name, len(self.named))


def number_names(documents: Mapping[str, int], limit: int) -> Names:
    """The `limit` most frequent names (documents by name) with numbers, in order; equals by name."""
    ordered = sorted(documents, key=lambda name: (-documents[name], name))
    return Names({name: number for number, name in enumerate(ordered[:limit])}, max(0, len(ordered) - limit))


class StageFacts(NamedTuple):
    """One stage of the run. state: complete, begun (killed or at work), absent; meta and counts: of a complete one."""

    name: str
    state: str
    meta: dict[str, Any]

    @property
    def counts(self) -> dict[str, Any]:
        """`in`, `out`, `unit`, `bytes` of meta.json."""
        return dict(self.meta.get("counts") or {})

    @property
    def seconds(self) -> float:
        """Wall clock of the last start: a stage that was killed and continued shows its last part."""
        return float(self.meta.get("seconds") or 0)


class Speed(NamedTuple):
    """How fast a stage was: documents and bytes that went in, a second; None where meta.json does not say."""

    name: str
    seconds: float
    documents: int
    bytes: int
    what: str  # what the bytes are

    @property
    def documents_per_second(self) -> float | None:
        """Documents in, a second of wall clock."""
        return self.documents / self.seconds if self.seconds else None

    @property
    def megabytes_per_second(self) -> float | None:
        """Megabytes in, a second of wall clock."""
        return self.bytes / 1e6 / self.seconds if self.seconds else None


# (stage, language, site, reason) -> [documents, bytes]: positions in the lists of Facts; reason -1 means kept
Rows = dict[tuple[int, int, int, int], list[int]]


@dataclass
class Facts:
    """Counts of all complete stages. `stages` holds all, `ran` the complete ones, to which the rows' numbers refer."""

    stages: list[StageFacts]
    ran: list[StageFacts] = field(default_factory=list)
    languages: Names = field(default_factory=lambda: Names({}))
    sites: Names = field(default_factory=lambda: Names({}))
    reasons: list[tuple[int, str]] = field(default_factory=list)  # (stage, reason); "" stands for the rare ones
    rows: Rows = field(default_factory=dict)
    lost_sites: dict[str, int] = field(default_factory=dict)  # documents of sites that kept none, largest first
    failures: dict[str, int] = field(default_factory=dict)  # documents by reason, for reasons that begin with FAILURES


def read_facts(run: Path) -> Facts:
    """Read all that the stages of a run have counted; stages that are not complete are only named."""
    facts = Facts([_read_stage(run, name) for name in (*STAGES, "shards")])
    facts.ran = [stage for stage in facts.stages if stage.state == "complete" and stage.name in STAGES]
    came: dict[str, int] = {}
    for number, stage in enumerate(facts.ran):
        stats = Stats(read_json(run / stage.name / "stats.json") or {})  # memory: about 200 bytes an entry
        if number == 0:
            came = _documents_by(stats, lambda row: row[1])
            facts.sites = number_names(came, MAX_SITES)
            facts.languages = _number_languages(_documents_by(stats, lambda row: row[0]))
        _fold(stats, number, facts)
        if number == len(facts.ran) - 1:
            left = {site for _, site, reason, n, _ in stats.rows() if reason == KEPT and n}
            lost = {s: n for s, n in came.items() if s not in left and n >= MIN_SITE_DOCUMENTS}
            facts.lost_sites = dict(sorted(lost.items(), key=lambda item: (-item[1], item[0])))
    return facts


def _read_stage(run: Path, name: str) -> StageFacts:
    meta = read_json(run / name / "meta.json")
    begun = (run / name / "plan.json").exists()
    return StageFacts(name, "complete" if meta else "begun" if begun else "absent", meta or {})


def _documents_by(stats: Stats, key: Callable[[tuple[str, str, str, int, int]], str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in stats.rows():
        found[key(row)] = found.get(key(row), 0) + row[3]
    return found


def _number_languages(documents: Mapping[str, int]) -> Names:
    """Languages by frequency, the unknown one last of the named: it is no language."""
    named = number_names({k: n for k, n in documents.items() if k != UNKNOWN}, MAX_LANGUAGES)
    if UNKNOWN in documents:
        named.named[UNKNOWN] = len(named.named)
    return named


def _fold(stats: Stats, stage: int, facts: Facts) -> None:
    """Add one stage's counts to the rows, its reasons to the reasons and failures."""
    documents = _documents_by(stats, lambda row: row[2])
    reasons = number_names({reason: n for reason, n in documents.items() if reason != KEPT}, MAX_REASONS)
    for reason, n in documents.items():
        if reason.startswith(FAILURES):
            facts.failures[reason] = facts.failures.get(reason, 0) + n
    first = len(facts.reasons)
    facts.reasons += [(stage, reason) for reason in reasons.named]
    facts.reasons += [(stage, "")] if reasons.num_others else []
    for language, site, reason, n, size in stats.rows():
        number = -1 if reason == KEPT else first + reasons.index(reason)
        key = (stage, facts.languages.index(language), facts.sites.index(site), number)
        entry = facts.rows.setdefault(key, [0, 0])
        entry[0] += n
        entry[1] += size


def sum_rows(facts: Facts) -> dict[str, list[int]]:
    """[documents, bytes] under the keys by which the page names its numbers; report.js makes the same under a filter.

    in:S and kept:S (S: number of a stage that ran), drop:R (R: number of a reason), dropped (all reasons); each also
    for a language (in:0:2) and a site (in:0@7).
    """
    sums: dict[str, list[int]] = {}
    for (stage, language, site, reason), (documents, size) in facts.rows.items():
        bases = (f"in:{stage}", f"kept:{stage}") if reason < 0 else (f"in:{stage}", "dropped", f"drop:{reason}")
        add_to_sums(sums, bases, language, site, documents, size)
    return sums


def add_to_sums(sums: dict[str, list[int]], bases: Iterable[str], language: int, site: int, *values: int) -> None:
    """Add the two values under every base, for the language, for the site."""
    for base in bases:
        for key in (base, f"{base}:{language}", f"{base}@{site}"):
            entry = sums.setdefault(key, [0, 0])
            entry[0] += values[0]
            entry[1] += values[1]


def speeds(facts: Facts) -> list[Speed]:
    """One row for every complete stage, in order."""
    return [_speed(stage, facts) for stage in facts.stages if stage.state == "complete"]


def _speed(stage: StageFacts, facts: Facts) -> Speed:
    by_name = {s.name: s for s in facts.stages}
    if stage.name == "clean":
        return Speed(stage.name, stage.seconds, int(stage.counts.get("in") or 0), sum(source_sizes(stage)), "files")
    if stage.name == "shards":
        documents = int(by_name["refine"].counts.get("out") or 0)
        return Speed(stage.name, stage.seconds, documents, int(stage.counts.get("in") or 0), "text")
    number = facts.ran.index(stage)
    size = facts.ran[number - 1].counts.get("bytes") if number else 0
    return Speed(stage.name, stage.seconds, int(stage.counts.get("in") or 0), int(size or 0), "text")


def source_sizes(clean: StageFacts) -> Iterator[int]:
    """Bytes on disk of each source that the clean stage read."""
    for described in (clean.meta.get("inputs") or {}).values():
        if isinstance(described, dict):  # files that settings name are hashes
            yield int(described.get("bytes") or 0)
