"""A trial of every file and folder that a training run will write, before it has cost anything.

A run of days must not learn at its first save that checkpoints/ is read only. A trial writes into a
file without a name, or opens an existing file and closes it again: nothing is left, even by a kill.
"""

import errno
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vdm.errors import ConfigError, DiskError
from vdm.runs.folder import check_encodable
from vdm.runtime.files import FULL_ERRNOS

_TRIAL_BYTES = 4096
_WRITER_OUTPUTS = {"json_lines": "metrics.jsonl", "tensorboard": "tensorboard", "wandb": "wandb"}
"""{metric writer: its file or folder}."""


def check_outputs(
    workdir: Path, config: Mapping[str, Any], files: Iterable[Path] = (), argument: str = "workdir"
) -> None:
    """Try everything that a training run will write in its work folder, which need not exist yet.

    Args:
      workdir: the work folder.
      config: every field of the configuration; its writers and samples have files of their own.
      files: further files that the run will write, such as its final evaluation.
      argument: name of the argument that gave the folder.

    Raises:
      ConfigError: a file or folder that cannot be written, by its path.
      DiskError: the disk is full.
    """
    check_encodable(workdir, argument)
    train = config["train"]
    outputs = {_WRITER_OUTPUTS.get(name, "") for name in train["writers"]}
    folders = ["checkpoints", "evaluations", *(["samples"] if train["num_samples"] else [])]
    folders += sorted(outputs & {"tensorboard", "wandb"})
    names = ["config.json", "skipped_steps.jsonl", *sorted(outputs & {"metrics.jsonl"})]
    for folder in (workdir, *(workdir / name for name in folders)):
        _try(_try_folder, folder, argument, workdir)
    for file in (*(workdir / name for name in names), *files):
        _try(_try_file, file, argument, workdir)


def _try(trial: Any, path: Path, argument: str, workdir: Path) -> None:
    """Call a trial of a path, and raise its OSError as an error of the argument."""
    try:
        trial(path)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in FULL_ERRNOS:
            raise DiskError(f"{argument}={workdir}: {path}: {reason}; free some space") from error
        raise ConfigError(
            f"{argument}={workdir}: {path} cannot be written ({reason}); see to that, or choose "
            "another folder"
        ) from error


def _try_folder(path: Path) -> None:
    """Write a few bytes into a folder, or into the nearest one above where it will be made."""
    # A link that leads nowhere is in the way, as a file is.
    while not os.path.lexists(path):
        path = path.absolute().parent
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, where a folder is needed")
    with tempfile.TemporaryFile(dir=path) as file:
        file.write(bytes(_TRIAL_BYTES))
        file.flush()


def _try_file(path: Path) -> None:
    """Open a file for writing if it exists; where it will be made, its folder is tried instead."""
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise IsADirectoryError(errno.EISDIR, "it is no file, where one is needed")
    # Neither its content nor its time of change is touched.
    with path.open("r+b"):
        pass
