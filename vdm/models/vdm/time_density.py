"""Adaptive density of t: importance sampling of times where the integrand is large.

Times are drawn from a density p and the denoising term is weighted by 1/p(t). Its expectation is the
same for every p > 0, and its variance smallest for p proportional to the integrand's root mean square.
The integrand is l(gamma) gamma'(t), with l the loss per unit of gamma,

    l = w(gamma)/2 |eps - eps_hat|^2,   m_k <- running mean of l^2 in bin k of gamma,

    p(t) = sqrt(m_k) gamma'(t) / normaliser, mixed with a share FLOOR of uniform t.

Bins are even in (gamma - gamma(0))/(gamma(1) - gamma(0)), so that p follows a schedule that is learned.
p is constant in each cell of a fine grid of t, so that its distribution function is inverted exactly.
"""

import flax.struct
import jax
import jax.numpy as jnp

from vdm.schedules.base import Schedule, endpoints, gamma_and_derivative
from vdm.types import Mask, Params, PerExample

NUM_BINS = 50
NUM_CELLS = 512
FLOOR = 0.1
"""Share of uniform times, so that 1/p is at most 10 and bins with a small loss are still visited."""
DECAY = 0.99
"""Decay of each bin's running mean per sample (memory of about 1/(1 - 0.99) = 100 samples)."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DRAWN = "gamma_drawn/"
"""Prefix of the metrics that `drawn_gammas` gives."""


@flax.struct.dataclass
class TimeDensity:
    """Running means behind the density; part of the training state, and so of the checkpoint.

    Attributes:
      mean_square: m_k, mean square of the loss per unit of gamma [K], nats^2.
      count: number of samples seen per bin [K].
    """

    mean_square: jax.Array
    count: jax.Array


def init_density() -> TimeDensity:
    """Return the state before the first batch: p is uniform in t until every bin was visited."""
    return TimeDensity(jnp.zeros(NUM_BINS), jnp.zeros(NUM_BINS))


def draw(
    density: TimeDensity, schedule: Schedule, params: Params, uniform: PerExample
) -> tuple[PerExample, PerExample]:
    """Map uniform numbers to (times, 1/p(times)) [B] by the inverse of p's distribution function.

    Stratified uniform numbers give times stratified under p. No gradient passes.

    Args:
      density: running means.
      schedule: a schedule with one gamma per time.
      params: the schedule's parameters.
      uniform: numbers in [0, 1) [B].
    """
    mass = cell_masses(density, schedule, params)
    edges = jnp.concatenate([jnp.zeros(1), jnp.cumsum(mass)[:-1], jnp.ones(1)])
    cell = jnp.clip(jnp.searchsorted(edges, uniform, side="right") - 1, 0, NUM_CELLS - 1)
    # Rounding of the cumulative sum moves edges: a cell is drawn with the mass between them.
    mass = jnp.diff(edges)[cell]
    times = (cell + jnp.clip((uniform - edges[cell]) / mass, 0.0, 1.0)) / NUM_CELLS
    times = jnp.minimum(times, 1.0 - 2.0**-24)
    return jax.lax.stop_gradient((times, 1.0 / (NUM_CELLS * mass)))


def drawn_gammas(
    density: TimeDensity | None, schedule: Schedule, params: Params
) -> dict[str, jax.Array]:
    """Return the quantiles of gamma among the times of a step, {"gamma_drawn/Q": gamma}.

    Args:
      density: running means; None for uniform times.
      schedule: a schedule with one gamma per time.
      params: the schedule's parameters.
    """
    times = jnp.array(QUANTILES)
    if density is not None:
        times, _ = draw(density, schedule, params, times)
    gammas = schedule.gamma(params, times).reshape(-1)
    return {f"{DRAWN}{share:g}": gamma for share, gamma in zip(QUANTILES, gammas, strict=True)}


def cell_masses(density: TimeDensity, schedule: Schedule, params: Params) -> jax.Array:
    """Return the probability of each cell of t [NUM_CELLS], at least FLOOR/NUM_CELLS."""
    gamma = schedule.gamma(params, jnp.linspace(0.0, 1.0, NUM_CELLS + 1)).reshape(-1)
    share = (gamma - gamma[0]) / (gamma[-1] - gamma[0])
    rms = jnp.sqrt(density.mean_square)
    whole = jnp.concatenate([jnp.zeros(1), jnp.cumsum(rms)])
    mass = jnp.diff(jnp.interp(share, jnp.linspace(0.0, 1.0, NUM_BINS + 1), whole))
    even = jnp.full(NUM_CELLS, 1.0 / NUM_CELLS)
    known = jnp.all(density.count > 0) & (whole[-1] > 0)
    learned = FLOOR * even + (1.0 - FLOOR) * mass / jnp.where(known, jnp.sum(mass), 1.0)
    return jnp.where(known, learned, even)


def observe(
    density: TimeDensity,
    schedule: Schedule,
    params: Params,
    times: PerExample,
    integrand: PerExample,
    mask: Mask,
) -> TimeDensity:
    """Return the density after a batch.

    Args:
      density: running means before it.
      schedule: a schedule with one gamma per time.
      params: the schedule's parameters.
      times: time of every image [B].
      integrand: denoising loss of every image at its time, without 1/p [B], nats.
      mask: false for padding [B].
    """
    gamma, slope = (v.reshape(-1) for v in gamma_and_derivative(schedule, params, times))
    gamma_0, gamma_1 = (end.reshape(()) for end in endpoints(schedule, params))
    shares = (gamma - gamma_0) / (gamma_1 - gamma_0)
    return update(density, shares, integrand / slope, jnp.asarray(mask, jnp.float32))


def update(
    density: TimeDensity, shares: PerExample, losses: PerExample, weights: PerExample
) -> TimeDensity:
    """Return the density after a batch, from its places in gamma.

    Args:
      density: running means before it.
      shares: (gamma_t - gamma(0))/(gamma(1) - gamma(0)) of every image [B].
      losses: l, loss per unit of gamma of every image [B], nats.
      weights: 1 for an image, 0 for padding [B].
    """
    bins = jnp.clip((shares * NUM_BINS).astype(jnp.int32), 0, NUM_BINS - 1)
    empty = jnp.zeros(NUM_BINS)
    seen = empty.at[bins].add(weights)
    mean = empty.at[bins].add(weights * jnp.square(losses)) / jnp.maximum(seen, 1.0)
    # While a bin has few samples, the plain average over them; the decay would keep its initial 0.
    total = density.count + seen
    keep = jnp.minimum(DECAY**seen, density.count / jnp.maximum(total, 1.0))
    moved = keep * density.mean_square + (1.0 - keep) * mean
    return TimeDensity(jnp.where(seen > 0, moved, density.mean_square), total)
