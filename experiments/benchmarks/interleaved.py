"""Timing of several functions in turns, so that a busy machine slows all alike, and ratios of times."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vdm.evaluation.statistics.between_seeds import mean_and_interval


def time_in_turns(
    steps: Mapping[str, Callable[[], Any]], rounds: int, check: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Time every function once per round, after one call of each that compiles and warms up.

    Args:
      steps: {name: function that returns arrays to wait for}.
      rounds: how often each is timed.
      check: called before every round; may raise to stop.

    Returns:
      {name: seconds of one call in every round}.
    """
    for step in steps.values():
        jax.block_until_ready(step())
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        check()
        # Order ABBA: a drift of the machine's speed cancels in the mean of two rounds.
        for name in list(steps)[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            jax.block_until_ready(steps[name]())
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(
    seconds: Sequence[float], reference: Sequence[float]
) -> tuple[float, tuple[float, float]]:
    """Return the geometric mean over rounds of seconds/reference, with its 95 % interval.

    Args:
      seconds: one time per round, 2 rounds or more.
      reference: times of the same rounds.
    """
    # By rounds: what slows a whole round divides out. By logarithms: ratios are skewed.
    mean, interval = mean_and_interval((np.log(seconds) - np.log(reference)).tolist())
    assert mean is not None and interval is not None
    return math.exp(mean), (math.exp(interval[0]), math.exp(interval[1]))
