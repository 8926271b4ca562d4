"""Saves of a training run: one that fails is made up for later, as long as an older step is there."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vdm.errors import DiskError, VdmError
from vdm.runs.checkpoints import HAS_CHECKPOINTS
from vdm.runs.folder import write_json
from vdm.runtime.processes import ElsewhereError, from_first, is_first, together
from vdm.training.checkpoint import Checkpoints

MAX_FAILURES = 3
"""Failed saves in a row that end the training."""


class Saver:
    """Passes over failed saves, and counts those in a row.

    A full disk is often somebody else's doing and soon over, and hours of training are worth more than
    one checkpoint. Nothing is passed over where going on could lose more: without an older step, at
    the last step, and where a signal asks the run to stop.
    """

    def __init__(self, store: Checkpoints, every_steps: int, num_steps: int):
        """Args:
        store: the checkpoints of the run.
        every_steps: period of the saves; 0 for none but the last.
        num_steps: steps of the whole run.
        """
        self._store, self._every, self._num_steps = store, every_steps, num_steps
        self._failures = 0

    def save(self, step: int, write: Callable[[], None], stopping: bool) -> None:
        """Call `write`, which saves step `step`, and count its failure if it fails.

        Args:
          step: updates made.
          write: writes the step; in each of several processes it fails if it does in one.
          stopping: whether the run ends after this save.

        Raises:
          DiskError: it failed, and the training cannot go on without it.
        """
        try:
            write()
        except (DiskError, ElsewhereError) as error:
            if error.exit_code != DiskError.exit_code:
                raise
            self._failures += 1
            self._pass_over(step, error, stopping or step == self._num_steps)
        else:
            self._failures = 0

    def _pass_over(self, step: int, error: VdmError, last: bool) -> None:
        """Warn of a failed save, or raise DiskError where it is one too many."""
        none_left = self._store.latest_step() is None
        # The first process decides for all: another one may list a shared folder too early.
        ends = from_first(last or self._failures >= MAX_FAILURES or none_left)
        if ends:
            count = f", {self._failures} times in a row" if self._failures > 1 else ""
            left = self._store.remaining()
            raise DiskError(f"{error}{count}; {left}: free some space and run again") from error
        if is_first():
            print(
                f"WARNING: {error}; {self._store.remaining()}, and training goes on: free some space "
                f"before step {self._next(step)}, when the next save is tried ({self._failures} failed "
                f"in a row, {MAX_FAILURES} end the run)",
                file=sys.stderr,
                flush=True,
            )

    def _next(self, step: int) -> int:
        """Return the step at which the next save is due."""
        every = self._every or self._num_steps
        return min((step // every + 1) * every, self._num_steps)


def write_identity(store: Checkpoints, folder: Path, identity: dict[str, Any]) -> None:
    """Write config.json; once a checkpoint exists it records that, so that a loss is noticed.

    Args:
      store: the checkpoints of the folder.
      folder: the work folder.
      identity: contents of config.json; HAS_CHECKPOINTS is added to it.

    Raises:
      DiskError: it cannot be written.
      ElsewhereError: it cannot be written by another process.
    """
    has_checkpoints = {HAS_CHECKPOINTS: True} if store.latest_step() is not None else {}
    together(lambda: write_json(folder / "config.json", {**identity, **has_checkpoints}))
    # Only now: what a full disk kept from being written is written with the next save.
    identity |= has_checkpoints
