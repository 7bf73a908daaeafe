"""The text that a training reads: shard folders opened and checked, what may change about them, the record of the run.

A running job can take text in, or let it go, at a later step: what was served before its newest checkpoint must stay as
it was (mindllm.mixture.past), all after that may change once the user has said accept_changes=true. plan.json alone
decides what a folder goes on with; mixture.json is for people and is brought up to date after it, so that a kill
between the two costs nothing. Opening costs one meta.json for a source and split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mindllm.checkpoint import Progress, latest, read_progress
from mindllm.config import UserError
from mindllm.mixture import Mixture
from mindllm.mixture.order import percent
from mindllm.mixture.past import past_differences
from mindllm.shards import Shards, list_split
from mindllm.stage import Stage, differences, indented, read_json, write_json
from mindllm.tokenizer import Tokenizer

MAY_CHANGE = ("config.phases", "inputs.sources", "inputs.valid")  # parts of a run's plan, where its past stays the same
RECORD = "mixture.json"
_OTHERS = "choose another out=... folder, or force=true to train anew."


def open_sources(
    folders: Mapping[str, str | Path], split: str, seq_len: int, tokenizer: Tokenizer, show: bool = False
) -> dict[str, Shards]:
    """The sources of shard folders (by prefix: "" or what goes before a source's name) with a sample of `split`.

    show: say which sources are too short. Raises UserError for shards that another tokenizer made, for two sources of
    one name, and for text to train on that has two names; RunFailed where the folders do not hold what they should.
    """
    found: dict[str, Shards] = {}
    for prefix, folder in folders.items():
        for path in list_split(Path(folder), split):
            name = f"{prefix}-{path.parent.name}" if prefix else path.parent.name
            if name in found:
                raise UserError(
                    f"{path}: {found[name].folder} is a source named {name}, too; choose another name than "
                    f"{prefix!r} in more_shards"
                )
            found[name] = Shards(path, seq_len, name)
            _check_tokenizer(found[name], tokenizer)
    for name, shards in found.items():
        if show and len(shards) == 0:
            short = f"{shards.num_tokens} tokens, less than one sample of {seq_len}"
            print(f"{split}: source {name} has {short}; left out", flush=True)
    found = {name: shards for name, shards in found.items() if len(shards)}
    if split == "train":  # text that is held out is only read once, and may well be the same
        _check_twins(found)
    return found


def _check_twins(sources: Mapping[str, Shards]) -> None:
    """Raises UserError where two names stand for the same tokens: they would be read twice as often as is counted."""
    first: dict[str, Shards] = {}
    for shards in sources.values():
        other = first.setdefault(shards.fingerprint, shards)
        if other is not shards:
            raise UserError(
                f"{shards.folder} and {other.folder} hold the same tokens (sources {shards.source} and "
                f"{other.source}), so they would be repeated unseen; leave one of them out of shards and more_shards"
            )


def _check_tokenizer(shards: Shards, tokenizer: Tokenizer) -> None:
    if shards.meta["tokenizer"] != tokenizer.fingerprint:
        raise UserError(
            f"{shards.folder}: written with tokenizer {shards.meta['tokenizer']}, not {tokenizer.fingerprint} "
            f"({tokenizer.folder})"
        )


def fingerprints(sources: Mapping[str, Shards]) -> dict[str, str]:
    """Source -> hash of its tokens: what a run's plan says about its data."""
    return {name: shards.fingerprint for name, shards in sources.items()}


def start(stage: Stage, record: dict[str, Any], force: bool, accept: bool) -> bool:
    """Stage.start of a training, which lets the data change from here on, if `accept`, but never what was served.

    record: Mixture.record() of now.  Raises UserError when the folder holds another run, or this one of other data.
    """
    if force or not stage.differs_only_in(MAY_CHANGE):
        return stage.start(force)
    progress = newest_progress(stage.folder)
    _check_past(stage, progress, record)
    if not accept:
        goes_on = (
            f"What was served up to step {progress.step}, its newest checkpoint, stays the same. Add "
            "accept_changes=true to go on from there"
            if progress.step
            else "It has no checkpoint yet. Add accept_changes=true to begin it again with the new data"
        )
        raise UserError(
            f"{stage.name}: {stage.folder} was begun with other data (there -> now):\n{indented(stage.changes())}\n"
            f"{goes_on}, {_OTHERS}"
        )
    return stage.start(may_change=MAY_CHANGE)


def _check_past(stage: Stage, progress: Progress, record: dict[str, Any]) -> None:
    """Raises UserError where a run cannot go on with other data, whether or not the user accepts it."""
    changes = f"with other data (there -> now):\n{indented(stage.changes())}"
    if progress.step >= record["num_steps"] or (stage.folder / "meta.json").exists():
        raise UserError(
            f"{stage.name}: {stage.folder} has been trained to its last step, {record['num_steps']}, {changes}\n"
            f"Nothing can be taken in any more; {_OTHERS}"
        )
    if not progress.step:
        return
    data = progress.fingerprints.get("data")
    if data is None or data.get("rules") != record["rules"]:
        raise UserError(
            f"{stage.name}: {stage.folder} was begun {changes}\nIts newest checkpoint, at step {progress.step}, is "
            "of another version of this program, so nobody can tell whether what was served stays the same; " + _OTHERS
        )
    past = past_differences(data, record, progress.step)
    if past:
        where = f"up to step {progress.step}, its newest checkpoint,"
        raise UserError(
            f"{stage.name}: what {stage.folder} was trained on {where} would change (there -> now):\n{indented(past)}\n"
            "What was served cannot be taken back, with accept_changes=true neither. Leave those phases and their "
            f"sources as they were: give the last of them until_step: {progress.step} (or more), and let the new text "
            f"begin in a phase after it. Or {_OTHERS}"
        )


def newest_progress(folder: Path) -> Progress:
    """Where a run stands by its newest complete checkpoint; at step 0 where there is none."""
    newest = latest(folder)
    return read_progress(newest) if newest else Progress()


def write_record(folder: Path, mixture: Mixture, record: dict[str, Any], valid: Mapping[str, Shards]) -> None:
    """Write the run's mixture.json: the mixture's record and table, and what the user has accepted when.

    Looks at the mixture.json that is there: where it differs, one more entry {step, differences} goes to `accepted`.
    """
    now = {"record": record, "valid": fingerprints(valid)}
    old = read_json(folder / RECORD)
    accepted = [] if old is None else old["accepted"]
    if old is not None and (lines := list(differences({key: old[key] for key in now}, now))):
        accepted.append({"step": newest_progress(folder).step, "differences": lines})
    tables = {"table": mixture.table(by_phase=True), "languages": mixture.language_table()}
    shown = {name: [asdict(row) for row in rows] for name, rows in tables.items()}
    write_json(folder / RECORD, {**now, **shown, "accepted": accepted})


def print_mixture(mixture: Mixture) -> None:
    """Show what a run will read: a line for every source and language, and for every phase if there are some."""
    columns = [Column(name, justify="right") for name in ("documents", "tokens", "share", "served", "epochs")]
    title = f"mixture: {mixture.num_steps:,} steps of {mixture.batch_size * mixture.seq_len:,} tokens"
    table = Table(Column("source", overflow="fold"), "languages", *columns, title=title)
    for rows in (mixture.table(), mixture.language_table()):
        for row in rows:
            languages = ", ".join(name for name, tokens in row.languages.items() if tokens * 100 >= row.tokens)
            counts = (_short(row.documents), _short(row.tokens), f"{row.share:.1%}", _short(row.served_tokens))
            table.add_row(escape(row.source), languages, *counts, f"{row.epochs:.2f}")
        table.add_section()
    console = Console()
    console.print(table)
    for row in mixture.table():
        if row.note:
            print(f"mixture: {row.source}: {row.note}", flush=True)
    for number, phase in enumerate(mixture.phases):
        if phase.from_step >= mixture.num_steps:
            where = f"begins at step {phase.from_step}, and the run ends at step {mixture.num_steps}"
            print(f"mixture: phases.{number} {where}; it does nothing", flush=True)
    if len(mixture.phases) > 1 or mixture.phases[0].listing or mixture.phases[0].anneal_to:
        console.print(_phase_table(mixture))


def _phase_table(mixture: Mixture) -> Table:
    table = Table("phase", "steps", "order", "shares", title="phases")
    for number, phase in enumerate(mixture.phases):
        until = min(phase.until_step or mixture.num_steps, mixture.num_steps)
        steps = f"{phase.from_step:,} to {until:,}" if phase.from_step < until else f"from {phase.from_step:,}: none"
        shares = ", ".join(f"{name} {percent(share)}" for name, share in phase.shares.items())
        if phase.anneal_to:
            shares += " -> " + ", ".join(f"{name} {percent(share)}" for name, share in phase.anneal_to.items())
        order = f"{phase.order}, {phase.blocked_share:.0%} blocked" if phase.blocked_share else phase.order
        table.add_row(f"{number}", steps, order, escape(shares))
    return table


def _short(count: int) -> str:
    """1,234, and from a million on 1.23M, 1.23B, 1.23T; the exact numbers are in mixture.json."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= factor:
            return f"{count / factor:.2f}{unit}"
    return f"{count:,}"
