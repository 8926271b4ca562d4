"""One bound over every image of a split."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jax.sharding import Mesh

from vdm.errors import ConfigError
from vdm.evaluation.bounds.base import Bound, BoundValues
from vdm.evaluation.statistics.estimate import Estimate, estimate, shared_in_time
from vdm.models.base import Model
from vdm.runtime.devices import check_divisible, place_batch
from vdm.types import Batch, Params


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

    def estimate(self, nats: np.ndarray) -> Estimate:
        """The mean of a row or a term, or of what else has values [R, N], in bits/dim."""
        shared = None
        if self._times is not None and len(nats) == self.randomisations:
            shared = shared_in_time(nats, self._times)
        return estimate(nats, self.num_dims, shared)

    @functools.cached_property
    def _times(self) -> np.ndarray | None:
        return self.bound.times(self.seed, self.randomisations, self.index)


def evaluate_bound(
    bound: Bound,
    model: Model,
    params: Params,
    batches: Iterable[Batch],
    mesh: Mesh,
    randomisations: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BoundEvaluation:
    """One pass over `batches`; `progress` is called after every randomisation of every batch.

    Raises:
      ConfigError: the bound cannot serve the model, or has no value for some images, which are named.
    """
    bound.check(model, params)
    started = time.monotonic()
    batches, count = list(batches), randomisations or bound.randomisations
    step = bound.make_step(model, seed, mesh)
    found = []
    for number, batch in enumerate(batches):
        check_divisible("evaluate.batch_size", len(batch.index), mesh)
        placed, own = place_batch(batch, mesh), []
        for randomisation in range(count):
            own.append(_without_padding(step(params, placed, randomisation), batch))
            progress(number * count + randomisation + 1, len(batches) * count)
        found.append(_join(own, 0))
    values = _join(found, 1)
    index = np.concatenate([np.asarray(b.index)[np.asarray(b.mask)] for b in batches])
    _refuse_failures(bound, index[values.failed])
    return BoundEvaluation(
        bound,
        index,
        dict(values.rows),
        dict(values.terms),
        values.evaluations,
        count,
        seed,
        model.num_dims,
        time.monotonic() - started,
    )


def _without_padding(values: BoundValues, batch: Batch) -> BoundValues:
    mask = np.asarray(batch.mask)
    return BoundValues(
        {n: v[:, mask] for n, v in values.rows.items()},
        {n: v[None, mask] for n, v in values.terms.items()},
        values.evaluations[mask],
        values.failed[mask],
    )


def _join(parts: Sequence[BoundValues], axis: int) -> BoundValues:
    """Randomisations (axis 0) of the same images, or batches (axis 1)."""
    evaluations, failed = ([getattr(p, n) for p in parts] for n in ("evaluations", "failed"))
    return BoundValues(
        {n: np.concatenate([p.rows[n] for p in parts], axis) for n in parts[0].rows},
        {n: np.concatenate([p.terms[n] for p in parts], axis) for n in parts[0].terms},
        np.concatenate(evaluations) if axis else np.sum(evaluations, axis=0),
        np.concatenate(failed) if axis else np.any(failed, axis=0),
    )


def _refuse_failures(bound: Bound, failed: np.ndarray) -> None:
    if len(failed):
        shown = ", ".join(map(str, failed[:20])) + (", ..." if len(failed) > 20 else "")
        raise ConfigError(
            f"bound={bound.name}: {len(failed)} images have no value, the solver did not converge "
            f"(image {shown}); raise max_steps or tolerance"
        )
