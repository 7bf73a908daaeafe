"""Which answers are compared, and one judgement of each pair in each order, by a server or an exported model.

Every two models meet on every prompt that both have answered, twice, with the answers swapped (eval/elo/games.py makes
one game of it). Two equal answers are tied without asking. What the judge says is kept by the hash of what it read
(mindllm/endpoint/cache.py), so a killed run, or one with another model added, pays for nothing twice.
Cost: prompts * models * (models - 1) verdicts, which are printed before the first one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from eval.elo.answers import Answers
from eval.elo.games import EQUAL, Judgement
from eval.elo.judges.endpoint import Ruling, judge_by_endpoint, messages
from eval.elo.judges.local import LetterJudge, LocalJudge
from eval.elo.judges.wording import VERSION, Matchup
from eval.exported import hash_model
from mindllm.endpoint import Cache, Client, EndpointConfig
from mindllm.hashing import mix
from mindllm.language import language
from mindllm.stage import hash_json


class Schedule(NamedTuple):
    """matchups: what a judge has to read.  equal: judgements of equal answers, tied without one."""

    matchups: list[Matchup]
    equal: list[Judgement]


def choose_prompts(ids: Sequence[str], limit: int | None, seed: int) -> list[str]:
    """`limit` of the prompts, or all, by name: those whose keyed hash is smallest, so that more prompts in the files
    exchange few, and a higher limit keeps all."""
    ordered = sorted(ids, key=lambda i: (mix(seed, int(hash_json(i), 16)), i))
    return sorted(ordered[:limit])


def num_verdicts(answered: Sequence[set[str]], prompts: Sequence[str]) -> int:
    """Verdicts that are needed, given the ids that each model answers: two a pair."""
    each = [sum(prompt in ids for ids in answered) for prompt in prompts]
    return sum(n * (n - 1) for n in each)


def schedule(answers: Answers, prompts: Sequence[str]) -> Schedule:
    """All pairs of models on these prompts, in both orders."""
    found, equal = [], []
    for prompt in prompts:
        text = answers.prompts[prompt]
        lang = language(text)
        for names in combinations([name for name in answers.texts if prompt in answers.texts[name]], 2):
            for first, second in (names, names[::-1]):
                one, other = answers.texts[first][prompt], answers.texts[second][prompt]
                if one.strip() == other.strip():
                    equal.append(Judgement(prompt, first, second, "tie", EQUAL))
                else:
                    found.append(Matchup(prompt, lang, text, first, second, one, other))
    return Schedule(found, equal)


def judge_facts(judge: EndpointConfig | LocalJudge) -> dict[str, Any]:
    """Everything about a judge that can change its verdicts: part of the plan of a run."""
    if isinstance(judge, EndpointConfig):
        said = {key: getattr(judge, key) for key in ("url", "model", "max_tokens", "extra")}
        return {"kind": "endpoint", "wording": VERSION, **said}
    asked = {"chat": judge.chat, "dtype": judge.dtype}
    return {"kind": "model", "wording": VERSION, "hash": hash_model(judge.model), **asked}


def judge_name(judge: EndpointConfig | LocalJudge) -> str:
    """What the judge is called in judgements.jsonl."""
    return judge.model if isinstance(judge, EndpointConfig) else Path(judge.model).as_posix()


def judge_all(judge: EndpointConfig | LocalJudge, found: Schedule, cache_path: Path, seed: int) -> list[Judgement]:
    """A judgement of every matchup, and those of equal answers. Raises what the judge raises."""
    with Cache(cache_path) as cache:
        rulings = _ask(judge, found.matchups, cache, seed)
    name = judge_name(judge)
    judged = [
        Judgement(m.prompt_id, m.first, m.second, verdict, name, reason)
        for m, (verdict, reason) in zip(found.matchups, rulings, strict=True)
    ]
    return judged + found.equal


def _ask(judge: EndpointConfig | LocalJudge, matchups: Sequence[Matchup], cache: Cache, seed: int) -> list[Ruling]:
    """The rulings; first a line that says how many are to be asked for."""
    if isinstance(judge, EndpointConfig):
        client = Client(judge, cache, seed)
        _announce(client.num_missing([messages(m) for m in matchups]), len(matchups))
        return judge_by_endpoint(client, matchups, _progress())
    model = LetterJudge(judge, hash_model(judge.model), cache)
    _announce(model.num_missing(matchups), len(matchups))
    return model.judge(matchups, _progress())


def _announce(missing: int, total: int) -> None:
    print(f"elo: {missing:,} verdicts to ask for; {total - missing:,} of {total:,} are there already", flush=True)


def _progress() -> Callable[[int, int], None]:
    """Prints a line at every tenth of the work."""

    def done(number: int, total: int) -> None:
        if number * 10 // total > (number - 1) * 10 // total:
            print(f"elo: {number:,} of {total:,} verdicts", flush=True)

    return done
