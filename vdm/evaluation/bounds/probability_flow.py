"""The likelihood of the probability-flow ODE (Song et al. 2021), solved by diffrax.

With gamma as the time of the ODE, for a scalar schedule:

    (1)  dz/dgamma = sigma/2 (eps_hat(z, gamma) - sigma z)
    (2)  log p(z_0) = log N(z_1; 0, I) + int div dgamma,   div = sigma/2 (tr d eps_hat/dz - sigma D)

and log p(z_0/alpha_0) = log p(z_0) + D ln alpha_0. With one gamma per pixel, or one that depends on the
image, t itself is the time, and each dimension i has the factor gamma_i'(t):

    (3)  dz_i/dt = gamma_i'/2 sigma_i (eps_hat_i - sigma_i z_i)
    (4)  div = sum_i gamma_i'/2 sigma_i (d eps_hat_i/dz_i - sigma_i)

A context c ~ q(c|x) stays fixed along the way, and p(c)/q(c|x) at that c joins the weight.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vdm.distributions import value_of
from vdm.errors import ConfigError, choose
from vdm.evaluation.bounds.base import Bound, BoundValues
from vdm.evaluation.bounds.dequantisation import DEQUANTISATIONS
from vdm.evaluation.bounds.importance import check_weights, mean_over_groups, nested_bounds
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.vdm.contexts import encode_batch
from vdm.runtime.devices import batch_sharding, replicated, to_host
from vdm.schedules.base import alpha_sigma
from vdm.types import Known, Latents, Params

SOLVERS = {"dopri5": ("Dopri5", 6), "tsit5": ("Tsit5", 6), "bosh3": ("Bosh3", 3)}
"""{name: (class of diffrax, network evaluations a step)}; each keeps its last stage for the next."""
TRACES = ("rademacher", "gaussian", "exact")
MAX_EXACT_DIMS = 256


@dataclasses.dataclass(frozen=True)
class Flow(Bound):
    """-log P(v) of the model that the probability-flow ODE defines; not the model of the ELBO.

    The ODE has the diffusion's marginals only where eps_hat is exactly a score, so that neither number
    bounds the other: this is the likelihood of another generative model with the same network. It is an
    upper bound on that model's own -log P(v) up to the solver's error. A probe estimates the trace
    without bias, but not its exponential: with several weights, take the exact trace or read the value
    as an estimate.

    Attributes:
      solver, tolerance, max_steps: diffrax's; steps are chosen for each image on its own, by relative
        and absolute tolerance alike.
      trace: by one Hutchinson probe per solve, "rademacher" or "gaussian", or "exact" at D derivatives
        a step.
      dequantisation: see `vdm.evaluation.bounds.dequantisation`.
      num_weights: K, dequantisations in the importance weighted average, -log 1/K sum.
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
            self.refuse("tolerance", "float32 serves 1e-7 to 1")
        if self.max_steps < 1:
            self.refuse("max_steps", "choose at least 1")

    def check(self, model, params):
        super().check(model, params)
        num_dims = int(np.prod(model.shape))
        if self.trace == "exact" and num_dims > MAX_EXACT_DIMS:
            raise ConfigError(
                f"bound=ode:trace=exact: {num_dims} dimensions take as many derivatives a step, at "
                f"most {MAX_EXACT_DIMS} are served; choose rademacher or gaussian"
            )
        _diffrax()

    def network_evaluations(self):
        return None

    def make_step(self, model, seed, mesh):
        _diffrax()

        def solve_batch(params, batch, randomisation, weight):
            noise = model.evaluation_noise(seed, randomisation, weight, batch.index)
            context = encode_batch(model, params, batch, noise)
            value = value_of(context)
            gamma_0, gamma_1 = model.end_gammas(params, value)
            dequantise = DEQUANTISATIONS[self.dequantisation]
            point, cost = dequantise(batch.images, noise.eps_0, gamma_0, model.num_levels)
            probe = jnp.sign(noise.eps) if self.trace == "rademacher" else noise.eps
            alpha_0, _ = alpha_sigma(gamma_0)

            start, end = None, None
            if model.has_scalar_gamma:
                start, end = gamma_0.reshape(()), gamma_1.reshape(())

            def solve(z_0, probe, flag, c):
                return self.log_density(model, params, z_0, probe, flag, start, end, c)

            flag = jnp.asarray(batch.conditioning)
            log_p, steps, fine = jax.vmap(solve)(alpha_0 * point, probe, flag, value)
            times = point[0].size // alpha_0[0].size  # that each alpha_0 counts
            log_p = log_p + times * jnp.sum(jnp.log(alpha_0), axis=(1, 2, 3)) + cost
            if context is not None:
                log_p = log_p - context.log_ratio
            return log_p, steps, fine & jnp.isfinite(log_p)

        compiled = jax.jit(
            solve_batch,
            in_shardings=(replicated(mesh), batch_sharding(mesh), None, None),
            out_shardings=replicated(mesh),
        )

        def step(params, batch, randomisation):
            found = [
                to_host(compiled(params, batch, np.int32(randomisation), np.int32(weight)))
                for weight in range(self.num_weights)
            ]
            log_p, steps, fine = (np.stack(part, axis=-1) for part in zip(*found, strict=True))
            value = nested_bounds(np.asarray(log_p, np.float64))[self.num_weights]
            spent = steps.sum(-1) * SOLVERS[self.solver][1] + self.num_weights
            rows = {f"{self.dequantisation}, K = {self.num_weights}": mean_over_groups(value)[None]}
            return BoundValues(rows, {}, spent, ~np.all(fine, axis=-1))

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
        """(log p(z_0|c), steps taken, whether it converged) for one z_0 [H,W,C]; scalars otherwise.

        The time is gamma, from gamma_0 to gamma_1, for a scalar schedule; with None for both it is t.
        """
        diffrax = _diffrax()
        levels = None
        if gamma_0 is None or gamma_1 is None:
            gamma_0, gamma_1 = jnp.zeros(()), jnp.ones(())
            levels = _levels(model, params, context)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(_field(model, params, probe, flag, self.trace, levels, context)),
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
        fine = solution.result == diffrax.RESULTS.successful
        return log_p, solution.stats["num_steps"], fine


def _levels(model: DiffusionModel, params: Params, context):
    """t -> (gamma, dgamma/dt) of one image, each broadcastable to it."""
    one = None if context is None else context[None]

    def levels(t):
        pair = model.gamma_and_derivative(params, t.reshape(1), one)
        return tuple(value[0] for value in pair)

    return levels


def _field(
    model: DiffusionModel,
    params: Params,
    probe: Latents,
    flag,
    trace: str,
    levels=None,
    context=None,
):
    """(1) and the divergence of (2), for one image; (3) and (4) with `levels`."""

    def field(time, state, args: Any):
        del args
        z = state[0]
        gamma, slope = (time, None) if levels is None else levels(time)
        _, sigma = alpha_sigma(gamma)

        def eps_hat(z):
            wide = jnp.reshape(gamma, (1, 1, 1, 1)) if levels is None else gamma[None]
            known = Known(flag[None], context=None if context is None else context[None])
            return model.predict_eps(params, z[None], wide, known)[0]

        eps, diagonal = _diagonal(eps_hat, z, probe, trace)
        if slope is None:
            rate = 0.5 * sigma
            return rate * (eps - sigma * z), rate * (jnp.sum(diagonal) - sigma * z.size)
        rates = jnp.broadcast_to(0.5 * slope * sigma, z.shape)
        return rates * (eps - sigma * z), jnp.sum(rates * (diagonal - sigma))

    return field


def _diagonal(function, z, probe, trace: str):
    """(f(z), the diagonal of df/dz, exact or as estimated by a probe), each [H,W,C]."""
    if trace == "exact":
        value, derivative = jax.linearize(function, z)
        basis = jnp.eye(z.size).reshape(z.size, *z.shape)
        return value, jnp.sum(jax.vmap(derivative)(basis) * basis, axis=0)
    value, product = jax.jvp(function, (z,), (probe,))
    return value, probe * product


def _diffrax():
    # Here, not at the top: it takes seconds, and only this bound needs it.
    try:
        import diffrax
    except ImportError as error:
        raise ConfigError(
            f"bound=ode: needs diffrax, which cannot be imported ({error}); pip install diffrax"
        ) from error
    return diffrax
