"""The bound with a gamma per pixel or per image: beside a scalar one, beside closed forms, and refused.

The denoiser of the Gaussian data is exact, E[eps|z] = sigma M^-1 z with M = alpha S alpha + sigma^2, so
that the term is I(x; z_0) - I(x; z_1) along every path. Its expectation over (x, eps) is exact too: the
error is linear in both, and the columns of sqrt(2 D) I have their second moments.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import ConfigError
from vdm.evaluation.analysis.breakdown import break_down
from vdm.evaluation.analysis.estimator_variance import scatter
from vdm.evaluation.analysis.paired import make_paired_step
from vdm.evaluation.bounds import BOUNDS, make_bound
from vdm.evaluation.bounds.base import Bound
from vdm.evaluation.bounds.run import evaluate_bound
from vdm.evaluation.evaluate import Estimation, evaluate
from vdm.models.base import stateless
from vdm.models.vdm.elbo import denoising_matching, noise_levels
from vdm.models.vdm.elbo import elbo_terms as uncompiled
from vdm.models.vdm.groups import group_kinds, group_labels
from vdm.models.vdm.make import make_model
from vdm.models.vdm.model import VDM
from vdm.models.vdm.noise import training_noise
from vdm.models.vdm.objective import make_elbo_loss, make_gradient
from vdm.models.vdm.weights import make_weight
from vdm.runtime.devices import make_mesh
from vdm.samplers import SAMPLERS, make_sampler
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import alpha_sigma, per_example
from vdm.schedules.linear import Linear
from vdm.training.optimizer import make_optimizer
from vdm.training.state import init_state
from vdm.training.step import make_train_step
from vdm.types import TERM_NAMES, Batch, DataSpec, Known

SHAPE = (3, 4, 1)
GAUSSIAN = {"name": "gaussian", "gaussian": {"num_features": 3}}
BITS = {"name": "categorical", "categorical": {"num_variables": 3}}
elbo_terms = jax.jit(uncompiled, static_argnums=(0, 4))


def make(schedule="pixel_polynomial", context=None, shape=SHAPE, gamma_input="map", **options):
    spec = DataSpec("toy", shape, 17, {"train": 1}, "0" * 64)
    own = {"learned_endpoints": True, **options} if schedule.count("_p") else options
    return make_model(
        spec,
        {"parameterisation": "eps", "reconstruction": "expected", "gamma_input": gamma_input},
        {"name": schedule, "gamma_0": None, "gamma_1": None, schedule: own},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
        context,
    )


def shaken(model, scale=0.3):
    """Random parameters; the schedule's near its start, and valid."""
    rng = np.random.default_rng(0)
    draw = lambda v: jnp.asarray(scale * rng.standard_normal(v.shape), jnp.float32)  # noqa: E731
    params = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))
    start = model.schedule.init(jax.random.key(0))
    schedule = jax.tree.map(jnp.add, params["schedule"], start)
    return {**params, "schedule": model.schedule.project(schedule)}


def make_batch(size, shape=SHAPE):
    images = np.random.default_rng(1).integers(0, 17, (size, *shape))
    flags = np.arange(size, dtype=np.float32) % 2
    return Batch(images, np.arange(size, dtype=np.int32), np.ones(size, bool), flags)


def noise_of(model, size):
    return training_noise(jax.random.key(7), size, model.shape, model.draw_context)


class Smooth(nn.Module):
    """A random network without time embedding.

    The others hear time through sinusoids of 1000 t, so that one rounding of gamma is 1e-5 of their
    answer, and two programs that round differently are as far apart.
    """

    @nn.compact
    def __call__(self, z, time, known, train):
        wide = jnp.broadcast_to(time, z.shape)
        flat = jnp.concatenate([a.reshape(len(z), -1) for a in (z, wide)], axis=1)
        hidden = jnp.tanh(nn.Dense(16)(flat))
        return 0.5 * z + nn.Dense(z[0].size)(hidden).reshape(z.shape)


@functools.cache
def pair(schedule):
    """(per pixel, scalar): the same numbers in every pixel, or one set of them for all of an image."""
    pixel, scalar = make(schedule), make(schedule, sharing="channel")
    assert scalar.has_scalar_gamma and not pixel.has_scalar_gamma
    return tuple(dataclasses.replace(model, denoiser=Smooth()) for model in (pixel, scalar))


@functools.cache
def paired_parameters(schedule, scale=0.3):
    """Random ones, far from the line."""
    pixel, scalar = pair(schedule)
    params, own = shaken(pixel, scale), shaken(scalar, 0.3)["schedule"]["shape"]["weights"]
    ends = params["schedule"]["endpoints"]
    wide = jnp.broadcast_to(own, (*SHAPE[:2], *own.shape))
    return tuple(
        {**params, "schedule": {"endpoints": ends, "shape": {"weights": w}}} for w in (wide, own)
    )


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
    ("schedule", "num_timesteps"), [("pixel_polynomial", 0), ("pixel_network", 10)]
)
def test_equal_gammas_give_the_terms_and_gradients_of_a_scalar_one(schedule, num_timesteps):
    batch, found = make_batch(5), []
    for model, params in zip(pair(schedule), paired_parameters(schedule), strict=True):
        act = value_and_gradient(model, num_timesteps)
        found.append(act(params, batch, noise_of(model, 5)))
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


def test_equal_gammas_are_those_of_the_line():
    """Terms beside another form, with a denoiser that is smooth in gamma."""
    model = gaussian()
    line = dataclasses.replace(model, schedule=make_schedule("linear", Endpoints(*ENDS)))
    params = path_params("straight")
    batch = make_batch(64, (1, 3, 1))
    for num_timesteps in (0, 10):
        found = [
            elbo_terms(m, p, batch, noise_of(m, 64), num_timesteps)
            for m, p in ((model, params), (line, {"schedule": {}, "denoiser": {}}))
        ]
        for name in TERM_NAMES:
            ours, theirs = (float(jnp.sum(getattr(terms, name))) for terms in found)
            assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_gammas_give_the_samples_of_a_scalar_one(sampler):
    found, name = [], "pixel_network"
    for model, params in zip(pair(name), paired_parameters(name, 0.1), strict=True):
        draw = jax.jit(lambda i, m=model, p=params: make_sampler(sampler)(m, p, 0, i, 5, 2))
        found.append(draw(jnp.arange(4)))
    np.testing.assert_array_equal(found[0].images, found[1].images)
    scale = float(jnp.abs(found[1].z).max(initial=0.0))
    np.testing.assert_allclose(found[0].z, found[1].z, atol=1e-6 * scale)


@pytest.mark.parametrize("name", ["dense", "iwae", pytest.param("ode", marks=pytest.mark.slow)])
def test_equal_gammas_give_the_bounds_of_a_scalar_one(name):
    options = {"dense": {"num_timesteps": 4}, "iwae": {"num_timesteps": 4, "num_weights": 2}}
    options["ode"] = {"tolerance": 1e-5}
    batch, found, schedule = make_batch(3), [], "pixel_polynomial"
    for model, params in zip(pair(schedule), paired_parameters(schedule, 0.1), strict=True):
        bound = make_bound(name, options)
        found.append(evaluate_bound(bound, model, params, [batch], make_mesh(1), 1))
    for row, values in found[0].rows.items():
        # The ODE's time is t for one and gamma for the other: equal up to the solver's error.
        rtol = 1e-3 if name == "ode" else 1e-6
        np.testing.assert_allclose(values, found[1].rows[row], rtol=rtol)


class Given:
    """A denoiser that knows a context which the schedule of its model does not take."""

    def __init__(self, module, context):
        self.module, self.context = module, context

    def apply(self, variables, z, time, known, *rest, **options):
        known = known.replace(context=self.context)
        return self.module.apply(variables, z, time, known, *rest, **options)


@pytest.mark.parametrize(("context", "num_timesteps"), [(GAUSSIAN, 0), (BITS, 10)])
def test_a_constant_context_gives_the_unconditional_bound(context, num_timesteps):
    """The numbers that the context shifts to, as numbers of an unconditional schedule."""
    told = make("conditional_polynomial", context)
    params = shaken(told)
    params["encoder"] = jax.tree.map(jnp.zeros_like, params["encoder"])
    noise = noise_of(told, 4)
    noise = dataclasses.replace(
        noise, context=jnp.broadcast_to(noise.context[:1], noise.context.shape)
    )
    terms = elbo_terms(told, params, make_batch(4), noise, num_timesteps)
    assert (terms.auxiliary == 0).all()  # q(c|x) = p(c)
    c = told.context.prior(noise.context)
    shape, schedule = params["schedule"]["shape"], told.schedule
    shift = schedule.conditioner.shift(shape["conditioner"], c)[0]
    plain = dataclasses.replace(
        told, schedule=dataclasses.replace(schedule, conditioner=None), context=None, encoder=None
    )
    plain = dataclasses.replace(plain, denoiser=Given(plain.denoiser, c))
    own = {
        "endpoints": params["schedule"]["endpoints"],
        "shape": {"weights": shape["weights"] + shift},
    }
    same = {"denoiser": params["denoiser"], "schedule": own}
    other = elbo_terms(plain, same, make_batch(4), noise, num_timesteps)
    for name in TERM_NAMES[:3]:
        np.testing.assert_allclose(getattr(terms, name), getattr(other, name), rtol=1e-6)


COVARIANCE = np.array([[0.25, 0.15, 0.0], [0.15, 1.0, -0.3], [0.0, -0.3, 2.0]])
ENDS = (-8.0, 5.0)
EXACT = 0.5 * np.log(
    np.linalg.det(np.eye(3) + COVARIANCE * np.exp(-ENDS[0]))
    / np.linalg.det(np.eye(3) + COVARIANCE * np.exp(-ENDS[1]))
)
"""I(x; z_0) - I(x; z_1), nats."""


class Exact(nn.Module):
    """E[eps|z] of N(0, COVARIANCE) from a map of gamma."""

    @nn.compact
    def __call__(self, z, time, known, train):
        gamma = jnp.broadcast_to(ENDS[0] + (ENDS[1] - ENDS[0]) * time, z.shape).reshape(-1, 3)
        alpha, sigma = alpha_sigma(gamma)
        matrix = alpha[:, :, None] * jnp.asarray(COVARIANCE, jnp.float32)[None] * alpha[:, None, :]
        matrix = matrix + jnp.square(sigma)[:, :, None] * jnp.eye(3)[None]
        solved = jnp.linalg.solve(matrix, z.reshape(-1, 3, 1))[..., 0]
        return (sigma * solved).reshape(z.shape)


@functools.cache
def gaussian(sees_gamma_map=True):
    facts = {"shape": (1, 3, 1)}
    options = {"learned_endpoints": False}
    schedule = make_schedule("pixel_polynomial", Endpoints(*ENDS), options, facts)
    model = VDM((1, 3, 1), 256, schedule, Exact(), "eps", True, ENDS)
    return dataclasses.replace(model, sees_gamma_map=sees_gamma_map)


PATHS = {
    "straight": [[0.0, 0.0, 1.0]] * 3,
    "one after the other": [[0.0, -1.5, 1.5], [0.0, 0.0, 1.0], [0.0, 1.5, 0.2]],
    "back and forth": [[5.0, -5.0, 1.0], [-5.0, 5.0, -0.4], [0.3, 1.0, -0.6]],
    "random": np.random.default_rng(0).normal(size=(3, 3)).tolist(),
}


def path_params(path):
    weights = jnp.asarray(PATHS[path], jnp.float32).reshape(1, 3, 1, 3)
    return {"schedule": {"shape": {"weights": weights}}, "denoiser": {}}


@functools.partial(jax.jit, static_argnums=(0, 3))
def expected_at(model, params, times, num_timesteps):
    """The term at each of `times` [N], nats, in exact expectation over x and eps."""
    root = jnp.asarray(np.linalg.cholesky(COVARIANCE), jnp.float32)
    levels = noise_levels(model, params, times, num_timesteps)

    def at(node):
        wide = lambda v: jnp.broadcast_to(v.reshape(1, 1, 3, 1), (times.size, 1, 3, 1))  # noqa: E731
        x, eps = wide(jnp.sum(root * node[None, :3], axis=1)), wide(node[3:])
        return denoising_matching(model, params, x, Known(jnp.zeros(times.size)), eps, levels)

    return jnp.mean(jax.vmap(at)(jnp.sqrt(6.0) * jnp.eye(6)), axis=0)


def continuous(model, params):
    points, weights = np.polynomial.legendre.leggauss(200)
    values = expected_at(model, params, jnp.asarray((points + 1) / 2, jnp.float32), 0)
    return float(np.sum(weights / 2 * np.float64(values)))


def discrete(model, params, num_timesteps):
    times = jnp.asarray((np.arange(num_timesteps) + 0.5) / num_timesteps, jnp.float32)
    return float(np.float64(expected_at(model, params, times, num_timesteps)).mean())


@pytest.mark.parametrize("path", PATHS)
def test_an_exact_denoiser_gives_the_closed_form_on_every_path(path):
    params = path_params(path)
    assert continuous(gaussian(), params) == pytest.approx(EXACT, rel=2e-5)
    excess = [discrete(gaussian(), params, steps) - EXACT for steps in (1000, 10_000)]
    assert 0 < excess[1] < 0.02 and excess[0] / excess[1] == pytest.approx(10, rel=0.05)


def test_a_denoiser_told_the_mean_gives_another_bound_on_every_path():
    """On the straight path, where the mean is all there is to know, it is still exact."""
    found = {path: continuous(gaussian(False), path_params(path)) for path in PATHS}
    assert found["straight"] == pytest.approx(EXACT, rel=2e-5)
    others = [value for path, value in found.items() if path != "straight"]
    assert min(others) > EXACT + 0.1 and np.ptp(others) > 1.0


def test_the_shape_takes_the_gradient_of_the_bound_itself():
    """It vanishes for the exact denoiser, and agrees with differences for the one told the mean."""
    points, weights = np.polynomial.legendre.leggauss(200)
    times, weights = (
        jnp.asarray((points + 1) / 2, jnp.float32),
        jnp.asarray(weights / 2, jnp.float32),
    )
    slopes = []
    for model in (gaussian(), gaussian(False)):
        value = lambda p, m=model: jnp.sum(weights * expected_at(m, p, times, 0))  # noqa: E731
        grads = jax.grad(value)(path_params("random"))["schedule"]["shape"]["weights"]
        slopes.append(grads)
    assert float(jnp.abs(slopes[0]).max()) < 1e-3
    size, step = float(jnp.linalg.norm(slopes[1])), 0.02
    ends = []
    for sign in (1, -1):
        params = path_params("random")
        move = sign * step / size * slopes[1]
        params = jax.tree.map(lambda v, m=move: v + m, params)
        ends.append(continuous(gaussian(False), params))
    assert size > 1.0 and size == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=0.02)


def test_the_flow_of_an_exact_denoiser_has_the_data_s_density_on_every_path():
    """log p(z_0) against the Gaussian's, with t as the ODE's time and an exact trace."""
    bound = make_bound("ode", {"ode": {"tolerance": 1e-6, "trace": "exact"}})
    z_0 = jnp.array([0.3, -1.2, 0.8]).reshape(1, 3, 1)
    alpha = np.sqrt(1 / (1 + np.exp(ENDS[0])))
    covariance = alpha**2 * COVARIANCE + (1 - alpha**2) * np.eye(3)
    z = np.float64(z_0).ravel()
    exact = -0.5 * (
        z @ np.linalg.solve(covariance, z) + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    solve = jax.jit(lambda p: bound.log_density(gaussian(), p, z_0, z_0, jnp.zeros(()), None, None))
    for path in ("straight", "random", "one after the other"):
        value, _, fine = solve(path_params(path))
        # The prior at gamma_1 = 5 is N(0, I) but for .007 of its variance.
        assert bool(fine) and float(value) == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("name", BOUNDS)
def test_every_bound_serves_a_context_and_charges_it(name):
    context = BITS if name in ("dense", "iwae") else GAUSSIAN
    model = dataclasses.replace(make("conditional_polynomial", context), denoiser=Smooth())
    params, batch = shaken(model, 0.1), make_batch(3)
    options = {n: {"num_timesteps": 3} for n in ("discrete", "dense", "consistency", "iwae")}
    options["ode"], options["iwae"]["num_weights"] = {"tolerance": 1e-3}, 2
    found = evaluate_bound(make_bound(name, options), model, params, [batch], make_mesh(1), 2)
    assert all(np.isfinite(values).all() for values in found.rows.values())
    if found.terms:
        assert (found.terms["auxiliary"] > 0).all()
        np.testing.assert_array_equal(*found.terms["auxiliary"])  # exact: without noise
        np.testing.assert_allclose(sum(found.terms.values()), next(iter(found.rows.values())))


class Deaf(Bound):
    """A bound that knows nothing of contexts."""

    name = "deaf"

    def network_evaluations(self):
        return 0

    def make_step(self, model, seed, mesh):
        raise AssertionError("was run")


def refusals():
    model, told = make(), make("conditional_polynomial", GAUSSIAN)
    weight = make_weight("sigmoid", {}, (-7.0, 5.0))
    batch, params = make_batch(2), shaken(told)
    estimation = Estimation(randomisations=1)
    return {
        "variance": (
            lambda: make_gradient(model, 0, "variance"),
            "interior_loss='variance': with one gamma per",
        ),
        "weight": (
            lambda: make_gradient(model, 0, weight=weight),
            "objective.weight: with one gamma",
        ),
        "adaptive": (
            lambda: make_gradient(told, 0, per_image=True),
            "times='adaptive': with one gamma",
        ),
        "paired": (
            lambda: make_paired_step(model, estimation, (-7.0, 5.0), make_mesh(1)),
            "PerPixel: runs are paired .* at equal gamma.*timesteps=T",
        ),
        "scatter": (
            lambda: scatter(told, params, [batch], "model", "iid", 2, 0),
            "variance of the bound: needs one gamma per image.*PerPixel depends on the image",
        ),
        "deaf bound": (
            lambda: evaluate_bound(Deaf(), told, params, [batch], make_mesh(1), 1),
            "bound=deaf: takes no context.*conditional",
        ),
        "fitted": (
            lambda: make_bound("continuous", {"continuous": {"density": "fitted"}}).check(
                model, params
            ),
            "density=fitted: needs one gamma per image.*has one per pixel",
        ),
        "shape": (
            lambda: dataclasses.replace(model, shape=(4, 4, 1)),
            r"built for images of shape \(3, 4, 1\), the model is for \(4, 4, 1\)",
        ),
        "no context": (
            lambda: make("conditional_polynomial"),
            "conditional schedule needs a context; choose context.name",
        ),
        "gamma input": (lambda: make(gamma_input="men"), "model.gamma_input='men'.*map, mean"),
    }


@pytest.mark.parametrize("case", refusals())
def test_refused_with_the_reason(case):
    act, message = refusals()[case]
    with pytest.raises(ConfigError, match=message):
        act()


@dataclasses.dataclass(frozen=True)
class OwnEnds(Linear):
    """End points that differ between pixels."""

    def gamma(self, params, t, context=None):
        return per_example(t) + jnp.arange(12.0).reshape(1, *SHAPE) - 9.0

    def end_gammas(self, params, context=None):
        return self.gamma(params, jnp.zeros(1)), self.gamma(params, jnp.ones(1))


def test_end_points_per_pixel_need_a_drawn_reconstruction():
    model = make("learned_linear")
    model = dataclasses.replace(make(), schedule=OwnEnds(model.schedule.endpoints))
    params, batch = shaken(make()), make_batch(2)
    with pytest.raises(
        ConfigError, match=r"'expected': needs one gamma_0.*\(1, 3, 4, 1\).*'sampled'"
    ):
        elbo_terms(model, params, batch, noise_of(model, 2))
    drawn = dataclasses.replace(model, expected_reconstruction=False)
    assert np.isfinite(elbo_terms(drawn, params, batch, noise_of(model, 2)).total).all()


def test_the_network_sees_the_map_and_the_context_or_the_mean_alone():
    for gamma_input, sees in (("map", True), ("mean", False)):
        model = make("conditional_polynomial", GAUSSIAN, gamma_input=gamma_input)
        params, z = shaken(model), jnp.zeros((1, *SHAPE))
        gamma = jax.random.normal(jax.random.key(0), (1, *SHAPE))
        known = Known(jnp.zeros(1), context=jnp.zeros((1, 3)))
        plain = model.predict_eps(params, z, gamma, known)
        for other in (
            model.predict_eps(params, z, gamma[:, ::-1], known),
            model.predict_eps(params, z, gamma, known.replace(context=jnp.ones((1, 3)))),
        ):
            assert (float(jnp.abs(other - plain).max()) > 1e-3) == sees


def test_dissecting_and_evaluating_charge_the_same_context():
    model, batch = make("conditional_polynomial", GAUSSIAN), make_batch(3)
    params, estimation = shaken(model), Estimation(randomisations=2)
    whole = evaluate(model, params, [batch], estimation, make_mesh(1))
    parts = break_down(model, params, [batch], estimation, make_mesh(1))
    assert (whole.terms["auxiliary"] > 0).all()
    for name, values in whole.terms.items():
        np.testing.assert_allclose(parts.evaluation.terms[name], values, rtol=1e-4)
    channels = parts.channels.sum(axis=2)
    np.testing.assert_allclose(channels, parts.evaluation.total, rtol=1e-6)


def test_a_training_step_moves_the_encoder_and_the_shape():
    """Under a group of its own; without an encoder the optimizer's state is what it was."""
    options = {"learning_rate": 1e-3, "schedule_learning_rate": 1e-3, "warmup_steps": 1}
    options |= {"decay": "constant", "b1": 0.9, "b2": 0.99, "eps": 1e-8, "weight_decay": 0.0}
    options |= {"clip_norm": 1.0, "schedule_clip_norm": 1.0, "encoder_learning_rate": 2e-3}
    model = make("conditional_polynomial", BITS)
    optimizer = make_optimizer(options, 10, group_kinds(encoder=True), group_labels)
    state = jax.jit(lambda key: init_state(model, optimizer, key))(jax.random.key(0))
    params = shaken(model)
    state = dataclasses.replace(state, params=params, ema_params=params)
    step = make_train_step(model, stateless(make_gradient(model, 0)), optimizer, 0, 0.9)
    after, metrics = jax.jit(step)(state, make_batch(4))
    assert float(metrics["auxiliary"]) > 0 and float(metrics["grad_norm/encoder"]) > 0
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params, params)
    assert max(jax.tree.leaves(moved["encoder"])) == pytest.approx(2e-3, rel=0.01)
    assert max(jax.tree.leaves(moved["schedule"]["shape"])) == pytest.approx(1e-3, rel=0.01)
    plain = make("learned_linear")
    optimizer = make_optimizer(options, 10, group_kinds(), group_labels)
    init = lambda key: optimizer.init(plain.init(key))  # noqa: E731
    groups = jax.eval_shape(init, jax.random.key(0)).inner_states
    assert set(groups) == {"denoiser", "schedule/endpoints", "schedule/shape"}
