"""What a run folder holds beside checkpoints and metrics: the config that it was started with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from mindllm.stage import write_text


def write_config(out: Path, config: Any) -> None:
    """config.yaml of a run folder: everything the run was started with, defaults included."""
    write_text(out / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))
