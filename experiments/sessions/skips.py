"""Report of the training steps whose update was left out because a number was not finite."""

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vdm.data.batches import train_indices
from vdm.errors import DiskError, NonFiniteError
from vdm.runs.parts import Parts
from vdm.runtime import processes
from vdm.training.skipped import SkippedSteps, listed, noise_levels

FILE = "skipped_steps.jsonl"
"""One line per skipped step, in the work folder: step, images (positions in the split), metrics."""
_SHOWN_IMAGES = 8


class Skips:
    """Takes the skipped steps of a run: a warning for each, and an error after too many in a row.

    Attributes:
      count: how many in a row; saved with checkpoints.
    """

    def __init__(
        self,
        parts: Parts,
        folder: Path,
        count: SkippedSteps,
        newest_checkpoint: Callable[[], int | None],
    ):
        """Args:
        parts: data and configuration, which say which images a step saw.
        folder: the work folder.
        count: the steps in a row so far.
        newest_checkpoint: step of the newest checkpoint, for the message; None before the first.
        """
        self.count = count
        self._parts, self._folder, self._newest = parts, folder, newest_checkpoint
        self._most: int = parts.config["train"]["max_skipped_steps"]

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report a skipped step.

        Args:
          step: number of the step, from 1.
          metrics: its metrics, some of them not finite.

        Raises:
          NonFiniteError: it is the last of max_skipped_steps in a row.
          DiskError: its line cannot be written.
        """
        in_a_row, images = self.count.count(step), self._images(step)
        if processes.is_first():
            self._write(step, images, metrics)

        shown = ", ".join(map(str, images[:_SHOWN_IMAGES]))
        more = f" and {len(images) - _SHOWN_IMAGES} more" if len(images) > _SHOWN_IMAGES else ""
        # The first line holds what differs from step to step, the numbers come after it.
        facts = (
            f"not finite ({listed(metrics)}){noise_levels(metrics)}; training images {shown}{more}, "
            f"listed in {self._folder / FILE}"
        )
        if in_a_row >= self._most:
            raise NonFiniteError(f"step {step}: {facts}. {self._advice(in_a_row)}")
        if processes.is_first():
            line = f"WARNING: step {step} is skipped: {facts}. {in_a_row} in a row; "
            print(f"{line}{self._most} would end the run", file=sys.stderr, flush=True)

    def _images(self, step: int) -> np.ndarray:
        """Return the positions in the training split of the images of step `step`."""
        config, sizes = self._parts.config, self._parts.dataset.spec.split_sizes
        size = config["train"]["batch_size"]
        return train_indices(config["seed"], step - 1, size, sizes["train"])

    def _write(self, step: int, images: np.ndarray, metrics: Mapping[str, float]) -> None:
        # JSON has no nan and no infinity.
        values = {n: v if math.isfinite(v) else str(v) for n, v in metrics.items()}
        line = json.dumps({"step": step, "images": images.tolist(), "metrics": values}) + "\n"
        path = self._folder / FILE
        try:
            # A run that was killed since its last checkpoint makes the same steps again.
            # A byte that a disk has damaged is no reason to end the run.
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            if line in text.splitlines(True):
                return
            # The last line may have been cut by a kill: the next one must not be appended to it.
            start = "\n" if text and not text.endswith("\n") else ""
            with path.open("a", encoding="utf-8") as file:
                file.write(start + line)
        except OSError as error:
            raise DiskError(f"{path}: cannot be written ({error})") from error

    def _advice(self, in_a_row: int) -> str:
        """Return what to do after `in_a_row` skipped steps in a row."""
        ended = f"{in_a_row} updates in a row were skipped (config.train.max_skipped_steps)"
        lower = "lower optimizer.learning_rate or optimizer.clip_norm"
        newest = self._newest()
        if newest is None:
            return f"{ended}; nothing was saved: {lower} and start again"
        return f"{ended}; checkpoint {newest} is intact: {lower} with --allow_change and resume"
