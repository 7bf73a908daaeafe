"""Validation of a run: loss and bits per byte of held-out samples, by source and language; where the data stands.

Every process computes every n-th sample of each source; sums of nats, tokens and bytes are added up over processes in
double precision, so the numbers do not depend on how many there are, nor (but for rounding) on the micro-batch. A batch
holds samples of one source: the loss gives one sum a batch, and a source has valid_samples of them to fill it with.
Training is left as it was: no random number is drawn, no gradient made. Cost: a third of a training step over as many
samples.  sync: once a validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mindllm import engine as door
from mindllm.loss import IGNORED
from mindllm.mixture import Mixture
from mindllm.mixture.mixture import languages
from mindllm.shards import Shards, stacked
from mindllm.tokenizer import Tokenizer
from mindllm.train.objective import Loss


def validator(
    sources: dict[str, Shards], valid_samples: int, micro_batch_size: int, loss: Loss, tokenizer: Tokenizer,
    rank: int, world: int, device: torch.device, mixture: Mixture | None = None, one_shape: bool = False,
) -> Callable[[nn.Module, int], dict[str, float]]:  # fmt: skip
    """A function of the model and the steps done, which all processes call: what the held-out samples say, by name.

    valid_loss: nats per token.  valid_bpb: bits per UTF-8 byte; an end of a document counts in the nats and in the
    tokens, and stands for no byte.  valid_bpb/SOURCE: of one source.  valid_bpb_lang/LANGUAGE: of the sources whose
    text is (mostly) in it; shards do not tell documents apart, so a source of several languages counts whole to the one
    that most of its held-out tokens are in.  epochs/SOURCE: how often `mixture` has served a source's tokens so far.
    valid_samples: of each source, at most, the first ones.  one_shape: fill up the last batch of a source; for compiled
    models, which compile every shape (20 s) that they meet.
    """
    names, token_bytes = list(sources), tokenizer.token_bytes
    size = min(micro_batch_size, max((_share(s, valid_samples, world) for s in sources.values()), default=1))

    def sums(model: nn.Module, shards: Shards) -> Tensor:
        """float64 (3,): nats, tokens, bytes of this process's samples of a source."""
        nats, tokens, text = torch.zeros((), dtype=torch.float64, device=device), 0, 0
        for samples, num_own in _batches(shards, valid_samples, size, rank, world, len(token_bytes), one_shape):
            batch = loss.prepare(samples, device)
            if num_own < len(samples):
                batch["labels"] = batch["labels"].clone()
                batch["labels"][num_own:] = IGNORED
            nats += loss(model, batch)["loss"]
            targets = samples[:num_own, 1:]
            tokens, text = tokens + targets.size, text + int(token_bytes[targets].sum(dtype=np.int64))
        return torch.cat([nats[None], torch.tensor([tokens, text], dtype=torch.float64).to(device, non_blocking=True)])

    def validate(model: nn.Module, step: int = 0) -> dict[str, float]:
        position = _epochs(mixture, step) if mixture is not None else {}
        if not sources:
            return position
        model.eval()
        with torch.no_grad():
            own = torch.stack([sums(model, shards) for shards in sources.values()])
        model.train()
        totals = door.add_up(own, device).cpu().numpy()  # sync: once
        return _values(names, [_main_language(sources[name]) for name in names], totals) | position

    return validate


def _share(shards: Shards, valid_samples: int, world: int) -> int:
    """Samples of a source that each process computes: as many on every one, as ZeRO-3 needs all for a forward pass."""
    return -(-min(len(shards), valid_samples) // world)


def _batches(
    shards: Shards, valid_samples: int, size: int, rank: int, world: int, vocab_size: int, fill: bool
) -> Iterator[tuple[np.ndarray, int]]:
    """(samples int64 (B, T + 1), how many of them, from the first, are this process's); the others only fill up."""
    count, share = min(len(shards), valid_samples), _share(shards, valid_samples, world)
    for start in range(0, share, size):
        rows = size if fill else min(size, share - start)
        wanted = [rank + (start + row) * world for row in range(rows)]
        num_own = sum(k < count for k in wanted)
        yield stacked([shards[min(k, count - 1)] for k in wanted], vocab_size), num_own


def _main_language(shards: Shards) -> str:
    """The language of most of a source's tokens (of equals the first by name)."""
    counts = languages(shards)
    return min(counts, key=lambda language: (-counts[language][0], language))


def _values(names: Sequence[str], spoken: Sequence[str], totals: np.ndarray) -> dict[str, float]:
    """What `validator` promises, from nats, tokens, bytes of every source (num_sources, 3).

    There are no bits per byte of what has no byte: of held-out text that is nothing but ends of documents.
    """
    nats, tokens, _ = whole = totals.sum(axis=0)
    rows = {"valid_bpb": whole} | {f"valid_bpb/{name}": row for name, row in zip(names, totals, strict=True)}
    for language in sorted(set(spoken)):
        rows[f"valid_bpb_lang/{language}"] = totals[[found == language for found in spoken]].sum(axis=0)
    bits = {name: float(row[0] / math.log(2) / row[2]) for name, row in rows.items() if row[2]}
    return {"valid_loss": float(nats / tokens)} | bits


def _epochs(mixture: Mixture, step: int) -> dict[str, float]:
    """How often the tokens of every source were served in the first `step` steps."""
    served = mixture.served(mixture.batch_sizes.before(step))
    return {
        f"epochs/{name}": count * mixture.seq_len / mixture.sources[name].num_tokens for name, count in served.items()
    }
