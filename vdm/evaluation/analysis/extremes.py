"""The images of a split on which a run's bound is lowest and highest."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from vdm.evaluation.evaluate import Evaluation
from vdm.types import bits_per_dim


@dataclasses.dataclass(frozen=True)
class Extremes:
    """The images with the lowest and the highest bound.

    Half of the randomisations select the images and the other half evaluate them, because the value by
    which an image was selected is biased: noise may have made it extreme.

    Attributes:
      easiest, hardest: positions in the split, the most extreme first [K].
      bits: {position: bits/dim} of every image from the second half, unbiased for the selected images.
      error: {position: Monte Carlo standard error of `bits`}; None below four randomisations.
    """

    easiest: np.ndarray
    hardest: np.ndarray
    bits: Mapping[int, float]
    error: Mapping[int, float] | None


def find_extremes(evaluation: Evaluation, count: int) -> Extremes:
    """Return the `count` images with the lowest and with the highest bound.

    Raises:
      ValueError: a single randomisation, which cannot both select and evaluate.
    """
    values = bits_per_dim(evaluation.total, evaluation.num_dims)
    if len(values) < 2:
        raise ValueError(
            "randomisations=1: extremes need at least 2, one to select images and one to evaluate them"
        )
    order = np.argsort(values[0::2].mean(axis=0), kind="stable")
    held_out, index = values[1::2], evaluation.index
    error = held_out.std(axis=0, ddof=1) / np.sqrt(len(held_out)) if len(held_out) > 1 else None
    return Extremes(
        index[order[:count]],
        index[order[::-1][:count]],
        dict(zip(index.tolist(), held_out.mean(axis=0).tolist(), strict=True)),
        None if error is None else dict(zip(index.tolist(), error.tolist(), strict=True)),
    )
