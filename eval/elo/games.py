"""Judgements to games: both orders of a pair become one result, a ranking becomes all its pairs.

A judge that sees the same two answers in both orders and does not say the same gets a tie: what it prefers is a place,
not an answer (Zheng et al. 2023, arXiv 2306.05685, section 3.4). So a judge that always takes the first answer gives
nothing but ties. A verdict that could not be read makes no game. Pairs of one ranking are not independent; the
bootstrap over prompts (eval/elo/bradley_terry.py) takes that into account. Memory: some hundred bytes a judgement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from mindllm.config import UserError

Verdict = Literal["first", "second", "tie"]
VERDICTS: tuple[Verdict, ...] = ("first", "second", "tie")
EQUAL = "equal answers"  # the judge of two answers that are the same text: nobody was asked
_MIRRORED: dict[Verdict, Verdict] = {"first": "second", "second": "first", "tie": "tie"}
_POINTS: dict[Verdict, float] = {"first": 1.0, "second": 0.0, "tie": 0.5}


class Judgement(NamedTuple):
    """What one judge said of two answers to a prompt, in the order it saw them.

    verdict: None where nothing could be read; `reason` says why.  judge: "" for one that is not named; its judgements
    are never joined with others.
    """

    prompt: str
    first: str
    second: str
    verdict: Verdict | None
    judge: str = ""
    reason: str = ""


class Game(NamedTuple):
    """One result: model `first` gets `points` (1, 0.5 or 0) against `second`, which gets the rest."""

    prompt: str
    first: str
    second: str
    points: float


class Consistency(NamedTuple):
    """Pairs judged in both orders; of these, by what the judge said: others the second time, twice the answer that
    stood first, twice the one that stood second."""

    num_pairs: int
    num_inconsistent: int
    num_first: int
    num_second: int


def to_games(judgements: Iterable[Judgement]) -> tuple[list[Game], Consistency]:
    """One game a pair of answers and judge, and how often the judges contradicted themselves.

    Raises UserError when a judge with a name judges the same pair twice in the same order.
    """
    pairs: dict[tuple[str, ...], dict[str, Judgement]] = {}
    for number, judgement in enumerate(judgements):
        prompt, first, second, _, judge, _ = judgement
        if first == second:
            raise UserError(f"judgements: prompt {prompt!r}: {first!r} is compared with itself")
        own = ("by", judge) if judge else ("row", str(number))
        orders = pairs.setdefault((prompt, *sorted((first, second)), *own), {})
        if first in orders:
            raise UserError(f"judgements: prompt {prompt!r}: {judge!r} judged {first!r} before {second!r} twice")
        orders[first] = judgement
    games: list[Game] = []
    counts = [0, 0, 0, 0]
    for orders in pairs.values():
        found = list(orders.values())
        verdicts = [j.verdict for j in found]
        if None not in verdicts:
            games.append(_game(found))
            if len(found) == 2 and found[0].judge != EQUAL:
                both = (verdicts[0] == verdicts[1] == v for v in ("first", "second"))
                inconsistent = verdicts[0] != _MIRRORED[verdicts[1]]  # type: ignore[index]
                counts = [c + n for c, n in zip(counts, (1, inconsistent, *both), strict=True)]
    return games, Consistency(*map(int, counts))


def _game(found: Sequence[Judgement]) -> Game:
    """The result of one pair, of one judgement or of two in both orders."""
    prompt, first, second, verdict, _, _ = found[0]
    assert verdict is not None, "left out before"
    if len(found) == 2 and found[1].verdict != _MIRRORED[verdict]:
        return Game(prompt, first, second, 0.5)
    return Game(prompt, first, second, _POINTS[verdict])


def ranking_pairs(prompt: str, ranking: Sequence[Sequence[str]]) -> Iterator[Judgement]:
    """All pairs of a ranking, best first; models of the same place are tied. It has no order of reading, so each pair
    is a game of its own."""
    places = [(place, name) for place, names in enumerate(ranking) for name in names]
    for (a, first), (b, second) in combinations(places, 2):
        yield Judgement(prompt, first, second, "tie" if a == b else "first")


def points_by_prompt(games: Sequence[Game], models: Sequence[str]) -> np.ndarray:
    """Points float64 (num_prompts, K, K), prompts by name: what eval/elo/bradley_terry.py reads."""
    prompts = {name: i for i, name in enumerate(sorted({g.prompt for g in games}))}
    places = {name: i for i, name in enumerate(models)}
    points = np.zeros((len(prompts), len(places), len(places)))  # memory: prompts * models^2 * 8 bytes
    for prompt, first, second, won in games:
        p, a, b = prompts[prompt], places[first], places[second]
        points[p, a, b] += won
        points[p, b, a] += 1 - won
    return points
