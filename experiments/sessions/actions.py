"""Actions of a training run at certain steps: log, validate, sample, save."""

import dataclasses
from pathlib import Path
from typing import Any

from experiments.cli.signals import Stop
from experiments.sessions import goodput
from experiments.sessions.periodic import VALIDATION, Samples, Validation
from experiments.sessions.saving import Saver, write_identity
from experiments.sessions.skips import Skips
from experiments.sessions.training_log import TrainingLog
from experiments.sessions.watchdog import Watchdog
from vdm.runs import checkpoints
from vdm.runs.folder import data_identity
from vdm.runs.parts import Parts
from vdm.runtime import processes
from vdm.training.checkpoint import Checkpoints
from vdm.training.loop import Hooks, Window, is_due
from vdm.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Actions:
    """Actions of the training loop at certain steps, see `vdm.training.loop.Hooks`.

    Attributes:
      parts: data, model and configuration.
      folder: the work folder.
      stop: whether a signal asked to stop.
      store: the checkpoints of the folder.
      saver: counts saves that fail.
      identity: contents of config.json, which the first checkpoint changes.
      validation: the bound on the validation split.
      samples: the grid of samples.
      log: takes the metrics.
      skips: takes the steps that were skipped.
      watchdog: ends a run whose steps hang.
    """

    parts: Parts
    folder: Path
    stop: Stop
    store: Checkpoints
    saver: Saver
    identity: dict[str, Any]
    validation: Validation
    samples: Samples
    log: TrainingLog
    skips: Skips
    watchdog: Watchdog

    def hooks(self) -> Hooks:
        """Return the actions, each with its period in steps."""
        options = self.parts.config["train"]
        every = {name: options[name] for name in options if name.endswith("_every_steps")}
        return Hooks(
            log=self._log,
            evaluate=self._evaluate,
            sample=self._sample,
            save=self._save,
            stop=self.stop,
            skipped=self.skips,
            **every,
        )

    def catch_up(self, state: TrainState) -> None:
        """Make up for an evaluation or samples at this step that a signal cut short.

        A resumed run then logs and stores the same numbers as one that was never stopped.
        """
        step, options = int(state.step), self.parts.config["train"]
        # In the order of the loop: evaluation, then samples.
        actions = (
            (self._evaluate, self.validation.step, options["evaluate_every_steps"]),
            (self._sample, self.samples.step, options["sample_every_steps"]),
        )
        due = [
            action
            for action, done, every in actions
            if step != done and is_due(every, step, options["num_steps"])
        ]
        for action in due:
            # Another signal leaves the rest to the next start.
            if not self.stop():
                action(state)
        # The checkpoint is already written; only its record learns what has been made since.
        if due:
            self.store.amend(step, self._done(step), self.validation.metrics(step))

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        self.log.log(step, metrics, self.validation.bits_per_dim)

    def _evaluate(self, state: TrainState) -> None:
        """Log the bound on the validation split, bits/dim; nothing where a signal cut it short."""
        self._pause()
        bits_per_dim = self.validation.evaluate(state)
        if bits_per_dim is not None:
            self.log.log_validation(int(state.step), VALIDATION, bits_per_dim)

    def _sample(self, state: TrainState) -> None:
        """Write a grid of samples to the work folder; nothing is logged."""
        self._pause()
        self.samples.draw(state)

    @goodput.spending("save")
    def _save(self, state: TrainState, window: Window) -> None:
        """Save the state with all that a resumed run needs to go on as if never stopped."""
        self._pause()
        step = int(state.step)
        record = {
            "config": dict(self.parts.config),
            "data": data_identity(self.parts.dataset.spec),
            **self._done(step),
            "window": window,
            "skipped": self.skips.count.record(),
            "seconds": self.log.seconds(),
        }

        def write():
            checkpoints.save_state(self.store, state, record, self.validation.metrics(step))
            if processes.from_first(not self.identity.get(checkpoints.HAS_CHECKPOINTS)):
                write_identity(self.store, self.folder, self.identity)

        self.saver.save(step, write, stopping=self.stop.signal is not None)

    def _pause(self) -> None:
        """Stop the clocks that measure training steps alone."""
        self.log.pause()
        self.watchdog.pause()

    def _done(self, step: int) -> dict[str, bool]:
        """Return which of validation and samples were made at `step`, for the checkpoint's record."""
        return {"evaluated": self.validation.step == step, "sampled": self.samples.step == step}
