"""Evaluation of one bound over every image of a split."""

import dataclasses
import time

import numpy as np
from jax.sharding import Mesh

from vdm.errors import ConfigError
from vdm.evaluation.batches import Batches, Progress, Values, join, silent, visit
from vdm.evaluation.bounds.base import Bound, BoundValues, Step
from vdm.evaluation.statistics.estimate import Estimate, estimate, shared_in_time
from vdm.models.base import Model
from vdm.types import Params


@dataclasses.dataclass(frozen=True)
class BoundEvaluation:
    """The values of one bound for every image of a split.

    Attributes:
      bound: the bound, with its options.
      index: position of each image in its split [N].
      rows: {row of the table: nats [R, N]}, R independent estimates; several per randomisation for a
        bound with S > 1, see `BoundValues`.
      terms: {term: nats [R, N]}; empty for a bound without terms.
      evaluations: network evaluations per image over all randomisations [N].
      randomisations: independent randomisations of times and noise.
      seed: random seed of all times and noise.
      num_dims: D, dimensions per image.
      seconds: wall-clock time of the pass.
      times: the uniform times behind the values [repeats, R, N]; None without times, or for a bound
        that sums over all of them.
    """

    bound: Bound
    index: np.ndarray
    rows: dict[str, np.ndarray]
    terms: dict[str, np.ndarray]
    evaluations: np.ndarray
    randomisations: int
    seed: int
    num_dims: int
    seconds: float
    times: np.ndarray | None = None

    def estimate(self, nats: np.ndarray) -> Estimate:
        """Return the mean over images of a row, a term or other nats [R, N], in bits/dim."""
        # Only values of one estimate per randomisation belong to the times of that randomisation.
        shared = None
        if self.times is not None and len(nats) == self.randomisations:
            shared = shared_in_time(nats, self.times)
        return estimate(nats, self.num_dims, shared)


def evaluate_bound(
    bound: Bound,
    model: Model,
    params: Params,
    batches: Batches,
    mesh: Mesh,
    randomisations: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
    step: Step | None = None,
) -> BoundEvaluation:
    """Evaluate a bound for every image of `batches`, in one pass.

    Args:
      bound: the bound, already fitted (`Bound.fit`) if it has something to fit.
      model, params: the model; pass the EMA parameters.
      batches: every image once, padding masked; one batch is in memory at a time.
      mesh: the devices; each batch must divide evenly.
      randomisations: independent randomisations; None = the bound's default.
      seed: random seed of all times and noise.
      progress: called after every randomisation of every batch.
      step: a compiled step of this bound to use again; None makes one.

    Raises:
      ConfigError: the bound cannot serve the model, or has no value for some images, which the
        message names.
    """
    bound.check(model, params)
    started = time.monotonic()
    count = randomisations or bound.randomisations
    evaluate_batch = step or bound.make_step(model, seed, mesh)

    def values_of_batch(batch, randomisation):
        return _by_image(evaluate_batch(params, batch, randomisation))

    index, values = join(list(visit(batches, values_of_batch, count, mesh, progress)))

    # An image without a value is never left out of a mean: the mean would be of easier images.
    _refuse_failures(bound, index[values[_FAILED].any(axis=0)])
    return BoundEvaluation(
        bound,
        index,
        {name[1]: _estimates(v) for name, v in values.items() if name[0] == _ROW},
        {name[1]: v for name, v in values.items() if name[0] == _TERM},
        values[_SPENT].sum(axis=0),
        count,
        seed,
        model.num_dims,
        time.monotonic() - started,
        bound.times(model, seed, count, index),
    )


_ROW, _TERM, _SPENT, _FAILED = "row", "term", ("spent",), ("failed",)
"""Keys of a batch's values: (_ROW, row), (_TERM, term), _SPENT and _FAILED."""


def _by_image(values: BoundValues) -> Values:
    """Return all values of a batch under distinct keys and with the images first, as `visit` needs.

    A row and a term may have the same name, hence the pairs.
    """
    return {
        **{(_ROW, name): value.T for name, value in values.rows.items()},
        **{(_TERM, name): value for name, value in values.terms.items()},
        _SPENT: values.evaluations,
        _FAILED: values.failed,
    }


def _estimates(values: np.ndarray) -> np.ndarray:
    """Return values [R,N,S] as [R S,N]; the S estimates of one randomisation are neighbours."""
    return np.ascontiguousarray(np.moveaxis(values, 2, 1)).reshape(-1, values.shape[1])


def _refuse_failures(bound: Bound, failed: np.ndarray) -> None:
    """Raise a ConfigError that names the images `failed`, by their positions in the split."""
    if len(failed):
        shown = ", ".join(map(str, failed[:20])) + (", ..." if len(failed) > 20 else "")
        raise ConfigError(
            f"bound={bound.name}: {len(failed)} images have no value, because the solver did not "
            f"converge (image {shown}); raise max_steps or tolerance"
        )
