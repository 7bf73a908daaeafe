"""What a run says about itself, and what can be read from it.

A name is loaded from its file when it is asked for: reading and drawing runs needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindllm.metrics.board import require_wandb as require_wandb
    from mindllm.metrics.flops import flops_per_token as flops_per_token
    from mindllm.metrics.flops import mean_keys as mean_keys
    from mindllm.metrics.peaks import peak_of as peak_of
    from mindllm.metrics.peaks import peak_tflops as peak_tflops
    from mindllm.metrics.read import TIMED as TIMED
    from mindllm.metrics.read import read_metrics as read_metrics
    from mindllm.metrics.read import untimed as untimed
    from mindllm.metrics.record import Metrics as Metrics

_FILES = {
    "board": ["require_wandb"],
    "flops": ["flops_per_token", "mean_keys"],
    "peaks": ["peak_of", "peak_tflops"],
    "read": ["TIMED", "read_metrics", "untimed"],
    "record": ["Metrics"],
}


def __getattr__(name: str) -> Any:
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
