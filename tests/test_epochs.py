"""Sources that would be read too often: the arithmetic, and that every way out that is named is one."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import UserError
from mindllm.mixture.epochs import Plan, check_epochs
from mindllm.mixture.order import BLOCK
from mindllm.mixture.phases import PhaseConfig
from mindllm.mixture.sizes import BatchSizes

SIZES = {"web-en": 100_000, "web-zh": 50_000, "书-zh": 5_000, "code": 20_000}


def plan(*phases: PhaseConfig, sizes: dict[str, int] = SIZES, steps: int = 512) -> Plan:
    """512 steps of 8 samples of 16 tokens: 65,536 tokens."""
    return Plan(sizes, phases or (PhaseConfig(),), seq_len=16, batch_sizes=BatchSizes(8), num_steps=steps, seed=1)


def message(found: Plan, max_epochs: float, by_source: dict[str, float] | None = None) -> str:
    """What check_epochs says; "" when all is well."""
    try:
        check_epochs(found, max_epochs, by_source or {})
    except UserError as error:
        return str(error)
    return ""


def improved(found: Plan, line: str) -> tuple[Plan, dict[str, float]]:
    """The plan with what a part of a message says, and limits by source if it says some."""
    if way := re.fullmatch(r"phases\.(\d+)\.(\w+)\.(.+): at most (\S+)", line):
        phases = [dataclasses.replace(p, **{k: dict(getattr(p, k)) for k in ("weights", "factors", "anneal_to")})
                  for p in found.phases]  # fmt: skip
        getattr(phases[int(way[1])], way[2])[way[3]] = float(way[4])
        return dataclasses.replace(found, phases=phases), {}
    if way := re.fullmatch(r"add ([\d,]+) tokens of text to it", line):
        return found, {"+": int(way[1].replace(",", ""))}
    if way := re.fullmatch(r"max_epochs_by_source\.(.+): (\S+)", line):
        return found, {way[1]: float(way[2])}
    raise AssertionError(line)


def assert_ways_help(found: Plan, max_epochs: float, by_source: dict[str, float]) -> int:
    """Each way out of each source makes it fit; those for all of them do for all. Returns how many there were."""
    said = message(found, max_epochs, by_source)
    over = {name for name, epochs in found.epochs().items() if epochs > by_source.get(name, max_epochs)}
    assert set(re.findall(r"^  (\S+): [\d,]+ tokens are asked", said, re.M)) == over
    number = 0
    for name, ways in re.findall(
        r"^  (\S+): .*\n    (?:each of these|this) helps(?: this source alone)?: (.*)$", said, re.M
    ):
        limit = by_source.get(name, max_epochs)
        for way in ways.split("; "):
            better, values = improved(found, way)
            if "+" in values:
                better = dataclasses.replace(found, sizes=found.sizes | {name: found.sizes[name] + int(values["+"])})
            number += 1
            assert better.epochs()[name] <= values.get(name, limit), way
            if len(over) == 1:
                assert not message(better, max_epochs, by_source | {k: v for k, v in values.items() if k != "+"}), way
        assert f"max_epochs_by_source.{name}: " in ways
    if steps := re.search(r"train\.steps: at most (\d+)", said):
        assert not message(dataclasses.replace(found, num_steps=int(steps[1])), max_epochs, by_source)
        assert message(dataclasses.replace(found, num_steps=int(steps[1]) + 1), max_epochs, by_source)
    if allowed := re.search(r"  for .*max_epochs: (\S+)$", said):
        assert not message(found, float(allowed[1]), by_source)
        assert message(found, float(allowed[1]) - 0.02, by_source)
    return number


def test_enough_text_says_nothing() -> None:
    assert message(plan(), 1) == ""
    assert message(plan(PhaseConfig({"code": 1})), 3.28) == ""  # 65,536 / 20,000
    assert message(plan(PhaseConfig({"code": 1, "书-zh": 1})), 1.7, {"书-zh": 7}) == ""
    assert message(plan(PhaseConfig({"code": 1, "书-zh": 1})), 1, {"code": 2, "*-zh": 7}) == ""


def test_the_message() -> None:
    found = plan(PhaseConfig({"web-en": 2, "书-zh": 1, "web-zh": 1}))
    assert message(found, 2) == (
        "mixture: 1 source(s) would be repeated more often than allowed\n"
        "  书-zh: 16,384 tokens are asked of 5,000, which is 3.28 epochs, more than max_epochs=2\n"
        "    each of these helps: phases.0.weights.书-zh: at most 0.541; add 3,200 tokens of text to it; "
        "max_epochs_by_source.书-zh: 3.28\n"
        "  for it, too: train.steps: at most 317; or max_epochs: 3.28"
    )
    both = message(plan(PhaseConfig({"code": 1, "书-zh": 1})), 1, {"书-*": 2})
    assert (
        "  书-zh: 32,768 tokens are asked of 5,000, which is 6.55 epochs, more than max_epochs_by_source.书-*=2\n"
        in both
    )
    assert "  code: 32,768 tokens are asked of 20,000, which is 1.64 epochs, more than max_epochs=1\n" in both
    assert both.splitlines()[0].startswith("mixture: 2 source(s)") and "  for all of them: train.steps: at most" in both
    assert "or max_epochs" not in both  # it would not help 书-zh


def test_the_only_source_of_a_phase_has_no_lower_weight() -> None:
    said = message(plan(PhaseConfig({"书-zh": 3})), 2)
    assert "phases." not in said and "add 27,800 tokens" in said  # 32,768 would be 2 epochs: 27,768 more


@pytest.mark.parametrize(
    ("phase", "weight"),
    [
        (PhaseConfig({"书-zh": 1, "web-en": 1}), "phases.0.weights.书-zh"),
        (PhaseConfig({"*-zh": 9, "web-en": 1}), "phases.0.weights.*-zh"),
        (PhaseConfig(factors={"书-zh": 30}), "phases.0.factors.书-zh"),
        (PhaseConfig(factors={"书*": 30}), "phases.0.factors.书*"),
        (PhaseConfig({"书-zh": 1, "web-en": 1}, order="blocked"), "phases.0.weights.书-zh"),
        (PhaseConfig({"书-zh": 1, "web-en": 1}, blocked_share=0.3), "phases.0.weights.书-zh"),
        (PhaseConfig({"书-zh": 1, "web-en": 1}, anneal_to={"web-en": 1}), "phases.0.weights.书-zh"),
        (PhaseConfig({"web-en": 1}, anneal_to={"书-zh": 1, "web-en": 1}), "phases.0.anneal_to.书-zh"),
    ],
)
def test_ways_out_of_every_kind_of_phase(phase: PhaseConfig, weight: str) -> None:
    found = plan(phase)
    assert found.epochs()["书-zh"] > 1
    assert re.search(rf"each of these helps( this source alone)?: {re.escape(weight)}: at most ", message(found, 1))
    assert assert_ways_help(found, 1, {}) >= 3


def test_the_weight_that_is_named_is_that_of_the_phase_that_serves_most() -> None:
    small, large = PhaseConfig({"书-zh": 1, "web-en": 9}, until_step=100), PhaseConfig({"书-zh": 1, "web-en": 1})
    found = plan(small, large)
    assert "phases.1.weights.书-zh: at most" in message(found, 2)
    assert assert_ways_help(found, 2, {}) == 3


def test_by_size_all_are_repeated_as_often() -> None:
    found = plan(steps=4096)  # 524,288 tokens of 175,000
    said = message(found, 2)
    assert said.startswith("mixture: 4 source(s)") and said.count("add ") == 4
    assert "train.steps: at most 27" in said  # 2,734 are 350,000 tokens
    assert "phases." not in said
    assert said.endswith(
        "  524,288 tokens are asked in all, and all sources that are used allow 350,000 together "
        "(tokens times limits): no weights among them can help"
    )
    assert assert_ways_help(found, 2, {}) >= 8


@settings(max_examples=20, deadline=None)
@given(
    weights=st.fixed_dictionaries({}, optional={n: st.floats(0.01, 10) for n in ("web-en", "*-zh", "书-zh", "code")}),
    use=st.sampled_from(["weights", "factors"]), steps=st.integers(1, 20) , switch=st.integers(1, 10),
    limits=st.tuples(st.floats(0.5, 4), st.fixed_dictionaries({}, optional={"书-zh": st.floats(0.5, 8)})),
)  # fmt: skip
def test_every_way_out_helps(
    weights: dict[str, float], use: str, steps: int, switch: int, limits: tuple[float, dict[str, float]]
) -> None:
    phases = (PhaseConfig(**{use: weights}, until_step=switch * BLOCK // 8), PhaseConfig({"书-zh": 1, "web-en": 5}))
    assert_ways_help(plan(*phases, steps=steps * BLOCK // 8), *limits)


def test_many_sources_are_all_named_and_the_worst_helped() -> None:
    sizes = {f"s{k:02d}-{'en' if k % 2 else '书'}": 1000 + 50 * k for k in range(20)}
    sizes["web-en"] = 10**6
    found = plan(PhaseConfig(dict.fromkeys(sizes, 1.0)), sizes=sizes, steps=1024)
    said = message(found, 2)
    assert said.startswith("mixture: 20 source(s)") and said.count("tokens are asked") == 20
    assert said.count("each of these helps this source alone: phases.0.weights.") == 8
    assert said.count("this helps this source alone: max_epochs_by") == 12
    assert said.index("each of these") < said.index("this helps")  # the smallest are the worst
    assert assert_ways_help(found, 2, {}) == 8 * 3 + 12


def test_no_weights_help_where_all_that_is_used_is_too_little() -> None:
    found = plan(PhaseConfig({"书-zh": 2, "code": 1}))
    said = message(found, 2, {"code": 1})
    assert "65,536 tokens are asked in all, and all sources that are used allow 30,000 together" in said
    assert "phases.0" not in said and "each of these helps this source alone: add " in said
    assert "no weights" not in message(plan(PhaseConfig({"书-zh": 2, "web-en": 1})), 2, {"web-en": float("inf")})
    assert assert_ways_help(found, 2, {"code": 1}) == 2 * 2


def test_a_weight_that_pushes_another_source_over_is_no_way_out() -> None:
    found = plan(PhaseConfig({"书-zh": 1, "code": 1, "web-en": 0.1}), steps=256)  # 32,768 tokens
    said = message(found, 0.8)
    assert said.startswith("mixture: 1 source(s)") and "书-zh: " in said and "phases.0" not in said
    assert assert_ways_help(found, 0.8, {}) >= 1


def test_limits_name_sources() -> None:
    with pytest.raises(UserError, match="max_epochs_by_source: 'bok' matches no source .* web-en, web-zh, 书-zh, code"):
        check_epochs(plan(), 4, {"bok": 9})
