"""Training loss and validation against the amount of training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, np.ndarray]
"""{column: one number per logged step}, see `vdm.runs.history`."""


def plot_learning(
    axes: "Axes",
    training: Mapping[str, Curves],
    validation: Mapping[str, Curves] | None = None,
    *,
    amount: str = "images",
) -> None:
    """Draw the training loss of every run as a line and its validations as points, in bits/dim.

    Args:
      axes: where to draw.
      training: {run: columns "step", `amount` and "train"}, see `vdm.runs.history.training_curves`.
      validation: {run: columns "step" and "validation"}, see `vdm.runs.history.validation_curves`;
        None leaves the points, and the word "training" in the labels, out.
      amount: the column of the horizontal axis, such as "images", "seconds" or "flops".
    """
    for name, curves in training.items():
        label = name if validation is None else f"{name}, training"
        (line,) = axes.plot(curves[amount], curves["train"], label=label)
        if validation is not None:
            points = validation[name]
            # Validations are logged by step alone.
            places = np.interp(points["step"], curves["step"], curves[amount])
            shown = f"{name}, validation" if len(places) else None
            axes.plot(places, points["validation"], "o", color=line.get_color(), label=shown)

    losses = [curves["train"] for curves in training.values()]
    validations = [curves["validation"] for curves in (validation or {}).values()]
    axes.set_ylim(*loss_limits(losses, validations))


def loss_limits(
    training: Sequence[np.ndarray], validation: Sequence[np.ndarray] = ()
) -> tuple[float, float]:
    """Return limits of the vertical axis, bits/dim, that leave out the steep first tenth of training.

    From 2 % below the lowest loss to 5 % above the highest 90 % quantile of the training losses.

    Args:
      training: the losses of every run, one array [logged steps] each, at least one of them not empty.
      validation: likewise; may be empty.
    """
    lowest = min(float(values.min()) for values in (*training, *validation) if len(values))
    highest = max(float(np.quantile(values, 0.9)) for values in training)
    return 0.98 * lowest, 1.05 * highest
