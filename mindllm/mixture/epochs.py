"""How often every source is read in a run, and what to change where that is more often than allowed.

Repeating a source a few times is nearly as good as new text, more often is not, and nobody notices (Muennighoff et al.
2023, "Scaling Data-Constrained Language Models": up to about 4 epochs). So it is an error, with the arithmetic and
every way out: largest weight, most steps, tokens to add, limit to set. The numbers are found by trying: a plan of a
run costs a millisecond (20 where a phase anneals), and bisection tries some 15 of them per number.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mindllm.config import UserError
from mindllm.mixture.phases import PhaseConfig, matches, resolve, run_order
from mindllm.mixture.sizes import BatchSizes

_PARTS = 1 << 14  # of a weight: what is tried
_NUM_HELPED = 8  # sources for which weights and tokens are sought: up to a second each where a phase anneals


@dataclass(frozen=True)
class Plan:
    """A run as far as counting goes. sizes: source -> tokens."""

    sizes: dict[str, int]
    phases: Sequence[PhaseConfig]
    seq_len: int
    batch_sizes: BatchSizes
    num_steps: int
    seed: int

    def served(self, num_steps: int | None = None) -> dict[str, int]:
        """source -> samples in the first `num_steps` (all of them)."""
        names = sorted(self.sizes)
        order = run_order(resolve(self.phases, self.sizes), names, self.batch_sizes, self.num_steps, self.seed)
        steps = self.num_steps if num_steps is None else num_steps
        return dict(zip(names, order.before(self.batch_sizes.before(steps)), strict=True))

    def epochs(self) -> dict[str, float]:
        """source -> how often its tokens are read."""
        return {
            name: count * self.seq_len / self.sizes[name] if count else 0.0 for name, count in self.served().items()
        }

    def fits(self, limits: Mapping[str, float]) -> bool:
        """Whether no source of `limits` is read more often than allowed there; a plan that cannot be run does not."""
        try:
            epochs = self.epochs()
        except UserError:
            return False
        return all(epochs[name] <= limit for name, limit in limits.items())


def check_epochs(plan: Plan, max_epochs: float, by_source: Mapping[str, float]) -> None:
    """Raises UserError when a source would be read more often than by_source (names or patterns), else max_epochs."""
    names = list(plan.sizes)
    own = {n: k for k, found in matches(by_source, names, "max_epochs_by_source").items() for n in found}
    limits = {name: by_source[own[name]] if name in own else max_epochs for name in names}
    assert all(limit > 0 for limit in limits.values()), "max_epochs and max_epochs_by_source are above 0"
    served, epochs = plan.served(), plan.epochs()
    over = [name for name in names if epochs[name] > limits[name]]
    if not over:
        return
    lines = [f"mixture: {len(over)} source(s) would be repeated more often than allowed"]
    worst = sorted(over, key=lambda name: -epochs[name] / limits[name])[:_NUM_HELPED]
    asked = sum(served.values()) * plan.seq_len
    allowed = sum(plan.sizes[name] * limits[name] for name in names if served[name])
    for name in over:
        key = f"max_epochs_by_source.{own[name]}" if name in own else "max_epochs"
        lines.append(f"  {name}: {served[name] * plan.seq_len:,} tokens are asked of {plan.sizes[name]:,}, which is "
                     f"{epochs[name]:.2f} epochs, more than {key}={limits[name]:g}")  # fmt: skip
        mended = limits if len(over) == 1 else {name: limits[name]}  # what a way out has to make fit
        ways = [*(_changes(plan, name, mended, asked <= allowed) if name in worst else ()),
                f"max_epochs_by_source.{name}: {_above(epochs[name])}"]  # fmt: skip
        alone = " this source alone" if len(over) > 1 else ""
        lines.append(f"    {'each of these helps' if len(ways) > 1 else 'this helps'}{alone}: {'; '.join(ways)}")
    steps = _most_steps(plan, limits)
    for_all = [f"train.steps: at most {steps}"] if steps else []
    general = [epochs[name] for name in over if name not in own]
    for_all += [f"max_epochs: {_above(max(general))}"] if len(general) == len(over) else []
    lines += [f"  for {'all of them' if len(over) > 1 else 'it, too'}: {'; or '.join(for_all)}"] if for_all else []
    if asked > allowed:
        used = f"all sources that are used allow {int(allowed):,} together (tokens times limits)"
        lines.append(f"  {asked:,} tokens are asked in all, and {used}: no weights among them can help")
    raise UserError("\n".join(lines))


def _changes(plan: Plan, name: str, limits: Mapping[str, float], by_weight: bool) -> Iterator[str]:
    """What makes a source, and with it all of `limits`, fit, but for a higher limit."""
    if by_weight and (weight := _largest_weight(plan, name, limits)):
        yield weight
    if tokens := _tokens_to_add(plan, name, limits):
        yield f"add {tokens:,} tokens of text to it"


def _above(epochs: float) -> float:
    """The next hundredth that allows so many epochs."""
    rounded = math.ceil(epochs * 100) / 100
    return rounded if rounded >= epochs else round(rounded + 0.01, 2)


def _most_steps(plan: Plan, limits: Mapping[str, float]) -> int:
    """The most steps with which nothing is repeated too often, all else as it is; 0: there are none."""
    return _largest(plan.num_steps, lambda steps: dataclasses.replace(plan, num_steps=steps).fits(limits))


def _tokens_to_add(plan: Plan, name: str, limits: Mapping[str, float]) -> int:
    """The fewest tokens, rounded up to three digits, that help when the source grows; 0: none do."""

    def fits(more: int) -> bool:
        sizes = {n: size + more * (n == name) for n, size in plan.sizes.items()}
        return dataclasses.replace(plan, sizes=sizes).fits(limits)

    enough = plan.sizes[name]
    while not fits(enough):
        enough *= 2
        if enough > plan.sizes[name] << 20:
            return 0
    unit = 10 ** max(0, len(str(enough)) - 4)
    fewest = (_largest(-(-enough // unit), lambda units: not fits(units * unit)) + 1) * unit
    unit = 10 ** max(0, len(str(fewest)) - 3)
    rounded = -(-fewest // unit) * unit
    return rounded if fits(rounded) else fewest


def _largest_weight(plan: Plan, name: str, limits: Mapping[str, float]) -> str:
    """Where the weight or factor of a source can be lowered, and how far it has to be, as a line; "": nowhere."""
    for number, place, key, value in _weights_of(plan, name):
        fits = functools.partial(_fits_with, plan, number, place, key, {name: limits[name]})
        if value and fits(0.0):
            largest = _lower(value, fits)  # with less, the others get more: if they do not fit with this, then never
            if _fits_with(plan, number, place, key, limits, largest):
                return f"phases.{number}.{place}.{key}: at most {largest:g}"
    return ""


def _lower(value: float, fits: Callable[[float], bool]) -> float:
    """The largest weight below `value` that fits, with three digits; 0 fits."""
    largest = _below(value * _largest(_PARTS, lambda k: fits(value * k / _PARTS)) / _PARTS)
    return largest if fits(largest) else 0.0


def _fits_with(plan: Plan, number: int, place: str, key: str, limits: Mapping[str, float], value: float) -> bool:
    phases = copy.deepcopy(list(plan.phases))
    getattr(phases[number], place)[key] = value
    return dataclasses.replace(plan, phases=phases).fits(limits)


def _weights_of(plan: Plan, name: str) -> Iterator[tuple[int, str, str, float]]:
    """(phase, field, key, value) of all that decides a source's share, the phases that serve most of it first."""
    starts = [0, *(phase.until_step or 0 for phase in plan.phases[:-1]), plan.num_steps]
    counts = [plan.served(min(step, plan.num_steps))[name] for step in starts]
    served = [stop - start for start, stop in zip(counts, counts[1:], strict=False)]
    for number in sorted(range(len(served)), key=lambda k: -served[k]):
        phase = plan.phases[number]
        for place in ("weights" if phase.weights else "factors", "anneal_to"):
            values: dict[str, float] = getattr(phase, place)
            keys = [key for key, found in matches(values, list(plan.sizes), place).items() if name in found]
            if served[number] and (keys or place == "factors"):
                yield number, place, *((keys[0], values[keys[0]]) if keys else (name, 1.0))


def _below(value: float) -> float:
    """At most `value`, with three digits."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.floor(value / unit) * unit:.12g}")


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 1 to below `limit` that fits, where all smaller ones do; 0: none does."""
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
