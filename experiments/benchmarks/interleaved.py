"""Steps timed in turns, so that a busy machine slows all alike, and the ratios of their times."""

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
    """{name: seconds of one call in every round}, after a call of each that compiles.

    Every other round goes backwards. `check` is called before each, and may raise to stop.
    """
    for step in steps.values():
        jax.block_until_ready(step())
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        check()
        for name in list(steps)[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            jax.block_until_ready(steps[name]())
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(
    seconds: Sequence[float], reference: Sequence[float]
) -> tuple[float, tuple[float, float]]:
    """exp of the mean of log(seconds/reference) over rounds (2 or more), with its 95 % interval."""
    mean, interval = mean_and_interval((np.log(seconds) - np.log(reference)).tolist())
    assert mean is not None and interval is not None
    return math.exp(mean), (math.exp(interval[0]), math.exp(interval[1]))
