"""Eight optimizer steps of the official implementation, repeated by ours (README.md).

Ours differs on purpose: the official code decays every parameter but the biases (norm scales and
the schedule too), starts its warm-up at rate 0, and averages with .9999 from the first step. Here
each is set to the official choice, so that everything else has to agree.
"""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.stateless import stateless
from vdm.models.microbatches import gradient as gradient_of
from vdm.models.vdm.noise import training_noise
from vdm.training.optimizer import clipped_adamw, kernels_only, learning_rate
from vdm.training.state import TrainState, ema_decay_at
from vdm.training.step import make_train_step
from vdm.types import Batch

STEPS = range(8)
OPTIONS = {"b1": 0.9, "b2": 0.99, "eps": 1e-8, "weight_decay": 0.01}
LATE = 1_000_000
"""A step count at which our average has its final decay."""


def tree(arrays, prefix: str) -> dict:
    """The flat arrays under `prefix` as our two branches."""
    ours: dict = {"schedule": {}, "denoiser": {}}
    for name in arrays:
        if not name.startswith(prefix + "/"):
            continue
        top, *parents, leaf = name.removeprefix(prefix + "/").split("/")
        branch = ours["schedule" if top == "gamma" else "denoiser"]
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = jnp.asarray(arrays[name])
    return ours


def all_but_biases(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key != "bias", params)


def run(arrays, optimizer):
    """The states after each of the eight steps, from a loss with exactly the stored gradients."""
    grads = [tree(arrays, f"step{i}/grads") for i in STEPS]
    grads = jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads)

    def loss_fn(params, batch, noise, dropout_key):
        del noise, dropout_key
        parts = jax.tree.map(lambda p, g: jnp.sum(p * g[batch.index[0]]), params, grads)
        return sum(jax.tree.leaves(parts)), {}

    model = types.SimpleNamespace(
        training_noise=lambda key, size: training_noise(key, size, (1, 1, 1)),
        project=lambda params: params,
    )
    step = jax.jit(
        make_train_step(model, stateless(gradient_of(loss_fn)), optimizer, seed=0, ema_decay=0.9999)
    )
    params = tree(arrays, "params_before")
    state = TrainState(jnp.int32(LATE), params, params, optimizer.init(params))
    states = []
    for i in STEPS:
        images, index = jnp.zeros((1, 1, 1, 1), jnp.int32), jnp.asarray([i])
        state, _ = step(state, Batch(images, index, jnp.ones(1, bool), jnp.zeros(1)))
        states.append(state)
    return states


def assert_close(ours, theirs, rtol: float = 2e-7):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol), ours, theirs)


def test_eight_steps_of_parameters_and_average(committed):
    arrays = committed("optim_ema0.9999")
    rates = jnp.stack([arrays[f"step{i}/lr"] for i in STEPS])
    optimizer = clipped_adamw(lambda n: rates[n], OPTIONS, clip_norm=0.0, decay_mask=all_but_biases)
    assert float(ema_decay_at(jnp.int32(LATE), 0.9999)) == pytest.approx(0.9999, abs=1e-7)
    for i, state in zip(STEPS, run(arrays, optimizer), strict=True):
        assert_close(state.params, tree(arrays, f"step{i}/params_after"))
        # A unit in the last place per step; a decay of .9998 would be off by 2e-5.
        assert_close(state.ema_params, tree(arrays, f"step{i}/ema_after"), rtol=1.2e-7 * (i + 1))
        assert int(state.step) == LATE + i + 1


def test_our_weight_decay_differs_only_where_it_is_meant_to(committed):
    """Kernels alone: then scales and gammas differ from the official ones by rate * decay * p."""
    arrays = committed("optim_ema0.9999")
    rates = jnp.stack([arrays[f"step{i}/lr"] for i in STEPS])
    optimizer = clipped_adamw(lambda n: rates[n], OPTIONS, clip_norm=0.0, decay_mask=kernels_only)
    ours = run(arrays, optimizer)[-1].params
    theirs = tree(arrays, "step7/params_after")
    before = tree(arrays, "params_before")
    assert_close(ours["denoiser"]["conv1"], theirs["denoiser"]["conv1"])
    assert_close(ours["denoiser"]["GroupNorm_0"]["bias"], theirs["denoiser"]["GroupNorm_0"]["bias"])
    for branch, path in (("denoiser", ("GroupNorm_0", "scale")), ("schedule", ("w",))):
        difference, size = ours[branch], before[branch]
        official = theirs[branch]
        for key in path:
            difference, official, size = difference[key], official[key], size[key]
        expected = 0.01 * float(rates.sum()) * np.asarray(size, np.float64)
        np.testing.assert_allclose(difference - official, expected, rtol=0.05)


def test_warm_up_is_the_official_one_a_step_earlier(committed):
    """Ours at step n is theirs at n + 1; theirs is 0 at step 0."""
    arrays = committed("optim_ema0.9999")
    ours = learning_rate(2e-4, warmup_steps=100, decay="constant", num_steps=10**6)
    for i in STEPS[1:]:
        step, rate = int(arrays[f"step{i}/step"]), float(arrays[f"step{i}/lr"])
        assert float(ours(step - 1)) == pytest.approx(rate, rel=3e-6)
    assert float(ours(0)) == pytest.approx(2e-6, rel=1e-6)
