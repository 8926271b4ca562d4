"""The contract of a bound on -log p(x): nats per image from a model, its parameters and images.

A bound is a frozen record of options. It refuses models that it cannot serve (`check`), gives its
cost in network evaluations (`network_evaluations`), may fit something on training images (`fit`), and
makes a step

    (params, batch, randomisation) -> BoundValues

whose randomness depends on (seed, randomisation, image index) alone: batch size, padding, number of
devices and chunks of steps change nothing but the order of sums.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh

from vdm.distributions import Draw, codes
from vdm.errors import ConfigError
from vdm.models.base import Model
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.support import require_support
from vdm.models.vdm import elbo
from vdm.models.vdm.noise import evaluation_contexts
from vdm.types import Batch, Gamma, Images, Index, Latents, Params, PerExample

MAX_TIMESTEPS = 1_000_000
"""Upper limit of T: beyond it i/T loses precision in float32, and a sum takes T network calls."""


@dataclasses.dataclass(frozen=True)
class BoundValues:
    """The values of a bound for one batch in one randomisation; numpy, float64.

    Attributes:
      rows: {row of the table: nats [S, B]}, S independent estimates of the bound, usually one.
      terms: {term: nats [B]} for a bound that is a sum of terms; otherwise empty.
      evaluations: network evaluations per image [B].
      failed: true for an image without a value, such as an ODE solve that did not converge [B].
    """

    rows: Mapping[str, np.ndarray]
    terms: Mapping[str, np.ndarray]
    evaluations: np.ndarray
    failed: np.ndarray


Step = Callable[[Params, Batch, int], BoundValues]
"""(params, a batch placed on the devices, randomisation) -> values of every image and of padding."""


@dataclasses.dataclass(frozen=True)
class Bound(abc.ABC):
    """A bound with its options; a variant defines `make_step` and `network_evaluations`.

    Attributes:
      name: the bound's key in `vdm.evaluation.bounds.BOUNDS`.
      default_timesteps: T if none is given; 0 = the bound is of continuous time and takes no T.
      randomisations: default number of independent randomisations; 1 for a costly bound, whose Monte
        Carlo error is then not estimated.
      same_model: true if it bounds the likelihood of the model that the ELBO bounds; false for the
        probability-flow ODE, which is another generative model.
      takes_context: true if it serves an input-conditional schedule: draws c ~ q(c|x) and adds the
        cost KL(q(c|x) || p(c)), or its sample log q(c|x)/p(c) (MuLAN, arXiv:2312.13236).
      optional_timesteps: true if it serves both T steps and continuous time (T = 0).
      several_processes: true if processes that hold parts of one batch can evaluate it together.
      configured: true if section "evaluate" of a configuration sets its T, repeats and number of
        randomisations.
      num_timesteps: T, or 0 for continuous time.
    """

    name: ClassVar[str]
    default_timesteps: ClassVar[int] = 0
    randomisations: ClassVar[int] = 8
    same_model: ClassVar[bool] = True
    takes_context: ClassVar[bool] = False
    optional_timesteps: ClassVar[bool] = False
    several_processes: ClassVar[bool] = False
    configured: ClassVar[bool] = False

    num_timesteps: int = 0

    def __post_init__(self):
        if self.optional_timesteps and not 0 <= self.num_timesteps <= MAX_TIMESTEPS:
            self.refuse("num_timesteps", f"choose T in 0..{MAX_TIMESTEPS}, 0 = continuous time")
        if self.default_timesteps and not 1 <= self.num_timesteps <= MAX_TIMESTEPS:
            raise ConfigError(
                f"bound={self.name}@{self.num_timesteps}: choose T in 1..{MAX_TIMESTEPS}"
            )
        takes_none = not (self.default_timesteps or self.optional_timesteps)
        if takes_none and self.num_timesteps:
            raise ConfigError(
                f"bound={self.name}@{self.num_timesteps}: this bound is of continuous time and takes "
                f"no T; write {self.name}"
            )

    def refuse(self, option: str, why: str) -> NoReturn:
        """Raise a ConfigError that names bound, option and value; `why` gives the choices or a fix."""
        raise ConfigError(f"bound={self.name}:{option}={getattr(self, option)}: {why}")

    def check(self, model: Model, params: Params) -> None:
        """Raise a ConfigError if this bound cannot serve the model; a variant may add conditions."""
        del params
        require_support("bounds", self.name, model)
        if model.has_context and not self.takes_context:
            raise ConfigError(
                f"bound={self.name}: takes no context, but the schedule of this model is conditional "
                "on one, c ~ q(c|x), whose KL is part of the bound; choose another bound"
            )

    def fit(self, model: Model, params: Params, images: np.ndarray, mesh: Mesh) -> "Bound":
        """Return this bound fitted to a model; most bounds have nothing to fit and return themselves.

        Args:
          model, params: the model that will be evaluated.
          images: training images, never those of the evaluation [N,H,W,C].
          mesh: the devices.
        """
        del model, params, images, mesh
        return self

    @abc.abstractmethod
    def network_evaluations(self) -> int | None:
        """Network evaluations per image and randomisation; None if known only after the run."""

    @abc.abstractmethod
    def make_step(self, model: Model, seed: int, mesh: Mesh) -> Step:
        """Return the step, compiled on its first call.

        Args:
          model: a model that passed `check`.
          seed: random seed of all noise, with the randomisation that is an argument of the step.
          mesh: the devices; each batch must divide evenly.
        """

    def times(
        self, model: Model, seed: int, randomisations: int, index: Index
    ) -> np.ndarray | None:
        """Return the uniform times in [0, 1) of each value [repeats, R, N]; None if it has no times.

        They let `vdm.evaluation.statistics.estimate` subtract the part of the values that all images
        share as a function of time. None too for a bound that sums over all times.

        Args:
          model: the model that is evaluated.
          seed: random seed of the evaluation.
          randomisations: R.
          index: position of each image in its split [N].
        """
        del model, seed, randomisations, index
        return None

    @property
    def label(self) -> str:
        """Name, T and every option that is not the default, valid as part of a file name."""
        at = f"@{self.num_timesteps}" if self.num_timesteps else ""
        others = [
            f"{field.name}_{getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if field.name != "num_timesteps" and getattr(self, field.name) != field.default
        ]
        return "-".join([self.name + at, *others])

    def record_name(self, randomisations: int, seed: int) -> str:
        """Return the name of an evaluation's record, unique among bounds, options and estimations."""
        return f"bound-{self.label}-x{randomisations}-seed{seed}"

    def facts(self) -> dict[str, Any]:
        """Return {"bound": name, option: value}, stored beside every number of the bound."""
        return {"bound": self.name, **dataclasses.asdict(self)}


def require_scalar(what: str, model: DiffusionModel, instead: str) -> None:
    """Raise a ConfigError for a schedule with one gamma per pixel, or one that depends on the image.

    Args:
      what: what needs one gamma per time, at the start of the message.
      model: the diffusion model.
      instead: what to do instead, at the end of the message.
    """
    if not model.has_scalar_gamma:
        kind = type(model.schedule).__name__
        has = "depends on the image" if model.context is not None else "has one per pixel"
        raise ConfigError(
            f"{what}: needs one gamma per image, and the schedule {kind} {has}; {instead}"
        )


def draw_contexts(
    model: DiffusionModel, params: Params, batch: Batch, seed: int, randomisation, weights
) -> Draw | None:
    """Draw c ~ q(c|x) for every image and trajectory [B,K,...]; None for a model without a context.

    Each draw depends on (seed, randomisation, image, trajectory) alone; that of trajectory 0 is that of
    repeat 0 of `vdm.evaluation.evaluate`.

    Args:
      model, params: the diffusion model with its encoder.
      batch: integer codes [B,H,W,C] and positions in the split [B].
      seed, randomisation: select the noise; the second may be traced.
      weights: numbers of the trajectories [K].
    """
    if model.context is None:
        return None
    x, draw_noise = codes.bin_centres(batch.images, model.num_levels), model.context.draw_noise

    def draw(weight):
        noise = evaluation_contexts(seed, randomisation, weight, batch.index, draw_noise)
        return model.encode(params, x, noise)

    return jax.vmap(draw, out_axes=1)(weights)


def end_terms(
    model: DiffusionModel, images: Images, gamma_0: Gamma, gamma_1: Gamma, eps_0: Latents
) -> tuple[PerExample, PerExample]:
    """Return (reconstruction, prior matching) of every image [B], nats.

    Both are expectations without Monte Carlo noise. Only if gamma_0 differs between pixels or images is
    the reconstruction taken from one draw, as its table would have to be computed for each gamma_0.

    Args:
      model: the diffusion model.
      images: integer codes [B,H,W,C].
      gamma_0, gamma_1: the end points of the schedule.
      eps_0: noise of z_0 [B,H,W,C], for that draw.
    """
    model = model.with_reconstruction(expected=gamma_0.size == 1)
    x = codes.bin_centres(images, model.num_levels)
    return elbo.reconstruction(model, images, gamma_0, eps_0), elbo.prior_matching(x, gamma_1)


def from_terms(row: str, terms: Mapping[str, np.ndarray], evaluations: int) -> BoundValues:
    """Return the values of a bound that is a sum of terms and cannot fail.

    Args:
      row: name of the row of the table that holds the sum.
      terms: {term: nats [B]}.
      evaluations: network evaluations per image.
    """
    terms = {name: np.asarray(value, np.float64) for name, value in terms.items()}
    total = np.sum(list(terms.values()), axis=0)
    size = total.shape
    return BoundValues({row: total[None]}, terms, np.full(size, evaluations), np.zeros(size, bool))


def images_at_once() -> int:
    """Return the number of latents per call of the network; a CPU is fastest if they fit its cache."""
    return 256 if jax.default_backend() == "cpu" else 8192
