"""Runs opened for a comparison, and checked to be comparable."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.reports.comparison.groups import Group, check_same_data, group_runs
from vdm.errors import ConfigError
from vdm.runs import checkpoints
from vdm.runs.folder import distinct_names, require_identity
from vdm.runs.parts import Parts, build_trained
from vdm.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run's model at one checkpoint.

    Attributes:
      name: what tables and figures call it, distinct among the runs of a comparison.
      folder: its work folder.
      parts: configuration, data, model and mesh.
      step: the checkpoint's.
      params: averaged parameters.
    """

    name: str
    folder: Path
    parts: Parts
    step: int
    params: Params


def open_runs(
    folders: Sequence[str],
    step: str,
    batch_size: int | None,
    allowed: Sequence[str] = (),
    group_by: Sequence[str] = (),
) -> tuple[list[Run], list[Group], list[str]]:
    """Open the runs in `folders`, and check that their bits/dim are comparable.

    Args:
      folders: two or more work folders.
      step: checkpoint of each run: "latest", "best" or a number.
      batch_size: images evaluated at once; None = as each run's configuration says.
      allowed: fields "data.*" in which the runs' data may differ.
      group_by: fields of the configuration by which seeds are grouped; none = no groups.

    Returns:
      The runs, their groups, and the fields in which their data differ.

    Raises:
      ConfigError: fewer than two folders, or runs that do not group.
      DataError: other data than the first run's, in a field not in `allowed`.
      CheckpointError: a folder without a run or without a checkpoint.
    """
    if len(folders) < 2:
        raise ConfigError(f"--workdirs={','.join(folders)}: give two or more folders, with commas")

    # Everything that can be refused from config.json alone, before models are built and restored.
    identities = [require_identity(Path(f), "--workdirs") for f in folders]
    differing = check_same_data(folders, identities, allowed)
    names = distinct_names(folders)
    configs = {n: i["config"] for n, i in zip(names, identities, strict=True)}
    groups = group_runs(configs, group_by) if group_by else []

    opened = [
        _open_run(*args, step, batch_size) for args in zip(names, folders, identities, strict=True)
    ]
    return opened, groups, differing


def _open_run(name: str, folder: str, identity: dict, step: str, batch_size: int | None) -> Run:
    """Build a run's model and restore its averaged parameters, see `open_runs`."""
    if batch_size is not None:
        evaluate = {**identity["config"]["evaluate"], "batch_size": batch_size}
        identity = {**identity, "config": {**identity["config"], "evaluate": evaluate}}
    parts = build_trained(identity)
    return Run(name, Path(folder), parts, *checkpoints.load_ema(parts, Path(folder), step))


def shared_timesteps(runs: Sequence[Run], asked: int | None) -> int:
    """Return T of the bound that all runs are evaluated with; 0 = continuous time.

    Runs of a family without a T are evaluated by their own bound and do not take part in the choice.

    Args:
      runs: the runs.
      asked: T asked for; None = the one they were all trained with.

    Raises:
      ConfigError: none was asked for, and the runs were trained with different T.
    """
    timesteps = {run.name: run.parts.model.timesteps_train for run in runs}
    trained = {name: steps for name, steps in timesteps.items() if steps is not None} or {"": 0}
    if asked is not None:
        return asked
    # Bounds at different T are not comparable, and a default would choose one without notice.
    if len(set(trained.values())) > 1:
        listed = ", ".join(f"{name} T={steps}" for name, steps in trained.items())
        raise ConfigError(
            f"--timesteps: the runs were trained on other bounds ({listed}, 0 = continuous); "
            "choose the one to compare, such as --timesteps=0"
        )
    return next(iter(trained.values()))
