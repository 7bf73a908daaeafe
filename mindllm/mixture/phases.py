"""Phases of training: which sources with which shares, in which order, from which step to which.

`PhaseConfig` is what a user writes, with patterns, factors or nothing at all; `resolve` makes `Phase`s of it: whole
2^-20ths for every source by its name. All that the order of samples depends on is in these, so a run can be recorded,
compared and written down again exactly. Cost: a millisecond, whatever the size of the corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from mindllm.config import UserError
from mindllm.hashing import mix
from mindllm.mixture.order import SHARES, Blocked, Chain, Interleaved, Order, Uniform, annealed, quotas
from mindllm.mixture.sizes import BatchSizes


@dataclass
class PhaseConfig:
    """A stretch of training with its own mixture.

    until_step: the first step that is no longer in the phase (empty: the last phase, to the end).
    weights: source -> share of tokens; a source that is not named gets none.
    factors: source -> factor on its own size; not named: 1. (Neither weights nor factors: as many tokens as each has.)
        A key may be a pattern: `*` stands for any text. A weight is shared by size among the sources that its pattern
        matches, a factor holds for each of them; a source's own name goes before patterns.
    anneal_to: weights that the phase reaches at its end, in up to 64 stairs of equal length from those it starts with.
    order: uniform (every block of 1024 samples has the same shares) or blocked (source after source, as listed in
        weights, else in the order of the sources).
    blocked_share: a fraction of the samples, evenly spread, that comes in blocked order; the rest is uniform.
    """

    weights: dict[str, float] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)
    anneal_to: dict[str, float] = field(default_factory=dict)
    order: Literal["uniform", "blocked"] = "uniform"
    blocked_share: float = 0.0
    until_step: int | None = None

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        for key in ("weights", "factors", "anneal_to"):
            values: dict[str, float] = getattr(self, key)
            wrong = [name for name, value in values.items() if not 0 <= value < float("inf")]
            for name in wrong:
                yield f"{key}.{name}: {values[name]} is not a {'factor' if key == 'factors' else 'share'} of 0 or more"
            if values and not wrong and not any(values.values()) and key != "factors":
                yield f"{key}: their sum is zero"
        if self.weights and self.factors:
            yield "weights, factors: give one of them; a phase's shares come from weights, or from sizes times factors"
        if not 0 <= self.blocked_share < 1:
            yield f"blocked_share: {self.blocked_share} is no fraction from 0 to below 1 (all of it: order: blocked)"
        if self.order == "blocked" and self.blocked_share:
            yield "blocked_share: the whole phase is blocked already (order)"
        if self.anneal_to and (self.order == "blocked" or self.blocked_share):
            yield "anneal_to: goes with uniform order only; leave order and blocked_share out, or make it two phases"
        if self.until_step is not None and self.until_step < 1:
            yield f"until_step: {self.until_step} leaves the phase no step; it must be at least 1"


def sequence_problems(phases: Sequence[PhaseConfig]) -> Iterator[str]:
    """What is wrong with the phases as a row, a line each."""
    if not phases:
        yield "phases: at least one"
    ends = [p.until_step for p in phases]
    if any(e is None for e in ends[:-1]) or ends[-1:] not in ([], [None]):
        yield "phases: every phase but the last needs until_step, the last must not have one"
    elif any(a >= b for a, b in zip(ends, ends[1:-1], strict=False) if a is not None and b is not None):
        yield "phases: until_step must grow"


@dataclass(frozen=True)
class Phase:
    """What a PhaseConfig means for given sources. shares, anneal_to: source -> 2^-20ths, of those that have any.

    listing: the sources in blocked order (empty where nothing is blocked). Where there is one, or something to anneal
    to, the order inside the phase depends on where it ends.
    """

    from_step: int
    until_step: int | None
    order: str
    blocked_share: float
    shares: dict[str, int]
    anneal_to: dict[str, int]
    listing: list[str]


def resolve(phases: Sequence[PhaseConfig], sizes: Mapping[str, int]) -> list[Phase]:
    """The phases of a run with sources of these sizes in tokens.

    Raises UserError for keys that match no source, sources that two patterns match, and weights of nothing.
    """
    problems = list(sequence_problems(phases))
    problems += [f"phases.{number}.{line}" for number, phase in enumerate(phases) for line in phase.problems()]
    if problems:
        raise UserError("mixture:\n" + "\n".join(f"  {p}" for p in problems))
    found, from_step = [], 0
    for number, phase in enumerate(phases):
        shares, anneal_to = _shares(phase, sizes, f"phases.{number}")
        blocked = phase.order == "blocked" or phase.blocked_share > 0
        found.append(Phase(from_step, phase.until_step, phase.order, phase.blocked_share, dict(sorted(shares.items())),
                           anneal_to, list(shares) if blocked else []))  # fmt: skip
        from_step = phase.until_step or 0
    return found


def _shares(phase: PhaseConfig, sizes: Mapping[str, int], where: str) -> tuple[dict[str, int], dict[str, int]]:
    """What a phase begins with, in the order of listing, and what it anneals to."""
    if phase.weights:
        start = _share_out(_by_weight(phase.weights, sizes, f"{where}.weights"), phase.weights, f"{where}.weights")
    else:
        start = _share_out(_by_size(phase.factors, sizes, f"{where}.factors"), {}, f"{where}.factors")
    if not phase.anneal_to:
        return start, {}
    key = f"{where}.anneal_to"
    return start, dict(sorted(_share_out(_by_weight(phase.anneal_to, sizes, key), phase.anneal_to, key).items()))


def _by_weight(weights: Mapping[str, float], sizes: Mapping[str, int], where: str) -> dict[str, Fraction]:
    """source -> weight, a pattern's weight shared by size."""
    found: dict[str, Fraction] = {}
    for key, names in matches(weights, list(sizes), where).items():
        whole = sum(sizes[name] for name in names)
        if weights[key] > 0 and not whole:
            raise UserError(f"{where}.{key}: {', '.join(names)} holds no text")
        found |= {name: Fraction(weights[key]) * Fraction(sizes[name], whole or 1) for name in names}
    return found


def _by_size(factors: Mapping[str, float], sizes: Mapping[str, int], where: str) -> dict[str, Fraction]:
    """source -> size times factor, in the order of the sources."""
    factor_of = {name: factors[key] for key, names in matches(factors, list(sizes), where).items() for name in names}
    return {name: size * Fraction(factor_of.get(name, 1)) for name, size in sizes.items()}


def _share_out(weights: Mapping[str, Fraction], named: Mapping[str, float], where: str) -> dict[str, int]:
    """source -> 2^-20ths, without those that get none, in the same order.

    Raises UserError for a weight that a source was given by its own name and that rounds to nothing.
    """
    names = sorted(name for name, weight in weights.items() if weight > 0)  # whatever the order of listing: the same
    if not names:
        raise UserError(f"{where}: leaves nothing to train on; every source has weight, factor or size 0")
    shares = dict(zip(names, quotas([weights[name] for name in names], SHARES), strict=True))
    lost = [name for name in names if name in named and not shares[name]]
    if lost:
        raise UserError(
            f"{where}: the share of {', '.join(lost)} rounds to no sample in {SHARES:,} (it is below "
            f"1/{2 * SHARES:,}); raise it, or set it to 0"
        )
    return {name: shares[name] for name in weights if shares.get(name)}


def matches(keys: Mapping[str, float], names: Sequence[str], where: str) -> dict[str, list[str]]:
    """key -> the sources that it stands for: itself, or where it is a pattern those matched and not named themselves.

    Raises UserError for keys that stand for nothing and sources that two patterns match.
    """
    found: dict[str, list[str]] = {}
    owner = {key: key for key in keys if key in names}
    for key in keys:
        pattern = re.compile(".*".join(map(re.escape, key.split("*"))), re.DOTALL)
        found[key] = [key] if key in owner else [n for n in names if pattern.fullmatch(n) and owner.get(n) != n]
        for name in found[key]:
            if (other := owner.setdefault(name, key)) != key:
                raise UserError(f"{where}: source {name} is matched by {other!r} and by {key!r}; name it itself")
    lost = [key for key, matched in found.items() if not matched]
    if lost:
        raise UserError(
            f"{where}: {', '.join(map(repr, lost))} {'matches' if len(lost) == 1 else 'match'} no source (that is not "
            f"named itself); the sources are {', '.join(names)}"
        )
    return found


def run_order(phases: Sequence[Phase], names: Sequence[str], sizes: BatchSizes, num_steps: int, seed: int) -> Chain:
    """The order of a run; its numbers of sources are places in `names`."""
    starts = [sizes.before(phase.from_step) for phase in phases]
    ends = [sizes.before(num_steps if phase.until_step is None else phase.until_step) for phase in phases]
    orders = [
        _phase_order(phase, names, max(0, end - start), mix(seed, 1, number))
        for number, (phase, start, end) in enumerate(zip(phases, starts, ends, strict=True))
    ]
    return Chain(starts, orders)


def _phase_order(phase: Phase, names: Sequence[str], num_samples: int, key: int) -> Order:
    shares = [phase.shares.get(name, 0) for name in names]
    listing = [names.index(name) for name in phase.listing]
    if phase.anneal_to:
        return annealed(shares, [phase.anneal_to.get(name, 0) for name in names], num_samples, key)
    if phase.order == "blocked":
        return Blocked(shares, num_samples, listing)
    if not phase.blocked_share:
        return Uniform(shares, key)
    fraction = round(phase.blocked_share * SHARES)
    return Interleaved(Blocked(shares, num_samples * fraction // SHARES, listing), Uniform(shares, key), fraction)
