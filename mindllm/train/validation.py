"""Validation of a run: loss and bits per byte of held-out samples, by source."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from mindllm import engine as door
from mindllm.loss import IGNORED, num_targets
from mindllm.shards import Shards, stacked
from mindllm.tokenizer import Tokenizer
from mindllm.train.objective import Loss


def validator(
    sources: dict[str, Shards], valid_samples: int, micro_batch_size: int, loss: Loss, tokenizer: Tokenizer,
    rank: int, world: int, device: torch.device,
) -> Callable[[nn.Module], dict[str, float]]:  # fmt: skip
    """A function of the model: loss (nats per token) and bits per UTF-8 byte of held-out samples.

    Bits per byte also for each source. An eos counts in the nats and in the tokens, and stands for no byte.
    """
    token_bytes, size = tokenizer.token_bytes, micro_batch_size

    def validate(model: nn.Module) -> dict[str, float]:
        model.eval()
        sums: list[float] = []
        for shards in sources.values():
            count = min(len(shards), valid_samples)
            mine = range(rank, -(-count // world) * world, world)  # as many on every rank: ZeRO-3 needs all for a pass
            nats, tokens, text = torch.zeros((), dtype=torch.float64, device=device), 0, 0
            for start in range(0, len(mine), size):
                part = mine[start : start + size]
                samples = stacked([shards[min(k, count - 1)] for k in part], len(token_bytes))
                batch, labels = loss.prepare(samples, device), samples[:, 1:].copy()
                if part[-1] >= count:
                    labels[-1] = IGNORED  # a repeat that only fills up this rank's part
                    batch["labels"] = torch.from_numpy(labels).to(device)
                with torch.no_grad():
                    nats += loss(model, batch)["loss"]
                tokens += num_targets(torch.from_numpy(labels))
                text += int(token_bytes[labels[labels != IGNORED]].sum(dtype=np.int64))
            sums += [float(nats), tokens, text]  # sync: once a source
        model.train()
        totals = door.add_up(sums, device).cpu().numpy().reshape(-1, 3)
        return _validation_lines(list(sources), totals)

    return validate


def _validation_lines(names: list[str], totals: np.ndarray) -> dict[str, float]:
    if not len(totals):
        return {}
    nats, tokens, text = totals.sum(axis=0)
    values = {"valid_loss": nats / tokens, "valid_bpb": nats / math.log(2) / text}
    return values | {
        f"valid_bpb/{name}": row[0] / math.log(2) / row[2] for name, row in zip(names, totals, strict=True)
    }
