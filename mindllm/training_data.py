"""The text that a training reads: shard folders opened and checked, what may change about them, the record of the run.

A running job can take text in, or let it go, at a later step: what was served before its newest checkpoint must stay as
it was (mindllm.mixture.past), all after that may change once the user has said accept_data=true. plan.json alone
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
from mindllm.mixture.order import SHARES
from mindllm.mixture.past import past_differences
from mindllm.shards import Shards
from mindllm.stage import Stage, differences, indented, read_json, write_json
from mindllm.tokenizer import Tokenizer

MAY_CHANGE = ("config.phases", "inputs.sources", "inputs.valid")  # parts of a run's plan, where its past stays the same
RECORD = "mixture.json"


def open_sources(
    folders: Mapping[str, str | Path], split: str, seq_len: int, tokenizer: Tokenizer, show: bool = False
) -> dict[str, Shards]:
    """The sources of shard folders (by prefix: "" or what goes before a source's name) with a sample of `split`.

    show: say which sources are too short. Raises UserError for shards that another tokenizer made, and for two sources
    of one name.
    """
    found: dict[str, Shards] = {}
    for prefix, folder in folders.items():
        for path in sorted(p.parent for p in Path(folder).glob(f"*/{split}/meta.json")):
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
    return {name: shards for name, shards in found.items() if len(shards)}


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
    where = f"up to step {progress.step}, its newest checkpoint," if progress.step else "so far"
    others = "choose another out=... folder, or force=true to train anew."
    past = past_differences(progress.fingerprints["data"], record, progress.step) if progress.step else []
    if past:
        raise UserError(
            f"{stage.name}: what {stage.folder} was trained on {where} would change (there -> now):\n{indented(past)}\n"
            "What was served cannot be taken back, with accept_data=true neither. Leave those phases and their sources "
            f"as they were: give the last of them until_step: {progress.step} (or more), and let the new text begin in "
            f"a phase after it. Or {others}"
        )
    if not accept:
        raise UserError(
            f"{stage.name}: {stage.folder} was begun with other data (there -> now):\n{indented(stage.changes())}\n"
            f"What was served {where} stays the same. Add accept_data=true to go on from there, {others}"
        )
    return stage.start(may_change=MAY_CHANGE)


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
    if len(mixture.phases) > 1:
        console.print(_phase_table(mixture))


def _phase_table(mixture: Mixture) -> Table:
    table = Table("phase", "steps", "order", "shares", title="phases")
    for number, phase in enumerate(mixture.phases):
        until = min(phase.until_step or mixture.num_steps, mixture.num_steps)
        steps = f"{phase.from_step:,} to {until:,}" if phase.from_step < until else f"from {phase.from_step:,}: none"
        shares = ", ".join(f"{name} {_percent(share)}" for name, share in phase.shares.items())
        if phase.anneal_to:
            shares += " -> " + ", ".join(f"{name} {_percent(share)}" for name, share in phase.anneal_to.items())
        order = f"{phase.order}, {phase.blocked_share:.0%} blocked" if phase.blocked_share else phase.order
        table.add_row(f"{number}", steps, order, escape(shares))
    return table


def _percent(share: int) -> str:
    return f"{share / SHARES:.1%}"


def _short(count: int) -> str:
    """1,234, and from a million on 1.23M, 1.23B, 1.23T; the exact numbers are in mixture.json."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= factor:
            return f"{count / factor:.2f}{unit}"
    return f"{count:,}"
