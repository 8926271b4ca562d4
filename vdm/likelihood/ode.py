"""The likelihood of the probability-flow ODE (Song et al. 2021), solved by diffrax.

With gamma as the time of the ODE, for one gamma per image:

    (1)  dz/dgamma = sigma/2 (eps_hat(z, gamma) - sigma z)
    (2)  log p(z_0) = log N(z_1; 0, I) + int div dgamma,   div = sigma/2 (tr d eps_hat/dz - sigma D)

and log p(z_0/alpha_0) = log p(z_0) + D ln alpha_0.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vdm.devices import batch_sharding, replicated, to_host
from vdm.errors import ConfigError, choose
from vdm.likelihood.base import Bound, BoundValues, require_scalar
from vdm.likelihood.dequantisation import DEQUANTISATIONS
from vdm.likelihood.importance import check_weights, mean_over_groups, nested_bounds
from vdm.model import VDM
from vdm.noise import evaluation_noise
from vdm.schedules.base import alpha_sigma, endpoints
from vdm.types import Gamma, Latents, Params

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
      dequantisation: see `vdm.likelihood.dequantisation`.
      num_weights: K, dequantisations in the importance weighted average, -log 1/K sum.
    """

    name: ClassVar[str] = "ode"
    randomisations: ClassVar[int] = 1
    same_model: ClassVar[bool] = False

    solver: str = "dopri5"
    tolerance: float = 1e-5
    max_steps: int = 1000
    trace: str = "rademacher"
    dequantisation: str = "variational"
    num_weights: int = 1

    def __post_init__(self):
        super().__post_init__()
        choose("--ode_solver", self.solver, SOLVERS, "solver")
        choose("--ode_trace", self.trace, dict.fromkeys(TRACES), "estimator of the trace")
        choose("--ode_dequantisation", self.dequantisation, DEQUANTISATIONS, "dequantisation")
        check_weights("--ode_weights", self.num_weights)
        if not 1e-7 <= self.tolerance <= 1.0:
            raise ConfigError(f"--ode_tolerance={self.tolerance}: float32 serves 1e-7 to 1")
        if self.max_steps < 1:
            raise ConfigError(f"--ode_max_steps={self.max_steps}: choose at least 1")

    def check(self, model, params):
        others = "discrete, dense, consistency, iwae and continuous can serve it"
        require_scalar(f"--bound={self.name}", model, params, others)
        num_dims = int(np.prod(model.shape))
        if self.trace == "exact" and num_dims > MAX_EXACT_DIMS:
            raise ConfigError(
                f"--ode_trace=exact: {num_dims} dimensions take as many derivatives a step, at most "
                f"{MAX_EXACT_DIMS} are served; choose rademacher or gaussian"
            )
        _diffrax()

    def network_evaluations(self):
        return None

    def make_step(self, model, seed, mesh):
        _diffrax()

        def solve_batch(params, batch, randomisation, weight):
            noise = evaluation_noise(seed, randomisation, weight, batch.index, model.shape)
            gamma_0, gamma_1 = (
                g.reshape(()) for g in endpoints(model.schedule, params["schedule"])
            )
            dequantise = DEQUANTISATIONS[self.dequantisation]
            wide = gamma_0.reshape(1, 1, 1, 1)
            point, cost = dequantise(batch.images, noise.eps_0, wide, model.num_levels)
            probe = jnp.sign(noise.eps) if self.trace == "rademacher" else noise.eps
            alpha_0, _ = alpha_sigma(gamma_0)

            def solve(z_0, probe, flag):
                return self.log_density(model, params, z_0, probe, flag, gamma_0, gamma_1)

            flag = jnp.asarray(batch.conditioning)
            log_p, steps, fine = jax.vmap(solve)(alpha_0 * point, probe, flag)
            log_p = log_p + noise.eps[0].size * jnp.log(alpha_0) + cost
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
        model: VDM,
        params: Params,
        z_0: Latents,
        probe: Latents,
        flag: jax.Array,
        gamma_0: Gamma,
        gamma_1: Gamma,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(log p(z_0), steps taken, whether it converged) for one z_0 [H,W,C]; scalars otherwise."""
        diffrax = _diffrax()
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(_field(model, params, probe, flag, self.trace)),
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


def _field(model: VDM, params: Params, probe: Latents, flag: jax.Array, trace: str):
    """(1) and the divergence of (2), for one image."""

    def field(gamma, state, args: Any):
        del args
        z = state[0]
        _, sigma = alpha_sigma(gamma)

        def eps_hat(z):
            wide = jnp.reshape(gamma, (1, 1, 1, 1))
            return model.predict_eps(params, z[None], wide, flag[None])[0]

        if trace == "exact":
            eps, derivative = jax.linearize(eps_hat, z)
            basis = jnp.eye(z.size).reshape(z.size, *z.shape)
            found = jnp.sum(jax.vmap(derivative)(basis) * basis)
        else:
            eps, product = jax.jvp(eps_hat, (z,), (probe,))
            found = jnp.sum(probe * product)
        return 0.5 * sigma * (eps - sigma * z), 0.5 * sigma * (found - sigma * z.size)

    return field


def _diffrax():
    # Here, not at the top: it takes seconds, and only this bound needs it.
    try:
        import diffrax
    except ImportError as error:
        raise ConfigError(
            f"--bound=ode: needs diffrax, which cannot be imported ({error}); pip install diffrax"
        ) from error
    return diffrax
