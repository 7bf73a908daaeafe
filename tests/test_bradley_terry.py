"""eval.elo.bradley_terry: equal to another optimiser, recovers known strengths, intervals that hold."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eval.elo.bradley_terry import (
    PRIOR_GAMES,
    SCALE,
    fit,
    groups_of_balance,
    groups_that_met,
    rate,
    resample,
    tail,
    to_ratings,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import elo as bench_elo  # noqa: E402

sizes = st.integers(2, 6)
halves = st.integers(0, 12).map(lambda n: n / 2)
matrices = sizes.flatmap(lambda k: arrays.arrays(np.float64, (k, k), elements=halves)).map(
    lambda m: m * (1 - np.eye(len(m)))
)


def other_fit(points: np.ndarray) -> np.ndarray:
    """The same maximum, by scipy and written from the definition."""
    size = len(points)

    def loss(theta: np.ndarray) -> float:
        total = 0.0
        for i in range(size):
            for j in range(size):
                total += points[i, j] * np.log1p(np.exp(theta[j] - theta[i])) if i != j else 0.0
            total += PRIOR_GAMES / 2 * (np.log1p(np.exp(-theta[i])) + np.log1p(np.exp(theta[i])))
        return total

    found = scipy.optimize.minimize(loss, np.zeros(size), method="BFGS", options={"gtol": 1e-9})
    return found.x - found.x.mean()


@settings(max_examples=40)
@given(matrices)
def test_equals_another_optimiser(points: np.ndarray) -> None:
    np.testing.assert_allclose(fit(points), other_fit(points), atol=2e-5)


@settings(max_examples=40)
@given(matrices, st.randoms(use_true_random=False))
def test_names_do_not_matter_and_swapped_verdicts_mirror(points: np.ndarray, random: object) -> None:
    order = np.array(sorted(range(len(points)), key=lambda _: random.random()))  # type: ignore[attr-defined]
    np.testing.assert_allclose(fit(points[np.ix_(order, order)]), fit(points)[order], atol=1e-8)
    np.testing.assert_allclose(fit(points.T), -fit(points), atol=1e-8)
    np.testing.assert_allclose(fit(points + points.T), 0, atol=1e-8)


@settings(max_examples=30)
@given(st.lists(arrays.arrays(np.float64, (3, 3), elements=halves), min_size=1, max_size=5))
def test_a_batch_is_each_alone(batch: list[np.ndarray]) -> None:
    np.testing.assert_allclose(fit(np.array(batch)), [fit(m) for m in batch], atol=1e-8)


def test_many_games_recover_strengths_and_the_prior_is_weak() -> None:
    strengths = np.array([1.2, 0.4, 0.0, -0.5, -1.1])
    expected = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    for num_games, error in ((1e7, 0.001), (100, 1.5)):
        points = num_games * expected * (1 - np.eye(5))
        np.testing.assert_allclose(to_ratings(fit(points)), to_ratings(strengths), atol=error)
    assert to_ratings(np.log([10.0, 1.0]))[0] - to_ratings(np.log([10.0, 1.0]))[1] == pytest.approx(400)
    np.testing.assert_allclose(to_ratings(strengths, 2)[[0, 2]], [1000 + 1.2 * SCALE, 1000])


@pytest.mark.parametrize("num_games", [1, 50, 1e4, 1e9])
def test_undefeated_models_stay_finite(num_games: float) -> None:
    points = np.zeros((3, 3))
    points[0, 1] = points[0, 2] = points[1, 2] = num_games
    found = fit(points)
    assert np.isfinite(found).all() and (np.diff(found) < 0).all()


def test_groups() -> None:
    points = np.zeros((5, 5))
    points[0, 1] = points[3, 4] = points[4, 3] = 1
    assert groups_that_met(points) == [[0, 1], [2], [3, 4]]
    assert groups_of_balance(points) == [[0], [1], [2], [3, 4]]
    points[1, 2] = points[2, 0] = points[0, 3] = 0.5
    assert groups_that_met(points) == [[0, 1, 2, 3, 4]] and groups_of_balance(points) == [[0, 1, 2], [3, 4]]


def draw_results(strengths: np.ndarray, num_prompts: int, random: np.random.Generator, ties: float = 0.2) -> np.ndarray:
    """Points by prompt: every pair once, ties taken evenly from both sides, so that expected points are the model's."""
    size = len(strengths)
    points = np.zeros((num_prompts, size, size))
    for i in range(size):
        for j in range(i):
            p = 1 / (1 + np.exp(strengths[j] - strengths[i]))
            tie = ties * min(p, 1 - p) * 2
            found = random.choice([1.0, 0.5, 0.0], size=num_prompts, p=[p - tie / 2, tie, 1 - p - tie / 2])
            points[:, i, j], points[:, j, i] = found, 1 - found
    return points


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """One model of a simulation counts, so that the counts are independent; one in 10,000 such tests would fail."""
    strengths, num_runs, level = np.array([0.8, 0.3, -0.2, -0.9]), 300, 0.9
    truth, hits, lengths = to_ratings(strengths), 0, []
    for run in range(num_runs):
        points = draw_results(strengths, 80, np.random.default_rng(run))
        found = rate(points, 200, level, seed=run)
        model = run % 4
        hits += found.low[model] <= truth[model] <= found.high[model]
        lengths.append(found.high[model] - found.low[model])
    low, high = scipy.stats.binom.ppf([5e-5, 1 - 5e-5], num_runs, level)
    assert low <= hits <= high, hits / num_runs
    assert 20 < np.median(lengths) < 200


def test_few_prompts_widen_the_intervals_as_students_t_does() -> None:
    for num, level in ((2, 0.9), (10, 0.95), (40, 0.95), (10**9, 0.5)):
        expected = scipy.stats.norm.cdf(np.sqrt(num / (num - 1)) * scipy.stats.t.ppf((1 - level) / 2, num - 1))
        assert tail(level, np.array([num])) == pytest.approx(expected, rel=1e-6)
    assert tail(0.95, np.array([10**9])) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize("num_prompts", [10, 40])
def test_intervals_of_simulated_judgements_hold_the_truth(num_prompts: int) -> None:
    """Prompts with difficulties of their own, ties, a judge that likes what stands first, both orders."""
    truth = bench_elo.true_ratings(50_000)
    found = bench_elo.measure(num_prompts, 100, 200, truth)
    assert abs(found.coverage - 0.95) < 4 * found.error and found.error < 0.025
    assert abs(found.bias) < 0.3 * found.rmse and found.rmse < found.width


def test_a_judge_that_takes_the_first_answer_tells_no_model_from_another() -> None:
    assert bench_elo.first_answers(30).tolist() == [1000.0] * 4


def test_who_has_no_interval() -> None:
    """A model that lost all its points, the anchor, all with one prompt, and where nothing varies."""
    points = draw_results(np.array([0.4, 0.0, -0.4]), 30, np.random.default_rng(5))
    points[:, 2, :2], points[:, :2, 2] = 0, 1
    found = rate(points, 50, 0.95, 1)
    assert np.isnan(found.low).tolist() == np.isnan(found.high).tolist() == [False, False, True]
    assert np.isfinite(found.ratings).all()
    assert np.isnan(rate(points, 50, 0.95, 1, anchor=0).low).tolist() == [True, False, True]
    assert np.isnan(rate(points[:1], 50, 0.95, 1).low).all()
    points[:, 0, 1] = points[:, 1, 0] = 0.5
    assert np.isnan(rate(points, 50, 0.95, 1).low).all()


def test_the_bootstrap_draws_prompts_and_not_games() -> None:
    """Ten verdicts on a prompt that all agree are one piece of evidence: the interval is that of one of them."""
    points = draw_results(np.array([0.4, 0.0, -0.4]), 60, np.random.default_rng(7))
    one, ten = rate(points, 400, 0.95, 1), rate(points * 10, 400, 0.95, 1)
    np.testing.assert_allclose(ten.high - ten.low, one.high - one.low, rtol=0.1)
    apart = rate(np.repeat(points, 10, axis=0), 400, 0.95, 1)
    np.testing.assert_allclose(apart.high - apart.low, (one.high - one.low) / np.sqrt(10), rtol=0.2)


def test_resamples_are_seeded_and_keep_the_number_of_prompts() -> None:
    points = np.zeros((9, 2, 2))
    points[:, 0, 1] = 1
    drawn = [np.concatenate(list(resample(points, 7, seed))) for seed in (1, 1, 2)]
    assert drawn[0].shape == (7, 2, 2) and (drawn[0][:, 0, 1] == 9).all()
    points[:, 0, 1] = np.arange(9)
    drawn = [np.concatenate(list(resample(points, 7, seed))) for seed in (1, 1, 2)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
