"""Bound "elbo" of the table: bits/dim per image and per term, with their errors.

Every image is visited once. Each image's terms are averaged over `repeats` times of one low-discrepancy
sequence, in each of `randomisations` independent randomisations of that sequence and of the noise.

Two errors are told apart, see `vdm.evaluation.statistics.estimate`. The *standard error over images* is
that of the mean as an estimate of the population's, and contains the other. The *Monte Carlo error* is
that of the same mean given these images; as the times are spread evenly over images, it comes from the
scatter of whole-split means between the independent randomisations, never from the scatter within one.
"""

import dataclasses

import numpy as np
from jax.sharding import Mesh

from vdm.errors import ConfigError
from vdm.evaluation.batches import Batches, Progress, silent
from vdm.evaluation.bounds.elbo import CompiledTerms, Elbo, compile_terms
from vdm.evaluation.bounds.run import BoundEvaluation, evaluate_bound
from vdm.evaluation.statistics.estimate import Estimate, estimate, shared_in_time
from vdm.models.base import Model
from vdm.runtime.tables import show_table
from vdm.types import Params


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

    @property
    def bound(self) -> Elbo:
        """The bound of the table that is estimated."""
        return Elbo(self.num_timesteps, self.repeats)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Attributes:
    index: position of each image in its split [N].
    terms: every term of every image in nats, {name: [randomisations, N]}, averaged over repeats.
    num_dims: D.
    estimation: how it was estimated.
    times: the uniform times behind the terms [repeats, randomisations, N]; None for a model whose
      terms take none.
    seconds: wall clock of the pass.
    """

    index: np.ndarray
    terms: dict[str, np.ndarray]
    num_dims: int
    estimation: Estimation
    times: np.ndarray | None = None
    seconds: float = 0.0

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

    def of_bound(self) -> BoundEvaluation:
        """The same as the evaluation of a bound of the table."""
        bound, how = self.estimation.bound, self.estimation
        spent = np.full(len(self.index), how.repeats * how.randomisations)
        sizes = (how.randomisations, how.seed, self.num_dims, self.seconds, self.times)
        return BoundEvaluation(
            bound, self.index, {bound.row: self.total}, self.terms, spent, *sizes
        )

    def nats(self, name: str) -> np.ndarray:
        """A term or the total, [randomisations, N]."""
        return self.total if name == "total" else self.terms[name]


def make_evaluation_step(model: Model, estimation: Estimation, mesh: Mesh) -> CompiledTerms:
    """(params, batch, randomisation, repeat) -> ElboTerms [B], compiled once over `mesh`."""
    return compile_terms(model, estimation.num_timesteps, estimation.seed, mesh)


def evaluate(
    model: Model,
    params: Params,
    batches: Batches,
    estimation: Estimation,
    mesh: Mesh,
    progress: Progress = silent,
    step: CompiledTerms | None = None,
) -> Evaluation:
    """One pass of bound "elbo" over `batches` (see `vdm.data.batches.eval_batches`).

    Args:
      model, params: what is evaluated; pass the EMA parameters.
      batches: every image once, padding masked; one is held at a time.
      estimation: how the bound is estimated.
      mesh: the devices; each batch must divide evenly.
      progress: called after every randomisation of every batch.
      step: compiled terms to use again, or others, such as those of `make_paired_step`.
    """
    bound, made = estimation.bound, None if step is None else estimation.bound.step_of(step)
    number, seed = estimation.randomisations, estimation.seed
    found = evaluate_bound(bound, model, params, batches, mesh, number, seed, progress, made)
    return Evaluation(
        found.index, found.terms, found.num_dims, estimation, found.times, found.seconds
    )


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
