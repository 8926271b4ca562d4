"""End points over a thousand steps: fixed ones do not move by a bit, learned ones stay in order."""

import jax
import numpy as np
import pytest

from tests.stateless import stateless
from vdm.models.vdm.groups import group_kinds, group_labels
from vdm.models.vdm.make import make_model
from vdm.models.vdm.objective import make_gradient
from vdm.schedules.base import endpoints
from vdm.schedules.endpoints import GAMMA_LIMIT, MIN_WIDTH
from vdm.training.optimizer import make_optimizer
from vdm.training.state import init_state
from vdm.training.step import make_train_step
from vdm.types import Batch, DataSpec

OPTIONS = {
    "learning_rate": 1e-3,
    "schedule_learning_rate": 1e-2,
    "warmup_steps": 1,
    "decay": "constant",
    "b1": 0.9,
    "b2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "schedule_clip_norm": 1.0,
}


def train(name, options=None, num_steps=1000, num_timesteps=0, **optimizer):
    """(end points before, end points after, gamma along the way) of a tiny model on random codes."""
    model = make_model(
        DataSpec("small", (2, 2, 1), 17, {}, ""),
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": name, "gamma_0": None, "gamma_1": None, name: options or {}},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    )
    chain = make_optimizer({**OPTIONS, **optimizer}, num_steps, group_kinds(), group_labels)
    gradient = make_gradient(model, num_timesteps)
    step = make_train_step(model, stateless(gradient), chain, seed=0, ema_decay=0.99)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 17, (8, 2, 2, 1)).astype(np.int32)
    batch = Batch(images, np.arange(8, dtype=np.int32), np.ones(8, bool), np.zeros(8, np.float32))
    before = init_state(model, chain, jax.random.key(0))

    @jax.jit
    def many(state):
        return jax.lax.scan(lambda s, _: step(s, batch), state, None, length=num_steps)

    after, metrics = many(before)
    ends = [
        [np.asarray(v) for v in endpoints(model.schedule, params["schedule"])]
        for params in (before.params, after.params, after.ema_params)
    ]
    return ends, metrics, (before.params["schedule"], after.params["schedule"])


@pytest.mark.slow
@pytest.mark.parametrize("num_timesteps", [0, 10])
def test_fixed_end_points_do_not_move_by_a_bit(num_timesteps):
    options = {"num_features": 16, "learned_endpoints": False}
    ends, metrics, (before, after) = train("monotone_network", options, num_timesteps=num_timesteps)
    for found in ends[1:]:
        np.testing.assert_array_equal(found, ends[0])
    assert len(set(np.asarray(metrics["gamma_0"]))) == len(set(np.asarray(metrics["gamma_1"]))) == 1
    assert np.any(before["shape"]["w3"] != after["shape"]["w3"])  # while the shape did move


@pytest.mark.slow
@pytest.mark.parametrize("name", ["learned_linear", "monotone_network"])
def test_learned_end_points_stay_ordered_and_in_range_whatever_the_rate(name):
    """Steps of up to 5 in gamma, without clipping."""
    ends, metrics, _ = train(
        name, num_steps=300, schedule_learning_rate=5.0, schedule_clip_norm=0.0
    )
    low, high = np.asarray(metrics["gamma_0"]), np.asarray(metrics["gamma_1"])
    assert np.all(high - low >= 0.99 * MIN_WIDTH)
    assert np.all(np.abs([low, high]) <= GAMMA_LIMIT)
    assert np.ptp(low) > 1.0  # they did move
    assert np.all(np.isfinite(ends))
