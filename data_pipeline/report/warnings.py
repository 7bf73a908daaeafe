"""What a reader of the data report should look at first, in plain words: heavy losses, failures, stages out of step.

Each rule takes the facts of the stages and gives sentences; no rule changes anything. Cost: nothing to speak of.
"""

from __future__ import annotations

from collections.abc import Iterator

from data_pipeline.report.facts import FAILURES, UNKNOWN, Facts, sum_rows
from mindllm.stage import content_hash

MIN_DOCUMENTS = 20  # of a language; of fewer, a share says little
MAX_DROPPED = 0.5  # share of a language's documents
MAX_NAMED = 5  # sites in one sentence
MEANINGS = {  # of the beginnings in FAILURES
    "error:": "made a cleaner fail; that is a mistake in the cleaner, not in the document",
    "quarantine:": "hung or crashed a cleaner and were set aside",
    "read:": "could not be read from their files (clipped, damaged or of an unknown kind)",
}


def find_warnings(facts: Facts) -> list[str]:
    """Sentences, the most important first; an empty list when all is well."""
    found = [*_incomplete(facts), *_out_of_step(facts)]
    if facts.ran:
        found += [*_missing(facts), *_failures(facts), *_languages(facts), *_lost_sites(facts)]
    return found


def _incomplete(facts: Facts) -> Iterator[str]:
    for stage in facts.stages:
        if stage.state == "begun":
            yield f"Stage {stage.name} was begun and is not complete; the same command goes on where it stopped."


def _out_of_step(facts: Facts) -> Iterator[str]:
    """A stage that was made from another version of the one before; no shards yet is no fault."""
    complete = [stage for stage in facts.stages if stage.state == "complete"]
    for before, stage in zip(complete, complete[1:], strict=False):
        made_from = (stage.meta.get("inputs") or {}).get(before.name)
        if made_from not in (None, content_hash(before.meta)):
            yield (
                f"Stage {stage.name} was not made from the {before.name} that lies here now: their numbers do not "
                f"belong together. Run {stage.name} again with force=true."
            )


def _missing(facts: Facts) -> Iterator[str]:
    for stage in facts.stages:
        failed = stage.counts.get("failed") or []
        if failed:
            listed = ", ".join(failed[:MAX_NAMED]) + (" and others" if len(failed) > MAX_NAMED else "")
            yield f"Stage {stage.name} is complete without {len(failed):,} shard(s) that failed: {listed}."


def _failures(facts: Facts) -> Iterator[str]:
    ordered = sorted(facts.failures.items(), key=lambda item: (-item[1], item[0]))
    for beginning in FAILURES:
        found = [(reason, n) for reason, n in ordered if reason.startswith(beginning)]
        if found:
            total = sum(n for _, n in found)
            listed = ", ".join(f"{reason} {n:,}" for reason, n in found[:MAX_NAMED])
            more = " and others" if len(found) > MAX_NAMED else ""
            yield f"{_documents(total)} {MEANINGS[beginning]}: {listed}{more}."


def _languages(facts: Facts) -> Iterator[str]:
    """Languages that lost more than MAX_DROPPED, and stages that kept nothing at all."""
    sums, last = sum_rows(facts), len(facts.ran) - 1
    if not sums.get(f"kept:{last}"):
        yield "No document is left."
        return
    for language, number in facts.languages.named.items():
        came, left = (sums.get(f"{base}:{number}", [0, 0])[0] for base in ("in:0", f"kept:{last}"))
        if language != UNKNOWN and came >= MIN_DOCUMENTS and (came - left) / came > MAX_DROPPED:
            reason = max(range(len(facts.reasons)), key=lambda r: sums.get(f"drop:{r}:{number}", [0, 0])[0])
            yield (
                f"{(came - left) / came:.0%} of the {came:,} documents in {language} were dropped, "
                f"most of them for {facts.reasons[reason][1] or 'rare reasons'}."
            )


def _lost_sites(facts: Facts) -> Iterator[str]:
    if facts.lost_sites:
        listed = ", ".join(f"{_short(site)} ({n:,})" for site, n in list(facts.lost_sites.items())[:MAX_NAMED])
        more = " and others" if len(facts.lost_sites) > MAX_NAMED else ""
        total = len(facts.lost_sites)
        yield f"{total:,} site{'s' if total > 1 else ''} lost every document: {listed}{more}."


def _documents(number: int) -> str:
    return f"{number:,} document{'s' if number != 1 else ''}"


def _short(name: str) -> str:
    return name if len(name) <= 60 else name[:57] + "..."
