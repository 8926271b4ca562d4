"""Checkpoints of a work folder: opened, restored with their record, and checked to be there."""

import dataclasses
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from vdm.errors import CheckpointError, ConfigError
from vdm.models.base import Model
from vdm.runs.containment import check_declared_bytes
from vdm.runs.parts import Parts
from vdm.runtime import devices
from vdm.training.checkpoint import Checkpoints
from vdm.training.metrics_file import last_step
from vdm.training.state import TrainState
from vdm.types import Params

HAS_CHECKPOINTS = "has_checkpoints"
"""Entry of config.json that is true once the run has saved a checkpoint."""


def open_checkpoints(workdir: Path, *, read_only: bool = False, **options: Any) -> Checkpoints:
    """Open the checkpoints of `workdir`; warnings go to stderr.

    Args:
      workdir: the work folder.
      read_only: whether nothing is made or renamed in it.
      **options: of `Checkpoints`, such as keep_latest.
    """
    with _quiet_orbax():
        return Checkpoints(
            workdir / "checkpoints",
            read_only=read_only,
            warn=lambda line: print(line, file=sys.stderr, flush=True),
            **options,
        )


@contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Silence Orbax's warnings that a folder opened to be read cannot be written."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def restore_state(checkpoints: Checkpoints, parts: Parts) -> tuple[TrainState, dict[str, Any]]:
    """Return the newest undamaged state, and the record saved with it."""
    abstract = parts.abstract_state()
    step, state, ema = checkpoints.restore(_without_ema(abstract), abstract.ema_params)
    return dataclasses.replace(state, ema_params=ema), checkpoints.read_record(step)[1]


def save_state(
    checkpoints: Checkpoints, state: TrainState, record: dict, metrics: dict[str, float]
) -> None:
    """Commit `state`; its averaged parameters become an item of their own, restored without the rest.

    Args:
      checkpoints: where it goes.
      state: the training state.
      record: configuration, data identity and progress, as JSON.
      metrics: numbers by which checkpoints are ranked; empty where the step was not validated.
    """
    step = int(state.step)
    checkpoints.save(step, _without_ema(state), state.ema_params, record, metrics)


def _without_ema(state: TrainState) -> TrainState:
    return dataclasses.replace(state, ema_params=None)


def load_ema(parts: Parts, workdir: Path, which: str | int) -> tuple[int, Params]:
    """Return (step, averaged parameters) of a checkpoint of a run whose data are open.

    Args:
      parts: the run's model and devices.
      workdir: the work folder.
      which: "latest", "best" or a step number.
    """
    return load_params(parts.model, parts.mesh, workdir, which)


def load_params(model: Model, mesh: Mesh, workdir: Path, which: str | int) -> tuple[int, Params]:
    """Return (step, averaged parameters) of a checkpoint, a copy on every device.

    Args:
      model: gives the shapes of the parameters; no data are needed.
      mesh: the devices.
      workdir: the work folder.
      which: "latest", "best" (of the validated ones) or a step number.

    Raises:
      CheckpointError: no such checkpoint, or a damaged one.
      ConfigError: `which` is none of these.
    """
    checkpoints = open_checkpoints(workdir, read_only=True)
    step = _resolve(checkpoints, which)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    num_bytes = sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(shapes))
    check_declared_bytes(workdir / "checkpoints", num_bytes)
    return checkpoints.restore_ema(devices.abstract_like(shapes, devices.replicated(mesh)), step)


def _resolve(checkpoints: Checkpoints, which: str | int) -> int | None:
    """Return the step number that `which` names; None for the latest undamaged one."""
    if which == "latest":
        return None
    if which == "best":
        best = checkpoints.best_step()
        if best is None and checkpoints.steps():
            raise ConfigError("step=best: no checkpoint was saved with a validation; choose latest")
        return best
    if not str(which).isdigit():
        raise ConfigError(f"step={which}: choose latest, best or a step such as 1000")
    return int(which)


def check_present(folder: Path, saved: Mapping | None, config: Mapping) -> None:
    """Check that a folder in which a run saved checkpoints still holds one.

    Args:
      folder: the work folder.
      saved: the contents of its config.json, or None.
      config: the configuration now; its periods stand in for those of a config.json that is gone.

    Raises:
      CheckpointError: the checkpoints are gone, for instance because their disk is not mounted; a run
        that starts again there would pass for the one that was resumed.
    """
    checkpoints = folder / "checkpoints"
    if checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir()):
        return
    traces = _traces_of_checkpoints(folder, saved, config)
    if not traces:
        return
    lost = [checkpoints] if saved else [folder / "config.json", checkpoints]
    missing = " and ".join(f"{path} {_state(path)}" for path in lost)
    raise CheckpointError(
        f"workdir={folder}: {missing}, but {traces}; put them back (is their disk mounted?), "
        "or choose another workdir to train from the start"
    )


def _state(path: Path) -> str:
    return "holds no checkpoint" if path.is_dir() else "is missing"


def _traces_of_checkpoints(folder: Path, saved: Mapping | None, config: Mapping) -> str:
    """Return the evidence that a checkpoint was saved, in words, or ""."""
    if saved and saved.get(HAS_CHECKPOINTS):
        return "config.json says that the run saved some"
    if any((folder / "evaluations").glob("*.json")):
        return f"{folder / 'evaluations'} holds numbers of one"
    if any((folder / "checkpoints").glob("damaged-*")):
        return "damaged ones lie there"
    every = (saved["config"] if saved else config)["train"]["save_every_steps"]
    step = last_step(folder / "metrics.jsonl")
    # The step after a save is only logged once the save is done.
    if every and step > every:
        return f"metrics.jsonl goes to step {step}, past the first save at {every}"
    return ""
