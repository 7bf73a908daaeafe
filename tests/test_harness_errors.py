"""eval.harness.errors: errors by resampling are those of the closed form and of lm-eval's own resampling."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lm_eval.api.metrics import bits_per_byte, bootstrap_stderr, mean_stderr, weighted_perplexity

from eval.harness.errors import add_errors, resampled_error
from eval.tasks.mindllm.helpers import bleu_zh

LOGPROBS = [-50.0 - 7 * (i % 11) for i in range(60)]
PAIRS = [("春天来了，河边的柳树发芽了。", "春天来了，河边的柳树" + "绿了。" * (i % 3)) for i in range(12)]
PAIRS += [("海上的船越走越遠。", "海上的船越走越" + "近了。" * (i % 2)) for i in range(12)]


def test_of_texts_of_one_length_it_is_that_of_the_mean() -> None:
    values = [(logprob, 40) for logprob in LOGPROBS]
    expected = mean_stderr([bits_per_byte([value]) for value in values])
    assert resampled_error(bits_per_byte, values, 1) == pytest.approx(expected, rel=0.2)
    assert resampled_error(bits_per_byte, values, 1) == resampled_error(bits_per_byte, values, 1)
    assert resampled_error(bits_per_byte, values, 1) != resampled_error(bits_per_byte, values, 2)


def test_chinese_bleu_as_lm_eval_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    assert resampled_error(bleu_zh, PAIRS, 1) == pytest.approx(bootstrap_stderr(bleu_zh, PAIRS, 100), rel=0.3)


def test_only_what_lm_eval_leaves_out_is_added() -> None:
    aggregations = {"bits_per_byte": bits_per_byte, "byte_perplexity": weighted_perplexity, "own": max}
    task = SimpleNamespace(aggregation=lambda: aggregations)
    samples = [{"filter": "none", "own": 1, **dict.fromkeys(list(aggregations)[:2], (p, 40))} for p in LOGPROBS]
    metrics = {"alias": "x", "own,none": 1, "own_stderr,none": 0.5}
    metrics |= {f"{m}{e},none": "N/A" for m in ("bits_per_byte", "byte_perplexity") for e in ("", "_stderr")}
    found = add_errors(task, metrics, samples, 1)
    assert {key for key in found if found[key] != metrics[key]} == {
        "bits_per_byte_stderr,none",
        "byte_perplexity_stderr,none",
    }
    assert add_errors(task, metrics, samples[:1], 1) == metrics
