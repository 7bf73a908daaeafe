"""Which checkpoints stay: the newest always, and by last, every and best."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm.checkpoint import Keep, doomed

LOSSES = st.none() | st.floats(allow_nan=True, allow_infinity=True)
CHECKPOINTS = st.dictionaries(st.integers(0, 60), LOSSES).map(lambda found: list(found.items()))
KEEPS = st.builds(Keep, st.integers(0, 5), st.integers(0, 10), st.integers(0, 4))


@pytest.mark.parametrize(
    ("keep", "gone"),
    [
        (Keep(1), [10, 20, 30, 40]),
        (Keep(2), [10, 20, 30]),
        (Keep(9), []),
        (Keep(1, every=20), [10, 30]),
        (Keep(1, best=1), [10, 30, 40]),
        (Keep(1, best=2), [10, 40]),
        (Keep(1, best=9), [10]),
        (Keep(2, every=30, best=1), [10]),
    ],
)
def test_examples(keep: Keep, gone: list[int]) -> None:
    assert doomed([(30, 2.0), (10, None), (50, 4.0), (40, 3.0), (20, 1.0)], keep) == gone


def test_equal_losses_and_none() -> None:
    assert doomed([(1, 2.0), (2, 2.0), (3, 9.0)], Keep(1, best=1)) == [1]
    assert doomed([(1, float("nan")), (2, None), (3, None)], Keep(1, best=2)) == [1, 2]
    assert doomed([], Keep(1)) == [] and doomed([(7, None)], Keep(0)) == []


@given(CHECKPOINTS, KEEPS)
def test_rules(checkpoints: list[tuple[int, float | None]], keep: Keep) -> None:
    gone = doomed(checkpoints, keep)
    stay = [step for step, _ in checkpoints if step not in gone]
    assert gone == sorted(set(gone)) and set(gone) <= {step for step, _ in checkpoints}
    newest = sorted((step for step, _ in checkpoints), reverse=True)
    assert set(newest[: max(1, keep.last)]) <= set(stay)
    assert not keep.every or not any(step % keep.every == 0 for step in gone)
    losses = {step: loss for step, loss in checkpoints if loss is not None and loss == loss}
    for step in set(gone) & set(losses):
        assert sum(loss <= losses[step] for other, loss in losses.items() if other != step) >= keep.best
    for step in set(gone) - set(losses):
        assert step not in newest[: max(1, keep.last)]
    assert doomed([pair for pair in checkpoints if pair[0] in stay], keep) == [], "the rule leaves what it left"
    assert doomed(checkpoints[::-1], keep) == gone, "in whatever order they are found"


@given(CHECKPOINTS, KEEPS, KEEPS)
def test_a_wider_rule_deletes_nothing_more(checkpoints: list[tuple[int, float | None]], one: Keep, two: Keep) -> None:
    wider = Keep(max(one.last, two.last), one.every, max(one.best, two.best))
    assert set(doomed(checkpoints, wider)) <= set(doomed(checkpoints, one))
