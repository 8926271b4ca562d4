"""The folder of a run's checkpoints: its steps, and the renaming of damaged ones.

A step is a folder whose name is the bare number; Orbax commits it by renaming it to that. A
damaged one is renamed to damaged-<name>, which neither Orbax's list of steps nor its retention
knows.
"""

import errno
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.errors import CheckpointError, DiskError
from vdm.runtime.files import sync_folder
from vdm.runtime.hashes import OtherModelError
from vdm.training.checkpoint_record import error_line

PARTIAL = "*.orbax-checkpoint-tmp*"
"""Pattern of the folders in which Orbax writes a step before it commits it."""
_REMOVAL_SECONDS = 5.0
_DAMAGE_ERRNOS = {None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR}


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
                damaged[candidate] = error_line(error)
            else:
                # Only now, when a good step is known to remain.
                self._pass_over(damaged, candidate)
                return candidate, content
        # Nothing is set aside: in a folder without a step, training would start from scratch.
        reasons = "; ".join(f"step {n}: {reason}" for n, reason in damaged.items())
        raise CheckpointError(f"checkpoints={self.directory}: none can be trusted ({reasons})")

    def remove_partial(self) -> None:
        """Remove what interrupted and failed saves left behind."""
        if self.read_only:
            return
        # Threads of a save that failed may still write into its folder for a moment: an attempt that
        # meets such a file is repeated.
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while partial := list(self.directory.glob(PARTIAL)):
            for path in partial:
                shutil.rmtree(path, ignore_errors=True)
            if time.monotonic() > deadline:
                return  # not ours to remove, such as a file that is immutable
            if any(path.exists() for path in partial):
                time.sleep(0.05)

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
                f"{self.directory / str(step)}: memory, or another resource, ran out while it was read "
                f"({error_line(error)}); it is not taken for damaged: end what else uses the device"
            ) from error
        # Only a missing file, or one in a folder's place, is damage: other errors of the operating
        # system may be temporary.
        if isinstance(error, OSError) and error.errno not in _DAMAGE_ERRNOS:
            raise CheckpointError(
                f"{self.directory / str(step)}: cannot be read ({error_line(error)}); it is not taken "
                "for damaged: see to its disk and its permissions, and try again"
            ) from error
        # Any other error counts as damage: a damaged file makes Orbax raise nearly anything.

    def _pass_over(self, damaged: Mapping[int, str], good: int) -> None:
        """Rename the damaged steps, and warn of each."""
        for step, reason in damaged.items():
            folder = self.directory / str(step)
            self._warn(
                f"WARNING: checkpoint {folder} is damaged ({reason}){self._set_aside(folder)}; "
                f"going on with step {good}"
            )

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
            raise DiskError(
                f"{path}: is damaged, cannot be set aside ({error_line(error)})"
            ) from error
        return f"; it was put into {target}"


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
