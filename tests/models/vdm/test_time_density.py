"""Adaptive times: the same expectation, the density they claim, a smaller variance, exact resume."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vdm.models.vdm import time_density
from vdm.models.vdm.groups import group_kinds, group_labels
from vdm.models.vdm.make import make_model
from vdm.models.vdm.noise import stratified_times
from vdm.models.vdm.objective import Objective
from vdm.models.vdm.time_density import (
    FLOOR,
    NUM_BINS,
    TimeDensity,
    init_density,
    update,
)
from vdm.runtime.devices import abstract_like, make_mesh, replicated
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import gamma_and_derivative
from vdm.training.checkpoint import Checkpoints
from vdm.training.optimizer import make_optimizer
from vdm.training.state import init_state
from vdm.training.step import make_train_step
from vdm.types import Batch, DataSpec

SIZE = 200_000
# One program each; `schedule` is an argument that decides it.
cell_masses, draw, drawn_gammas, observe = (
    jax.jit(getattr(time_density, name), static_argnames="schedule")
    for name in ("cell_masses", "draw", "drawn_gammas", "observe")
)


@pytest.fixture(params=["linear", "cosine"])
def schedule(request):
    return make_schedule(request.param, Endpoints(-8.0, 5.0))


def peaked():
    """A density that knows of a peak in the middle of gamma."""
    middle = (jnp.arange(NUM_BINS) + 0.5) / NUM_BINS
    rms = 0.05 + jnp.exp(-0.5 * ((middle - 0.4) / 0.08) ** 2)
    return TimeDensity(rms**2, jnp.full(NUM_BINS, 100.0))


def integrand(schedule, t):
    """A deterministic l(gamma) gamma'(t) with that peak."""
    gamma, slope = (v.ravel() for v in gamma_and_derivative(schedule, {}, t))
    return slope * (0.05 + jnp.exp(-0.5 * (((gamma + 8.0) / 13.0 - 0.4) / 0.08) ** 2))


def test_nothing_seen_is_uniform(schedule):
    uniform = jax.random.uniform(jax.random.key(0), (1000,))
    times, importance = draw(init_density(), schedule, {}, uniform)
    np.testing.assert_allclose(times, uniform, atol=2e-6)
    np.testing.assert_allclose(importance, 1.0, rtol=1e-3)


def test_times_have_the_density_that_their_weights_say(schedule):
    uniform = jnp.asarray((np.arange(SIZE) + 0.5) / SIZE, jnp.float32)
    times, importance = map(np.asarray, draw(peaked(), schedule, {}, uniform))
    assert (times >= 0).all() and (times < 1).all() and (np.diff(times) >= 0).all()
    assert importance.max() <= 1.001 / FLOOR
    counts = np.histogram(times, 512, (0.0, 1.0))[0] / SIZE
    mass = np.asarray(cell_masses(peaked(), schedule, {}))
    np.testing.assert_allclose(counts, mass, atol=3 / SIZE)
    np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("density", [None, init_density(), peaked()])
def test_quantiles_of_the_gammas_drawn(schedule, density):
    uniform = jax.random.uniform(jax.random.key(1), (SIZE,))
    times = uniform if density is None else draw(density, schedule, {}, uniform)[0]
    gammas = np.asarray(schedule.gamma({}, times)).ravel()
    found = drawn_gammas(density, schedule, {})
    assert list(found) == [f"gamma_drawn/{s}" for s in ("0.05", "0.25", "0.5", "0.75", "0.95")]
    # The share of draws below each: a binomial's five standard errors.
    shares = [np.mean(gammas < float(value)) for value in found.values()]
    np.testing.assert_allclose(shares, [0.05, 0.25, 0.5, 0.75, 0.95], atol=5 * 0.5 / SIZE**0.5)


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_expectation_is_unchanged(schedule, power):
    """E_p[f(t)/p(t)] = E[f(t)] for f = t^k and for the integrand itself; by quadrature in u."""
    uniform = jnp.asarray((np.arange(SIZE) + 0.5) / SIZE, jnp.float32)
    times, importance = draw(peaked(), schedule, {}, uniform)
    found = np.mean(np.float64(importance) * np.float64(times) ** power)
    assert found == pytest.approx(1 / (1 + power), rel=2e-4)
    mean = np.mean(np.float64(integrand(schedule, uniform)))
    weighted = np.mean(np.float64(importance * integrand(schedule, times)))
    assert weighted == pytest.approx(mean, rel=1e-3)


def test_independent_draws_are_unbiased_and_vary_less(schedule):
    uniform = jax.random.uniform(jax.random.key(5), (SIZE,))
    plain = np.float64(integrand(schedule, uniform))
    times, importance = draw(peaked(), schedule, {}, uniform)
    weighted = np.float64(importance * integrand(schedule, times))
    error = np.hypot(plain.std(), weighted.std()) / np.sqrt(SIZE)
    assert abs(plain.mean() - weighted.mean()) < 4 * error
    assert weighted.var() < 0.25 * plain.var()


def test_stratified_uniforms_stay_stratified(schedule):
    uniform = stratified_times(jax.random.key(1), 64)
    times, _ = draw(peaked(), schedule, {}, uniform)
    mass = np.cumsum(np.asarray(cell_masses(peaked(), schedule, {})))
    below = np.interp(times, np.linspace(0, 1, 513), np.concatenate([[0.0], mass]))
    assert sorted(np.floor(64 * below + 1e-4).astype(int)) == list(range(64))


def test_the_running_mean_square_settles_on_the_truth():
    """l = (1 + share) times a normal: its mean square is (1 + share)^2."""
    density, rng = init_density(), np.random.default_rng(0)
    step = jax.jit(update)
    for _ in range(400):
        shares = rng.random(256).astype(np.float32)
        losses = ((1 + shares) * rng.normal(size=256)).astype(np.float32)
        density = step(density, shares, losses, np.ones(256, np.float32))
    middle = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    z = (np.asarray(density.mean_square) / (1 + middle) ** 2 - 1) / np.sqrt(2 / 199)
    assert stats.kstest(z, "norm").pvalue > 1e-4
    assert float(density.count.sum()) == 400 * 256


def test_what_is_observed_is_the_loss_per_unit_of_gamma(schedule):
    """l^2 in bins of gamma, from losses l(gamma) gamma'(t) at times of any density."""
    times = jnp.linspace(0.0, 0.9999, 20_000) ** 2
    density = observe(
        init_density(), schedule, {}, times, integrand(schedule, times), np.ones(20_000)
    )
    middle = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    expected = (0.05 + np.exp(-0.5 * ((middle - 0.4) / 0.08) ** 2)) ** 2
    # Within a bin l^2 is bent, and its times are not even: 3 % of the peak.
    np.testing.assert_allclose(density.mean_square, expected, atol=0.03)
    shares = (np.asarray(schedule.gamma({}, times)).ravel() + 8.0) / 13.0
    counts = np.histogram(shares, NUM_BINS, (0.0, 1.0))[0]
    np.testing.assert_allclose(density.count, counts, atol=2)


def test_padding_is_not_seen():
    shares, losses = jnp.full(4, 0.5), jnp.asarray([1.0, 1.0, 9.0, 9.0])
    density = update(init_density(), shares, losses, jnp.asarray([1.0, 1.0, 0.0, 0.0]))
    assert float(density.mean_square.max()) == 1.0 and float(density.count.sum()) == 2.0


OPTIONS = {
    "learning_rate": 1e-3, "schedule_learning_rate": 1e-3, "warmup_steps": 1, "decay": "constant",
    "b1": 0.9, "b2": 0.99, "eps": 1e-8, "weight_decay": 0.0, "clip_norm": 1.0,
    "schedule_clip_norm": 1.0,
}  # fmt: skip


def through_a_checkpoint(state, folder):
    """The state, saved and restored."""
    stored = Checkpoints(folder)
    stored.save(20, dataclasses.replace(state, ema_params=None), state.ema_params, {})
    abstract = abstract_like(state, replicated(make_mesh()))
    without = dataclasses.replace(abstract, ema_params=None)
    _, found, ema = stored.restore(without, abstract.ema_params)
    stored.close()
    return dataclasses.replace(found, ema_params=ema)


@pytest.mark.slow
@pytest.mark.parametrize("num_timesteps", [0, 10])
def test_training_learns_the_density_and_resumes_exactly(num_timesteps, tmp_path):
    """Two halves of a run with a checkpoint between them are the whole run, to the bit."""
    model = make_model(
        DataSpec("small", (2, 2, 1), 17, {}, ""),
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": "linear", "gamma_0": None, "gamma_1": None},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    )
    chain = make_optimizer(OPTIONS, 100, group_kinds(), group_labels)
    objective = Objective(num_timesteps=num_timesteps, adaptive_times=True)
    model = dataclasses.replace(model, objective=objective)
    step = jax.jit(make_train_step(model, model.gradient, chain, 0, 0.9))
    images = np.random.default_rng(0).integers(0, 17, (64, 2, 2, 1)).astype(np.int32)
    batch = Batch(
        images, np.arange(64, dtype=np.int32), np.ones(64, bool), np.zeros(64, np.float32)
    )
    first = init_state(model, chain, jax.random.key(0))
    state, halves = first, None
    for number in range(40):
        state, metrics = step(state, batch)
        assert "integrand" not in metrics and metrics["gamma_drawn/0.5"] < metrics["gamma_1"]
        if number == 19:
            halves = through_a_checkpoint(state, tmp_path)
    for _ in range(20):
        halves, _ = step(halves, batch)
    jax.tree.map(np.testing.assert_array_equal, state, halves)
    density = state.time_density
    assert float(density.count.sum()) == 40 * 64 and float(density.count.min()) > 0
    mass = np.asarray(cell_masses(density, model.schedule, state.params["schedule"]))
    assert mass.max() > 1.5 * mass.min()


def test_off_there_is_no_state():
    model = make_model(
        DataSpec("small", (2, 2, 1), 17, {}, ""),
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": "linear", "gamma_0": None, "gamma_1": None},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    )
    state = init_state(
        model, make_optimizer(OPTIONS, 100, group_kinds(), group_labels), jax.random.key(0)
    )
    assert state.time_density is None
