"""Training loop. The step, the batches and the periodic actions are arguments; see `Hooks`."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vdm.runtime.devices import to_host
from vdm.training.skipped import raise_at_first
from vdm.training.state import TrainState
from vdm.training.step import SKIPPED, TrainStep

BLOCK_EVERY_STEPS = 10
"""Steps in flight before the loop waits for their metrics: more deadlock on simulated CPU devices."""

Window = list[dict[str, float]]
"""Metrics of every step since the last log; saved with the state, so that a resumed run logs the
same averages. A skipped step has the entry SKIPPED alone.
"""


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Periodic actions, each done after every so many steps (0 for never) and after the last step.

    In one step, logging comes first, then evaluation, then sampling, then saving.

    Attributes:
      log: (step, metrics averaged since the last log over the steps that were not skipped, with
        SKIPPED, the number of those that were; it stands alone where all were).
      evaluate: (state); left out, like `sample`, once a stop is asked for.
      sample: (state).
      save: (state, window); every step up to that one has been checked, and those that were not
        finite have changed nothing.
      stop: whether to stop after this step, such as for a signal; the state is saved first.
      skipped: (step, metrics) of a step whose update was left out, within BLOCK_EVERY_STEPS of it
        and in the order of steps; raises NonFiniteError to end the run.
    """

    log: Callable[[int, dict[str, float]], None]
    log_every_steps: int
    evaluate: Callable[[TrainState], None]
    evaluate_every_steps: int
    save: Callable[[TrainState, Window], None]
    save_every_steps: int
    sample: Callable[[TrainState], None] = lambda state: None
    sample_every_steps: int = 0
    stop: Callable[[], bool] = lambda: False
    skipped: Callable[[int, dict[str, float]], None] = raise_at_first


def train(
    state: TrainState,
    train_step: TrainStep,
    make_batch: Callable[[int], Any],
    num_steps: int,
    hooks: Hooks,
    window: Sequence[dict[str, float]] = (),
    steps_per_call: int = 1,
) -> TrainState:
    """Train until `num_steps` updates are made, or a stop is asked for, and return the last state.

    Args:
      state: the state to start from; donated.
      train_step: (state, batch) -> (state, metrics).
      make_batch: the placed batch of step n.
      num_steps: updates in all, those already in `state` included.
      hooks: the periodic actions.
      window: metrics that were saved with `state`.
      steps_per_call: steps that `train_step` makes at once, from as many batches stacked by
        `make_batch` of the first; its metrics are then [steps_per_call]. Divides all periods.

    Raises:
      NonFiniteError: raised by `hooks.skipped`.
    """
    step = int(state.step)
    pending: list[tuple[int, dict]] = []
    window = list(window)
    stopping = hooks.stop()
    while step < num_steps and not stopping:
        # The call returns before the device is done: metrics stay on the device until they are
        # needed.
        state, metrics = train_step(state, make_batch(step))
        step += steps_per_call
        pending.append((step, metrics))

        # Steps that were not finite are reported before any action, so the pending metrics are
        # fetched and checked before it.
        log = is_due(hooks.log_every_steps, step, num_steps)
        evaluate = is_due(hooks.evaluate_every_steps, step, num_steps)
        sample = is_due(hooks.sample_every_steps, step, num_steps)
        save = is_due(hooks.save_every_steps, step, num_steps)
        stopping = hooks.stop()
        if (
            log
            or evaluate
            or sample
            or save
            or stopping
            or len(pending) * steps_per_call >= BLOCK_EVERY_STEPS
        ):
            window += _collect(pending, hooks)

        # The order matters: the metric of an evaluation belongs to the checkpoint that is saved
        # after it.
        if log:
            hooks.log(step, _average(window))
            window = []
        if evaluate and not hooks.stop():
            hooks.evaluate(state)
        if sample and not hooks.stop():
            hooks.sample(state)
        # A signal before or within these saves this very step, for them to be done on resuming.
        stopping = stopping or hooks.stop()
        if save or stopping:
            hooks.save(state, window)
    return state


def is_due(every_steps: int, step: int, num_steps: int) -> bool:
    """Return whether a periodic action follows step `step`; after the last step every action does."""
    return step == num_steps or (every_steps > 0 and step % every_steps == 0)


def _collect(pending: list[tuple[int, dict]], hooks: Hooks) -> Window:
    """Wait for the pending steps, report those that were skipped, and empty the list."""
    collected = []
    for step, values in _by_step(to_host(pending)):
        if values.get(SKIPPED):
            hooks.skipped(step, values)
            # Its other numbers may be nan, which neither an average nor JSON can take.
            values = {SKIPPED: 1.0}
        collected.append(values)
    pending.clear()
    return collected


def _by_step(pending: list[tuple[int, dict]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield (step, metrics) of every step; a call of several steps gave arrays and the last number."""
    for step, metrics in pending:
        rows = {name: np.atleast_1d(value) for name, value in metrics.items()}
        count = len(next(iter(rows.values()), ()))
        for k in range(count):
            yield int(step) - count + 1 + k, {name: float(row[k]) for name, row in rows.items()}


def _average(window: Window) -> dict[str, float]:
    """Return each metric's mean over the steps that were not skipped, and the number of the others."""
    taken = [values for values in window if not values.get(SKIPPED)]
    names = taken[0] if taken else {}
    means = {name: float(np.mean([values[name] for values in taken])) for name in names}
    return {**means, SKIPPED: float(len(window) - len(taken))}
