"""The likelihood of the probability-flow ODE, solved by diffrax.

Song et al. 2021 (arXiv:2011.13456), sec. 4.3 and app. D. With gamma as the time of the ODE, from
gamma_0 to gamma_1, the density of a latent follows from the divergence of the velocity,

    log p(z_0) = log N(z_1; 0, I) + int div dgamma,

and log p(z_0/alpha_0) = log p(z_0) + D ln alpha_0. `vdm.evaluation.bounds.flow_field` has the velocity,
its divergence, and the ODE over t of schedules that differ between pixels or images.

A context c ~ q(c|x) is fixed along a solution, and its p(c)/q(c|x) is a factor of the weight. Codes
become continuous by `vdm.evaluation.bounds.dequantisation`.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vdm.distributions import value_of
from vdm.errors import ConfigError, choose
from vdm.evaluation.bounds.base import Bound, BoundValues
from vdm.evaluation.bounds.dequantisation import DEQUANTISATIONS
from vdm.evaluation.bounds.flow_field import TRACES, gamma_with_slope, make_field
from vdm.evaluation.bounds.importance import check_weights, mean_over_groups, nested_bounds
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.vdm.contexts import encode_batch
from vdm.runtime.devices import batch_sharding, replicated, to_host
from vdm.schedules.base import alpha_sigma
from vdm.types import Latents, Params

SOLVERS = {"dopri5": ("Dopri5", 6), "tsit5": ("Tsit5", 6), "bosh3": ("Bosh3", 3)}
"""{name: (class of diffrax, network evaluations per step)}.

The last stage of a step is the first of the next, so that one is not counted.
"""
MAX_EXACT_DIMS = 256
"""Upper limit of D for the exact trace, which takes D derivatives per network evaluation."""


@dataclasses.dataclass(frozen=True)
class Flow(Bound):
    """-E log 1/K sum_k w_k of the generative model that the probability-flow ODE defines.

    It is not the model of the ELBO: the ODE has the marginals of the diffusion only if eps_hat is
    exactly a score, so that neither number bounds the other. Up to the solver's error it is an upper
    bound on -log P(v) of the ODE's model. A random probe estimates the trace, and so log w, without
    bias, but not w itself: with K > 1, take the exact trace, or treat the value as an estimate, not as
    a bound.

    Attributes:
      solver: a key of `SOLVERS`, explicit Runge-Kutta methods.
      tolerance: relative and absolute, of the adaptive step size; each image has step sizes of its own.
      max_steps: an image that needs more steps has no value, and is reported as failed.
      trace: "rademacher" or "gaussian", one Hutchinson probe per solve; or "exact", D derivatives per
        network evaluation.
      dequantisation: "uniform", "truncated" or "variational", see
        `vdm.evaluation.bounds.dequantisation`.
      num_weights: K, dequantisations (and solves) per image in the importance weighted average.
    """

    name: ClassVar[str] = "ode"
    randomisations: ClassVar[int] = 1
    takes_context: ClassVar[bool] = True
    same_model: ClassVar[bool] = False

    solver: str = "dopri5"
    tolerance: float = 1e-5
    max_steps: int = 1000
    trace: str = "rademacher"
    dequantisation: str = "variational"
    num_weights: int = 1

    def __post_init__(self):
        super().__post_init__()
        choose("bound=ode:solver", self.solver, SOLVERS, "solver")
        choose("bound=ode:trace", self.trace, dict.fromkeys(TRACES), "estimator of the trace")
        choose("bound=ode:dequantisation", self.dequantisation, DEQUANTISATIONS, "dequantisation")
        check_weights(self, self.num_weights)
        if not 1e-7 <= self.tolerance <= 1.0:
            self.refuse("tolerance", "choose 1e-7 to 1; float32 resolves no smaller error")
        if self.max_steps < 1:
            self.refuse("max_steps", "choose an integer of at least 1")

    def check(self, model, params):
        super().check(model, params)
        num_dims = int(np.prod(model.shape))
        if self.trace == "exact" and num_dims > MAX_EXACT_DIMS:
            raise ConfigError(
                f"bound=ode:trace=exact: {num_dims} dimensions take as many derivatives per step, and "
                f"at most {MAX_EXACT_DIMS} are allowed; choose rademacher or gaussian"
            )
        _diffrax()

    def network_evaluations(self):
        return None

    def make_step(self, model, seed, mesh):
        _diffrax()

        def solve_batch(params, batch, randomisation, weight):
            # The weight takes the place of a repeat: a larger K keeps the draws of a smaller one.
            noise = model.evaluation_noise(seed, randomisation, weight, batch.index)
            context = encode_batch(model, params, batch, noise)
            value = value_of(context)
            gamma_0, gamma_1 = model.end_gammas(params, value)
            dequantise = DEQUANTISATIONS[self.dequantisation]
            point, cost = dequantise(batch.images, noise.eps_0, gamma_0, model.num_levels)
            probe = jnp.sign(noise.eps) if self.trace == "rademacher" else noise.eps
            alpha_0, _ = alpha_sigma(gamma_0)

            # None: the ODE's time is t instead of gamma, see `log_density`.
            start, end = None, None
            if model.has_scalar_gamma:
                start, end = gamma_0.reshape(()), gamma_1.reshape(())

            def solve(z_0, probe, flag, c):
                return self.log_density(model, params, z_0, probe, flag, start, end, c)

            flag = jnp.asarray(batch.conditioning)
            log_p, steps, converged = jax.vmap(solve)(alpha_0 * point, probe, flag, value)

            # The change of variables z_0 -> z_0/alpha_0 adds the sum of ln alpha_0 over all dimensions,
            # of which each element of alpha_0 stands for several.
            dims_per_alpha = point[0].size // alpha_0[0].size
            log_p = log_p + dims_per_alpha * jnp.sum(jnp.log(alpha_0), axis=(1, 2, 3)) + cost
            if context is not None:
                log_p = log_p - context.log_ratio
            return log_p, steps, converged & jnp.isfinite(log_p)

        compiled = jax.jit(
            solve_batch,
            in_shardings=(replicated(mesh), batch_sharding(mesh), None, None),
            out_shardings=replicated(mesh),
        )

        def step(params, batch, randomisation):
            solutions = [
                to_host(compiled(params, batch, np.int32(randomisation), np.int32(weight)))
                for weight in range(self.num_weights)
            ]
            log_p, steps, converged = (
                np.stack(values, axis=-1) for values in zip(*solutions, strict=True)
            )
            value = nested_bounds(np.asarray(log_p, np.float64))[self.num_weights]
            # One evaluation more per solve: the first stage of its first step.
            spent = steps.sum(-1) * SOLVERS[self.solver][1] + self.num_weights
            rows = {f"{self.dequantisation}, K = {self.num_weights}": mean_over_groups(value)[None]}
            return BoundValues(rows, {}, spent, ~np.all(converged, axis=-1))

        return step

    def log_density(
        self,
        model: DiffusionModel,
        params: Params,
        z_0: Latents,
        probe: Latents,
        flag: jax.Array,
        gamma_0: jax.Array | None,
        gamma_1: jax.Array | None,
        context: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Solve the ODE from z_0 to z_1 for one image, and return its log density.

        Args:
          model, params: the diffusion model.
          z_0: latent [H,W,C].
          probe: random vector for the trace [H,W,C]; unused for the exact trace.
          flag: conditioning of the network, a scalar.
          gamma_0, gamma_1: end points of a scalar schedule, which make gamma the time of the ODE;
            None for any other schedule, whose time is t.
          context: c of the image [K]; None without one.

        Returns:
          (log p(z_0|c) in nats, number of solver steps, true if it converged), scalars.
        """
        diffrax = _diffrax()
        gamma_and_slope = None
        if gamma_0 is None or gamma_1 is None:
            gamma_0, gamma_1 = jnp.zeros(()), jnp.ones(())
            gamma_and_slope = gamma_with_slope(model, params, context)

        # throw=False: an image that fails is reported by `BoundValues.failed`; the others have values.
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(
                make_field(model, params, probe, flag, self.trace, gamma_and_slope, context)
            ),
            getattr(diffrax, SOLVERS[self.solver][0])(),
            t0=gamma_0,
            t1=gamma_1,
            dt0=0.01 * (gamma_1 - gamma_0),
            y0=(z_0, jnp.zeros(())),
            stepsize_controller=diffrax.PIDController(rtol=self.tolerance, atol=self.tolerance),
            max_steps=self.max_steps,
            throw=False,
        )
        z_1, integral = (value[-1] for value in solution.ys)
        log_p = integral - 0.5 * jnp.sum(jnp.square(z_1) + jnp.log(2 * jnp.pi))
        converged = solution.result == diffrax.RESULTS.successful
        return log_p, solution.stats["num_steps"], converged


def _diffrax():
    """Import diffrax, or raise a ConfigError that says how to install it."""
    # Not at the top of the file: the import takes seconds, and no other bound needs it.
    try:
        import diffrax
    except ImportError as error:
        raise ConfigError(
            f"bound=ode: needs diffrax, which cannot be imported ({error}); pip install diffrax"
        ) from error
    return diffrax
