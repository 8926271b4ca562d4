"""The negative ELBO from a few times per image: of T steps, or in continuous time over gamma.

The times of each image are frac(u + r phi), r = 0, 1, ...: each is uniform, they are evenly spread over
the image's repeats, and more repeats change none already drawn (see `vdm.models.vdm.noise`).
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import numpy as np

from vdm.evaluation.bounds.base import Bound, from_terms, require_scalar
from vdm.evaluation.bounds.density import UNIFORM, GammaImportanceDensity, fit_density
from vdm.models.vdm.contexts import encode_batch
from vdm.models.vdm.elbo import NoiseLevels, noise_levels, terms_at
from vdm.models.vdm.noise import all_evaluation_times
from vdm.runtime.devices import batch_sharding, replicated, to_host
from vdm.schedules.base import per_example
from vdm.types import TERM_NAMES, Params, PerExample

DENSITIES = ("uniform", "fitted")
"""Values of option `density` of bound "continuous"."""


@dataclasses.dataclass(frozen=True)
class _Sampled(Bound):
    """A bound whose denoising term is the mean over `repeats` times per image.

    Attributes:
      repeats: times per image in one randomisation, and so network evaluations.
    """

    takes_context: ClassVar[bool] = True

    repeats: int = 24

    def __post_init__(self):
        super().__post_init__()
        if self.repeats < 1:
            self.refuse("repeats", "choose an integer of at least 1")

    def network_evaluations(self):
        return self.repeats

    def times(self, model, seed, randomisations, index):
        del model
        return np.asarray(all_evaluation_times(seed, self.repeats, randomisations, index))

    def _make_step(self, model, seed, mesh, row: str, noise_levels_at: Callable):
        """Return the step of this bound.

        Args:
          model, seed, mesh: as in `Bound.make_step`.
          row: name of its row of the table.
          noise_levels_at: (params, uniform times [B], contexts) -> NoiseLevels.
        """

        def at_one_time(params, batch, randomisation, repeat):
            noise = model.evaluation_noise(seed, randomisation, repeat, batch.index)
            levels = noise_levels_at(params, noise.times, encode_batch(model, params, batch, noise))
            # The expected reconstruction has no noise, but needs one gamma_0 for all pixels.
            model_expecting = model.with_reconstruction(expected=levels.gamma_0.size == 1)
            return terms_at(model_expecting, params, batch, noise, levels)

        shardings = (replicated(mesh), batch_sharding(mesh), None, None)
        compiled = jax.jit(at_one_time, in_shardings=shardings, out_shardings=replicated(mesh))

        def step(params, batch, randomisation):
            # Repeats are separate calls of one program: its memory does not grow with them.
            terms = [
                to_host(compiled(params, batch, np.int32(randomisation), np.int32(repeat)))
                for repeat in range(self.repeats)
            ]
            means = {
                n: np.mean([np.float64(getattr(t, n)) for t in terms], axis=0) for n in TERM_NAMES
            }
            return from_terms(row, means, self.repeats)

        return step


@dataclasses.dataclass(frozen=True)
class Discrete(_Sampled):
    """L_T from `repeats` random steps per image: T/2 expm1(gamma_t - gamma_s) |eps - eps_hat|^2.

    Kingma et al. 2021 (arXiv:2107.00630), eq. 14, plus reconstruction and prior matching. The increment
    gamma_t - gamma_s is the schedule's exact one. `dense` sums all T steps instead.
    """

    name: ClassVar[str] = "discrete"
    default_timesteps: ClassVar[int] = 1000

    def make_step(self, model, seed, mesh):
        def at_steps(params: Params, times: PerExample, context) -> NoiseLevels:
            return noise_levels(model, params, times, self.num_timesteps, context)

        return self._make_step(model, seed, mesh, f"T = {self.num_timesteps}, sampled", at_steps)


@dataclasses.dataclass(frozen=True)
class Continuous(_Sampled):
    """L_infinity = 1/2 int E|eps - eps_hat|^2 dgamma + reconstruction + prior matching.

    Kingma et al. 2021, eq. 18. gamma = gamma_0 + F^-1(u) (gamma_1 - gamma_0) for evenly spread u, with
    the weight 1/2 (gamma_1 - gamma_0)/f: unbiased for any density f > 0. With one gamma per pixel, or a
    schedule that depends on the image, the integral is a line integral, sampled uniformly in t
    (eq. 17).

    Attributes:
      density: "uniform" in gamma, or "fitted": proportional to the root mean square of the integrand
        over training images, which lowers the variance; for scalar schedules only.
      fitted: the importance density in use; `fit` sets it, no text of a bound can.
    """

    name: ClassVar[str] = "continuous"

    density: str = "uniform"
    fitted: GammaImportanceDensity = UNIFORM

    def __post_init__(self):
        super().__post_init__()
        if self.density not in DENSITIES:
            self.refuse("density", f"choose one of {', '.join(DENSITIES)}")

    def check(self, model, params):
        super().check(model, params)
        if self.density == "fitted":
            require_scalar("bound=continuous:density=fitted", model, "choose density=uniform")

    def fit(self, model, params, images, mesh):
        if self.density == "uniform":
            return self
        return dataclasses.replace(self, fitted=fit_density(model, params, images))

    def make_step(self, model, seed, mesh):
        def at_gammas(params: Params, times: PerExample, context) -> NoiseLevels:
            if not model.has_scalar_gamma:
                return noise_levels(model, params, times, 0, context)
            gamma_0, gamma_1 = model.end_gammas(params)
            s, density = map(per_example, self.fitted.quantile(times))
            gamma = (1.0 - s) * gamma_0 + s * gamma_1
            return NoiseLevels(gamma_0, gamma_1, gamma, 0.5 * (gamma_1 - gamma_0) / density)

        return self._make_step(model, seed, mesh, "continuous time", at_gammas)

    @property
    def label(self):
        # Without the fitted numbers, which follow from the model and would not fit a file's name.
        return super(Continuous, dataclasses.replace(self, fitted=UNIFORM)).label

    def facts(self):
        return {**super().facts(), "fitted": list(self.fitted.heights)}
