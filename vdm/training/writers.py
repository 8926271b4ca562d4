"""Metric writers: JSON lines, TensorBoard and Weights & Biases.

A run that was killed goes on from its last checkpoint and measures some steps again. Writers
therefore get `resumed_at`, the step of that checkpoint: their files are cut to it.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vdm.errors import ConfigError, DiskError, choose
from vdm.training.metrics_file import cut_to_step
from vdm.training.metrics_file import read_json_lines as read_json_lines

Writer = Callable[[int, dict[str, float]], None]
"""A function (step, {name: value}) -> None."""


def json_lines(workdir: Path, resumed_at: int) -> Writer:
    """Return a writer of lines {"step": n, name: value, ...} to metrics.jsonl, cut to `resumed_at`."""
    path = workdir / "metrics.jsonl"
    repeated = cut_to_step(path, resumed_at)

    def write(step: int, values: dict[str, float]) -> None:
        record = {"step": step, **values}
        if record in repeated:
            return  # written just before the kill, and measured again
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    return write


def tensorboard(workdir: Path, resumed_at: int) -> Writer:
    """Return a writer of scalars under tensorboard/, purged of what lies after `resumed_at`."""
    from tensorboardX import SummaryWriter

    folder = str(workdir / "tensorboard")
    # Files are named by the second: without a suffix a quick restart would overwrite the last.
    suffix = f".from{resumed_at}.{os.getpid()}"
    writer = SummaryWriter(folder, purge_step=resumed_at + 1, filename_suffix=suffix, flush_secs=5)

    def write(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return write


def wandb(workdir: Path, resumed_at: int) -> Writer:
    """Return a writer to Weights & Biases, one run per work folder; needs the package wandb."""
    import wandb

    name = workdir.resolve().name
    # An id without what wandb refuses, the same whenever this folder is resumed.
    identity = hashlib.sha256(str(workdir.resolve()).encode()).hexdigest()[:16]
    run = wandb.init(name=name, id=identity, dir=str(workdir), resume="allow", project="vdm")

    def write(step: int, values: dict[str, float]) -> None:
        run.log(values, step=step)

    return write


WRITERS = {"json_lines": json_lines, "tensorboard": tensorboard, "wandb": wandb}
"""Writers by name; each entry is a function (workdir, resumed_at) -> Writer."""


def check_writers(names: Sequence[str]) -> None:
    """Raise ConfigError unless every writer exists, stands once, and its package is installed."""
    for name in names:
        choose("train.writers", name, WRITERS, "metric writer")
        if names.count(name) > 1:
            raise ConfigError(f"train.writers={tuple(names)}: {name!r} stands twice; keep one")
        if name == "wandb" and importlib.util.find_spec("wandb") is None:
            raise ConfigError("train.writers: 'wandb' is not installed; pip install wandb")


def make_writer(names: Sequence[str], workdir: Path, resumed_at: int) -> Writer:
    """Return one writer that writes to all of `names`.

    Args:
      names: keys of WRITERS.
      workdir: the run's folder.
      resumed_at: step of the checkpoint from which the run goes on; 0 for a new run.

    Raises:
      ConfigError: an unknown writer, or one whose package is missing.
      DiskError: a file cannot be written, now or when the writer is called.
    """
    check_writers(names)
    with _disk_errors(workdir):
        writers = [WRITERS[name](workdir, resumed_at) for name in names]

    def write(step: int, values: dict[str, float]) -> None:
        with _disk_errors(workdir):
            for writer in writers:
                writer(step, values)

    return write


@contextmanager
def _disk_errors(workdir: Path) -> Iterator[None]:
    """Turn errors of the operating system into DiskError."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"workdir={workdir}: cannot write metrics ({error})") from error
