"""A batch in parts gives the update of the whole batch."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.models import FAMILIES, make_family, microbatches
from vdm.models.base import Model
from vdm.models.records import Support
from vdm.models.vdm.make import make_model
from vdm.models.vdm.noise import training_noise
from vdm.models.vdm.objective import make_gradient
from vdm.types import Batch, DataSpec, ElboTerms

SPEC = DataSpec("random", (4, 4, 1), 16, {}, "")


def test_join_undoes_split_and_parts_lie_on_every_device():
    array = jnp.arange(24).reshape(12, 2)
    parts = microbatches.split(array, 3)
    np.testing.assert_array_equal(parts[1, :, 0], array[1::3, 0])
    np.testing.assert_array_equal(microbatches.join(parts), array)


CONTEXT = {"name": "gaussian", "gaussian": {"num_features": 3}}


def model_and_batch(schedule, context=None):
    options = {"width": 16, "num_blocks": 1, "fourier_exponents": (2,), "dropout": 0.0}
    model = make_model(
        SPEC,
        {"parameterisation": "eps", "reconstruction": "expected"},
        {
            "name": schedule,
            "gamma_0": None,
            "gamma_1": None,
            "monotone_network": {"num_features": 8},
        },
        {"name": "mlp", "mlp": options},
        context,
    )
    params = model.init(jax.random.key(0))
    draw = np.random.default_rng(1)
    shake = lambda p: p + 0.1 * jnp.asarray(draw.standard_normal(p.shape), p.dtype)  # noqa: E731
    params["denoiser"] = jax.tree.map(shake, params["denoiser"])
    if context:
        # The network's sin(1000 time) makes much of how two programs round gamma: slow it down.
        model = dataclasses.replace(model, time_map=(0.0, 2000.0))
        params["encoder"] = jax.tree.map(shake, params["encoder"])
        params["schedule"]["shape"] = jax.tree.map(shake, params["schedule"]["shape"])
    batch = Batch(
        images=draw.integers(0, 16, (12, 4, 4, 1)),
        index=np.arange(12),
        mask=np.arange(12) < 11,  # the parts hold different numbers of images
        conditioning=np.zeros(12, np.float32),
    )
    return model, params, batch


@pytest.mark.parametrize("num", [pytest.param(2, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(
    ("schedule", "timesteps", "weight"),
    [
        ("monotone_network", 0, None),
        ("monotone_network", 0, lambda gamma: jnp.exp(-0.1 * gamma)),
        ("learned_linear", 100, None),
        ("conditional_polynomial", 0, None),
    ],
)
def test_parts_give_the_gradient_of_the_whole_batch(schedule, timesteps, weight, num):
    """Also that of the shape, which depends on the mean loss of the whole batch."""
    context = CONTEXT if schedule == "conditional_polynomial" else None
    model, params, batch = model_and_batch(schedule, context)
    noise = training_noise(jax.random.key(2), 12, SPEC.shape, model.draw_context)
    key = jax.random.key(3)
    once, in_parts = (
        jax.jit(make_gradient(model, timesteps, weight=weight, num_microbatches=parts))
        for parts in (1, num)
    )
    whole, metrics = once(params, batch, noise, key)
    parted, same_metrics = in_parts(params, batch, noise, key)
    for name, value in metrics.items():
        np.testing.assert_allclose(same_metrics[name], value, rtol=2e-6, err_msg=name)
    # The schedule's gradients are small sums of large terms; what rounding does to them shows when the
    # same images come in another order.
    rounding = [
        differences(whole, once(params, *reordered(batch, noise, n), key)[0]) for n in range(4)
    ]
    for path, found in differences(whole, parted).items():
        size, group = float(np.linalg.norm(leaves(whole)[path])), group_norm(whole, path)
        assert size > 0, path
        # With a context each part turns contexts into gammas in a program that rounds differently.
        assert found <= (1e-6 if context is None else 4e-6) * group, path
        if context is None:
            limit = max(1e-6 * size, 4 * max(order[path] for order in rounding), 2e-7 * group)
            assert found <= limit, path
        assert found <= (1e-6 if "denoiser" in path else 1e-3) * size, path


SIZES: list[int] = []
"""How many images `Scaled.terms` was given, call by call."""


@dataclasses.dataclass(frozen=True)
class Scaled(Model):
    """A family with nothing but its terms, (scale x - noise)^2: all else is the default."""

    family: ClassVar[str] = "scaled"

    def init(self, key):
        return {"scale": jnp.full(self.shape, 0.3)}

    def training_noise(self, key, batch_size):
        return jax.random.normal(key, (batch_size, *self.shape))

    def evaluation_noise(self, seed, randomisation, repeat, index):
        raise NotImplementedError

    def terms(self, params, batch, noise, *, train=False, dropout_key=None):
        SIZES.append(len(batch.images))
        square = jnp.square(params["scale"][None] * batch.images - noise).sum((1, 2, 3))
        return ElboTerms(square, 0.0 * square, 0.0 * square, 0.0 * square)

    def supports(self):
        return Support()


def test_the_default_gradient_takes_a_batch_in_the_parts_that_are_asked_for(monkeypatch):
    monkeypatch.setitem(FAMILIES, "scaled", lambda spec, config: Scaled(spec.shape, 16))
    _, _, batch = model_and_batch("linear")
    found = {}
    for num in (1, 4):
        config = {"model": {"family": "scaled"}, "train": {"num_microbatches": num}}
        model = make_family(SPEC, config)
        noise, params = model.training_noise(jax.random.key(2), 12), model.init(jax.random.key(0))
        SIZES.clear()
        found[num] = model.gradient(params, None, batch, noise, jax.random.key(3))
        assert set(SIZES) == {12 // num}
    (whole, _, metrics), (parted, _, same_metrics) = found[1], found[4]
    np.testing.assert_allclose(parted["scale"], whole["scale"], rtol=2e-6, atol=1e-6)
    assert metrics["bits_per_dim"] > 0
    np.testing.assert_allclose(same_metrics["bits_per_dim"], metrics["bits_per_dim"], rtol=2e-6)


def group_norm(tree, path):
    """Of all leaves in the branch that `path` lies in."""
    group = [leaf for other, leaf in leaves(tree).items() if other.split("]")[0] in path]
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in group)))


def reordered(batch, noise, seed):
    order = np.random.default_rng(seed).permutation(12)
    return jax.tree.map(lambda a: a[order], (batch, noise))


def leaves(tree):
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.float64(leaf) for path, leaf in found}


def differences(a, b):
    b = leaves(b)
    return {path: float(np.linalg.norm(leaf - b[path])) for path, leaf in leaves(a).items()}
