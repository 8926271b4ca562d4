"""The ELBO of a trained model on a split, in bits/dim per image and per term, with standard errors.

It is bound "elbo" of the table of bounds (`vdm.evaluation.bounds`), with an interface of its own
because every run reports it. Every image is visited once. Its terms are averaged over `repeats` times
of one low-discrepancy sequence, in each of `randomisations` independent randomisations of that
sequence and of the noise.

Two errors are distinguished, see `vdm.evaluation.statistics.estimate`. The *standard error over
images* is that of the mean as an estimate of the population's mean, and contains the other. The
*Monte Carlo error* is that of the mean as an estimate of the exact mean over these images. It is
computed from the scatter of whole-split means between randomisations, never from the scatter over
images within one: times are spread evenly over images, so that the errors of images are dependent.
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
    """Settings of the estimate of the ELBO.

    Attributes:
      num_timesteps: T_eval, or 0 for continuous time; it need not be the T of training.
      repeats: times per image in one randomisation, averaged.
      randomisations: independent randomisations of times and noise; below two the Monte Carlo error is
        not estimated.
      seed: random seed of all times and noise.

    Raises:
      ConfigError: a number is below its minimum.
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
        """The bound with these settings."""
        return Elbo(self.num_timesteps, self.repeats)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The terms of the negative ELBO for every image of a split; R randomisations of N images.

    Attributes:
      index: position of each image in its split [N].
      terms: {name of the term: nats [R, N]}, averaged over repeats.
      num_dims: D, dimensions per image.
      estimation: settings of the estimate.
      times: the uniform times behind the terms [repeats, R, N]; None for a model whose terms have no
        times, such as a VAE.
      seconds: wall-clock time of the pass.
    """

    index: np.ndarray
    terms: dict[str, np.ndarray]
    num_dims: int
    estimation: Estimation
    times: np.ndarray | None = None
    seconds: float = 0.0

    @property
    def total(self) -> np.ndarray:
        """The negative ELBO in nats [R, N]: the sum of the terms."""
        return np.sum(list(self.terms.values()), axis=0)

    def estimate(self, name: str = "total") -> Estimate:
        """Return the mean over images of a term, or of "total", in bits/dim with its errors."""
        nats = self.nats(name)
        return estimate(nats, self.num_dims, self.shared(nats))

    def shared(self, nats: np.ndarray) -> np.ndarray | None:
        """Return the part of `nats` [R, N] that is a function of the times alone [R, N].

        None for a model without times. For any values of this evaluation, such as differences.
        """
        return None if self.times is None else shared_in_time(nats, self.times)

    def of_bound(self) -> BoundEvaluation:
        """Return this evaluation as that of bound "elbo", a row of the table of bounds."""
        bound, settings = self.estimation.bound, self.estimation
        spent = np.full(len(self.index), settings.repeats * settings.randomisations)
        sizes = (settings.randomisations, settings.seed, self.num_dims, self.seconds, self.times)
        return BoundEvaluation(
            bound, self.index, {bound.row: self.total}, self.terms, spent, *sizes
        )

    def nats(self, name: str) -> np.ndarray:
        """Return a term by name, or "total", in nats [R, N]."""
        return self.total if name == "total" else self.terms[name]


def make_evaluation_step(model: Model, estimation: Estimation, mesh: Mesh) -> CompiledTerms:
    """Return (params, batch, randomisation, repeat) -> ElboTerms [B], compiled once over `mesh`.

    For callers that evaluate several times, as during training, and would otherwise compile each time.
    """
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
    """Evaluate the ELBO of every image of `batches` (see `vdm.data.batches.eval_batches`).

    Args:
      model, params: the model; pass the EMA parameters.
      batches: every image once, padding masked; one batch is in memory at a time.
      estimation: settings of the estimate.
      mesh: the devices; their number must divide the batch size.
      progress: called after every randomisation of every batch.
      step: compiled terms, from `make_evaluation_step` to avoid another compilation, or from
        `vdm.evaluation.analysis.paired.make_paired_step`; None compiles the model's terms.

    Raises:
      ConfigError: the model cannot be evaluated with this T.
    """
    bound, bound_step = estimation.bound, None if step is None else estimation.bound.step_of(step)
    number, seed = estimation.randomisations, estimation.seed
    values = evaluate_bound(bound, model, params, batches, mesh, number, seed, progress, bound_step)
    return Evaluation(
        values.index, values.terms, values.num_dims, estimation, values.times, values.seconds
    )


def summarise(evaluation: Evaluation) -> dict[str, Estimate]:
    """Return {term or "total": its mean over images in bits/dim, with errors}."""
    return {name: evaluation.estimate(name) for name in (*evaluation.terms, "total")}


def format_table(summary: dict[str, Estimate]) -> str:
    """Return the printed table of the terms, in bits/dim.

    Args:
      summary: {term or "total": mean and errors}, from `summarise` or a stored record.
    """
    columns = ("term", "bits/dim", "s.e. (images)", "s.e. (Monte Carlo)")
    rows = [
        (name, f"{row.mean:.4f}", _format(row.standard_error), _format(row.monte_carlo_error))
        for name, row in summary.items()
    ]
    return show_table(columns, rows)


def _format(error: float | None) -> str:
    """Return a standard error as text."""
    return "not estimated" if error is None else f"{error:.4f}"
