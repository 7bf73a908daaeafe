"""Where the time of one step goes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch


class Profiler:
    """Traces step `at` of a run."""

    def __init__(self, out: Path | None, at: int, device: torch.device):
        self.out, self.at, self.device = out, at, device

    def step(self, number: int) -> contextlib.AbstractContextManager[None]:
        """Around a step (counted from 1)."""
        return contextlib.nullcontext()

    def region(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Around a part of a step."""
        return contextlib.nullcontext()
