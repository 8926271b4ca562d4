"""Logging of training metrics to files, and as a line on the terminal."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from experiments.sessions import goodput
from experiments.sessions.throughput import Speed
from vdm.runs.progress import Progress
from vdm.training.loop import is_due
from vdm.training.writers import Writer


class TrainingLog:
    """Writes metrics with images seen, images/s and seconds, and shows loss, validation and speed."""

    def __init__(
        self,
        options: Mapping[str, Any],
        steps_per_call: int,
        write: Writer,
        bar: Progress,
        started: float,
    ):
        """Args:
        options: section "train" of the configuration.
        steps_per_call: training steps in one call of the compiled step.
        write: takes (step, {name: value}).
        bar: the progress bar of training steps.
        started: `time.monotonic()` at which a run without interruption would have started.
        """
        self._options, self._write, self._bar, self._started = options, write, bar, started
        self._speed = Speed(options["batch_size"] * steps_per_call)
        self._loss = self._rate = ""  # as last logged

    def start_step(self, step: int) -> AbstractContextManager[None]:
        """Start the clock of images/s for step `step`; within the context its batch is waited for."""
        self._speed.start_step()
        self._bar.update(step)
        goodput.start_step(step)
        return goodput.spending("data")

    def pause(self) -> None:
        """Stop the clock of images/s before evaluation, sampling or saving."""
        self._speed.stop()

    def seconds(self) -> float:
        """Return the wall-clock seconds of the whole run, over all starts of the program."""
        return time.monotonic() - self._started

    def log(self, step: int, metrics: Mapping[str, float], validation: float | None) -> None:
        """Write the metrics averaged since the last log; `validation` is the last value, if any."""
        speed = self._speed.take()
        facts = {"images_seen": float(step * self._options["batch_size"])}
        if speed is not None:  # not known of the step that compiles
            facts["images_per_second"] = speed
        clocks = {"seconds": self.seconds(), **goodput.metrics()}
        self._write(step, {**metrics, **facts, **clocks})
        # Without a loss where every step since the last log was skipped.
        if "bits_per_dim" in metrics:
            self._loss = f"loss {metrics['bits_per_dim']:.4f} bits/dim"
        self._rate = "" if speed is None else f"{speed:.0f} images/s"
        # If a validation follows at this step, the line is shown with its value instead.
        every = self._options["evaluate_every_steps"]
        if not is_due(every, step, self._options["num_steps"]):
            self._show(step, validation)

    def log_validation(self, step: int, name: str, bits_per_dim: float) -> None:
        """Write the value of a validation just made under `name`, and show it."""
        self._write(step, {name: bits_per_dim})
        self._show(step, bits_per_dim)

    def _show(self, step: int, validation: float | None) -> None:
        shown = "" if validation is None else f"validation {validation:.4f}"
        self._bar.update(step, "  ".join(filter(None, (self._loss, shown, self._rate))), show=True)
