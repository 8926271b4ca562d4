"""Learning rates, and AdamW with weight decay and clipping per group, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vdm.errors import ConfigError
from vdm.models.vdm.groups import group_kinds, group_labels
from vdm.training.optimizer import clipped_adamw, kernels_only, learning_rate, make_optimizer

OPTIONS = {
    "learning_rate": 1e-2,
    "schedule_learning_rate": 3e-3,
    "warmup_steps": 4,
    "decay": "cosine",
    "b1": 0.9,
    "b2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.1,
    "clip_norm": 0.5,
    "schedule_clip_norm": 0.2,
}
NUM_STEPS = 20


def tree(seed: int, scale: float = 1.0):
    """Parameters, or gradients of that scale, of two groups."""
    generator = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(scale * generator.standard_normal(shape), jnp.float32)  # noqa: E731
    return {
        "denoiser": {
            "dense": {"kernel": draw(3, 2), "bias": draw(2)},
            "norm": {"scale": draw(2), "bias": draw(2)},
        },
        "schedule": {"endpoints": {"gamma_0": draw(), "gamma_1": draw()}},
    }


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5 * 0.95, 0.75 * 0.9, 0.85, 0.5, 0.25, 0, 0]),
        ("cosine", [0.25, 0.4969221, 0.7316462, 0.9455033, 0.5, 0.1464466, 0, 0]),
    ],
)
def test_learning_rate_warms_up_and_decays(decay, expected):
    """Peak 2, four steps of warm-up, at steps 0, 1, 2, 3, 10, 15, 20 and beyond the end."""
    rate = learning_rate(2.0, warmup_steps=4, decay=decay, num_steps=20)
    steps = [0, 1, 2, 3, 10, 15, 20, 30]
    np.testing.assert_allclose([rate(n) for n in steps], 2 * np.array(expected), atol=1e-6)
    assert float(learning_rate(2.0, 0, decay, 20)(0)) == 2.0


def test_unknown_decay_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match=r"optimizer.decay='step'.*constant, cosine, linear"):
        learning_rate(1.0, 0, "step", 10)


def numpy_adamw(params, grads_of_steps, rates, clip_norm, decayed):
    """The parameters after every step of clipped AdamW (Loshchilov and Hutter 2019), one group."""
    names = list(params)
    p = {n: np.float64(params[n]) for n in names}
    m, v, history = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), []
    for k, (grads, rate) in enumerate(zip(grads_of_steps, rates, strict=True), start=1):
        norm = np.sqrt(sum(np.sum(np.float64(grads[n]) ** 2) for n in names))
        factor = min(1.0, clip_norm / norm) if clip_norm else 1.0
        for n in names:
            g = factor * np.float64(grads[n])
            m[n] = 0.9 * m[n] + 0.1 * g
            v[n] = 0.99 * v[n] + 0.01 * g**2
            step = (m[n] / (1 - 0.9**k)) / (np.sqrt(v[n] / (1 - 0.99**k)) + 1e-8)
            p[n] = p[n] - rate * (step + (0.1 * p[n] if decayed(n) else 0.0))
        history.append(dict(p))
    return history


def flatten(group) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(group)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


@pytest.mark.parametrize("clip_norm", [0.5, 0.0])
def test_two_groups_over_six_steps(clip_norm):
    """Each with its own rate and clipping; only kernels decay. Gradients of very unequal sizes."""
    options = {**OPTIONS, "clip_norm": clip_norm}
    optimizer = make_optimizer(options, NUM_STEPS, group_kinds(), group_labels)
    grads = [tree(10 + k, scale) for k, scale in enumerate((0.1, 30.0, 0.01, 1.0, 0.1, 5.0))]
    params, update = tree(0), jax.jit(optimizer.update)
    state, ours = optimizer.init(params), []
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        ours.append(params)
    for group, peak, norm in (
        ("denoiser", "learning_rate", clip_norm),
        ("schedule", "schedule_learning_rate", 0.2),
    ):
        n = np.arange(len(grads))
        cosine = 0.5 * (1 + np.cos(np.pi * n / NUM_STEPS))
        rates = options[peak] * np.minimum(1, (n + 1) / 4) * cosine
        start, flat = flatten(tree(0)[group]), [flatten(g[group]) for g in grads]
        expected = numpy_adamw(start, flat, rates, norm, lambda name: "kernel" in name)
        for ours_now, exact in zip(ours, expected, strict=True):
            for name, leaf in flatten(ours_now[group]).items():
                np.testing.assert_allclose(leaf, exact[name], rtol=2e-6, atol=2e-6)


def test_without_gradient_only_kernels_shrink():
    """By rate times decay; biases, norms and end points stay bit for bit."""
    optimizer = make_optimizer(
        {**OPTIONS, "decay": "constant", "warmup_steps": 1}, NUM_STEPS, group_kinds(), group_labels
    )
    params = tree(0)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    moved = flatten(updates)
    for name, leaf in flatten(params).items():
        expected = -1e-2 * 0.1 * np.asarray(leaf) if "kernel" in name else np.zeros(leaf.shape)
        np.testing.assert_allclose(moved[name], expected, rtol=1e-6)
    assert sum(jax.tree.leaves(kernels_only(params))) == 1


def test_a_huge_gradient_of_one_group_leaves_the_other_alone():
    """Through two steps, as AdamW forgets the scale of a first one."""
    optimizer = make_optimizer(OPTIONS, NUM_STEPS, group_kinds(), group_labels)

    def run(schedule_scale, denoiser_scale):
        params = tree(0)
        state = optimizer.init(params)
        for k in (1, 2):
            grads = {
                "denoiser": tree(k, denoiser_scale)["denoiser"],
                "schedule": tree(k, schedule_scale)["schedule"],
            }
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    usual = run(1.0, 1.0)
    for other, group in ((run(1e6, 1.0), "denoiser"), (run(1.0, 1e6), "schedule")):
        for a, b in zip(*(jax.tree.leaves(t[group]) for t in (usual, other)), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rate", [0.0, 3e-3, None])
def test_the_shape_may_have_a_rate_of_its_own(rate):
    """The first step of Adam has the size of the rate; None is the schedule's."""
    options = {**OPTIONS, "interior_learning_rate": rate, "schedule_learning_rate": 1e-3}
    optimizer = make_optimizer(
        {**options, "warmup_steps": 1, "decay": "constant"}, NUM_STEPS, group_kinds(), group_labels
    )
    params, grads = tree(0), tree(1)
    for one in (params, grads):
        one["schedule"]["shape"] = {"rises": jnp.asarray([0.5, -2.0, 1.0])}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    for branch, size in (("endpoints", 1e-3), ("shape", 1e-3 if rate is None else rate)):
        for leaf in jax.tree.leaves(updates["schedule"][branch]):
            np.testing.assert_allclose(np.abs(leaf), size, rtol=1e-3)


def test_a_model_without_schedule_parameters_has_an_optimizer():
    params = {**tree(0), "schedule": {}}
    optimizer = make_optimizer(OPTIONS, NUM_STEPS, group_kinds(), group_labels)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert updates["schedule"] == {} and jax.tree.leaves(updates["denoiser"])


def test_clipping_alone_scales_to_the_norm():
    """With b1 = b2 = 0 and a large eps, the update is proportional to the clipped gradient."""
    options = {"b1": 0.0, "b2": 0.0, "eps": 1e6, "weight_decay": 0.0}
    gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}  # of norm 5
    for clip_norm, factor in ((1.0, 0.2), (10.0, 1.0), (0.0, 1.0)):
        optimizer = clipped_adamw(1.0, options, clip_norm)
        updates, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
        for name in gradient:
            np.testing.assert_allclose(updates[name], -1e-6 * factor * gradient[name], rtol=1e-5)


def test_an_encoder_s_rate_of_zero_freezes_it():
    params = {"denoiser": {"w": jnp.ones(2)}, "schedule": {}, "encoder": {"w": jnp.ones(2)}}
    options = {**OPTIONS, "encoder_learning_rate": 0.0}
    optimizer = make_optimizer(options, 10, group_kinds(encoder=True), group_labels)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert not updates["encoder"]["w"].any() and updates["denoiser"]["w"].all()
