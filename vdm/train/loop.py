"""The training loop: it is given its step, its batches and what to do at times, and owns none."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vdm.devices import to_host
from vdm.errors import NonFiniteError
from vdm.train.state import TrainState
from vdm.train.step import TrainStep

BLOCK_EVERY_STEPS = 10
"""Steps in flight before the loop waits: more deadlock on simulated CPU devices."""


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What happens besides stepping. A hook runs after every `every`-th step and after the last.

    Attributes:
      log: (step, metrics averaged since the last call, seconds they took).
      evaluate: (state) every `evaluate_every_steps`.
      save: (state) every `save_every_steps`; metrics up to that step are finite.
      stop: whether to stop after this step, e.g. for a signal; the state is saved first.
    """

    log: Callable[[int, dict[str, float], float], None]
    log_every_steps: int
    evaluate: Callable[[TrainState], None]
    evaluate_every_steps: int
    save: Callable[[TrainState], None]
    save_every_steps: int
    stop: Callable[[], bool] = lambda: False


def train(
    state: TrainState,
    train_step: TrainStep,
    make_batch: Callable[[int], Any],
    num_steps: int,
    hooks: Hooks,
) -> TrainState:
    """Steps until `num_steps` updates are made, or a stop is asked for; returns the last state.

    `make_batch(n)` gives the placed batch of step n. Raises NonFiniteError, naming the step and its
    terms, within BLOCK_EVERY_STEPS of the first step whose metrics are not finite.
    """
    step = int(state.step)
    pending: list[tuple[int, dict]] = []
    window: list[dict[str, float]] = []
    started = time.monotonic()
    while step < num_steps:
        state, metrics = train_step(state, make_batch(step))
        pending.append((step, metrics))
        step += 1
        last = step == num_steps or hooks.stop()
        due = {n for n in ("log", "evaluate", "save") if last or _is_due(hooks, n, step)}
        if due or len(pending) >= BLOCK_EVERY_STEPS:
            window += _collect(pending)
        if "log" in due:
            hooks.log(step, _average(window), time.monotonic() - started)
            window, started = [], time.monotonic()
        if "evaluate" in due and not (last and step < num_steps):
            hooks.evaluate(state)
        if "save" in due:
            hooks.save(state)
        if due - {"log"}:
            started = time.monotonic()  # evaluating and saving is not training time
        if last:
            break
    return state


def _is_due(hooks: Hooks, name: str, step: int) -> bool:
    every = getattr(hooks, f"{name}_every_steps")
    return every > 0 and step % every == 0


def _collect(pending: list[tuple[int, dict]]) -> list[dict[str, float]]:
    """Waits for the pending steps, checks that all they report is finite, and empties the list."""
    collected = []
    for step, metrics in to_host(pending):
        values = {name: float(value) for name, value in metrics.items()}
        if not all(np.isfinite(list(values.values()))):
            listed = ", ".join(f"{name}={value:.6g}" for name, value in values.items())
            raise NonFiniteError(
                f"step {int(step)}: not finite ({listed}); gamma ranges over "
                f"[{values.get('gamma_0', np.nan):.4g}, {values.get('gamma_1', np.nan):.4g}]. "
                "The last checkpoint is intact: lower optimizer.learning_rate or "
                "optimizer.clip_norm and resume"
            )
        collected.append(values)
    pending.clear()
    return collected


def _average(window: list[dict[str, float]]) -> dict[str, float]:
    names = window[0] if window else {}
    return {name: float(np.mean([values[name] for values in window])) for name in names}
