"""Standard errors where lm-eval gives none: of perplexities, bits per byte and our Chinese BLEU, by resampling items.

lm-eval resamples its own BLEU and chrF, in as many rounds. Other aggregations of foreign tasks are left as they are:
one may be costly, or mean nothing on a part of the items. Cost: _ROUNDS times the metric, half a minute for BLEU of
1,000 sentences.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_ROUNDS = 100  # the error is then known to 7 %
_RESAMPLED = ("bits_per_byte", "weighted_perplexity", "bleu_zh")  # names of aggregations


def add_errors(task: Any, metrics: dict[str, Any], samples: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """lm-eval's metrics of one task (`metric,filter` and `metric_stderr,filter`) with the errors that it left out."""
    found = dict(metrics)
    for key in metrics:
        metric, comma, chosen = key.partition(",")
        aggregate = task.aggregation().get(metric)
        if comma and getattr(aggregate, "__name__", "") in _RESAMPLED:
            values = [sample[metric] for sample in samples if sample["filter"] == chosen]
            found[f"{metric}_stderr,{chosen}"] = resampled_error(aggregate, values, seed) if len(values) > 1 else "N/A"
    return found


def resampled_error(aggregate: Callable[[Sequence[Any]], float], values: Sequence[Any], seed: int) -> float:
    """Standard deviation of a corpus measure over draws of as many items, with replacement (Efron 1979)."""
    random = Random(seed)
    return statistics.stdev(float(aggregate(random.choices(values, k=len(values)))) for _ in range(_ROUNDS))
