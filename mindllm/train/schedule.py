"""The learning rate as a pure function of the step, and how far back another one leaves the past as it was."""

from __future__ import annotations

import math

from mindllm.train.config import TrainConfig

SCHEDULE_KEYS = ("steps", "learning_rate", "min_lr_ratio", "warmup_steps", "schedule", "decay_ratio")  # of lr_at


def lr_at(step: int, config: TrainConfig) -> float:
    """Learning rate of a step (0-based): linear warm-up, then the schedule.

    Cosine: Loshchilov and Hutter 2016, eq. 5.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    floor = config.min_lr_ratio
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "cosine":
        return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
    if config.schedule == "wsd":
        done = max(0.0, done - (1 - config.decay_ratio)) / config.decay_ratio
    return config.learning_rate * (1 - (1 - floor) * done)


def same_steps(old: TrainConfig, new: TrainConfig, step: int) -> int:
    """How many of the first `step` steps have the same learning rate under both, up to the first that has not.

    slow: 1 microsecond a step.
    """
    return next((k for k in range(step) if lr_at(k, old) != lr_at(k, new)), step)


def same_past(old: TrainConfig, new: TrainConfig, step: int) -> bool:
    """Whether a run of `old` that has done `step` steps is so far one of `new`, as far as learning rates go."""
    return same_steps(old, new, step) == step
