"""State of one run of a grid, as its work folder tells it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.sweeps.grid import Point
from vdm.errors import CheckpointError, DataError
from vdm.runs import config_identity, evaluations, record
from vdm.runs.dataset import open_dataset
from vdm.runs.folder import read_identity
from vdm.training.checkpoint_record import saved_ema_hash
from vdm.types import TERM_NAMES


@dataclasses.dataclass(frozen=True)
class Outcome:
    """State of one run of a grid.

    Attributes:
      name: its folder.
      overrides: {dotted field: value as text}.
      status: "finished", "failed" or "unfinished".
      reason: of a failure: the exit code and the last line that the run printed.
      bits_per_dim: {term: mean} with "total"; empty unless finished.
      standard_error: of the total over images.
      hashes: {"checkpoint", "config", "data"} of the evaluation; empty unless finished.
    """

    name: str
    overrides: dict[str, str]
    status: str
    reason: str = ""
    bits_per_dim: dict[str, float] = dataclasses.field(default_factory=dict)
    standard_error: float | None = None
    hashes: dict[str, str] = dataclasses.field(default_factory=dict)


def look(point: Point, folder: Path, failure: str = "") -> Outcome:
    """Read the state of a run from its work folder.

    Args:
      point: the run.
      folder: the sweep's folder, which holds the work folder.
      failure: reason why its process just failed; "" if it did not.
    """
    unfinished = Outcome(
        point.name, point.overrides, "failed" if failure else "unfinished", failure
    )
    try:
        saved = read_identity(folder / point.name)
    except CheckpointError as error:
        return dataclasses.replace(unfinished, status="failed", reason=str(error))
    if saved is None or failure:
        return unfinished

    # A folder of another configuration must not count as this run, nor be trained on.
    config = config_identity.keep_earlier_defaults(saved["config"], point.config)
    if changed := config_identity.config_changes(saved["config"], config):
        fields = ", ".join(f"{n} {old!r} -> {new!r}" for n, (old, new) in changed.items())
        reason = f"the folder holds another run ({fields}); choose another --workdir"
        return dataclasses.replace(unfinished, status="failed", reason=reason)

    # Finished means evaluated: a run that was trained and killed before its evaluation is resumed.
    facts = _current_report(config, folder / point.name)
    if facts is None:
        return unfinished
    terms = {name: facts["bits_per_dim"][name]["mean"] for name in (*TERM_NAMES, "total")}
    return dataclasses.replace(
        unfinished,
        status="finished",
        bits_per_dim=terms,
        standard_error=facts["bits_per_dim"]["total"]["standard_error"],
        hashes=dict(facts["hashes"]),
    )


def _current_report(config: Mapping[str, Any], run: Path) -> Mapping[str, Any] | None:
    """Return the final evaluation of a run, if it is of this checkpoint, configuration and data.

    Args:
      config: the run's configuration.
      run: its work folder.
    """
    estimation = record.make_estimation(config["evaluate"], config["objective"]["num_timesteps"])
    step = config["train"]["num_steps"]
    path = record.report_path(run, config["evaluate"]["split"], step, estimation)
    if not path.exists():
        return None
    try:
        checkpoint = saved_ema_hash(run / "checkpoints", step)
        data = open_dataset(config["data"], config["data"]["cache_dir"], prepare=False)
    except (CheckpointError, DataError):
        # Run again, the training process reports what is wrong.
        return None
    hashes = {"checkpoint": checkpoint, "data": data.spec.content_hash}
    stored = evaluations.read(path, record.wanted(config, hashes, step, estimation))
    return None if stored is None or stored.fault else stored.facts
