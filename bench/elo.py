"""Ratings of models whose strengths are known: how often their intervals hold the truth, and how near they come.

    python bench/elo.py [--runs 500] [--prompts 10 20 40 100 300] [--resamples 1000]

A judge reads every two of four models on every prompt, in both orders, and likes the answer that stands first. A prompt
has its own difficulty (a factor from 0 to 2 of all differences in strength) and suits some models more than others.
Judge says first, second or tie: a logistic draw, anew for each order. What comes of it goes the way of real judgements
(eval/elo/games.py, eval/elo/bradley_terry.py). The truth is the rating that infinitely many prompts would give, as a
difference to the weakest model; ties pull ratings together, so it is nearer to 1,000 than the strengths. A last line
is of a judge that always takes the first answer. Cost: 500 runs of 300 prompts some minutes; memory: 100 MB.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import common  # noqa: F401  the repository on Python's path
import numpy as np

from eval.elo.bradley_terry import SCALE, fit, rate, to_ratings
from eval.elo.games import Judgement, Verdict, points_by_prompt, to_games

STRENGTHS = np.array([300.0, 150.0, 60.0, 0.0]) / SCALE  # log odds, strongest first
MODELS = ["甲", "乙", "c", "d"]
ANCHOR = len(MODELS) - 1  # differences are to this model
SUITS = 0.7  # log odds, standard deviation by prompt and model
FIRST = 0.5  # log odds that the answer which stands first has more
TIE = 0.4  # log odds on both sides of nothing that the judge calls a tie
NUM_PROMPTS_OF_TRUTH = 1_000_000


class Result(NamedTuple):
    """Of one number of prompts. coverage: share of (run, model) whose interval holds the true difference, error: its
    standard error over runs; rmse, bias, width: rating points."""

    num_prompts: int
    coverage: float
    error: float
    rmse: float
    bias: float
    width: float


def draw_gaps(num_prompts: int, random: np.random.Generator) -> np.ndarray:
    """float64 (num_prompts, K): how good each model's answer to each prompt is, in log odds."""
    difficulty = random.uniform(0, 2, (num_prompts, 1))
    return difficulty * STRENGTHS + random.normal(0, SUITS, (num_prompts, len(MODELS)))


def judge(quality: np.ndarray, random: np.random.Generator) -> Iterator[Judgement]:
    """Both orders of every pair on every prompt. quality: of draw_gaps."""
    for i, j in combinations(range(len(MODELS)), 2):
        for first, second in ((i, j), (j, i)):
            seen = quality[:, first] - quality[:, second] + FIRST + random.logistic(size=len(quality))
            for prompt, value in enumerate(seen.tolist()):
                verdict: Verdict = "tie" if abs(value) < TIE else "first" if value > 0 else "second"
                yield Judgement(f"题 {prompt}", MODELS[first], MODELS[second], verdict, "judge")


def true_ratings(num_prompts: int = NUM_PROMPTS_OF_TRUTH) -> np.ndarray:
    """float64 (K,): ratings that the points expected of so many prompts give; each prompt's are computed, not drawn."""
    quality = draw_gaps(num_prompts, np.random.default_rng(0))
    points = np.zeros((len(MODELS), len(MODELS)))
    for i, j in combinations(range(len(MODELS)), 2):
        gap = quality[:, i] - quality[:, j]
        wins = logistic(gap + FIRST - TIE) * logistic(gap - FIRST - TIE)  # in both orders
        losses = logistic(-gap - FIRST - TIE) * logistic(-gap + FIRST - TIE)
        points[i, j] = 0.5 + (wins - losses).mean() / 2
        points[j, i] = 1 - points[i, j]
    return to_ratings(fit(points * 1e9), ANCHOR)  # so many games that the prior does not count


def logistic(x: np.ndarray) -> np.ndarray:
    """Probability of log odds."""
    return 1 / (1 + np.exp(-x))


def measure(num_prompts: int, num_runs: int, num_resamples: int, truth: np.ndarray) -> Result:
    """Ratings of `num_runs` simulated runs against the truth, all but the anchor's."""
    hits, errors, widths = [], [], []
    for run in range(num_runs):
        random = np.random.default_rng([num_prompts, run])
        games, _ = to_games(judge(draw_gaps(num_prompts, random), random))
        found = rate(points_by_prompt(games, MODELS), num_resamples, 0.95, run, ANCHOR)
        ratings, low, high = (np.delete(values, ANCHOR) for values in found)
        known = np.delete(truth, ANCHOR)
        hits.append((low <= known) & (known <= high))
        errors.append(ratings - known)
        widths.append(high - low)
    shares = np.mean(hits, axis=1)
    error = float(shares.std() / np.sqrt(num_runs))
    rmse = float(np.sqrt(np.mean(np.square(errors))))
    return Result(num_prompts, float(shares.mean()), error, rmse, float(np.mean(errors)), float(np.nanmean(widths)))


def first_answers(num_prompts: int) -> np.ndarray:
    """Ratings by a judge that takes the first answer, whatever it is."""
    orders = [pair for pair in combinations(MODELS, 2)]
    orders += [pair[::-1] for pair in orders]
    found = [Judgement(f"题 {n}", *pair, "first", "judge") for n in range(num_prompts) for pair in orders]
    return rate(points_by_prompt(to_games(found)[0], MODELS), 100, 0.95, 1).ratings


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="simulations of each number of prompts")
    parser.add_argument("--prompts", type=int, nargs="+", default=[10, 20, 40, 100, 300])
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap")
    options = parser.parse_args()
    truth = true_ratings()
    shown = ", ".join(f"{value:.0f}" for value in to_ratings(STRENGTHS, ANCHOR))
    print(f"strengths {shown}; true ratings {', '.join(f'{value:.0f}' for value in truth)}")
    print(f"{'prompts':>8} {'95 % intervals hold the truth':>30} {'rmse':>6} {'bias':>6} {'width':>6}")
    for num_prompts in options.prompts:
        found = measure(num_prompts, options.runs, options.resamples, truth)
        share = f"{found.coverage:.1%} ± {found.error:.1%}"
        print(f"{num_prompts:>8} {share:>30} {found.rmse:>6.1f} {found.bias:>6.1f} {found.width:>6.0f}", flush=True)
    print(f"a judge that always takes the first answer: {', '.join(f'{v:.1f}' for v in first_answers(100))}")


if __name__ == "__main__":
    main()
