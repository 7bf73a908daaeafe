"""EvalConfig: everything that the verbs of eval read from configs/eval/*.yaml, checked before any work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal


@dataclass
class EvalConfig:
    """What to measure on one exported model, and where the results go.

    run: folder that holds one folder per stage.  model: exported folder.  tokenizer, shards: the held-out text.
    tasks, include_path, num_fewshot, limit, limits, examples, scorer, batch_size, dtype: benchmarks.
    prompts, max_new_tokens, temperature, top_k, seed: samples.
    """

    run: str = "runs/demo"
    model: str = "{run}/export"
    tokenizer: str = "{run}/tokenizer"  # turns the token shards back into text
    shards: str = "{run}/shards"
    texts: list[str] = field(default_factory=list)  # bits per byte of these files and folders instead; []: the shards
    tasks: list[str] = field(default_factory=list)
    include_path: str = "eval/tasks"
    num_fewshot: int | None = None  # None: what each task says; a task that fixes 0 keeps 0
    limit: int | None = None  # items per task, a subset drawn by seed; None: all
    limits: dict[str, int] = field(default_factory=dict)  # other limits of some: {"mindllm_bbh*": 20}; the first counts
    examples: Literal["fixed", "per_item"] = "fixed"  # drawn once a task, or anew for each item as lm-eval does
    scorer: Literal["shared", "hf"] = "shared"  # ours, which computes what prompts share once, or lm-eval's own
    batch_size: int = 8  # sequences
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # what the model computes benchmarks in
    prompts: list[str] = field(default_factory=list)
    max_new_tokens: int = 64
    temperature: float = 0.8  # 0: always the most probable token
    top_k: int = 40  # 0: all tokens
    seed: int = 1
    max_bytes: int = 1_000_000  # of validation text per source
    max_train_bytes: int = 50_000_000  # of training text per source that the trigram model counts
    report: str = "{run}/report.html"
    published: str = "eval/published.yaml"  # figures of papers to show beside ours; "": none
    contamination: str = ""  # JSON lines of contaminated items: scores on clean items, too; "": none
    title: str = ""
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        for key in ("batch_size", "max_new_tokens", "max_bytes", "max_train_bytes"):
            if getattr(self, key) < 1:
                yield f"{key}: {getattr(self, key)} must be at least 1"
        for key in ("temperature", "top_k", "seed"):
            if not getattr(self, key) >= 0:
                yield f"{key}: {getattr(self, key)} must not be negative"
        if self.seed >= 1 << 32:
            yield f"seed: {self.seed} must be less than {1 << 32:,}"  # numpy takes no more
        if self.num_fewshot is not None and self.num_fewshot < 0:
            yield f"num_fewshot: {self.num_fewshot} must not be negative"
        if self.limit is not None and self.limit < 1:
            yield f"limit: {self.limit} must be at least 1, or null for all items"
        for name, limit in self.limits.items():
            if limit < 1:
                yield f"limits.{name}: {limit} must be at least 1"
        for name in sorted({n for n in self.tasks if self.tasks.count(n) > 1}):
            yield f"tasks: {name} is named twice"
        for index, prompt in enumerate(self.prompts):
            if not prompt.strip():
                yield f"prompts.{index}: is empty"

    def limit_of(self, task: str) -> int | None:
        """So many items of a task at most; None: all."""
        return next((limit for name, limit in self.limits.items() if fnmatchcase(task, name)), self.limit)

    def folder(self, stage: str) -> Path:
        """Where a stage writes."""
        return Path(self.run) / stage
