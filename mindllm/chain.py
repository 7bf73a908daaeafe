"""The whole chain, stage after stage, each as the command that a user would type.

This file knows no stage from the inside, it only runs commands, so that data, training and evaluation stay apart. A
stage that is done says so and costs its start-up; a stage that fails ends the chain with its exit code.
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

from mindllm.cli import Verb, main
from mindllm.config import UserError

LAUNCHER = "deepspeed"  # a command that starts with this word is run under DeepSpeed's launcher
_TAKES_INPUT = "clean"  # the stage that reads the input; the others read what it wrote


@dataclass
class StageConfig:
    """One stage. command: module and verb.  config: its YAML.  set: overrides."""

    command: str
    config: str
    set: list[str] = field(default_factory=list)

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if not Path(self.config).exists():
            yield f"config: {self.config} does not exist (paths are relative to the repository's root)"


@dataclass
class ChainConfig:
    """A chain of stages in one run folder.

    run: the folder.  input: raw pages or texts (empty: what the data config names).  input_key: what `input` fills in
    the data config.  input_needed: what a user reads who gave none; empty: the chain can do without.  num_processes: of
    the training, under the launcher.  force: recompute stages that were made with other settings.  set: stage -> more
    overrides.
    """

    stages: dict[str, StageConfig]
    run: str = "runs/demo"
    input: str = ""
    input_key: str = "sources.web.path"
    input_needed: str = ""
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
    """Run all stages in order; the last one, the report, prints what each one read, wrote and cost.

    Raises UserError where the chain needs an input and has none.
    """
    if config.input_needed and not config.input:
        raise UserError(f"input: {config.input_needed}")
    start = time.monotonic()
    for number, (name, stage) in enumerate(config.stages.items(), 1):
        words = command(config, name, stage)
        print(f"\n[{number}/{len(config.stages)}] {name}: {shlex.join(_shown(words))}", flush=True)
        code = subprocess.run(words, check=False).returncode
        if code:
            print(
                f"{name} failed (exit code {code}); mend it and run the same command again: finished stages stay",
                file=sys.stderr,
            )
            return code if code > 0 else 1
    print(f"\n{config.run}: {len(config.stages)} stages in {time.monotonic() - start:.0f} s", flush=True)
    return 0


def command(config: ChainConfig, name: str, stage: StageConfig) -> list[str]:
    """The command line of a stage."""
    first, *rest = stage.command.split()
    if first == LAUNCHER and config.num_processes == 1:  # needs none, and a launcher does not pass a SIGTERM on
        words = [sys.executable, "-m", *rest]
    elif first == LAUNCHER:
        launcher = Path(sys.executable).with_name("deepspeed")  # the script of this environment, activated or not
        port = [] if "MASTER_PORT" in os.environ else ["--master_port", str(29500 + os.getpid() % 20000)]
        words = [str(launcher), "--log_level", "warning", "--num_gpus", str(config.num_processes), *port]
        words += ["--no_local_rank", "--module", *rest]
    else:
        words = [sys.executable, "-m", first, *rest]
    words += [stage.config, f"run={config.run}", *stage.set, *config.set.get(name, [])]
    if name == _TAKES_INPUT and config.input:
        words.append(f"{config.input_key}={config.input}")
    return [*words, "force=true"] if config.force else words


def _shown(words: list[str]) -> list[str]:
    return [Path(words[0]).name, *words[1:]]


if __name__ == "__main__":
    sys.exit(main("python -m mindllm.chain", Verb(ChainConfig, chain)))
