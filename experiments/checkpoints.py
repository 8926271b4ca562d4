"""The checkpoints of a work folder, as launchers use them."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from experiments.build import Parts
from vdm.checkpoint import Checkpoints
from vdm.errors import ConfigError
from vdm.train.state import TrainState
from vdm.types import Params


def open_checkpoints(workdir: Path, *, read_only: bool = False, **options: Any) -> Checkpoints:
    """Those of `workdir`; warnings go to stderr."""
    return Checkpoints(
        workdir / "checkpoints",
        read_only=read_only,
        warn=lambda line: print(line, file=sys.stderr, flush=True),
        **options,
    )


def restore_state(checkpoints: Checkpoints, parts: Parts) -> tuple[TrainState, dict[str, Any]]:
    """The newest undamaged state, and the record saved with it."""
    abstract = parts.abstract_state()
    step, state, ema = checkpoints.restore(_without_ema(abstract), abstract.ema_params)
    return dataclasses.replace(state, ema_params=ema), checkpoints.read_record(step)[1]


def save_state(
    checkpoints: Checkpoints, state: TrainState, record: dict, metrics: dict[str, float]
) -> None:
    """Commits `state`; its averaged parameters become an item of their own."""
    step = int(state.step)
    checkpoints.save(step, _without_ema(state), state.ema_params, record, metrics)


def _without_ema(state: TrainState) -> TrainState:
    return dataclasses.replace(state, ema_params=None)


def load_ema(parts: Parts, workdir: Path, which: str) -> tuple[int, Params]:
    """(step, averaged parameters) of checkpoint "latest", "best" or a step number."""
    checkpoints = open_checkpoints(workdir, read_only=True)
    step = _resolve(checkpoints, which)
    return checkpoints.restore_ema(parts.abstract_state().ema_params, step)


def _resolve(checkpoints: Checkpoints, which: str) -> int | None:
    if which == "latest":
        return None
    if which == "best":
        best = checkpoints.best_step()
        if best is None and checkpoints.steps():
            raise ConfigError(
                "--step=best: no checkpoint was saved with a validation; choose latest"
            )
        return best
    if not which.isdigit():
        raise ConfigError(f"--step={which}: choose latest, best or a step such as 1000")
    return int(which)
