"""Phases: what a config may say, patterns, factors and shares by size, the two-stage recipe, contradictions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import UserError, parse
from mindllm.mixture.order import SHARES, quotas
from mindllm.mixture.phases import Phase, PhaseConfig, matches, resolve, run_order, sequence_problems
from mindllm.mixture.sizes import BatchSizes

SIZES = {"web-en": 4000, "web-zh": 2000, "书-zh": 1000, "書-zh": 500, "code": 500}


def problems(**values: Any) -> list[str]:
    found: list[str] = []
    parse(PhaseConfig, values, found)
    return found


def shares(config: PhaseConfig, sizes: dict[str, int] = SIZES) -> dict[str, float]:
    """Shares of a single phase in 1/16, which sizes and weights here are made of."""
    return {name: share * 16 / SHARES for name, share in resolve([config], sizes)[0].shares.items()}


def test_by_size() -> None:
    assert shares(PhaseConfig()) == {"web-en": 8, "web-zh": 4, "书-zh": 2, "書-zh": 1, "code": 1}
    assert shares(PhaseConfig(), SIZES | {"empty": 0}) == shares(PhaseConfig())


def test_weights_are_shares_and_leave_the_others_out() -> None:
    assert shares(PhaseConfig({"web-en": 3, "书-zh": 1})) == {"web-en": 12, "书-zh": 4}
    assert shares(PhaseConfig({"web-en": 0.75, "书-zh": 0.25, "code": 0})) == {"web-en": 12, "书-zh": 4}
    assert resolve([PhaseConfig({"web-en": 0.1, "code": 0.2, "书-zh": 0.7})], SIZES)[0].shares == {
        "code": 209715, "web-en": 104858, "书-zh": 734003,
    }  # fmt: skip


def test_factors_are_of_the_own_size() -> None:
    found = resolve([PhaseConfig(factors={"web-en": 0.25, "code": 4, "書-zh": 0})], SIZES)[0].shares
    names = ["code", "web-en", "web-zh", "书-zh"]
    assert found == dict(zip(names, quotas([2000, 1000, 2000, 1000], SHARES), strict=True))


def test_patterns() -> None:
    # a weight is shared by size: 3500 Chinese tokens of three sources
    found = resolve([PhaseConfig({"*-zh": 0.5, "*-en": 0.5})], SIZES)[0].shares
    assert found == dict(zip(["web-en", "web-zh", "书-zh", "書-zh"], quotas([3500, 2000, 1000, 500], SHARES),
                             strict=True))  # fmt: skip
    # a name goes before a pattern, which then is of the others alone
    assert shares(PhaseConfig({"*-zh": 3, "web-zh": 1})) == {"web-zh": 4, "书-zh": 8, "書-zh": 4}
    assert shares(PhaseConfig({"web-zh": 1, "*-zh": 3})) == {"web-zh": 4, "书-zh": 8, "書-zh": 4}
    assert shares(PhaseConfig({"*": 1})) == shares(PhaseConfig())
    # a factor is for each
    found = resolve([PhaseConfig(factors={"web-*": 0, "*-zh": 2, "web-zh": 1.5, "code": 0.5})], SIZES)[0].shares
    names = ["code", "web-zh", "书-zh", "書-zh"]
    assert found == dict(zip(names, quotas([250, 3000, 2000, 1000], SHARES), strict=True))
    assert shares(PhaseConfig(factors={"web-*": 0, "书*": 2, "書*": 2, "code": 2})) == {
        "书-zh": 8, "書-zh": 4, "code": 4,
    }  # fmt: skip


def test_a_pattern_is_text_but_for_its_stars() -> None:
    names = ["a.b", "axb", "a*b", "a[b]", "pile-github-en", "pile-github-code-en", "a\nb"]
    assert matches({"a.*": 1}, names, "w") == {"a.*": ["a.b"]}
    assert matches({"a[*": 1}, names, "w") == {"a[*": ["a[b]"]}
    assert matches({"a*b": 1}, names, "w") == {"a*b": ["a*b"]}  # the name itself
    assert matches({"a**b": 1}, names, "w") == {"a**b": ["a.b", "axb", "a*b", "a\nb"]}
    assert matches({"pile-github-*": 1}, names, "w") == {"pile-github-*": names[4:6]}
    assert matches({"*github*code*": 1}, names, "w") == {"*github*code*": [names[5]]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PhaseConfig({"wbe": 1}), r"weights: 'wbe' matches no source .* are web-en, web-zh, 书-zh, 書-zh, code"),
        (PhaseConfig(factors={"*-fr": 1, "x": 2}), r"phases.0.factors: '\*-fr', 'x' match no source"),
        (PhaseConfig({"web-*": 1, "*-zh": 1}), r"weights: source web-zh is matched by 'web-\*' and by '\*-zh'"),
        (PhaseConfig({"code*": 1, "code": 1}), r"weights: 'code\*' matches no source \(that is not named itself\)"),
        (PhaseConfig(factors={"*": 0}), r"phases.0.factors: leaves nothing to train on"),
        (PhaseConfig({"code": 1}, anneal_to={"cod": 1}), r"phases.0.anneal_to: 'cod' matches no source"),
        (PhaseConfig({"web-en": 2**22, "code": 1}), r"share of code rounds to no sample in 1,048,576 .* 1/2,097,152\)"),
        (PhaseConfig({"web-en": 1}, {"code": 1}), r"phases.0.weights, factors: give one of them"),
        (PhaseConfig(until_step=5), r"every phase but the last needs until_step, the last must not have one"),
    ],
)  # fmt: skip
def test_wrong_keys_are_refused(config: PhaseConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve([config], SIZES)


def test_a_pattern_of_sources_without_text() -> None:
    with pytest.raises(UserError, match=r"phases.0.weights.\*-zh: 书-zh, 書-zh holds no text"):
        resolve([PhaseConfig({"*-zh": 1, "code": 1})], {"书-zh": 0, "書-zh": 0, "code": 5})
    with pytest.raises(UserError, match="leaves nothing"):
        resolve([PhaseConfig()], {"书-zh": 0})


def test_small_sources_by_size_are_no_mistake() -> None:
    assert resolve([PhaseConfig()], {"web-zh": 10**12, "a": 10**5})[0].shares == {"web-zh": SHARES}
    assert resolve([PhaseConfig({"*": 1})], {"web-zh": 10**12, "a": 10**5})[0].shares == {"web-zh": SHARES}
    assert resolve([PhaseConfig({"web-zh": 2**21 - 1, "a": 1})], {"web-zh": 9, "a": 9})[0].shares["a"] == 1


def test_contradictions_are_all_named() -> None:
    assert problems() == problems(weights={"书-zh": 1}) == problems(order="blocked", until_step=3) == []
    found = problems(weights={"en": -1, "zh": float("nan")}, factors={"zh": float("inf")}, until_step=0)
    assert [p.partition(":")[0] for p in found] == [
        "weights.en", "weights.zh", "factors.zh", "weights, factors", "until_step",
    ]  # fmt: skip
    assert problems(weights={"en": 0}) == ["weights: their sum is zero"]
    assert problems(anneal_to={"书-zh": 0}) == ["anneal_to: their sum is zero"]
    assert problems(factors={"en": 0}) == []
    assert problems(blocked_share=1.0)[0].startswith("blocked_share: 1.0 is no fraction")
    assert problems(blocked_share=0.5, order="blocked") == ["blocked_share: the whole phase is blocked already (order)"]
    for other in ({"order": "blocked"}, {"blocked_share": 0.5}):
        assert problems(anneal_to={"zh": 1}, **other)[0].startswith("anneal_to: goes with uniform order only")
    assert problems(order="random") == ["order: expected one of uniform, blocked, got str 'random'"]


def test_phases_as_a_row() -> None:
    def said(*ends: int | None) -> list[str]:
        return list(sequence_problems([PhaseConfig(until_step=end) for end in ends]))

    assert said(None) == said(1, None) == said(1, 5, None) == []
    assert said() == ["phases: at least one"]
    assert said(1, 1, None) == said(5, 1, None) == ["phases: until_step must grow"]
    assert said(5) == said(None, None) == said(5, None, 7) == [
        "phases: every phase but the last needs until_step, the last must not have one"
    ]  # fmt: skip


def test_resolved_phases_and_their_listing() -> None:
    first, second, third, fourth = resolve(
        [
            PhaseConfig({"书-zh": 1, "*-en": 1, "code": 2}, until_step=10, order="blocked"),
            PhaseConfig(factors={"web-en": 0}, until_step=20, blocked_share=0.25),
            PhaseConfig({"code": 1}, anneal_to={"书-zh": 1}, until_step=30),
            PhaseConfig({"*-zh": 1, "code": 0}, order="blocked"),
        ],
        SIZES,
    )
    assert (first.from_step, first.until_step, first.listing) == (0, 10, ["书-zh", "web-en", "code"])
    assert (second.from_step, second.listing) == (10, ["web-zh", "书-zh", "書-zh", "code"])
    assert third == Phase(20, 30, "uniform", 0.0, {"code": SHARES}, {"书-zh": SHARES}, [])
    assert (fourth.from_step, fourth.until_step, fourth.listing) == (30, None, ["web-zh", "书-zh", "書-zh"])
    assert all(sum(phase.shares.values()) == SHARES for phase in (first, second, third, fourth))


def test_english_first_then_mixed() -> None:
    """The recipe of the 1.3B: 101,100 steps of English, then 105,900 of both; half of stage two is Chinese."""
    sizes = {"pile-en": 200 * 10**9, "web-en": 41 * 10**9, "wudao-zh": 60 * 10**9, "书-zh": 22 * 10**9}
    phases = resolve([PhaseConfig({"*-en": 1}, until_step=101_100), PhaseConfig({"*-zh": 0.5, "*-en": 0.5})], sizes)
    batch_size, names = 762, sorted(sizes)  # 1.56M tokens a step with samples of 2,048
    order = run_order(phases, names, BatchSizes(batch_size), 207_000, seed=1)
    switch, end = 101_100 * batch_size, 207_000 * batch_size
    first = dict(zip(names, order.before(switch), strict=True))
    served = dict(zip(names, order.before(end), strict=True))
    assert first["wudao-zh"] == first["书-zh"] == 0 and sum(first.values()) == switch
    assert {order.at(i)[0] for i in range(switch - 1500, switch)} == {names.index("pile-en"), names.index("web-en")}
    assert {order.at(i)[0] for i in range(switch, switch + 1500)} == {0, 1, 2, 3}
    chinese = served["wudao-zh"] + served["书-zh"]
    assert abs(chinese - (end - switch) / 2) < 1024
    assert abs(chinese * 2048 / 1e9 - 82.6) < 0.1  # the paper: 82B Chinese, 241B English, 323B in all
    assert abs((sum(served.values()) - chinese) * 2048 / 1e9 - 240.4) < 0.1


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.dictionaries(st.sampled_from(["a-zh", "b-zh", "书-zh", "a-en", "b-en", "c"]), st.integers(1, 10**12),
                          min_size=1),
    new=st.integers(1, 10**12), rng=st.randoms(use_true_random=False),
)  # fmt: skip
def test_shares_do_not_depend_on_the_order_of_sources_or_on_those_left_out(
    sizes: dict[str, int], new: int, rng: Any
) -> None:
    names = list(sizes)
    rng.shuffle(names)
    shuffled = {name: sizes[name] for name in names}
    weights = {name: float(k + 1) for k, name in enumerate(sizes)}
    for config in (PhaseConfig(), PhaseConfig(weights), PhaseConfig(factors=weights), PhaseConfig({"*": 1})):
        assert resolve([config], sizes)[0] == resolve([config], shuffled)[0]
    assert resolve([PhaseConfig(weights)], sizes) == resolve([PhaseConfig(weights)], {"neu": new, **sizes})
    assert resolve([PhaseConfig()], sizes) == resolve([PhaseConfig(factors={"neu": 0})], {"neu": new, **sizes})
