"""A server as the judge: it gives its reasons, then the verdict. mindllm/endpoint asks, waits and keeps the answers.

A reply that was cut off at max_tokens has no verdict, whatever its last line looks like. Cost: two requests a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eval.elo.games import Verdict
from eval.elo.judges.wording import Matchup, instructions, material, parse_verdict
from mindllm.endpoint import Answer, Client, Message

Ruling = tuple[Verdict | None, str]  # the verdict, or None and why there is none


def messages(matchup: Matchup) -> list[Message]:
    """The conversation that asks for one verdict."""
    return [
        {"role": "system", "content": instructions(matchup.lang, reasons=True)},
        {"role": "user", "content": material(matchup)},
    ]


def judge_by_endpoint(client: Client, matchups: Sequence[Matchup], done: Callable[[int, int], None]) -> list[Ruling]:
    """A ruling for each matchup; what the server says of the first refused one is printed. Raises what
    `Client.ask_all` raises."""
    found = client.ask_all([messages(m) for m in matchups], done)
    if refused := [answer.refused for answer in found if answer.refused]:
        count = f"{len(refused):,} of {len(found):,}"
        print(f"elo: {count} requests were refused, the first with: {refused[0]}", flush=True)
    return [_ruling(answer) for answer in found]


def _ruling(answer: Answer) -> Ruling:
    if answer.refused:
        return None, "refused"
    if answer.finish == "length":
        return None, "cut off"
    verdict = parse_verdict(answer.text)
    return verdict, "" if verdict else "unread"
