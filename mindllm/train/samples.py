"""Texts that a model in training continues, every so many steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class SamplesConfig:
    """prompts: texts to continue.  max_new_tokens, temperature (0: the most probable), top_k (0: all), seed."""

    prompts: list[str] = field(default_factory=lambda: ["The old lighthouse", "从前有一座山"])
    max_new_tokens: int = 48
    temperature: float = 0.8
    top_k: int = 40
    seed: int = 1

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if self.max_new_tokens < 1:
            yield "max_new_tokens: must be at least 1"
        for name in ("temperature", "top_k", "seed"):
            if not getattr(self, name) >= 0:
                yield f"{name}: must be 0 or more"
        for index, prompt in enumerate(self.prompts):
            if not prompt.strip():
                yield f"prompts.{index}: is empty"
