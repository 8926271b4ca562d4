"""The folder of a run's checkpoints: its steps, and the renaming of damaged ones.

A step is a folder whose name is the bare number; Orbax commits it by renaming it to that. A
damaged one is renamed to damaged-<name>, which neither Orbax's list of steps nor its retention
knows.
"""

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vdm.errors import CheckpointError, DiskError
from vdm.runtime.files import sync_folder, write_whole
from vdm.runtime.hashes import OtherModelError, json_hash, unsealed

METRICS = "metrics/metrics"
"""File within a step's folder; Orbax reads it for every step whenever it lists them."""
RECORD = "record/metadata"
"""File within a step's folder that holds the sealed record."""


class Folder:
    """The steps in a folder.

    Args:
      directory: the folder.
      read_only: change nothing on disk; damaged steps are then skipped, not renamed.
      warn: called with a line when something damaged is skipped.
    """

    def __init__(self, directory: Path, read_only: bool, warn: Callable[[str], None]):
        self.directory, self.read_only, self._warn = directory, read_only, warn

    def steps(self) -> list[int]:
        """Return all committed steps, ascending."""
        import orbax.checkpoint as ocp

        if not self.directory.is_dir():
            return []
        committed = ocp.path.step.standard_name_format().find_all(self.directory)
        return sorted(metadata.step for metadata in committed)

    def first_good(self, step: int | None, read: Callable[[int], Any]) -> tuple[int, Any]:
        """Return (step, read(step)) of the newest readable step, and set the damaged ones aside.

        Args:
          step: the only step to try; None tries all, the newest first.
          read: reads a step, and raises if it is damaged.

        Raises:
          CheckpointError: no such step, or none that can be trusted.
          OtherModelError: passed on from `read`, because that step is not damaged.
        """
        candidates, damaged = self._candidates(step), {}
        for candidate in candidates:
            try:
                content = read(candidate)
            # An intact checkpoint of another model: older ones will not fit either.
            except OtherModelError:
                raise
            except Exception as error:
                self._raise_unless_damage(candidate, error)
                damaged[candidate] = line(error)
            else:
                # Only now, when a good step is known to remain.
                self._pass_over(damaged, candidate)
                return candidate, content
        # Nothing is set aside: in a folder without a step, training would start from scratch.
        reasons = "; ".join(f"step {n}: {reason}" for n, reason in damaged.items())
        raise CheckpointError(f"checkpoints={self.directory}: none can be trusted ({reasons})")

    def read_metric(self, step: int, name: str) -> float | None:
        """Return a metric of a step, or None where it was not saved or cannot be read."""
        try:
            return float(json.loads(self._path(step, METRICS).read_text())[name])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_json(self, step: int, name: str, content: Any) -> None:
        """Replace file METRICS or RECORD of a committed step as a whole."""
        path = self._path(step, name)
        path.parent.mkdir(exist_ok=True)
        sync_folder(path.parent.parent)
        write_whole(path, json.dumps(content).encode())

    def pass_over_metrics(self) -> None:
        """Set aside every metrics file that is no JSON object: Orbax would open nothing."""
        for step, reason in self._unreadable_metrics():
            path = self._path(step, METRICS)
            self._warn(
                f"WARNING: {path} is damaged ({reason}){self._set_aside(path)}; "
                f"step {step} counts as not validated"
            )

    def remove_partial(self) -> None:
        """Remove what interrupted saves left behind."""
        if self.read_only:
            return
        for path in self.directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _path(self, step: int, name: str) -> Path:
        """Return the path of a file in a step's folder."""
        return self.directory / str(step) / name

    def _candidates(self, step: int | None) -> list[int]:
        """Return the steps to try, the newest first."""
        steps = self.steps()
        if step is not None and step not in steps:
            listed = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(f"step={step}: {self.directory} has no such step ({listed})")
        if not steps:
            raise CheckpointError(f"checkpoints={self.directory}: holds no checkpoint; train first")
        return [step] if step is not None else steps[::-1]

    def _raise_unless_damage(self, step: int, error: Exception) -> None:
        """Raise unless `error` shows that the step's files are damaged, so that it may be set aside."""
        if _ran_out(error):
            raise CheckpointError(
                f"{self.directory / str(step)}: memory, or another resource, ran out while it was "
                f"read ({line(error)}); it is not taken for damaged: end what else uses the device"
            ) from error
        # Of operating system errors only a missing file is damage: others may be temporary.
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise error
        # Any other error counts as damage: a damaged file makes Orbax raise nearly anything.

    def _pass_over(self, damaged: Mapping[int, str], good: int) -> None:
        """Rename the damaged steps, and warn of each."""
        for step, reason in damaged.items():
            folder = self.directory / str(step)
            self._warn(
                f"WARNING: checkpoint {folder} is damaged ({reason}){self._set_aside(folder)}; "
                f"going on with step {good}"
            )

    def _unreadable_metrics(self) -> Iterator[tuple[int, str]]:
        """Yield (step, reason) of every metrics file that is no JSON object."""
        for step in self.steps():
            try:
                content = json.loads(self._path(step, METRICS).read_text())
            except ValueError as error:
                yield step, line(error)
            except OSError:
                continue  # it has none, or the disk is out of reach
            else:
                if not isinstance(content, dict):
                    yield step, "no JSON object"

    def _set_aside(self, path: Path) -> str:
        """Rename a damaged folder or file, and return where to, as the end of a sentence."""
        if self.read_only:
            return ""

        # The same step may be found damaged twice, after it was trained again.
        target, number = path.with_name(f"damaged-{path.name}"), 1
        while target.exists():
            number += 1
            target = path.with_name(f"damaged-{path.name}-{number}")
        try:
            path.rename(target)
            sync_folder(target.parent)
        except OSError as error:
            raise DiskError(f"{path}: is damaged, cannot be set aside ({line(error)})") from error
        return f"; it was put into {target}"


def saved_ema_hash(directory: Path, step: int) -> str:
    """Return `vdm.runtime.hashes.tree_hash` of the averaged parameters that `step` was saved with.

    It comes from the step's record: no array is read, and Orbax is not imported.

    Raises:
      CheckpointError: no such step in `directory`, or a damaged record.
    """
    path = directory / str(step) / RECORD
    try:
        return json_hash(unsealed(json.loads(path.read_bytes()))["arrays"]["ema"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({line(error)})") from None


def line(error: BaseException) -> str:
    """Return an error's text as one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__


def _ran_out(error: BaseException | None) -> bool:
    """Return whether memory, or another resource such as open files, ran out."""
    # Libraries wrap the error that says so: the whole chain of causes is searched.
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
            return True
        if "out of memory" in text.lower():
            return True
        error = error.__cause__ or error.__context__
    return False
