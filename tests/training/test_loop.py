"""The loop: what runs when, what is averaged, that it stops for signals and skipped steps."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import NonFiniteError
from vdm.training.loop import BLOCK_EVERY_STEPS, Hooks, train
from vdm.training.skipped import SkippedSteps


@dataclasses.dataclass
class State:
    step: int


class Recorder:
    """Hooks that write down their calls, and a step whose loss is its number."""

    def __init__(self, log=0, evaluate=0, sample=0, save=0, stop_after=None, bad_step=None):
        self.calls, self.steps = [], []
        self.stop_after, self.bad_step = stop_after, bad_step
        self.hooks = Hooks(
            log=lambda step, metrics: self.calls.append(("log", step, metrics["loss"])),
            log_every_steps=log,
            evaluate=lambda state: self.calls.append(("evaluate", state.step)),
            evaluate_every_steps=evaluate,
            sample=lambda state: self.calls.append(("sample", state.step)),
            sample_every_steps=sample,
            save=lambda state, window: self.calls.append(
                ("save", state.step, [m.get("loss") for m in window])
            ),
            save_every_steps=save,
            stop=lambda: self.stop_after is not None and len(self.steps) >= self.stop_after,
        )

    def step(self, state, batch):
        self.steps.append(batch)
        loss = jnp.nan if state.step + 1 == self.bad_step else float(state.step + 1)
        values = {"gamma_0": -7.0, "gamma_1": 5.0, "loss": loss, "skipped_steps": np.isnan(loss)}
        return State(state.step + 1), {n: jnp.float32(value) for n, value in values.items()}

    def run(self, num_steps, start=0, window=()):
        return train(State(start), self.step, lambda n: n, num_steps, self.hooks, window)


def test_hooks_run_in_order_when_due_and_at_the_end():
    recorder = Recorder(log=2, evaluate=4, sample=4, save=3)
    assert recorder.run(5).step == 5
    assert recorder.steps == [0, 1, 2, 3, 4]
    assert recorder.calls == [
        ("log", 2, 1.5),
        ("save", 3, [3.0]),
        ("log", 4, 3.5),
        ("evaluate", 4),
        ("sample", 4),
        ("log", 5, 5.0),
        ("evaluate", 5),
        ("sample", 5),
        ("save", 5, []),
    ]


def test_a_resumed_window_gives_the_same_average():
    whole = Recorder(log=6)
    whole.run(6)
    first = Recorder(log=6, save=4)
    first.run(4)
    _, _, window = next(call for call in first.calls if call[0] == "save")
    rest = Recorder(log=6)
    # `first` logs at its own end, so what it saved is what was open at step 4 of a longer run.
    assert window == []
    rest.run(
        6, start=4, window=[{"loss": float(n), "gamma_0": 0, "gamma_1": 0} for n in range(1, 5)]
    )
    assert rest.calls[0] == whole.calls[0] == ("log", 6, 3.5)


def test_a_stop_saves_the_finished_step_with_its_open_window():
    recorder = Recorder(log=10, stop_after=3)
    assert recorder.run(100).step == 3
    assert recorder.calls == [("save", 3, [1.0, 2.0, 3.0])]


@pytest.mark.parametrize("num_steps", [4, 100])
def test_a_stop_leaves_evaluation_and_samples_for_later(num_steps):
    """Asked for within the step, and within the evaluation; also where the step is the last."""
    recorder = Recorder(log=2, evaluate=4, sample=4, stop_after=4)
    assert recorder.run(num_steps).step == 4
    assert recorder.calls == [("log", 2, 1.5), ("log", 4, 3.5), ("save", 4, [])]
    recorder = Recorder(log=2, evaluate=4, sample=4)
    stop = lambda: ("evaluate", 4) in recorder.calls  # noqa: E731
    recorder.hooks = dataclasses.replace(recorder.hooks, stop=stop)
    assert recorder.run(num_steps).step == 4
    assert recorder.calls[-2:] == [("evaluate", 4), ("save", 4, [])]


def test_a_stop_before_the_first_step_saves_nothing():
    recorder = Recorder(stop_after=0)
    assert recorder.run(5).step == 0 and recorder.calls == []


def test_a_finished_run_does_nothing():
    recorder = Recorder(log=1, save=1)
    assert recorder.run(5, start=5).step == 5
    assert recorder.calls == [] and recorder.steps == []


@pytest.mark.parametrize("bad_step", [1, 7, BLOCK_EVERY_STEPS, 25])
def test_a_skipped_step_ends_the_run_before_it_is_saved(bad_step):
    """As long as no hook takes skipped steps."""
    recorder = Recorder(save=1 if bad_step == 7 else 0, bad_step=bad_step)
    with pytest.raises(NonFiniteError, match=rf"step {bad_step}: .*loss=nan.*\[-7, 5\]"):
        recorder.run(30)
    assert len(recorder.steps) < bad_step + BLOCK_EVERY_STEPS
    assert all(step < bad_step for name, step, *_ in recorder.calls)


def test_skipped_steps_are_reported_and_left_out_of_averages():
    """The third of 4 steps is skipped; alone in its window, it is logged without numbers."""
    recorder, skipped, logged = Recorder(save=3, bad_step=3), [], []
    hooks = {
        "skipped": lambda step, metrics: skipped.append((step, str(metrics["loss"]))),
        "log": lambda step, metrics: logged.append((step, metrics)),
    }
    recorder.hooks = dataclasses.replace(recorder.hooks, **hooks, log_every_steps=4)
    recorder.run(4)
    assert skipped == [(3, "nan")]
    assert logged == [(4, {"loss": 7 / 3, "gamma_0": -7.0, "gamma_1": 5.0, "skipped_steps": 1.0})]
    assert recorder.calls[0] == ("save", 3, [1.0, 2.0, None])
    logged.clear()
    recorder.hooks = dataclasses.replace(recorder.hooks, log_every_steps=1)
    recorder.run(3, start=2)
    assert logged == [(3, {"skipped_steps": 1.0})]


def test_only_skipped_steps_in_a_row_add_up():
    """Also over a restart, for which the count is stored."""
    count = SkippedSteps()
    assert [count.count(step) for step in (3, 4, 6, 7)] == [1, 2, 1, 2]
    assert SkippedSteps(**count.record()).count(8) == 3
