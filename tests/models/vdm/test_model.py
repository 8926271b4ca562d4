"""make_model's defaults and refusals, the constant time map, and the four parameterisations."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import per_pixel
from vdm.errors import ConfigError
from vdm.models.parameters import count_parameters
from vdm.models.vdm.make import make_model
from vdm.models.vdm.model import VDM
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import endpoints
from vdm.types import DataSpec, Known

MLP = {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}}
MODEL = {"parameterisation": "eps", "reconstruction": "expected"}
SCHEDULE = {"name": "learned_linear", "gamma_0": None, "gamma_1": None}


def spec(num_levels=256, shape=(2, 3, 1)) -> DataSpec:
    return DataSpec("toy", shape, num_levels, {"train": 10}, "0" * 64)


def make(num_levels=256, model=(), schedule=(), denoiser=MLP) -> VDM:
    sections = ({**MODEL, **dict(model)}, {**SCHEDULE, **dict(schedule)}, denoiser)
    return make_model(spec(num_levels), *sections)


@pytest.mark.parametrize(
    ("num_levels", "gamma_0"), [(256, -13.3), (17, -7.876), (2, -3.596), (65536, -24.0)]
)
def test_default_end_points_follow_the_levels(num_levels, gamma_0):
    """-13.3 + 2 ln(256/L), but never below -24, where float32 ends; and 5."""
    model = make(num_levels)
    ends = endpoints(model.schedule, model.schedule.init(jax.random.key(0)))
    assert float(ends[0].squeeze()) == pytest.approx(gamma_0, abs=1e-3)
    assert float(ends[1].squeeze()) == 5.0
    assert model.time_map == pytest.approx((gamma_0, 5.0), abs=1e-3)


def test_given_values_arrive():
    model = make(17, {"parameterisation": "v", "reconstruction": "sampled"}, {"gamma_0": -6.5})
    assert (model.shape, model.num_levels) == ((2, 3, 1), 17)
    assert (model.parameterisation, model.expected_reconstruction) == ("v", False)
    assert model.time_map == (-6.5, 5.0)
    assert make().expected_reconstruction


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        (
            "model",
            {"parameterisation": "noise"},
            "model.parameterisation='noise'.*eps, score, v, x",
        ),
        ("model", {"reconstruction": "exact"}, "model.reconstruction='exact'.*expected, sampled"),
        ("schedule", {"name": "steep"}, "schedule.name='steep'.*choose one of .*learned_linear"),
        ("schedule", {"gamma_0": -30.0}, r"schedule.gamma_0=-30.0: .*\[-24.0, 24.0\]"),
        ("schedule", {"gamma_1": float("nan")}, r"schedule.gamma_1=nan: .*\[-24.0, 24.0\]"),
        ("schedule", {"gamma_1": -14.0}, "schedule.gamma_1=-14.0.*schedule.gamma_0=-13.3"),
        ("denoiser", {"name": "netz"}, "denoiser.name='netz'.*choose one of mlp, .*unet"),
        ("denoiser", {"mlp": {"wide": 8}}, "denoiser.mlp.wide=8.*dropout, dtype.*width"),
    ],
)
def test_errors_name_the_field_the_value_and_the_choices(section, changes, message):
    sections = {"model": MODEL, "schedule": SCHEDULE, "denoiser": MLP}
    sections[section] = {**sections[section], **changes}
    with pytest.raises(ConfigError, match=message):
        make_model(spec(), **sections)


def test_too_noisy_an_end_for_many_levels_is_refused():
    with pytest.raises(ConfigError, match=r"schedule.gamma_0=-2.0: .*at most"):
        make(65536, schedule={"gamma_0": -2.0})


class Echo(nn.Module):
    """Predicts the time it is told, everywhere."""

    @nn.compact
    def __call__(self, z, time, known, train):
        return time + jnp.zeros_like(z)


def test_time_map_does_not_follow_learned_end_points():
    """The time told to the network is a constant map of gamma, whatever the end points have become."""
    schedule = make_schedule("learned_linear", Endpoints(-10.0, 5.0))
    model = VDM((1, 1, 1), 256, schedule, Echo(), "eps", True, (-10.0, 5.0))
    gamma = jnp.array([-10.0, -2.5, 5.0, 6.5])[:, None, None, None]
    for ends in ((-10.0, 5.0), (-12.0, 6.0)):
        moved = {"gamma_0": jnp.float32(ends[0]), "gamma_1": jnp.float32(ends[1])}
        params = {"schedule": {"endpoints": moved}, "denoiser": {}}
        z, known = jnp.zeros((4, 1, 1, 1)), Known(jnp.zeros(4))
        time = model.predict_eps(params, z, gamma, known)
        np.testing.assert_allclose(time.ravel(), [0.0, 0.5, 1.0, 1.1], atol=1e-6)
        total = lambda p, z=z, known=known: model.predict_eps(p, z, gamma, known).sum()  # noqa: E731
        assert not any(jax.tree.leaves(jax.grad(total)(params)["schedule"]))


class Fixed(nn.Module):
    """Predicts 0.7 z + 0.2."""

    @nn.compact
    def __call__(self, z, time, known, train):
        return 0.7 * z + 0.2


@pytest.mark.parametrize("parameterisation", ["eps", "x", "v", "score"])
def test_one_output_read_in_four_ways(parameterisation):
    """Against z = alpha x + sigma eps, v = alpha eps - sigma x, score = -eps/sigma in float64."""
    gammas, z = np.array([-6.0, 0.0, 3.0]), np.array([0.9, -0.3, 1.7])
    alpha, sigma = np.sqrt(1 / (1 + np.exp(gammas))), np.sqrt(1 / (1 + np.exp(-gammas)))
    output = 0.7 * z + 0.2
    # For v: eps = alpha v + sigma z solves the two equations, since alpha^2 + sigma^2 = 1.
    x_of_v = (alpha * z - sigma * output) / (alpha**2 + sigma**2)
    expected = {
        "eps": output,
        "x": (z - alpha * output) / sigma,
        "v": (output + sigma * x_of_v) / alpha,
        "score": -sigma * output,
    }[parameterisation]
    schedule = make_schedule("linear", Endpoints(-6.0, 3.0))
    model = VDM((1, 1, 1), 256, schedule, Fixed(), parameterisation, True, (-6.0, 3.0))
    params = {"schedule": {}, "denoiser": {}}
    column = lambda a: jnp.asarray(a, jnp.float32)[:, None, None, None]  # noqa: E731
    eps_hat = model.predict_eps(params, column(z), column(gammas), Known(jnp.zeros(3)))
    np.testing.assert_allclose(eps_hat.ravel(), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("parameterisation", "at_start"),
    [
        ("eps", lambda z, alpha, sigma: z),
        ("x", lambda z, alpha, sigma: z / sigma),
        ("v", lambda z, alpha, sigma: sigma * z),
        ("score", lambda z, alpha, sigma: 0 * z),
    ],
)
def test_a_fresh_network_predicts_z_as_eps_and_zero_otherwise(parameterisation, at_start):
    model = make(model={"parameterisation": parameterisation})
    params = model.init(jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (2, 2, 3, 1))
    gamma = jnp.array([-1.0, 2.0])[:, None, None, None]
    eps_hat = model.predict_eps(params, z, gamma, Known(jnp.zeros(2)))
    alpha, sigma = (np.sqrt(1 / (1 + np.exp(s * np.asarray(gamma)))) for s in (1, -1))
    np.testing.assert_allclose(eps_hat, at_start(np.asarray(z), alpha, sigma), rtol=2e-6)


def test_parameters_have_two_branches_and_are_counted():
    """An MLP of width 8 on 6 inputs with 4 Fourier features each, counted by hand."""
    model = make()
    params = model.init(jax.random.key(0))
    assert set(params) == {"schedule", "denoiser"}
    cond, dense_in, block, dense_out = 9 * 8 + 8, 30 * 8 + 8, 16 + 3 * (8 * 8 + 8), 8 * 6 + 6
    assert count_parameters(params["denoiser"]) == cond + dense_in + block + dense_out
    assert count_parameters(params["schedule"]) == 2
    assert count_parameters(make(schedule={"name": "linear"}).init(jax.random.key(0))) == (
        count_parameters(params["denoiser"])
    )


def test_init_depends_on_its_key_and_dropout_on_its_own():
    options = {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1, "dropout": 0.5}}
    model = make(denoiser=options)
    first, again, other = (model.init(jax.random.key(k)) for k in (0, 0, 1))
    leaves = [t["denoiser"]["dense_in"]["kernel"] for t in (first, again, other)]
    np.testing.assert_array_equal(leaves[0], leaves[1])
    assert not np.array_equal(leaves[0], leaves[2])

    params = jax.tree.map(lambda leaf: leaf + 0.3, first)
    z, gamma, known = jnp.ones((2, 2, 3, 1)), jnp.zeros((1, 1, 1, 1)), Known(jnp.zeros(2))
    train = [
        model.predict_eps(params, z, gamma, known, train=True, dropout_key=jax.random.key(k))
        for k in (0, 1)
    ]
    assert not np.allclose(train[0], train[1])
    evaluate = model.predict_eps(params, z, gamma, known)
    np.testing.assert_array_equal(evaluate, model.predict_eps(params, z, gamma, known))
    assert math.isfinite(float(evaluate.sum()))


def test_the_network_sees_the_map_and_the_context_or_the_mean_alone():
    for gamma_input, sees in (("map", True), ("mean", False)):
        model = per_pixel.make_small(
            "conditional_polynomial", per_pixel.GAUSSIAN, gamma_input=gamma_input
        )
        params, z = per_pixel.shaken(model), jnp.zeros((1, *per_pixel.SHAPE))
        gamma = jax.random.normal(jax.random.key(0), (1, *per_pixel.SHAPE))
        known = Known(jnp.zeros(1), context=jnp.zeros((1, 3)))
        plain = model.predict_eps(params, z, gamma, known)
        for other in (
            model.predict_eps(params, z, gamma[:, ::-1], known),
            model.predict_eps(params, z, gamma, known.replace(context=jnp.ones((1, 3)))),
        ):
            assert (float(jnp.abs(other - plain).max()) > 1e-3) == sees


def test_what_does_not_fit_a_gamma_per_pixel_is_refused():
    with pytest.raises(ConfigError, match=r"built for images of shape \(3, 4, 1\), .*\(4, 4, 1\)"):
        dataclasses.replace(per_pixel.make_small(), shape=(4, 4, 1))
    with pytest.raises(ConfigError, match=r"schedule needs a context; choose context\.name"):
        per_pixel.make_small("conditional_polynomial")
    with pytest.raises(ConfigError, match=r"model\.gamma_input='men'.*map, mean"):
        per_pixel.make_small(gamma_input="men")
