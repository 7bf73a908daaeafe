"""What ratings.json holds: ratings with intervals, over all prompts and by language, win rates, and what limits them.

Notes are sentences that a reader needs: models that never met, or never lost, whose ratings rest on the prior; verdicts
that could not be read; judges that contradict themselves. Cost: one bootstrap a language, a second or two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eval.elo.bradley_terry import PRIOR_GAMES, groups_of_balance, groups_that_met, rate
from eval.elo.games import EQUAL, Consistency, Game, Judgement, points_by_prompt, to_games
from mindllm.config import UserError
from mindllm.language import language_group

FEW_PROMPTS = 10  # with 5, simulated intervals of 95 % hold the truth in 91 %, from 10 on in 95 % (bench/elo.py)
_OF_PROMPTS = {"zh": "prompts in Chinese", "en": "prompts in English"}


def summarise(
    judgements: Sequence[Judgement], langs: Mapping[str, str], num_resamples: int, level: float, seed: int,
    anchor: str = "",
) -> dict[str, Any]:  # fmt: skip
    """The content of ratings.json. langs: language of a prompt by its id, where it is known.

    Raises UserError when no game came out, or for an anchor that has played none.
    """
    games, consistency = to_games(judgements)
    names = sorted({name for j in judgements for name in (j.first, j.second)})
    played = {name for g in games for name in (g.first, g.second)}
    if not games:
        raise UserError(
            f"no verdict of {len(judgements)} judgements could be used: {_why(judgements) or 'none was given'}"
        )
    if anchor and anchor not in played:
        raise UserError(f"anchor: {anchor} has played no game; there are {', '.join(sorted(played))}")
    groups: dict[str, list[Game]] = {}
    for game in games:
        groups.setdefault(language_group(langs[game.prompt]) if game.prompt in langs else "unknown", []).append(game)
    languages = {lang: rows(groups[lang], num_resamples, level, seed, anchor) for lang in sorted(groups)}
    overall = list(_notes(games))
    ranked = rows(games, num_resamples, level, seed, anchor)
    return {
        "models": ranked,
        "languages": languages if set(groups) != {"unknown"} else {},
        "win_rates": win_rates(games, [row["name"] for row in ranked]),
        "judgements": _counts(judgements, games, consistency),
        "settings": {"level": level, "num_resamples": num_resamples, "seed": seed, "anchor": anchor}
        | {"prior_games": PRIOR_GAMES, "ties": "half a win each"},
        "notes": [*overall, *_judge_notes(judgements, consistency), *_absent(names, played)]
        + [
            f"{_OF_PROMPTS.get(lang, 'other prompts')}: {note}"
            for lang in languages
            for note in _notes(groups[lang])
            if note not in overall
        ],
    }


def rows(games: Sequence[Game], num_resamples: int, level: float, seed: int, anchor: str = "") -> list[dict[str, Any]]:
    """A row a model, the best first: rating, interval, prompts, games, wins, ties, losses, score (points a game).
    low, high: null where there is no interval (eval/elo/bradley_terry.py).

    Where the anchor has played none of these games, the mean is 1000 as without one.
    """
    names = sorted({name for g in games for name in (g.first, g.second)})
    by_prompt = points_by_prompt(games, names)
    found = rate(by_prompt, num_resamples, level, seed, names.index(anchor) if anchor in names else None)
    tally = {name: Counter[float]() for name in names}
    prompts: dict[str, set[str]] = {name: set() for name in names}
    for game in games:
        for name, points in ((game.first, game.points), (game.second, 1 - game.points)):
            tally[name][points] += 1
            prompts[name].add(game.prompt)
    listed = []
    for i, name in enumerate(names):
        wins, ties, losses = (tally[name][points] for points in (1.0, 0.5, 0.0))
        number = wins + ties + losses
        rating, low, high = (None if np.isnan(v[i]) else round(float(v[i]), 1) for v in found)
        row = {"name": name, "rating": rating, "low": low, "high": high, "prompts": len(prompts[name]), "games": number}
        listed.append(
            {**row, "wins": wins, "ties": ties, "losses": losses, "score": round((wins + ties / 2) / number, 4)}
        )
    return sorted(listed, key=lambda row: (-row["rating"], row["name"]))


def win_rates(games: Sequence[Game], names: Sequence[str]) -> dict[str, Any]:
    """Share of the points (ties half) that the model of a row has of its games with that of a column; null: none."""
    points = points_by_prompt(games, names).sum(0)
    played = points + points.T
    shares = np.divide(points, played, out=np.full_like(points, np.nan), where=played > 0)
    rates = [[None if np.isnan(share) else round(float(share), 4) for share in row] for row in shares]
    return {"models": list(names), "rate": rates, "games": played.astype(int).tolist()}


def _counts(judgements: Sequence[Judgement], games: Sequence[Game], found: Consistency) -> dict[str, Any]:
    unread = Counter(j.reason or "none given" for j in judgements if j.verdict is None)
    share = found.num_inconsistent / found.num_pairs if found.num_pairs else None
    return {
        "num_judgements": len(judgements), "num_games": len(games), "num_without_verdict": unread.total(),
        "without_verdict": dict(sorted(unread.items())), "num_pairs_both_orders": found.num_pairs,
        "num_inconsistent": found.num_inconsistent, "num_always_first": found.num_first,
        "num_always_second": found.num_second, "inconsistent": None if share is None else round(share, 4),
        "num_equal_answers": sum(j.judge == EQUAL for j in judgements) // 2,
    }  # fmt: skip


def _why(judgements: Sequence[Judgement]) -> str:
    unread = Counter(j.reason or "none given" for j in judgements if j.verdict is None)
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(unread.items()))


def _notes(games: Sequence[Game]) -> Iterator[str]:
    """What limits these ratings, a sentence each."""
    names = sorted({name for g in games for name in (g.first, g.second)})
    points = points_by_prompt(games, names).sum(0)
    met = groups_that_met(points)
    if len(met) > 1:
        lists = " | ".join(", ".join(names[i] for i in group) for group in met)
        yield f"these groups never met, so ratings compare only within each: {lists}"
    for word, side, totals in (("lost", "above", points.sum(0)), ("won", "below", points.sum(1))):
        if found := [name for name, total in zip(names, totals, strict=True) if not total]:
            rests = f"how far {side} the others they are rests on the weak prior, and they have no interval"
            yield f"never {word} a point: {', '.join(found)}; {rests}"
    balanced = groups_of_balance(points)
    if len(balanced) > len(met) and all(points[:, i].any() and points[i].any() for i in range(len(names))):
        lists = " | ".join(", ".join(names[i] for i in group) for group in balanced)
        yield f"between these groups all points went one way, so their distance rests on the weak prior: {lists}"
    if (prompts := len({g.prompt for g in games})) < FEW_PROMPTS:
        few = "too few for any interval" if prompts == 1 else "intervals, which resample prompts, are too narrow"
        yield f"only {prompts} prompt{'s' * (prompts != 1)}: {few}"


def _judge_notes(judgements: Sequence[Judgement], found: Consistency) -> Iterator[str]:
    if why := _why(judgements):
        yield f"judgements without a verdict, which count for nobody: {why}"
    if found.num_inconsistent:
        share = found.num_inconsistent / found.num_pairs
        places = f"{found.num_first:,} always the first answer, {found.num_second:,} always the second"
        head = f"the judge contradicted itself on {found.num_inconsistent:,} of {found.num_pairs:,} pairs ({share:.1%})"
        yield f"{head} when the answers were swapped, which made them ties: {places}"


def _absent(names: Sequence[str], played: set[str]) -> Iterator[str]:
    if absent := [name for name in names if name not in played]:
        yield f"without any verdict, so not rated: {', '.join(absent)}"
