"""Parameters + images -> bits/dim per image and per term, with their errors.

Every image is visited once. Each image's terms are averaged over `repeats` times of one low-discrepancy
sequence, in each of `randomisations` independent randomisations of that sequence and of the noise.

Two errors are told apart, see `vdm.evaluation.statistics.estimate`. The *standard error over images* is
that of the mean as an estimate of the population's, and contains the other. The *Monte Carlo error* is
that of the same mean given these images; as the times are spread evenly over images, it comes from the
scatter of whole-split means between the independent randomisations, never from the scatter within one.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from vdm.errors import ConfigError
from vdm.evaluation.statistics.estimate import Estimate, estimate, shared_in_time
from vdm.models.base import Model
from vdm.runtime import devices
from vdm.runtime.tables import show_table
from vdm.types import TERM_NAMES, Batch, ElboTerms, Params


class Batches(Protocol):
    """A known number of batches, perhaps each made when it is its turn."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


Progress = Callable[[int, int], None]
"""(batches done, batches in all) -> None."""


@dataclasses.dataclass(frozen=True)
class Estimation:
    """How the bound is estimated.

    Attributes:
      num_timesteps: T_eval, or 0 for continuous time.
      repeats: times per image in one randomisation.
      randomisations: independent randomisations; below two the Monte Carlo error is not estimated.
      seed: of all times and noise.
    """

    num_timesteps: int = 0
    repeats: int = 1
    randomisations: int = 8
    seed: int = 0

    def __post_init__(self):
        for name, least in (("num_timesteps", 0), ("repeats", 1), ("randomisations", 1)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"evaluate.{name}={value}: choose an integer of at least {least}")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Attributes:
    index: position of each image in its split [N].
    terms: every term of every image in nats, {name: [randomisations, N]}, averaged over repeats.
    num_dims: D.
    estimation: how it was estimated.
    times: the uniform times behind the terms [repeats, randomisations, N]; None for a model whose
      terms take none.
    """

    index: np.ndarray
    terms: dict[str, np.ndarray]
    num_dims: int
    estimation: Estimation
    times: np.ndarray | None = None

    @property
    def total(self) -> np.ndarray:
        """The negative ELBO in nats, [randomisations, N]."""
        return np.sum(list(self.terms.values()), axis=0)

    def estimate(self, name: str = "total") -> Estimate:
        """The mean of a term or of the total over images, bits/dim."""
        nats = self.nats(name)
        return estimate(nats, self.num_dims, self.shared(nats))

    def shared(self, nats: np.ndarray) -> np.ndarray | None:
        """What the times of all images share of values [randomisations, N]; None without times."""
        return None if self.times is None else shared_in_time(nats, self.times)

    def nats(self, name: str) -> np.ndarray:
        """A term or the total, [randomisations, N]."""
        return self.total if name == "total" else self.terms[name]


def make_evaluation_step(
    model: Model, estimation: Estimation, mesh: Mesh
) -> Callable[..., ElboTerms]:
    """(params, batch, randomisation, repeat) -> ElboTerms [B], compiled once over `mesh`.

    Parameters come as they lie, copied or split over devices.
    """
    whole, model = devices.replicated(mesh), model.with_timesteps(estimation.num_timesteps)

    def step(params, batch, randomisation, repeat):
        params = devices.constrain(params, whole)
        noise = model.evaluation_noise(estimation.seed, randomisation, repeat, batch.index)
        return model.terms(params, batch, noise)

    shardings = (None, devices.batch_sharding(mesh), None, None)
    return jax.jit(step, in_shardings=shardings, out_shardings=whole)


def evaluate(
    model: Model,
    params: Params,
    batches: Batches,
    estimation: Estimation,
    mesh: Mesh,
    progress: Progress = lambda done, total: None,
    step: Callable[..., ElboTerms] | None = None,
) -> Evaluation:
    """One pass over `batches` (see `vdm.data.batches.eval_batches`).

    Args:
      model, params: what is evaluated; pass the EMA parameters.
      batches: every image once, padding masked; one is held at a time.
      estimation: how the bound is estimated.
      mesh: the devices; each batch must divide evenly.
      progress: called after every batch.
      step: a compiled step from `make_evaluation_step` to use again.
    """
    step = step or make_evaluation_step(model, estimation, mesh)
    done: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    for batch in batches:
        devices.check_divisible("evaluate.batch_size", len(batch.index), mesh)
        mask = np.asarray(batch.mask)
        terms = _terms_of_batch(step, params, devices.place_batch(batch, mesh), estimation)
        done.append((np.asarray(batch.index)[mask], {n: v[:, mask] for n, v in terms.items()}))
        progress(len(done), len(batches))
    index = np.concatenate([index for index, _ in done])
    terms = {n: np.concatenate([t[n] for _, t in done], axis=1) for n in TERM_NAMES}
    sizes = (estimation.seed, estimation.repeats, estimation.randomisations)
    times = model.evaluation_times(*sizes, index)
    return Evaluation(index, terms, model.num_dims, estimation, times)


def _terms_of_batch(step, params, batch: Any, estimation: Estimation) -> dict[str, np.ndarray]:
    """{name: [randomisations, B]} in nats, float64, averaged over repeats."""
    rows = []
    for randomisation in range(estimation.randomisations):
        repeats = [
            devices.to_host(step(params, batch, np.int32(randomisation), np.int32(repeat)))
            for repeat in range(estimation.repeats)
        ]
        rows.append(
            {n: np.mean([np.float64(getattr(r, n)) for r in repeats], axis=0) for n in TERM_NAMES}
        )
    return {n: np.stack([row[n] for row in rows]) for n in TERM_NAMES}


def summarise(evaluation: Evaluation) -> dict[str, Estimate]:
    """The estimate of every term and of the total, in bits/dim."""
    return {name: evaluation.estimate(name) for name in (*evaluation.terms, "total")}


def format_table(summary: dict[str, Estimate]) -> str:
    """The summary as a table for the reader, bits/dim."""
    columns = ("term", "bits/dim", "s.e. (images)", "s.e. (Monte Carlo)")
    rows = [
        (name, f"{row.mean:.4f}", _format(row.standard_error), _format(row.monte_carlo_error))
        for name, row in summary.items()
    ]
    return show_table(columns, rows)


def _format(error: float | None) -> str:
    return "not estimated" if error is None else f"{error:.4f}"
