"""The probability-flow likelihood: analytic pushforwards, the trace, dequantisation, failures."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from tests import correlated_gaussian as exact
from vdm.distributions import codes, make_context
from vdm.errors import ConfigError
from vdm.evaluation.bounds import make_bound, probability_flow
from vdm.evaluation.bounds.dequantisation import DEQUANTISATIONS
from vdm.evaluation.bounds.flow_field import make_field
from vdm.evaluation.bounds.run import evaluate_bound
from vdm.models.vdm.model import VDM
from vdm.models.vdm.noise import evaluation_contexts, evaluation_noise
from vdm.runtime.devices import make_mesh
from vdm.schedules import Endpoints, Schedule, make_schedule
from vdm.schedules.base import alpha_sigma, per_example

ENDS = (-13.3, 5.0)


@pytest.mark.parametrize("solver", ["dopri5", "bosh3"])
@pytest.mark.parametrize("trace", ["exact", "rademacher"])
def test_density_of_a_gaussian_pushforward(toy, solver, trace):
    """z_1 = z_0 sqrt(v_1/v_0), v = alpha^2/4 + sigma^2, diagonal: one probe is exact."""
    model, params = toy((2, 2, 1))
    bound = probability_flow.Flow(solver=solver, trace=trace, tolerance=1e-6, max_steps=4000)
    alpha, sigma = (np.float64(a) for a in alpha_sigma(jnp.array(ENDS)))
    variance = alpha**2 * 0.25 + sigma**2
    z_0 = np.float32([[[0.3], [-0.9]], [[0.0], [1.4]]])
    ends = [jnp.float32(end) for end in ENDS]
    probe = jnp.array([[[1.0], [-1.0]], [[-1.0], [-1.0]]])
    solve = jax.jit(lambda z: bound.log_density(model, params, z, probe, jnp.zeros(()), *ends))
    log_p, steps, fine = solve(z_0)
    z_1 = np.float64(z_0) * np.sqrt(variance[1] / variance[0])
    exact = stats.norm.logpdf(z_1).sum() + 2 * np.log(variance[1] / variance[0])
    assert fine and steps > 3
    assert abs(float(log_p) - exact) < 1e-3


@pytest.mark.slow
def test_divergence_exactly_and_by_probes(small):
    """Against the Jacobian's trace; 4,000 probes of either kind within four standard errors."""
    model, params = small
    z = jax.random.normal(jax.random.key(0), model.shape)
    gamma, flag = jnp.float32(-2.0), jnp.zeros(())
    zero = jnp.zeros(())

    def divergence(probe, trace):
        return make_field(model, params, probe, flag, trace)(gamma, (z, zero), None)[1]

    def velocity(z):
        return make_field(model, params, z, flag, "rademacher")(gamma, (z, zero), None)[0]

    exact = float(jnp.trace(jax.jacrev(velocity)(z).reshape(16, 16)))
    assert float(divergence(z, "exact")) == pytest.approx(exact, rel=1e-4)
    noise = jax.random.normal(jax.random.key(1), (4000, *model.shape))
    for trace, probes in (("gaussian", noise), ("rademacher", jnp.sign(noise))):
        found = np.asarray(jax.jit(jax.vmap(lambda p, t=trace: divergence(p, t)))(probes))
        error = found.std() / np.sqrt(len(found))
        assert 0 < error and abs(found.mean() - exact) < 4 * error


def test_velocity_conserves_probability(toy):
    """dz/dgamma of N(0, v(gamma)) is z v'/(2 v), from the derivative of v."""
    model, params = toy((1, 1, 1))
    gamma = jnp.float32(0.7)

    def variance(gamma):
        alpha, sigma = alpha_sigma(gamma)
        return alpha**2 * 0.25 + sigma**2

    z = jnp.full((1, 1, 1), 0.8)
    field = make_field(model, params, z, jnp.zeros(()), "exact")
    velocity, divergence = field(gamma, (z, jnp.zeros(())), None)
    rate = float(jax.grad(variance)(gamma) / (2 * variance(gamma)))
    assert float(velocity.squeeze()) == pytest.approx(0.8 * rate, rel=1e-4)
    assert float(divergence) == pytest.approx(rate, rel=1e-4)


# Draws of a narrow q(z_0|x) would not reach the edges of its bin, nor, with the decoder, infinity.
CASES = [("uniform", -9.0), ("truncated", -5.0), ("truncated", 0.0), ("variational", 0.0)]


@pytest.mark.parametrize(("name", "gamma_0"), CASES)
def test_dequantised_probabilities_of_all_codes_add_up(name, gamma_0):
    """Sum over codes of E_r[p P/r] = integral of p over the bins (all space with the decoder)."""
    levels, nodes = 17, 4000
    noise = ndtri((np.arange(nodes) + 0.5) / nodes).astype(np.float32).reshape(-1, 1, 1, 1)
    total = 0.0
    wide = jnp.full((1, 1, 1, 1), gamma_0, jnp.float32)
    for code in range(levels):
        images = np.full(noise.shape, code, np.int32)
        point, cost = DEQUANTISATIONS[name](images, jnp.asarray(noise), wide, levels)
        log_p = stats.norm.logpdf(np.float64(point).ravel(), 0.1, 0.4)
        total += np.exp(log_p + np.float64(cost)).mean()
    inside = 1.0 if name == "variational" else np.diff(stats.norm.cdf([-1, 1], 0.1, 0.4))[0]
    assert total == pytest.approx(inside, abs=0.01)


@pytest.mark.parametrize("gamma_0", [-9.0, -5.0, 0.0])
def test_truncated_noise_stays_in_its_bin_and_follows_gamma_0(gamma_0):
    noise = np.random.default_rng(0).normal(size=(20_000, 1, 1, 1)).astype(np.float32)
    images = np.full(noise.shape, 5, np.int32)
    wide = jnp.full((1, 1, 1, 1), gamma_0, jnp.float32)
    point, _ = DEQUANTISATIONS["truncated"](images, jnp.asarray(noise), wide, 17)
    offset = np.float64(point).ravel() - (11 / 17 - 1)
    assert np.abs(offset).max() <= 1 / 17 + 1e-6
    scale = np.exp(0.5 * gamma_0)
    reach = 1 / 17 / scale
    drawn = stats.truncnorm(-reach, reach, scale=scale)
    assert stats.kstest(offset, drawn.cdf).pvalue > 1e-3


@pytest.mark.slow
def test_weights_lower_the_value_and_probes_only_add_noise(small, batches_of):
    images = np.random.default_rng(0).integers(0, 17, (12, 4, 4, 1))
    model, params = small
    values = {}
    for weights in (1, 4):
        bound = probability_flow.Flow(trace="exact", num_weights=weights, tolerance=1e-4)
        found = evaluate_bound(bound, model, params, batches_of(images, 12), make_mesh(), 2)
        (values[weights],) = found.rows.values()
    # Four weights hold the one among them: -log(1/4 sum w) <= -log w + log 4.
    assert (values[4] <= values[1] + np.log(4)).all()
    assert values[4].mean() < values[1].mean()


@pytest.mark.slow
def test_images_whose_solve_does_not_converge_are_named(small, batches_of):
    images = np.random.default_rng(0).integers(0, 17, (3, 4, 4, 1))
    bound = make_bound("ode", {"ode": {"max_steps": 2}})
    with pytest.raises(ConfigError, match=r"3 images have no value.*image 0, 1, 2\).*max_steps"):
        evaluate_bound(bound, *small, batches_of(images, 4), make_mesh(), 1)


def test_a_network_that_answers_nan_is_no_value(small, batches_of):
    model, params = small
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, params["denoiser"])
    params = {"denoiser": params, "schedule": small[1]["schedule"]}
    images = np.random.default_rng(0).integers(0, 17, (2, 4, 4, 1))
    bound = make_bound("ode", {"ode": {"max_steps": 20}})
    with pytest.raises(ConfigError, match="2 images have no value"):
        evaluate_bound(bound, model, params, batches_of(images, 2), make_mesh(), 1)


def test_evaluations_are_counted(toy):
    """By a callback in the field: six a step of a solver that keeps its last stage, and one first."""
    model, params = toy((1, 1, 1))
    calls = []

    class Counting:
        def apply(self, variables, z, time, *rest, **options):
            jax.debug.callback(lambda: calls.append(1))
            return model.denoiser.apply(variables, z, time, *rest, **options)

    counted = dataclasses.replace(model, denoiser=Counting())
    ends = [jnp.float32(end) for end in ENDS]
    bound = probability_flow.Flow(trace="rademacher")
    z = jnp.ones((1, 1, 1))
    _, steps, _ = jax.jit(lambda z: bound.log_density(counted, params, z, z, jnp.zeros(()), *ends))(
        z
    )
    jax.effects_barrier()
    assert len(calls) == 6 * int(steps) + 1


def test_exact_trace_is_for_small_images(toy):
    model, params = toy((32, 32, 3))
    with pytest.raises(ConfigError, match=r"trace=exact: 3072 dimensions.*rademacher"):
        probability_flow.Flow(trace="exact").check(model, params)


def test_the_flow_of_an_exact_denoiser_has_the_data_s_density_on_every_path():
    """log p(z_0) against the Gaussian's, with t as the ODE's time and an exact trace."""
    ends = (-8.0, 5.0)
    bound = make_bound("ode", {"ode": {"tolerance": 1e-6, "trace": "exact"}})
    z_0 = jnp.array([0.3, -1.2, 0.8]).reshape(1, 3, 1)
    alpha = np.sqrt(1 / (1 + np.exp(ends[0])))
    covariance = alpha**2 * exact.COVARIANCE + (1 - alpha**2) * np.eye(3)
    z = np.float64(z_0).ravel()
    expected = -0.5 * (
        z @ np.linalg.solve(covariance, z) + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    solve = jax.jit(
        lambda p: bound.log_density(exact.make_exact(ends), p, z_0, z_0, jnp.zeros(()), None, None)
    )
    for path in ("straight", "random", "one after the other"):
        value, _, fine = solve(exact.path_params(path))
        # The prior at gamma_1 = 5 is N(0, I) but for .007 of its variance.
        assert bool(fine) and float(value) == pytest.approx(expected, abs=0.02)


@dataclasses.dataclass(frozen=True)
class OwnEnds(Schedule):
    """Curves between end points of each dimension's own."""

    low = np.array([-4.0, -1.0, 1.0])
    high = np.array([11.0, 12.5, 13.0])
    bend = np.array([0.0, 0.9, -0.9])

    def init(self, key):
        return {}

    def gamma(self, params, t, context=None):
        low, high, bend = (
            jnp.asarray(v, jnp.float32).reshape(1, *exact.SHAPE)
            for v in (self.low, self.high, self.bend)
        )
        t = per_example(t)
        return low + (high - low) * (t + bend * t * (1.0 - t))


PATH_ODE = {"ode": {"tolerance": 1e-6, "trace": "exact", "dequantisation": "uniform"}}


def evaluate_ode(model, params, batch):
    (values,) = evaluate_bound(
        make_bound("ode", PATH_ODE), model, params, [batch], make_mesh(1), 1
    ).rows.values()
    return values[0]


@pytest.mark.slow
def test_the_ode_takes_each_dimension_s_own_alpha_0():
    """p(z_0/alpha_0) = N(0, C + diag exp(gamma_0)), at points drawn uniformly from each bin."""
    batch, ends = exact.make_batch(4), (-4.0, 13.0)
    model = VDM(exact.SHAPE, 16, OwnEnds(), exact.Exact(ends), "eps", False, ends)
    found = evaluate_ode(model, {"schedule": {}, "denoiser": {}}, batch)
    eps_0 = np.float64(evaluation_noise(0, 0, 0, batch.index, exact.SHAPE).eps_0)
    points = codes.bin_centres(batch.images, 16) + (2 * stats.norm.cdf(eps_0) - 1) / 16
    density = stats.multivariate_normal(
        np.zeros(3), exact.COVARIANCE + np.diag(np.exp(OwnEnds.low))
    )
    expected = -density.logpdf(points.reshape(-1, 3)) - 3 * np.log(2 / 16)
    np.testing.assert_allclose(found, expected, atol=2e-3)


class LinearStatistics(nn.Module):
    """Statistics that are linear in the image."""

    @nn.compact
    def __call__(self, x):
        matrix = self.param("matrix", nn.initializers.normal(0.7), (3, 4))
        return x.reshape(-1, 3) @ matrix


@pytest.mark.slow
def test_the_ode_charges_the_context_that_bends_its_path():
    """With and without c the density is the same, so that the values differ by log q(c|x)/p(c)."""
    ends, batch, context = (
        (-4.0, 13.0),
        exact.make_batch(6),
        make_context("gaussian", {"num_features": 2}),
    )
    plain = exact.make_exact(ends)
    schedule = make_schedule(
        "conditional_polynomial",
        Endpoints(*ends),
        {"learned_endpoints": False, "num_hidden": 4},
        {"shape": exact.SHAPE, "context_size": 2},
    )
    told = dataclasses.replace(
        plain, schedule=schedule, context=context, encoder=LinearStatistics()
    )
    params = told.init(jax.random.key(0))
    conditioner = params["schedule"]["shape"]["conditioner"]
    conditioner["w2"] = jax.random.normal(jax.random.key(1), conditioner["w2"].shape)

    noise = evaluation_contexts(0, 0, 0, batch.index, context.draw_noise)
    x = codes.bin_centres(batch.images, 16).reshape(-1, 3)
    mean, log_scale = np.split(np.float64(x @ params["encoder"]["matrix"]), 2, axis=1)
    c = mean + np.exp(log_scale) * np.float64(noise)
    ratio = stats.norm.logpdf(c, mean, np.exp(log_scale)) - stats.norm.logpdf(c)
    middle = schedule.gamma(params["schedule"], jnp.full(6, 0.5), jnp.asarray(c, jnp.float32))
    assert np.ptp(middle, axis=0).min() > 0.5 and np.abs(ratio.sum(axis=1)).max() > 0.5

    gap = evaluate_ode(told, params, batch) - evaluate_ode(
        plain, exact.path_params("back and forth"), batch
    )
    np.testing.assert_allclose(gap, ratio.sum(axis=1), atol=2e-3)
