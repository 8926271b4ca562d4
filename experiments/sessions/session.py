"""The part of a training run between two starts of the program: restore, catch up, train, save."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cli.signals import JointStopRequest, StopRequest
from experiments.sessions.periodic import VALIDATION, Samples, Validation
from experiments.sessions.saving import Saver, write_identity
from experiments.sessions.training_log import TrainingLog
from vdm.data.prefetch import Prefetcher
from vdm.errors import Preempted
from vdm.runs import checkpoints
from vdm.runs.folder import check_resumable, data_identity
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress
from vdm.runtime import processes
from vdm.training.checkpoint import Checkpoints
from vdm.training.loop import Hooks, Window, is_due, train
from vdm.training.state import TrainState
from vdm.training.writers import Writer, make_writer

Stop = StopRequest | JointStopRequest


def train_in_folder(
    parts: Parts,
    folder: Path,
    stop: Stop,
    validation: Validation,
    samples: Samples,
    identity: dict[str, Any],
) -> TrainState:
    """Train from the newest checkpoint of a work folder, or from the start, until num_steps.

    Args:
      parts: data, model, devices and training step.
      folder: the work folder, locked by this process.
      stop: whether a signal asked to stop.
      validation, samples: the periodic evaluation and samples; their last steps are restored.
      identity: contents of config.json.

    Returns:
      The state after num_steps.

    Raises:
      Preempted: a signal asked to stop; the state is saved if a step was made.
      CheckpointError: no checkpoint of the folder can be restored.
    """
    started, options = time.monotonic(), parts.config["train"]
    keep = {name: options[name] for name in ("keep_latest", "keep_best")}
    store = checkpoints.open_checkpoints(folder, **keep)
    start = _restore(store, parts, folder, identity, validation, samples)
    # After the restore, so that a run that cannot be restored keeps its stored configuration.
    write_identity(store, folder, identity)

    step, num_steps, per_call = int(start.state.step), options["num_steps"], parts.steps_per_call
    write = _make_writer(options["writers"], folder, step)
    with Progress("training", num_steps, "steps", done=step) as bar:
        log = TrainingLog(options, per_call, write, bar, started - start.seconds)
        saver = Saver(store, options["save_every_steps"], num_steps)
        session = _Session(parts, folder, stop, store, saver, identity, validation, samples, log)
        # Before the first batch is made ahead: it takes as long as an evaluation does.
        session.catch_up(start.state)
        with Prefetcher(parts.train_batch, step, num_steps, stride=per_call) as prefetched:
            # The loop asks for a batch as a step begins, so the speed is measured from here.
            def make_batch(step: int) -> Any:
                log.start_step(step)
                return prefetched(step)

            train_step, hooks = parts.train_step(), session.hooks()
            state = train(
                start.state, train_step, make_batch, num_steps, hooks, start.window, per_call
            )

    # Closing waits for the last checkpoint to be on disk.
    saved = store.latest_step()
    store.close()
    if int(state.step) < num_steps:
        outcome = "nothing to save yet" if saved is None else f"saved step {saved}"
        raise Preempted(f"stopped by {stop.signal}; {outcome}; run again to resume")
    return state


@dataclasses.dataclass(frozen=True)
class _Start:
    """State from which training starts or resumes.

    Attributes:
      state: the restored state, or a fresh one.
      window: metrics of every step since the last log.
      seconds: wall clock of the run so far.
    """

    state: TrainState
    window: Window
    seconds: float


def _restore(
    store: Checkpoints,
    parts: Parts,
    folder: Path,
    identity: dict[str, Any],
    validation: Validation,
    samples: Samples,
) -> _Start:
    """Return the newest undamaged state, and restore the last steps of `validation` and `samples`.

    Args:
      store: the checkpoints of the folder.
      parts: data, model, devices and configuration.
      folder: the work folder, for the message.
      identity: contents of config.json; changes that it records are allowed.
      validation, samples: their attributes `step` and `bits_per_dim` are set from the record.

    Raises:
      DataError: the folder belongs to other data.
      ConfigError: the configuration differs from the checkpoint's in a field that must not change.
      CheckpointError: no checkpoint can be restored.
    """
    if store.latest_step() is None:
        return _Start(parts.fresh_state(), [], 0.0)
    state, record = checkpoints.restore_state(store, parts)

    # config.json may have been lost or edited; what the checkpoint says was trained.
    allowed = [field for changes in identity.get("changes", ()) for field in changes]
    check_resumable(record, parts.config, identity["data"], allowed, folder)

    step = int(state.step)
    # Checkpoints from before these records were saved after both.
    validation.step = step if record.get("evaluated", True) else 0
    validation.bits_per_dim = store.metric(step)
    samples.step = step if record.get("sampled", True) else 0
    print(f"resuming {folder} at step {step}", flush=True)
    return _Start(state, list(record["window"]), record["seconds"])


@dataclasses.dataclass(frozen=True)
class _Session:
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
        self.log.pause()
        bits_per_dim = self.validation.evaluate(state)
        if bits_per_dim is not None:
            self.log.log_validation(int(state.step), VALIDATION, bits_per_dim)

    def _sample(self, state: TrainState) -> None:
        """Write a grid of samples to the work folder; nothing is logged."""
        self.log.pause()
        self.samples.draw(state)

    def _save(self, state: TrainState, window: Window) -> None:
        """Save the state with all that a resumed run needs to go on as if never stopped."""
        self.log.pause()
        step = int(state.step)
        record = {
            "config": dict(self.parts.config),
            "data": data_identity(self.parts.dataset.spec),
            **self._done(step),
            "window": window,
            "seconds": self.log.seconds(),
        }

        def write():
            checkpoints.save_state(self.store, state, record, self.validation.metrics(step))
            if processes.from_first(not self.identity.get(checkpoints.HAS_CHECKPOINTS)):
                write_identity(self.store, self.folder, self.identity)

        self.saver.save(step, write, stopping=self.stop.signal is not None)

    def _done(self, step: int) -> dict[str, bool]:
        """Return which of validation and samples were made at `step`, for the checkpoint's record."""
        return {"evaluated": self.validation.step == step, "sampled": self.samples.step == step}


def _make_writer(names: Sequence[str], folder: Path, step: int) -> Writer:
    # One process of several writes: they share the folder, and their metrics are equal.
    if not processes.is_first():
        return lambda step, values: None
    return make_writer(names, folder, resumed_at=step)
