"""The text that a training reads: shard folders opened and checked, shown, and recorded in the run folder.

plan.json alone decides what a folder goes on with (mindllm.train.changes); mixture.json is for people and is brought up
to date after it, so that a kill between the two costs nothing. Opening costs one meta.json for a source and split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mindllm.config import UserError
from mindllm.mixture import Mixture
from mindllm.mixture.order import percent
from mindllm.shards import Shards, list_split
from mindllm.stage import differences, read_json, write_json
from mindllm.tokenizer import Tokenizer
from mindllm.train.changes import newest_progress
from mindllm.train.schedule import SCHEDULE_KEYS

RECORD = "mixture.json"


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


def write_record(folder: Path, mixture: Mixture, record: dict[str, Any], valid: Mapping[str, Shards]) -> None:
    """Write the run's mixture.json: the mixture's record and table, and what the user has accepted when.

    Looks at the mixture.json that is there: where it differs, one more entry {step, differences} goes to `accepted`.
    The folder's plan.json is there already, and the schedule of the learning rate comes from it.
    """
    train = read_json(folder / "plan.json")["config"]["train"]
    schedule = {key: train[key] for key in SCHEDULE_KEYS if key != "steps"}  # the record holds those
    now = {"record": record, "valid": fingerprints(valid), "schedule": schedule}
    old = read_json(folder / RECORD)
    accepted = [] if old is None else old["accepted"]
    if old is not None and (lines := list(differences({key: old.get(key, now[key]) for key in now}, now))):
        accepted.append({"step": newest_progress(folder).step, "differences": lines})
    tables = {"table": mixture.table(by_phase=True), "languages": mixture.language_table()}
    shown = {name: [asdict(row) for row in rows] for name, rows in tables.items()}
    write_json(folder / RECORD, {**now, **shown, "accepted": accepted})


def print_mixture(mixture: Mixture) -> None:
    """Show what a run will read: a line for every source and language, and for every phase if there are some."""
    columns = [Column(name, justify="right") for name in ("documents", "tokens", "share", "served", "epochs")]
    title = f"mixture: {mixture.num_steps:,} steps of {_step_tokens(mixture)} tokens"
    table = Table(Column("source", overflow="fold"), "languages", *columns, title=title)
    for rows in (mixture.table(), mixture.language_table()):
        for row in rows:
            languages = ", ".join(name for name, tokens in row.languages.items() if tokens * 100 >= row.tokens)
            counts = (short(row.documents), short(row.tokens), f"{row.share:.1%}", short(row.served_tokens))
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


def _step_tokens(mixture: Mixture) -> str:
    """Tokens of a step, or of the smallest and the largest one."""
    sizes = mixture.batch_sizes.first(mixture.num_steps)
    counts = {size * mixture.seq_len for size in (sizes.final, *(size for _, size in sizes.ramp))}
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


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


def short(count: float) -> str:
    """1,234, and from a million on 1.23M, 1.23B, 1.23T; the exact numbers are in mixture.json."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= factor:
            return f"{count / factor:.2f}{unit}"
    return f"{count:,.0f}"
