"""The contract of a bound: model, parameters and images -> nats per image, with their cost.

A bound is a frozen record of options. It says what it can serve (`check`) and what it costs
(`network_evaluations`), may fit something on training images (`fit`), and makes a step

    (params, batch, randomisation) -> BoundValues

whose randomness depends on (seed, randomisation, image index) alone: batch size, padding, devices and
chunks change nothing but the order of sums.
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
from vdm.models.base import Model, require_support
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.vdm import elbo
from vdm.models.vdm.noise import evaluation_contexts
from vdm.types import Batch, Gamma, Images, Index, Latents, Params, PerExample

MAX_TIMESTEPS = 1_000_000
"""i/T is exact enough in float32, and dearer sums are nobody's intention."""


@dataclasses.dataclass(frozen=True)
class BoundValues:
    """What one randomisation of a bound gives for a batch; numpy, float64.

    Attributes:
      rows: {row of the table: [S, B]} in nats; S independent estimates, most often one.
      terms: {term: [B]} in nats, for a bound that is a sum of terms; otherwise empty.
      evaluations: of the network, per image [B].
      failed: images without a value, such as an ODE solve that did not converge [B].
    """

    rows: Mapping[str, np.ndarray]
    terms: Mapping[str, np.ndarray]
    evaluations: np.ndarray
    failed: np.ndarray


Step = Callable[[Params, Batch, int], BoundValues]
"""(params, a placed batch, randomisation) -> values of every image, padding included."""


@dataclasses.dataclass(frozen=True)
class Bound(abc.ABC):
    """One bound with its options; a variant defines `make_step` and what differs.

    Attributes:
      name: its key in `vdm.evaluation.bounds.BOUNDS`.
      default_timesteps: T where none is asked for; 0 = continuous time, which takes no T.
      randomisations: how many are made where nobody says; 1 for a costly bound, whose Monte Carlo
        error is then not estimated.
      same_model: whether it bounds the likelihood of the model that the ELBO bounds.
      takes_context: whether it draws c ~ q(c|x) and pays for it, for an input-conditional schedule.
      optional_timesteps: whether it takes a T and does without.
      several_processes: whether processes that hold parts of one batch can evaluate it together.
    """

    name: ClassVar[str]
    default_timesteps: ClassVar[int] = 0
    randomisations: ClassVar[int] = 8
    same_model: ClassVar[bool] = True
    takes_context: ClassVar[bool] = False
    optional_timesteps: ClassVar[bool] = False
    several_processes: ClassVar[bool] = False

    num_timesteps: int = 0

    def __post_init__(self):
        if self.optional_timesteps and not 0 <= self.num_timesteps <= MAX_TIMESTEPS:
            self.refuse("num_timesteps", f"T must be in 0..{MAX_TIMESTEPS}, 0 = continuous time")
        if self.default_timesteps and not 1 <= self.num_timesteps <= MAX_TIMESTEPS:
            raise ConfigError(
                f"bound={self.name}@{self.num_timesteps}: T must be in 1..{MAX_TIMESTEPS}"
            )
        takes_none = not (self.default_timesteps or self.optional_timesteps)
        if takes_none and self.num_timesteps:
            raise ConfigError(
                f"bound={self.name}@{self.num_timesteps}: is of continuous time and takes no T; "
                f"write {self.name}"
            )

    def refuse(self, option: str, why: str) -> NoReturn:
        """ConfigError that names this bound, the option, its value and the choices."""
        raise ConfigError(f"bound={self.name}:{option}={getattr(self, option)}: {why}")

    def check(self, model: Model, params: Params) -> None:
        """ConfigError where this bound cannot serve the model; a variant may add to it."""
        del params
        require_support("bounds", self.name, model)
        if model.has_context and not self.takes_context:
            raise ConfigError(
                f"bound={self.name}: takes no context, and the schedule of this model is "
                "conditional on one; without c ~ q(c|x) and its price there is no bound"
            )

    def fit(self, model: Model, params: Params, images: np.ndarray, mesh: Mesh) -> "Bound":
        """This bound, ready for a model; `images` are training images [N,H,W,C]."""
        del model, params, images, mesh
        return self

    @abc.abstractmethod
    def network_evaluations(self) -> int | None:
        """Per image and randomisation; None where only the run will tell."""

    @abc.abstractmethod
    def make_step(self, model: Model, seed: int, mesh: Mesh) -> Step:
        """The step, compiled on its first call."""

    def times(
        self, model: Model, seed: int, randomisations: int, index: Index
    ) -> np.ndarray | None:
        """The uniform times behind each value [repeats, R, N], where there are a few of them."""
        del model, seed, randomisations, index
        return None

    @property
    def label(self) -> str:
        """Name, T and every option that is not the default, fit for a file's name."""
        at = f"@{self.num_timesteps}" if self.num_timesteps else ""
        others = [
            f"{field.name}_{getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if field.name != "num_timesteps" and getattr(self, field.name) != field.default
        ]
        return "-".join([self.name + at, *others])

    def facts(self) -> dict[str, Any]:
        """The options, for the record of a number."""
        return {"bound": self.name, **dataclasses.asdict(self)}


def require_scalar(what: str, model: DiffusionModel, instead: str) -> None:
    """ConfigError for a schedule with one gamma per pixel, or one that depends on the image."""
    if not model.has_scalar_gamma:
        kind = type(model.schedule).__name__
        has = "depends on the image" if model.context is not None else "has one per pixel"
        raise ConfigError(
            f"{what}: needs one gamma per image, and the schedule {kind} {has}; {instead}"
        )


def draw_contexts(
    model: DiffusionModel, params: Params, batch: Batch, seed: int, randomisation, weights
) -> Draw | None:
    """c ~ q(c|x), one per image and trajectory [K] of `weights`, [B,K,...]; None without a context.

    Each depends on (seed, randomisation, image, trajectory) alone; the first is that of repeat 0 of
    `vdm.evaluation.evaluate`.
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
    """(reconstruction, prior matching) [B], nats, without noise.

    Only where gamma_0 differs between pixels is the reconstruction taken from the draw `eps_0`.
    """
    model = model.with_reconstruction(expected=gamma_0.size == 1)
    x = codes.bin_centres(images, model.num_levels)
    return elbo.reconstruction(model, images, gamma_0, eps_0), elbo.prior_matching(x, gamma_1)


def from_terms(row: str, terms: Mapping[str, np.ndarray], evaluations: int) -> BoundValues:
    """The values of a bound that is a sum of terms [B] and cannot fail."""
    terms = {name: np.asarray(value, np.float64) for name, value in terms.items()}
    total = np.sum(list(terms.values()), axis=0)
    size = total.shape
    return BoundValues({row: total[None]}, terms, np.full(size, evaluations), np.zeros(size, bool))


def images_at_once() -> int:
    """Latents in one call of the network: a CPU is fastest while they fit its cache."""
    return 256 if jax.default_backend() == "cpu" else 8192
