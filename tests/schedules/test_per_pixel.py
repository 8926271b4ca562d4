"""Schedules per pixel: their integrals in float64, sharing, contexts, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import compiled
from vdm.errors import ConfigError
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import has_scalar_gamma
from vdm.schedules.per_pixel.polynomial import FLOOR
from vdm.schedules.per_pixel.sharing import SHARINGS

ENDS = Endpoints(-7.0, 5.0)
SHAPE = (3, 4, 2)
NAMES = ("pixel_polynomial", "pixel_network")


def make(name, **options):
    facts = {"shape": SHAPE, "context_size": 3}
    return make_schedule(name, ENDS, {"learned_endpoints": False, **options}, facts)


def shaken(schedule, scale=1.0, key=1):
    """Random parameters: far from the line, and quadratics that are 0 somewhere."""
    return compiled.shaken(compiled.init(schedule), scale, key)


def exact_polynomial(weights, t):
    """gamma and its slope in float64 [N,H,W,C], from the antiderivative of the squared quadratic."""
    a, b, c = (np.float64(weights)[..., k] for k in range(3))
    coefficients = (c * c, 2 * b * c, b * b + 2 * a * c, 2 * a * b, a * a)
    part = lambda u: sum(k * u ** (n + 1) / (n + 1) for n, k in enumerate(coefficients))  # noqa: E731
    floor = FLOOR * (1 + part(1.0))
    t = np.float64(t)[:, None, None, None]
    whole = part(1.0) + floor
    share = (part(t) + floor * t) / whole
    slope = ((a * t * t + b * t + c) ** 2 + floor) / whole
    return -7.0 + 12.0 * share, 12.0 * slope


def test_polynomial_is_the_normalised_integral_of_a_squared_quadratic():
    schedule = make("pixel_polynomial")
    params, t = shaken(schedule), np.linspace(0.0, 1.0, 41, dtype=np.float32)
    gamma, slope = compiled.gamma_and_derivative(schedule, params, t)
    exact, exact_slope = exact_polynomial(params["shape"]["weights"], t)
    np.testing.assert_allclose(gamma, exact, atol=4e-6)
    np.testing.assert_allclose(slope, exact_slope, rtol=2e-4, atol=1e-4)
    assert gamma.shape == (41, *SHAPE)
    steps = np.arange(1, 10_001, 1000, dtype=np.int32)
    rise = compiled.gamma_increment(schedule, params, steps, 10_000)
    middle = exact_polynomial(params["shape"]["weights"], (np.asarray(steps) - 0.5) / 10_000)[1]
    np.testing.assert_allclose(rise, middle / 10_000, rtol=2e-5)


def exact_network_increment(values, s, t):
    """gamma(t) - gamma(s) in float64 [N,H,W,C] of the numbers w1, w2, b, w3 of every dimension."""
    w1, rest = np.abs(values[..., 0]) + np.float64(1e-3), np.float64(values[..., 1:])
    w2, b, w3 = np.split(rest, 3, axis=-1)
    sigmoids = lambda u: 1 / (1 + np.exp(-(np.abs(w2) * u + b)))  # noqa: E731
    f = lambda u: w1 * u + np.mean(np.abs(w3) * sigmoids(u[..., None]), -1)  # noqa: E731
    s, t = (np.float64(u)[:, None, None, None] for u in (s, t))
    return 12.0 * (f(t) - f(s)) / (f(np.ones_like(t)) - f(np.zeros_like(t)))


@pytest.mark.parametrize("name", ["pixel_network", "conditional_network"])
def test_large_images_are_computed_as_small_ones(name):
    """32x32x3, compiled with the parameters as arguments: a mean over features was wrong there."""
    facts = {"shape": (32, 32, 3), "context_size": 3}
    schedule = make_schedule(name, ENDS, {"learned_endpoints": False}, facts)
    params, num_timesteps = shaken(schedule, 0.3), 10
    steps = np.arange(128) % num_timesteps + 1
    values, contexts = np.float64(params["shape"]["weights"]), None
    if name == "conditional_network":
        rng = np.random.default_rng(0)
        contexts = np.float32(rng.standard_normal((128, 3)))
        weights = jax.tree.map(np.float64, params["shape"]["conditioner"])
        hidden = contexts @ weights["w1"] + weights["b1"]
        values = values + np.tensordot(hidden / (1 + np.exp(-hidden)), weights["w2"], 1)
    rise = compiled.gamma_increment(
        schedule, params, steps.astype(np.int32), num_timesteps, contexts
    )
    exact = exact_network_increment(values, (steps - 1) / num_timesteps, steps / num_timesteps)
    np.testing.assert_allclose(rise, exact, rtol=2e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sharing", SHARINGS)
def test_increases_strictly_and_meets_its_ends_whatever_the_numbers(name, sharing):
    schedule = make(name, sharing=sharing, rank=2)
    params = shaken(schedule, scale=3.0)
    t = np.arange(129, dtype=np.float32) / np.float32(128)
    gamma = np.float64(compiled.gamma(schedule, params, t))
    assert (
        np.diff(gamma, axis=0) >= 0
    ).all()  # a floor of 1e-3 may be less than float32 tells apart
    assert (np.asarray(compiled.gamma_and_derivative(schedule, params, t)[1]) > 0).all()
    rises = np.float64(compiled.gamma_increment(schedule, params, np.arange(1, 129), 128))
    assert (rises > 0).all()
    assert (gamma[0] == np.float32(-7.0)).all() and (gamma[-1] == np.float32(5.0)).all()
    np.testing.assert_allclose(rises.sum(0), 12, rtol=1e-5)


def test_a_quadratic_of_zero_is_the_line():
    schedule = make("pixel_polynomial")
    params = jax.tree.map(np.zeros_like, compiled.init(schedule))
    gamma = compiled.gamma(schedule, params, jnp.linspace(0.0, 1.0, 5))
    expected = np.linspace(-7, 5, 5)[:, None, None, None]
    np.testing.assert_allclose(gamma, np.broadcast_to(expected, gamma.shape), atol=1e-6)


def test_sharing_gives_as_many_schedules_as_it_says():
    t = jnp.full(2, 0.3)
    schedules = {name: make("pixel_polynomial", sharing=name, rank=1) for name in SHARINGS}
    found = {}
    for sharing, schedule in schedules.items():
        found[sharing] = np.asarray(compiled.gamma(schedule, shaken(schedule), t))
    assert found["pixel"].shape == (2, *SHAPE) and len(np.unique(found["pixel"])) == 24
    assert found["channel"].shape == (2, 1, 1, 2) and len(np.unique(found["channel"])) == 2
    assert found["low_rank"].shape == (2, *SHAPE) and len(np.unique(found["low_rank"])) == 24
    schedule = schedules["low_rank"]
    weights = schedule.sharing.values(shaken(schedule)["shape"], jnp.zeros(()))[0, :, :, 0, 0]
    base = np.asarray(shaken(schedule)["shape"]["base"])[0]
    singular = np.linalg.svd(np.float64(np.asarray(weights) - base), compute_uv=False)
    assert singular[1] < 1e-6 * singular[0]  # of rank 1, as asked
    sizes = {
        name: sum(v.size for v in jax.tree.leaves(compiled.init(schedule)))
        for name, schedule in schedules.items()
        if name != "low_rank"
    }
    assert sizes == {"pixel": 72, "channel": 6}


def test_one_channel_shared_over_pixels_is_a_scalar_schedule():
    facts = {"shape": (3, 4, 1)}
    channel = make_schedule("pixel_polynomial", ENDS, {"sharing": "channel"}, facts)
    assert has_scalar_gamma(channel) and not has_scalar_gamma(make("pixel_polynomial"))
    assert not has_scalar_gamma(make("conditional_polynomial", sharing="channel"))


@pytest.mark.parametrize("name", ["conditional_polynomial", "conditional_network"])
@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_context_moves_its_own_image_s_schedule_and_no_end_point(name, sharing):
    schedule = make(name, sharing=sharing, rank=2)
    fresh, params = compiled.init(schedule), shaken(schedule)
    context = jnp.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    t = jnp.full(3, 0.4)
    start = np.asarray(compiled.gamma(schedule, fresh, t, context))
    assert (start == start[:1]).all()  # at first nobody's differs
    gamma = np.asarray(compiled.gamma(schedule, params, t, context))
    np.testing.assert_array_equal(gamma[0], gamma[1])
    assert (np.abs(gamma[2] - gamma[0]) > 1e-4).mean() > 0.9
    for end, value in ((0.0, -7.0), (1.0, 5.0)):
        at_end = compiled.gamma(schedule, params, jnp.full(3, end), context)
        assert (np.asarray(at_end) == np.float32(value)).all()


def test_contexts_that_are_missing_or_of_another_size_are_refused():
    schedule = make("conditional_polynomial")
    params = schedule.init(jax.random.key(0))
    with pytest.raises(ConfigError, match="conditional on a context of each image, and none"):
        schedule.gamma(params, jnp.zeros(2))
    with pytest.raises(
        ConfigError, match=r"context \(2, 4\): the schedule takes contexts \[B, 3\]"
    ):
        schedule.gamma(params, jnp.zeros(2), jnp.zeros((2, 4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sharing": "row"}, r"schedule\.sharing='row'.*channel, low_rank, pixel"),
        ({"sharing": "low_rank", "rank": 4}, r"rank=4: images of 3x4 take 1 to 3"),
        ({"sharing": "low_rank", "rank": 0}, r"rank=0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        make("pixel_polynomial", **options)


def test_other_mistakes():
    with pytest.raises(ConfigError, match=r"pixel_network\.num_features=0: must be at least 1"):
        make("pixel_network", num_features=0)
    with pytest.raises(ConfigError, match=r"schedule\.pixel_network\.shape: missing"):
        make_schedule("pixel_network", ENDS)
