"""The part of a training run between two starts of the program: restore, catch up, train, save."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cli.signals import Stop
from experiments.sessions import goodput
from experiments.sessions.actions import Actions
from experiments.sessions.periodic import Samples, Validation
from experiments.sessions.saving import Saver, write_identity
from experiments.sessions.skips import Skips
from experiments.sessions.training_log import TrainingLog
from experiments.sessions.watchdog import Watchdog
from vdm.data.prefetch import Prefetcher
from vdm.errors import Preempted
from vdm.runs import checkpoints
from vdm.runs.folder import check_resumable
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress
from vdm.runtime import processes
from vdm.training.checkpoint import Checkpoints
from vdm.training.loop import Window, train
from vdm.training.skipped import SkippedSteps
from vdm.training.state import TrainState
from vdm.training.writers import Writer, make_writer


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
    goodput.record(start.seconds)

    step, num_steps, per_call = int(start.state.step), options["num_steps"], parts.steps_per_call
    write = _make_writer(options["writers"], folder, step)
    watchdog = Watchdog(folder, options["watchdog_seconds"])
    with watchdog, Progress("training", num_steps, "steps", done=step) as bar:
        log = TrainingLog(options, per_call, write, bar, started - start.seconds)
        actions = Actions(
            parts=parts,
            folder=folder,
            stop=stop,
            store=store,
            saver=Saver(store, options["save_every_steps"], num_steps),
            identity=identity,
            validation=validation,
            samples=samples,
            log=log,
            skips=Skips(parts, folder, start.skipped, store.latest_step),
            watchdog=watchdog,
        )
        # Before the first batch is made ahead: it takes as long as an evaluation does.
        actions.catch_up(start.state)
        with Prefetcher(parts.train_batch, step, num_steps, stride=per_call) as prefetched:
            # The loop asks for a batch as a step begins, so the speed is measured from here.
            def make_batch(step: int) -> Any:
                watchdog.start_step(step)
                with log.start_step(step):
                    return prefetched(step)

            train_step, hooks = watchdog.timed(parts.train_step()), actions.hooks()
            state = train(
                start.state, train_step, make_batch, num_steps, hooks, start.window, per_call
            )

    saved = store.latest_step()
    with goodput.spending("save"):  # closing waits for the last checkpoint to be on disk
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
      skipped: how many steps in a row were skipped up to there.
    """

    state: TrainState
    window: Window
    seconds: float
    skipped: SkippedSteps


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
        return _Start(parts.fresh_state(), [], 0.0, SkippedSteps())
    with goodput.spending("restore"):
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
    # Checkpoints of earlier revisions never follow a skipped step.
    skipped = SkippedSteps(**record.get("skipped", {}))
    return _Start(state, list(record["window"]), record["seconds"], skipped)


def _make_writer(names: Sequence[str], folder: Path, step: int) -> Writer:
    # One process of several writes: they share the folder, and their metrics are equal.
    if not processes.is_first():
        return lambda step, values: None
    return make_writer(names, folder, resumed_at=step)
