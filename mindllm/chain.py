"""The whole chain, stage after stage, each as the command that a user would type; ends with one table of what they did.

This file knows no stage from the inside: it runs commands and reads their meta.json, so that data, training and evaluation
stay apart. A stage that is done says so and costs its start-up; a stage that fails ends the chain with its exit code.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mindllm.cli import Verb, main
from mindllm.config import UserError
from mindllm.stage import read_json

LAUNCHER = "deepspeed"  # a command that starts with this word is run under DeepSpeed's launcher
_TAKES_INPUT = "clean"  # the stage that reads raw pages; the others read what it wrote


@dataclass
class StageConfig:
    """One stage. command: module and verb.  config: its YAML.  set: overrides.

    folder: where its meta.json appears inside the run (empty: it writes none and has no line in the table).
    """

    command: str
    config: str
    folder: str = ""
    set: list[str] = field(default_factory=list)

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if not Path(self.config).exists():
            yield f"config: {self.config} does not exist (paths are relative to the repository's root)"


@dataclass
class ChainConfig:
    """A chain of stages in one run folder.

    run: the folder.  input: raw pages (empty: what the data config names).  num_processes: of the training, under the
    launcher.  force: recompute stages that were made with other settings.  set: stage -> more overrides.
    """

    stages: dict[str, StageConfig]
    run: str = "runs/demo"
    input: str = ""
    num_processes: int = 1
    force: bool = False
    set: dict[str, list[str]] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if self.num_processes < 1:
            yield "num_processes: must be at least 1"
        for name in self.set:
            if name not in self.stages:
                yield f"set.{name}: no such stage; there are {', '.join(self.stages)}"
        if self.input and not Path(self.input).exists():
            yield f"input: {self.input} does not exist"


def chain(config: ChainConfig) -> int:
    """Run all stages in order, then print what each one read, wrote and cost."""
    walls: dict[str, float] = {}
    for number, (name, stage) in enumerate(config.stages.items(), 1):
        words = command(config, name, stage)
        print(f"\n[{number}/{len(config.stages)}] {name}: {shlex.join(_shown(words))}", flush=True)
        start = time.monotonic()
        code = subprocess.run(words, check=False).returncode
        walls[name] = time.monotonic() - start
        if code:
            print(
                f"{name} failed (exit code {code}); mend it and run the same command again: finished stages stay",
                file=sys.stderr,
            )
            return code if code > 0 else 1
    print_table(config, walls)
    return 0


def command(config: ChainConfig, name: str, stage: StageConfig) -> list[str]:
    """The command line of a stage."""
    first, *rest = stage.command.split()
    if first == LAUNCHER:
        launcher = Path(sys.executable).with_name("deepspeed")  # the script of this environment, activated or not
        port = [] if "MASTER_PORT" in os.environ else ["--master_port", str(29500 + os.getpid() % 20000)]
        words = [str(launcher), "--num_gpus", str(config.num_processes), *port, "--no_local_rank", "--module", *rest]
    else:
        words = [sys.executable, "-m", first, *rest]
    words += [stage.config, f"run={config.run}", *stage.set, *config.set.get(name, [])]
    if name == _TAKES_INPUT and config.input:
        words.append(f"sources.web.path={config.input}")
    return [*words, "force=true"] if config.force else words


def _shown(words: list[str]) -> list[str]:
    return [Path(words[0]).name, *words[1:]]


def print_table(config: ChainConfig, walls: dict[str, float]) -> None:
    """The closing table: stage, in, out, seconds, rate."""
    table = Table(
        "stage", "in", "out", "unit", "seconds", "rate", title=f"{config.run}: {sum(walls.values()):.0f} s in all"
    )
    for name, stage in config.stages.items():
        if not stage.folder:
            continue
        meta = read_json(Path(config.run) / stage.folder / "meta.json")
        if meta is None:
            raise UserError(
                f"{name}: ended well, but left no {config.run}/{stage.folder}/meta.json; is `folder` right?"
            )
        table.add_row(name, *row(meta))
    Console().print(table)


def row(meta: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """(in, out, unit, seconds, rate) of a stage's meta.json, as text. The rate is input per second of work."""
    counts, seconds = meta["counts"], meta["seconds"]
    unit = str(counts.get("unit", ""))
    rate = f"{counts.get('in', 0) / seconds:,.0f} {unit.split(' ')[0]}/s" if seconds else ""
    return f"{counts.get('in', 0):,}", f"{counts.get('out', 0):,}", unit, f"{seconds:.1f}", rate


if __name__ == "__main__":
    sys.exit(main("python -m mindllm.chain", Verb(ChainConfig, chain)))
