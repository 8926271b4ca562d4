"""Data sets of section "data" of a configuration, opened, and prepared first where that is needed."""

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdm import data
from vdm.data import Dataset
from vdm.data.augment import Augmentation
from vdm.data.base import NotPrepared
from vdm.errors import ConfigError, DataError, DiskError, Preempted, VdmError
from vdm.runs.former_fields import RESIZED_SOURCES
from vdm.runs.progress import Progress

SHARED = ("bits", "num_validation", "source_dir")
"""Fields of section "data" that every source has."""

_CLEAN_UP_SECONDS = 20
"""Seconds that a process which prepares data may take to remove what is unfinished."""


def open_dataset(
    section: Mapping[str, Any],
    cache_dir: str | os.PathLike | None = None,
    *,
    verify: bool = False,
    prepare: bool = True,
) -> Dataset:
    """Return the data that `section` describes, from the cache.

    Data that are not there are prepared: from files in this process, through TensorFlow Datasets in a
    process of its own, whose memory and threads end with it.

    Args:
      section: "data" of a configuration.
      cache_dir: where prepared arrays live.
      verify: hash all pixels again.
      prepare: whether data that are not in the cache are prepared; False raises NotPrepared instead.

    Raises:
      NotPrepared: TensorFlow Datasets is needed and not installed; the message has the command to run.
      VdmError: as `vdm.data.load`.
    """
    try:
        return load(section, cache_dir, verify=verify, prepare=prepare)
    except NotPrepared as error:
        if not prepare:
            raise
        words = command(section, cache_dir)
        if not has_tfds():
            raise NotPrepared(_advice(error, section, cache_dir)) from None
    print(f"preparing data {section['name']!r} first: {shlex.join(words)}", flush=True)
    code = _run_child([sys.executable, *words[1:]])
    if code == Preempted.exit_code:
        raise Preempted(f"data {section['name']!r}: preparing it was stopped; run again")
    if code:
        # A full disk there is one here, so that a job script sees what happened.
        kinds: dict[int, type[VdmError]] = {
            kind.exit_code: kind for kind in (ConfigError, DiskError)
        }
        kind = kinds.get(code, DataError)
        raise kind(f"data {section['name']!r}: preparing it ended with {code}; see above")
    return load(section, cache_dir, verify=verify)


def prepare(
    section: Mapping[str, Any],
    cache_dir: str | os.PathLike | None = None,
    *,
    verify: bool = False,
) -> Dataset:
    """Prepare data in this process, with TensorFlow Datasets where it is needed and installed.

    Args:
      section: "data" of a configuration.
      cache_dir: where prepared arrays live.
      verify: hash all pixels again.

    Raises:
      NotPrepared: TensorFlow Datasets is needed and not installed.
    """
    try:
        return load(section, cache_dir, verify=verify, with_tfds=has_tfds())
    except NotPrepared as error:
        raise NotPrepared(_advice(error, section, cache_dir)) from None


def load(
    section: Mapping[str, Any],
    cache_dir: str | os.PathLike | None = None,
    *,
    verify: bool = False,
    with_tfds: bool = False,
    prepare: bool = True,
) -> Dataset:
    """Call `vdm.data.load` with progress on the terminal.

    Args:
      section: "data" of a configuration.
      cache_dir: where prepared arrays live.
      verify: hash all pixels again.
      with_tfds: whether TensorFlow Datasets may be used in this process.
      prepare: whether data that are not in the cache are prepared.
    """
    with _Bars() as bars:
        return data.load(
            section["name"],
            source_options(section),
            cache_dir,
            verify=verify,
            with_tfds=with_tfds,
            prepare=prepare,
            progress=bars.update,
            wait=lambda line: print(line, file=sys.stderr, flush=True),
            **{name: section.get(name) for name in SHARED},
        )


def command(section: Mapping[str, Any], cache_dir: str | os.PathLike | None) -> list[str]:
    """Return the command that prepares the data that `section` describes, one argument per item."""
    words = ["python", "-m", "vdm.runs.prepare_data", f"--dataset={section['name']}"]
    if cache_dir:
        words.append(f"--data_dir={cache_dir}")
    values = {**{name: section.get(name) for name in SHARED}, **source_options(section)}
    return words + [f"--{name}={value}" for name, value in values.items() if value]


def source_options(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the source that `section` names, with "resize" where it takes that."""
    source = section["name"].partition(":")[0]
    resize = section.get("resize", {}) if source in RESIZED_SOURCES else {}
    return {**resize, **section.get(source, {})}


def make_augmentation(section: Mapping[str, Any]) -> Augmentation:
    """Return the transforms of training images; runs from before they existed have none."""
    return Augmentation(**section.get("augment", {}))


def listed() -> str:
    """Return the names of all data sets, for messages."""
    return ", ".join([*data.SOURCES, *data.RECIPES])


def has_tfds() -> bool:
    """Return whether the extra "data" is installed; imports nothing."""
    packages = ("tensorflow", "tensorflow_datasets")
    return all(importlib.util.find_spec(name) is not None for name in packages)


def _advice(
    problem: NotPrepared, section: Mapping[str, Any], cache_dir: str | os.PathLike | None
) -> str:
    """Return a NotPrepared message with the commands that install the package and prepare the data."""
    words = shlex.join(command(section, cache_dir))
    forms = "" if section.get("source_dir") else data.local_forms(section["name"])
    local = f"; or give a folder that holds {forms} (source_dir)" if forms else ""
    return (
        f"{problem}; TensorFlow Datasets, which downloads it, is not installed: "
        f"pip install -e '.[data]' (an environment of its own will do), then run {words}{local}"
    )


class _Bars:
    """Progress bars one after another: a new one whenever the work changes its title."""

    def __init__(self) -> None:
        self._title = ""
        self._bar: Progress | None = None

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.__exit__()

    def update(self, title: str, done: int, total: int) -> None:
        if self._bar is None or title != self._title:
            self.__exit__()
            self._title, self._bar = title, Progress(title, total, "images")
        self._bar.update(done, show=done == total)


def _run_child(command: list[str]) -> int:
    """Run a command and return its exit code; when this process is interrupted, end it gently.

    `subprocess.run` would kill it, and what it had half written would stay in the cache.
    """
    with subprocess.Popen(command, env=_environment(), stdin=subprocess.DEVNULL) as child:
        try:
            return child.wait()
        except BaseException:
            child.terminate()
            try:
                child.wait(_CLEAN_UP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
            raise


def _environment() -> dict[str, str]:
    """Return environment variables with which a child process imports the same `vdm` as this one.

    The folder that holds the package goes to the front of PYTHONPATH, because the package need not be
    installed. The working folder is not changed, so that relative paths in the options stay valid.
    """
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
