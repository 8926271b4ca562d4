"""One training step: the average, the counter, the projection, the noise, one compilation."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import per_pixel
from tests.stateless import stateless
from vdm.models.microbatches import gradient as gradient_of
from vdm.models.vdm.groups import group_kinds, group_labels
from vdm.models.vdm.make import make_model
from vdm.models.vdm.noise import training_noise
from vdm.models.vdm.objective import make_elbo_loss, make_gradient
from vdm.runtime.devices import make_mesh, place_batch, replicated
from vdm.schedules.endpoints import GAMMA_LIMIT, MIN_WIDTH
from vdm.training.optimizer import make_optimizer
from vdm.training.state import TrainState, ema_decay_at, init_state
from vdm.training.step import jit_train_step, make_train_step
from vdm.types import Batch, DataSpec

SHAPE = (2, 3, 1)
OPTIONS = {
    "learning_rate": 1e-2,
    "schedule_learning_rate": 1e-2,
    "warmup_steps": 1,
    "decay": "constant",
    "b1": 0.9,
    "b2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.0,
    "clip_norm": 1.0,
    "schedule_clip_norm": 1.0,
}


def make_batch(step: int = 0, size: int = 8) -> Batch:
    images = np.random.default_rng(step).integers(0, 17, (size, *SHAPE)).astype(np.int32)
    return Batch(images, np.arange(size), np.ones(size, bool), np.zeros(size, np.float32))


def make_vdm(schedule: str = "learned_linear"):
    spec = DataSpec("toy", SHAPE, 17, {"train": 8}, "0" * 64)
    return make_model(
        spec,
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": schedule, "gamma_0": None, "gamma_1": None},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1, "dropout": 0.1}},
    )


def test_average_by_hand_over_four_steps():
    """Plain gradient descent on a linear loss; decays 1/10, 2/11, 3/12, then the limit .3."""
    slope = {"denoiser": {"v": jnp.array([1.0, -2.0])}, "schedule": {"w": jnp.float32(0.5)}}
    params = {"denoiser": {"v": jnp.array([3.0, 0.25])}, "schedule": {"w": jnp.float32(-1.0)}}
    model = types.SimpleNamespace(
        training_noise=lambda key, size: training_noise(key, size, SHAPE),
        project=lambda params: params,
    )
    seen = []

    def loss_fn(params, batch, noise, key):
        del batch, key
        seen.append(noise.eps.shape)
        parts = jax.tree.map(lambda p, s: jnp.sum(p * s), params, slope)
        return sum(jax.tree.leaves(parts)), {"loss": parts["denoiser"]["v"]}

    optimizer = optax.sgd(0.1)
    step = jax.jit(
        make_train_step(model, stateless(gradient_of(loss_fn)), optimizer, seed=0, ema_decay=0.3)
    )
    state = TrainState(jnp.int32(0), params, params, optimizer.init(params))
    weight, average = np.array([3.0, 0.25, -1.0]), np.array([3.0, 0.25, -1.0])
    for n, decay in enumerate([1 / 10, 2 / 11, 3 / 12, 0.3]):
        state, metrics = step(state, make_batch())
        assert float(metrics["loss"]) == pytest.approx(weight[0] - 2 * weight[1], rel=1e-6)
        weight = weight - 0.1 * np.array([1.0, -2.0, 0.5])
        average = decay * average + (1 - decay) * weight
        flat = [
            jnp.append(t["denoiser"]["v"], t["schedule"]["w"])
            for t in (state.params, state.ema_params)
        ]
        np.testing.assert_allclose(flat[0], weight, rtol=1e-6)
        np.testing.assert_allclose(flat[1], average, rtol=1e-6)
        assert int(state.step) == n + 1
        assert float(metrics["grad_norm/denoiser"]) == pytest.approx(5**0.5, rel=1e-6)
        assert float(metrics["grad_norm/schedule"]) == pytest.approx(0.5, rel=1e-6)
    assert seen == [(8, *SHAPE)]  # traced once


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (90, 0.91), (10**6, 0.999)])
def test_average_forgets_its_start_sooner(step, expected):
    assert float(ema_decay_at(jnp.int32(step), 0.999)) == pytest.approx(expected, rel=1e-6)


def test_a_real_step_is_compiled_once_and_counts():
    """From a fresh state and from its own output, with donation, on a mesh of one device."""
    model, mesh, traces = make_vdm(), make_mesh(1), []
    optimizer, elbo_loss = (
        make_optimizer(OPTIONS, 100, group_kinds(), group_labels),
        make_elbo_loss(model, 0),
    )

    def loss_fn(*arguments):
        traces.append(len(traces))
        return elbo_loss(*arguments)

    init = jax.jit(lambda key: init_state(model, optimizer, key), out_shardings=replicated(mesh))
    state = init(jax.random.key(0))
    train_step = make_train_step(model, stateless(gradient_of(loss_fn)), optimizer, 0, 0.99)
    step = jit_train_step(train_step, mesh, state)
    assert int(state.step) == 0
    for a, b in zip(*(jax.tree.leaves(t) for t in (state.params, state.ema_params)), strict=True):
        np.testing.assert_array_equal(a, b)
    batch = make_batch(size=64)
    loss = lambda s: float(fixed(s.params, batch, noise, jax.random.key(1))[0])  # noqa: E731
    fixed, noise = jax.jit(elbo_loss), training_noise(jax.random.key(2), 64, SHAPE)
    before = loss(state)
    for n in range(60):
        state, metrics = step(state, place_batch(batch, mesh))
        assert np.isfinite(float(metrics["bits_per_dim"])) and int(state.step) == n + 1
    assert len(traces) == 1 and step._cache_size() == 1
    assert loss(state) < 0.95 * before  # the same images, times and noise


def run_steps(model, loss_fn, seed: int, count: int):
    optimizer = optax.sgd(0.0)
    state = init_state(model, optimizer, jax.random.key(0))
    step = jax.jit(make_train_step(model, stateless(gradient_of(loss_fn)), optimizer, seed, 0.99))
    found = []
    for _ in range(count):
        state, metrics = step(state, make_batch())
        found.append(jax.tree.map(np.asarray, metrics))
    return found


def test_noise_and_dropout_follow_from_seed_and_step_alone():
    """New at every step, equal for the same seed, other for another; times in all eight strata."""

    def loss_fn(params, batch, noise, key):
        dropout = jax.random.normal(key, (3,))
        drawn = {"times": noise.times, "eps": noise.eps, "eps_0": noise.eps_0, "key": dropout}
        return jnp.sum(params["schedule"]["endpoints"]["gamma_0"]), drawn

    model = make_vdm()
    first, again, other = (run_steps(model, loss_fn, seed, 2) for seed in (3, 3, 4))
    for name in ("times", "eps", "eps_0", "key"):
        np.testing.assert_array_equal(first[1][name], again[1][name])
        assert not np.isclose(first[0][name], first[1][name]).any()
        assert not np.isclose(first[0][name], other[0][name]).any()
    assert not np.isclose(first[0]["eps"], first[0]["eps_0"]).any()
    assert sorted(np.floor(8 * first[0]["times"])) == list(range(8))


@pytest.mark.parametrize("push", [(1.0, -1.0), (-1.0, 1.0)])
def test_end_points_are_projected_after_every_step(push):
    """Driven together they stop MIN_WIDTH apart, driven outwards at the limit of float32."""
    model = make_vdm()

    def loss_fn(params, batch, noise, key):
        ends = params["schedule"]["endpoints"]
        return -push[0] * ends["gamma_0"] - push[1] * ends["gamma_1"], {}

    optimizer = optax.sgd(30.0)
    state = init_state(model, optimizer, jax.random.key(0))
    step = jax.jit(
        make_train_step(model, stateless(gradient_of(loss_fn)), optimizer, 0, ema_decay=0.0)
    )
    for _ in range(3):
        state, _ = step(state, make_batch())
        for params in (state.params, state.ema_params):
            ends = params["schedule"]["endpoints"]
            low, high = float(ends["gamma_0"]), float(ends["gamma_1"])
            if push[0] > 0:
                assert high - low == pytest.approx(MIN_WIDTH, abs=1e-5)
            else:
                assert (low, high) == (-GAMMA_LIMIT, GAMMA_LIMIT)


def test_a_fixed_schedule_has_no_gradient_norm_and_trains():
    model = make_vdm("linear")
    optimizer = make_optimizer(OPTIONS, 100, group_kinds(), group_labels)
    state = init_state(model, optimizer, jax.random.key(0))
    step = jax.jit(
        make_train_step(
            model, stateless(gradient_of(make_elbo_loss(model, 10))), optimizer, 0, 0.99
        )
    )
    before = state.params["denoiser"]["dense_out"]["kernel"]
    state, metrics = step(state, make_batch())
    assert "grad_norm/schedule" not in metrics and float(metrics["grad_norm/denoiser"]) > 0
    assert state.params["schedule"] == {}
    assert not np.array_equal(before, state.params["denoiser"]["dense_out"]["kernel"])
    assert float(metrics["gamma_1"]) == 5.0


@pytest.mark.slow
def test_a_training_step_moves_the_encoder_and_the_shape():
    """Under a group of its own; without an encoder the optimizer's state is what it was."""
    options = {"learning_rate": 1e-3, "schedule_learning_rate": 1e-3, "warmup_steps": 1}
    options |= {"decay": "constant", "b1": 0.9, "b2": 0.99, "eps": 1e-8, "weight_decay": 0.0}
    options |= {"clip_norm": 1.0, "schedule_clip_norm": 1.0, "encoder_learning_rate": 2e-3}
    model = per_pixel.make_small("conditional_polynomial", per_pixel.BITS)
    optimizer = make_optimizer(options, 10, group_kinds(encoder=True), group_labels)
    state = jax.jit(lambda key: init_state(model, optimizer, key))(jax.random.key(0))
    params = per_pixel.shaken(model)
    state = dataclasses.replace(state, params=params, ema_params=params)
    step = make_train_step(model, stateless(make_gradient(model, 0)), optimizer, 0, 0.9)
    after, metrics = jax.jit(step)(state, per_pixel.make_batch(4))
    assert float(metrics["auxiliary"]) > 0 and float(metrics["grad_norm/encoder"]) > 0
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params, params)
    assert max(jax.tree.leaves(moved["encoder"])) == pytest.approx(2e-3, rel=0.01)
    assert max(jax.tree.leaves(moved["schedule"]["shape"])) == pytest.approx(1e-3, rel=0.01)
    plain = per_pixel.make_small("learned_linear")
    optimizer = make_optimizer(options, 10, group_kinds(), group_labels)
    init = lambda key: optimizer.init(plain.init(key))  # noqa: E731
    groups = jax.eval_shape(init, jax.random.key(0)).inner_states
    assert set(groups) == {"denoiser", "schedule/endpoints", "schedule/shape"}
