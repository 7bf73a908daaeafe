"""The peer of bench/quality.py, in an interpreter of its own: Hugging Face's Llama trained by transformers.Trainer.

    PYTHON bench/quality_peer.py SETTINGS.json

It needs torch, transformers, accelerate and numpy, and nothing of ours. SETTINGS names a file of token blocks
(N, seq_len), the model's shape (LlamaConfig), the Trainer's arguments, and where to write: checkpoints of the Trainer,
and times.json, the seconds of every step from the end of the one before it, batches and logging included, saving not.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers


class Blocks(torch.utils.data.Dataset):
    """Blocks of tokens, memory-mapped, as inputs and labels (the model shifts them)."""

    def __init__(self, path: str):
        self.tokens = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self.tokens[index].astype(np.int64))
        return {"input_ids": ids, "labels": ids}


class Clock(transformers.TrainerCallback):
    """Seconds of the steps; stops the training after `limit` seconds (0: never), the first step not counted."""

    def __init__(self, limit: float):
        self.limit, self.seconds, self._last = limit, [], 0.0  # type: float, list[float], float

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first step begins."""
        self._last = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step is over."""
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
        if self.limit and sum(self.seconds[1:]) > self.limit:
            control.should_training_stop = True

    def on_save(self, *_: Any, **__: Any) -> None:
        """What a checkpoint takes counts for nothing."""
        self._last = time.perf_counter()


def main(settings: dict[str, Any]) -> None:
    """Train from scratch; everything comes from the settings."""
    torch.set_num_threads(settings["threads"])
    transformers.set_seed(1)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings["shape"]))
    out, clock = Path(settings["out"]), Clock(settings["limit"])
    arguments = transformers.TrainingArguments(
        str(out), use_cpu=True, report_to="none", disable_tqdm=True, save_only_model=True, seed=1, **settings["trainer"]
    )
    transformers.Trainer(model, arguments, train_dataset=Blocks(settings["blocks"]), callbacks=[clock]).train()
    record = {"seconds": clock.seconds, "parameters": sum(p.numel() for p in model.parameters())}
    (out / "times.json").write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("settings", help="what bench/quality.py has written")
    main(json.loads(Path(parser.parse_args().settings).read_text(encoding="utf-8")))
