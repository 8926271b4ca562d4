"""Steps whose gradient was not finite: counted, and the end of a run that makes nothing else.

The compiled step leaves such an update out by itself, see `vdm.training.step`. One is bad luck, such
as an overflow in half precision; several in a row mean that the parameters no longer work.
"""

import math
from collections.abc import Mapping

from vdm.errors import NonFiniteError


def raise_at_first(step: int, metrics: Mapping[str, float]) -> None:
    """Raise NonFiniteError for a skipped step.

    Args:
      step: number of the step, from 1.
      metrics: its metrics.
    """
    raise NonFiniteError(f"step {step}: not finite ({listed(metrics)}){noise_levels(metrics)}")


class SkippedSteps:
    """The number of steps in a row that were skipped.

    Attributes:
      last: the last step that was skipped; 0 before the first.
      in_a_row: number of skipped steps that end with it.
    """

    def __init__(self, last: int = 0, in_a_row: int = 0):
        self.last, self.in_a_row = last, in_a_row

    def count(self, step: int) -> int:
        """Return the number of steps in a row that were skipped, now that `step` was."""
        self.in_a_row = self.in_a_row + 1 if step == self.last + 1 else 1
        self.last = step
        return self.in_a_row

    def record(self) -> dict[str, int]:
        """Return the arguments that make this object again, to be saved with a checkpoint."""
        return {"last": self.last, "in_a_row": self.in_a_row}


def listed(metrics: Mapping[str, float]) -> str:
    """Return "name=value, ..." with the values that are not finite first."""
    order = sorted(metrics, key=lambda name: math.isfinite(metrics[name]))
    return ", ".join(f"{name}={metrics[name]:.6g}" for name in order)


def noise_levels(metrics: Mapping[str, float]) -> str:
    """Return the range of gamma as the end of a sentence, for a model that reports one; else ""."""
    if not {"gamma_0", "gamma_1"} <= set(metrics):
        return ""
    return f"; gamma ranges over [{metrics['gamma_0']:.4g}, {metrics['gamma_1']:.4g}]"
