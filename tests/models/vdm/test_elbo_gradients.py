"""Gradients of the training loss against finite differences, for every parameter group."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import per_pixel
from vdm.models.vdm.elbo import elbo_terms
from vdm.models.vdm.make import make_model
from vdm.models.vdm.noise import training_noise
from vdm.models.vdm.objective import make_elbo_loss, make_gradient
from vdm.types import TERM_NAMES, Batch, DataSpec

SHAPE = (3, 2, 2)
LEVELS = 17
SIZE = 16


def make(
    reconstruct: str,
    parameterisation: str = "eps",
    name: str = "learned_linear",
    context: dict | None = None,
):
    """(model, random parameters, batch, noise); gamma_0 high enough for reconstruction to matter."""
    spec = DataSpec("toy", SHAPE, LEVELS, {"train": SIZE}, "0" * 64)
    model = make_model(
        spec,
        {
            "parameterisation": parameterisation,
            "reconstruction": reconstruct,
            "gamma_input": "mean",  # of many gammas, without the context; all one for a scalar one
        },
        {"name": name, "gamma_0": -6.0, "gamma_1": 2.0},
        {"name": "mlp", "mlp": {"width": 12, "num_blocks": 1, "fourier_exponents": ()}},
        context,
    )
    # The embedding's sin(1000 time) turns too fast for finite differences in gamma: slow it down.
    model = dataclasses.replace(model, time_map=(0.0, 2000.0))
    generator = np.random.default_rng(3)
    images = jnp.asarray(generator.integers(0, LEVELS, (SIZE, *SHAPE)), jnp.int32)
    mask = jnp.arange(SIZE) < SIZE - 3
    flags = jnp.asarray(generator.integers(0, 2, SIZE), jnp.float32)
    params = model.init(jax.random.key(0))
    params["denoiser"] = random_like(params["denoiser"], generator, 0.3)
    batch = Batch(images, jnp.arange(SIZE), mask, flags)
    noise = training_noise(jax.random.key(1), SIZE, SHAPE, model.draw_context)
    return model, params, batch, noise


def random_like(tree, generator, scale: float):
    return jax.tree.map(
        lambda p: jnp.asarray(scale * generator.standard_normal(p.shape), p.dtype), tree
    )


def loss_and_gradient(model, num_timesteps: int):
    """(loss in float64, from the terms in float32; gradient of the library's own loss)."""
    terms = jax.jit(lambda p, b, n: elbo_terms(model, p, b, n, num_timesteps))
    gradient = jax.jit(jax.grad(make_elbo_loss(model, num_timesteps), has_aux=True))

    def loss(params, batch, noise) -> float:
        found = terms(params, batch, noise)
        nats = sum(np.float64(getattr(found, name)) for name in TERM_NAMES)
        return nats[np.asarray(batch.mask)].mean() / (np.prod(SHAPE) * np.log(2))

    return loss, lambda *arguments: gradient(*arguments, jax.random.key(0))[0]


def slope(loss, params, direction, h: float) -> float:
    """Along `direction`, by central differences of fourth order."""

    def at(step):
        return loss(jax.tree.map(lambda p, d: p + step * d, params, direction))

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def inner(a, b) -> float:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(float(np.sum(np.float64(x) * np.float64(y))) for x, y in leaves)


CASES = [("expected", 0), ("expected", 10), ("sampled", 0), ("sampled", 10)]


@pytest.mark.parametrize(("reconstruct", "num_timesteps"), CASES)
def test_gradient_of_each_end_point(reconstruct, num_timesteps):
    """Through reconstruction, prior, weight, z_t and the network's time, all at once."""
    model, params, batch, noise = make(reconstruct)
    loss, gradient = loss_and_gradient(model, num_timesteps)
    ends = gradient(params, batch, noise)["schedule"]["endpoints"]
    zero = jax.tree.map(jnp.zeros_like, params)
    for name in ("gamma_0", "gamma_1"):
        moved = {"endpoints": {**zero["schedule"]["endpoints"], name: jnp.float32(1.0)}}
        along = {**zero, "schedule": moved}
        expected = slope(lambda p: loss(p, batch, noise), params, along, h=0.02)
        assert abs(expected) > 1e-3
        assert float(ends[name]) == pytest.approx(expected, rel=3e-4)


@pytest.mark.parametrize(("parameterisation", "num_timesteps"), [("eps", 0), ("eps", 10), ("v", 0)])
def test_gradient_of_the_denoiser(parameterisation, num_timesteps):
    """Along random directions and along the gradient itself, whose slope is its squared norm."""
    model, params, batch, noise = make("expected", parameterisation)
    loss, gradient = loss_and_gradient(model, num_timesteps)
    grads = gradient(params, batch, noise)
    still = jax.tree.map(jnp.zeros_like, params)
    norm = inner(grads["denoiser"], grads["denoiser"]) ** 0.5
    generator = np.random.default_rng(5)
    steepest = jax.tree.map(lambda g: g / norm, grads["denoiser"])
    directions = [steepest, *(random_like(still["denoiser"], generator, 0.2) for _ in range(3))]
    for direction in directions:
        along = {**still, "denoiser": direction}
        expected = slope(lambda p: loss(p, batch, noise), params, along, h=0.01)
        found = inner(grads["denoiser"], direction)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5 * norm)


@pytest.mark.slow
@pytest.mark.parametrize("num_timesteps", [0, 10])
def test_gradient_of_the_encoder(num_timesteps):
    """Through the price of c, and through gamma(c), which alone tells the bound of c here."""
    context = {"name": "gaussian", "gaussian": {"num_features": 3}}
    context["encoder"] = {"channels": 2, "num_hidden": 6}
    model, params, batch, noise = make("expected", name="conditional_polynomial", context=context)
    generator = np.random.default_rng(6)
    params["encoder"] = random_like(params["encoder"], generator, 0.3)
    shape = params["schedule"]["shape"]
    params["schedule"]["shape"] = jax.tree.map(jnp.add, shape, random_like(shape, generator, 0.2))
    gradient = jax.jit(make_gradient(model, num_timesteps))
    grads = gradient(params, batch, noise, jax.random.key(0))[0]["encoder"]
    terms = jax.jit(lambda p: elbo_terms(model, p, batch, noise, num_timesteps))

    def losses(p):
        """(the bound, the price of c alone) in bits/dim."""
        found, mask = terms(p), np.asarray(batch.mask)
        nats = np.array([np.float64(getattr(found, name))[mask].mean() for name in TERM_NAMES])
        return np.array([nats.sum(), nats[-1]]) / (np.prod(SHAPE) * np.log(2))

    still = jax.tree.map(jnp.zeros_like, params)
    norm = inner(grads, grads) ** 0.5
    steepest = jax.tree.map(lambda g: g / norm, grads)
    directions, shares = [steepest, *(random_like(grads, generator, 0.2) for _ in range(3))], []
    for direction in directions:
        expected, price = slope(losses, params, {**still, "encoder": direction}, h=0.01)
        assert inner(grads, direction) == pytest.approx(expected, rel=2e-3, abs=1e-3 * norm)
        shares.append(abs(expected - price) / norm)
    assert max(shares) > 0.05  # what passes through gamma


def test_gradient_of_a_fixed_schedule_is_empty():
    model, params, batch, noise = make("expected", name="linear")
    _, gradient = loss_and_gradient(model, 0)
    assert jax.tree.leaves(gradient(params, batch, noise)["schedule"]) == []


def test_masked_images_have_no_gradient():
    """Their codes and noise may be anything: the gradient stays the same."""
    model, params, batch, noise = make("sampled")
    _, gradient = loss_and_gradient(model, 0)
    other = ~np.asarray(batch.mask)
    changed = batch.replace(images=batch.images.at[other].set(LEVELS - 1))
    louder = noise.replace(eps=noise.eps.at[other].set(4.0), eps_0=noise.eps_0.at[other].set(-3.0))
    first, second = gradient(params, batch, noise), gradient(params, changed, louder)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    seen = gradient(params, batch.replace(mask=jnp.ones(SIZE, bool)), noise)
    assert inner(seen, seen) != pytest.approx(inner(first, first), rel=1e-3)


@functools.cache
def value_and_gradient(model, num_timesteps):
    """Compiled: (params, batch, noise) -> (terms, gradient of the loss)."""
    loss = make_elbo_loss(model, num_timesteps)
    return jax.jit(
        lambda params, batch, noise: (
            elbo_terms(model, params, batch, noise, num_timesteps),
            jax.grad(lambda p: loss(p, batch, noise, jax.random.key(0))[0])(params),
        ),
        compiler_options={"xla_backend_optimization_level": 3},  # the last digits are tested
    )


@pytest.mark.parametrize(
    ("schedule", "num_timesteps"),
    [("pixel_polynomial", 0), pytest.param("pixel_network", 10, marks=pytest.mark.slow)],
)
def test_equal_gammas_give_the_terms_and_gradients_of_a_scalar_one(schedule, num_timesteps):
    batch, found = per_pixel.make_batch(5), []
    for model, params in zip(
        per_pixel.pair(schedule), per_pixel.paired_parameters(schedule), strict=True
    ):
        act = value_and_gradient(model, num_timesteps)
        found.append(act(params, batch, per_pixel.noise_of(model, 5)))
    (one, one_grads), (other, other_grads) = found
    for name in TERM_NAMES:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6)
    weights = [grads["schedule"]["shape"].pop("weights") for grads in (one_grads, other_grads)]
    # What all pixels' numbers gain together is what the one set gains, to 1e-6 of what is added up.
    together, summands = jnp.sum(weights[0], axis=(0, 1)), jnp.sum(jnp.abs(weights[0]), axis=(0, 1))
    assert float(jnp.linalg.norm(together - weights[1]) / jnp.linalg.norm(summands)) < 1e-6
    for group in ("denoiser", "schedule"):
        ours, theirs = (
            jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads[group])])
            for grads in (one_grads, other_grads)
        )
        assert float(jnp.linalg.norm(ours - theirs)) < 1e-6 * float(jnp.linalg.norm(theirs))
