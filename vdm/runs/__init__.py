"""Runs: a configuration and its parts, and a work folder as an object.

import vdm.runs

run = vdm.runs.open("runs/digits")
run.evaluate(repeats=4).bits_per_dim["total"]
run.sample(16).images
parts = vdm.runs.build({"data": {"name": "digits"}, "train": {"num_steps": 100}})
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdm.runs.parts import Parts
    from vdm.runs.run import Run

__all__ = ["Run", "build", "open"]


def open(workdir: str | os.PathLike, *, cache_dir: str | os.PathLike | None = None) -> "Run":
    """Return the run in `workdir`; its data are opened only when they are asked for.

    Args:
      workdir: the folder that the run was trained in.
      cache_dir: where prepared data live; None = where the run's configuration says.

    Raises:
      CheckpointError: the folder holds no run, one without a checkpoint, a damaged one, or one that a
        newer version wrote.
    """
    from vdm.runs.run import open_run

    return open_run(workdir, cache_dir)


def build(config: Mapping[str, Any], *, cache_dir: str | os.PathLike | None = None) -> "Parts":
    """Return the data, model, devices and training step that `config` describes.

    Args:
      config: a nested dictionary; the fields that it lacks have their defaults, see
        `vdm.runs.defaults`.
      cache_dir: where prepared data live, unless `config` says.

    Raises:
      ConfigError: a field that does not exist or has another name now, or a value that does not fit;
        the message offers the choices.
      DataError: unsuitable data.
    """
    from vdm.runs import parts
    from vdm.runs.completion import complete

    return parts.build(complete(config), cache_dir)


def __getattr__(name: str) -> Any:
    # Imported when asked for: it brings JAX along.
    if name == "Run":
        from vdm.runs.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
