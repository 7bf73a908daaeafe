"""The data order: sample i of a mixture is a pure function of (seed, weights, sizes, i); nothing is stored, no state.

Samples come in blocks of 1024 with a fixed quota per source (largest remainder), the order inside a block follows a
keyed sort, and a source's own samples come in a keyed permutation that differs from epoch to epoch. So resuming is
starting at another i, for any number of processes. A sample costs about 50 microseconds; start-up does not grow with
the corpus.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mindllm.config import UserError
from mindllm.hashing import ODD, mix, mix_array
from mindllm.shards import Sample, Shards

BLOCK = 1024


@dataclass
class PhaseConfig:
    """A stretch of training with its own weights.

    weights: source -> share of tokens; empty: as many as each source has.
    until_step: the first step that is no longer in the phase (empty: the last phase, to the end).
    """

    weights: dict[str, float] = field(default_factory=dict)
    until_step: int | None = None

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                yield f"weights.{name}: {weight} is not a share of 0 or more"
        if self.weights and not sum(self.weights.values()) > 0:
            yield "weights: their sum is zero"
        if self.until_step is not None and self.until_step < 1:
            yield f"until_step: {self.until_step} leaves the phase no step; it must be at least 1"


class Permutation:
    """A keyed permutation of range(n), one element at a time: a four-round Feistel network with cycle walking.

    Black and Rogaway 2002, "Ciphers with arbitrary finite domains". Needs no memory; about 10 microseconds an element.
    """

    def __init__(self, n: int, key: int):
        assert n > 0, "a permutation needs at least one element"
        self.n = n
        self._half = max(1, ((n - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._keys = [mix(key, r) for r in range(4)]

    def __getitem__(self, i: int) -> int:
        assert 0 <= i < self.n, f"{i} is not in a permutation of {self.n}"
        while True:  # the network permutes at most 4n values: walk on until the image is one of the n
            left, right = i >> self._half, i & self._mask
            for key in self._keys:
                left, right = right, left ^ (mix(key ^ right) & self._mask)
            i = left << self._half | right
            if i < self.n:
                return i


class _Phase:
    """The order inside one phase: which source at each place, and how many of each source came before."""

    def __init__(self, start: int, weights: Sequence[float], before: Sequence[int], key: int):
        self.start, self.before, self.key = start, before, key
        self.quotas = quotas(weights, BLOCK)
        self._sources = np.repeat(np.arange(len(weights)), self.quotas)

    @functools.lru_cache(maxsize=64)  # noqa: B019  phases live as long as their mixture
    def block(self, number: int) -> tuple[list[int], list[int]]:
        """For each of the BLOCK places: its source, and its rank among that source's places in the block."""
        places = np.argsort(_mix_array(self.key, number), kind="stable")
        order = self._sources[places]
        ranks = np.empty(BLOCK, dtype=np.int64)
        for source in range(len(self.quotas)):
            chosen = order == source
            ranks[chosen] = np.arange(int(chosen.sum()))
        return order.tolist(), ranks.tolist()

    def locate(self, i: int) -> tuple[int, int]:
        """(source, how many samples of it came before) for sample i of the run."""
        number, place = divmod(i - self.start, BLOCK)
        order, ranks = self.block(number)
        source = order[place]
        return source, self.before[source] + number * self.quotas[source] + ranks[place]

    def served(self, stop: int) -> list[int]:
        """How many samples of each source were served before sample `stop`, from the start of the run."""
        number, place = divmod(stop - self.start, BLOCK)
        inside = np.bincount(self.block(number)[0][:place], minlength=len(self.quotas))
        return [b + number * q + int(n) for b, q, n in zip(self.before, self.quotas, inside, strict=True)]


class Mixture:
    """Sample i of a weighted mixture of sources, through the phases in their order. memory: none to speak of."""

    def __init__(self, sources: Mapping[str, Shards], phases: Sequence[PhaseConfig], batch_size: int, seed: int):
        self.names, self.sources, self.seed = list(sources), list(sources.values()), seed
        self._phases: list[_Phase] = []
        start, before = 0, [0] * len(self.sources)
        for number, phase in enumerate(phases):
            self._phases.append(_Phase(start, self.weights(phase), before, mix(seed, 1, number)))
            if phase.until_step is not None:
                start, before = phase.until_step * batch_size, self._phases[-1].served(phase.until_step * batch_size)
        self._starts = [p.start for p in self._phases]
        self._permutation = functools.lru_cache(maxsize=256)(self._new_permutation)

    def weights(self, phase: PhaseConfig) -> list[float]:
        """Shares of tokens, in the order of the sources; from their sizes when the phase names none."""
        unknown = [name for name in phase.weights if name not in self.names]
        if unknown:
            raise UserError(f"mixture weights name {', '.join(unknown)}; the shards hold {', '.join(self.names)}")
        weights = (
            [phase.weights.get(n, 0.0) for n in self.names] if phase.weights else [float(len(s)) for s in self.sources]
        )
        empty = [n for n, s, w in zip(self.names, self.sources, weights, strict=True) if w > 0 and len(s) == 0]
        if empty or not sum(weights) > 0:
            raise UserError(
                f"mixture: {', '.join(empty) or 'every source'} holds less than one sample of training text"
            )
        total = sum(weights)
        lost = [n for n, w, q in zip(self.names, weights, quotas(weights, BLOCK), strict=True) if w > 0 and q == 0]
        if lost and phase.weights:
            raise UserError(
                f"mixture: the share of {', '.join(lost)} rounds to no sample in {BLOCK} (below about "
                f"1/{2 * BLOCK}); raise its weight, or set it to 0"
            )
        return [w / total for w in weights]

    def locate(self, i: int) -> tuple[int, int, int]:
        """(source, epoch, sample inside the source) of sample i."""
        source, position = self._phases[bisect.bisect_right(self._starts, i) - 1].locate(i)
        epoch, index = divmod(position, len(self.sources[source]))
        return source, epoch, self._permutation(source, epoch)[index]

    def __getitem__(self, i: int) -> Sample:
        source, _, index = self.locate(i)
        return self.sources[source][index]

    def served(self, num_samples: int) -> dict[str, int]:
        """How many samples of each source the first `num_samples` of the run hold."""
        phase = self._phases[bisect.bisect_right(self._starts, max(0, num_samples - 1)) - 1]
        return dict(zip(self.names, phase.served(num_samples), strict=True))

    def table(self, num_samples: int, max_epochs: float) -> list[dict[str, float | str]]:
        """Per source: share, tokens, epochs. Raises UserError when one would be repeated more than max_epochs."""
        served = self.served(num_samples)
        rows: list[dict[str, float | str]] = []
        for name, shards in zip(self.names, self.sources, strict=True):
            epochs = served[name] / len(shards) if len(shards) else 0.0
            tokens = served[name] * shards.seq_len
            rows.append(
                {"source": name, "share": served[name] / num_samples, "tokens": tokens, "epochs": round(epochs, 2)}
            )
            if epochs > max_epochs:
                raise UserError(
                    f"source {name}: {tokens:,} tokens are asked of {shards.num_tokens:,}, which is {epochs:.1f} "
                    f"epochs, more than max_epochs={max_epochs:g}. Lower its weight or the steps, add text, or raise "
                    "max_epochs."
                )
        return rows

    def _new_permutation(self, source: int, epoch: int) -> Permutation:
        return Permutation(len(self.sources[source]), mix(self.seed, 2, source, epoch))


class MixtureBatches:
    """The batches of a run: step s holds samples [s * batch_size, (s + 1) * batch_size) of the mixture.

    Rank r of n is dealt every n-th of them, from r on, so that all ranks together see the same batch whatever n is.
    """

    def __init__(self, mixture: Mixture, batch_size: int, micro_batch_size: int):
        self.mixture, self.batch_size, self.micro_batch_size = mixture, batch_size, micro_batch_size

    def __call__(self, step: int, rank: int, world: int) -> list[np.ndarray]:
        """int64 (micro_batch_size, seq_len + 1) arrays: what `rank` of `world` processes trains on in `step`."""
        mine = range(step * self.batch_size + rank, (step + 1) * self.batch_size, world)
        rows = [self.mixture[i].tokens for i in mine]
        return [np.stack(rows[k : k + self.micro_batch_size]) for k in range(0, len(rows), self.micro_batch_size)]


def quotas(weights: Sequence[float], total: int) -> list[int]:
    """`total` places shared out by weight with the largest-remainder rule; ties go to the earlier source."""
    exact = [w / sum(weights) * total for w in weights]
    counts = [int(x) for x in exact]
    by_remainder = sorted(range(len(weights)), key=lambda k: (counts[k] - exact[k], k))
    for k in by_remainder[: total - sum(counts)]:
        counts[k] += 1
    return counts


def _mix_array(key: int, number: int) -> np.ndarray:
    """uint64 (BLOCK,): mixed numbers to sort by, for one block."""
    with np.errstate(over="ignore"):
        return mix_array(np.arange(BLOCK, dtype=np.uint64) * np.uint64(ODD) + np.uint64(mix(key, number)))
