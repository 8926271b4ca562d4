"""One bound over every image of a split."""

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
    """Attributes:
    bound: what was evaluated.
    index: position of each image in its split [N].
    rows: {row: [R, N]} in nats, R independent estimates.
    terms: {term: [R, N]} in nats, empty for a bound without terms.
    evaluations: of the network, per image, over all randomisations [N].
    randomisations, seed: how it was estimated.
    num_dims: D.
    seconds: wall clock.
    times: the uniform times behind the values [repeats, R, N]; None where there are none, or many.
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
        """The mean of a row or a term, or of what else has values [R, N], in bits/dim."""
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
    """One pass over `batches`.

    Args:
      bound: what is evaluated, fitted if it has to be.
      model, params: of what; pass the EMA parameters.
      batches: every image once, padding masked; one is held at a time.
      mesh: the devices; each batch must divide evenly.
      randomisations: None = as many as the bound makes by default.
      seed: of all noise.
      progress: called after every randomisation of every batch.
      step: a step of this bound to use again, in place of a new one.

    Raises:
      ConfigError: the bound cannot serve the model, or has no value for some images, which are named.
    """
    bound.check(model, params)
    started = time.monotonic()
    count = randomisations or bound.randomisations
    evaluate_batch = step or bound.make_step(model, seed, mesh)

    def values(batch, randomisation):
        return _by_image(evaluate_batch(params, batch, randomisation))

    index, found = join(list(visit(batches, values, count, mesh, progress)))
    _refuse_failures(bound, index[found[_FAILED].any(axis=0)])
    return BoundEvaluation(
        bound,
        index,
        {name[1]: _estimates(v) for name, v in found.items() if name[0] == _ROW},
        {name[1]: v for name, v in found.items() if name[0] == _TERM},
        found[_SPENT].sum(axis=0),
        count,
        seed,
        model.num_dims,
        time.monotonic() - started,
        bound.times(model, seed, count, index),
    )


_ROW, _TERM, _SPENT, _FAILED = "row", "term", ("spent",), ("failed",)


def _by_image(values: BoundValues) -> Values:
    """All values of a batch with the images first, as `visit` takes them."""
    return {
        **{(_ROW, name): value.T for name, value in values.rows.items()},
        **{(_TERM, name): value for name, value in values.terms.items()},
        _SPENT: values.evaluations,
        _FAILED: values.failed,
    }


def _estimates(values: np.ndarray) -> np.ndarray:
    """[R,N,S] -> [R S,N], those of one randomisation beside one another."""
    return np.ascontiguousarray(np.moveaxis(values, 2, 1)).reshape(-1, values.shape[1])


def _refuse_failures(bound: Bound, failed: np.ndarray) -> None:
    if len(failed):
        shown = ", ".join(map(str, failed[:20])) + (", ..." if len(failed) > 20 else "")
        raise ConfigError(
            f"bound={bound.name}: {len(failed)} images have no value, the solver did not converge "
            f"(image {shown}); raise max_steps or tolerance"
        )
