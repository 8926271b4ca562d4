"""The terms of the bound: closed forms, anchors of the facts, and invariants of the sum."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import per_pixel
from vdm import diffusion
from vdm.errors import ConfigError
from vdm.models.means import mean_bits_per_dim
from vdm.models.vdm.elbo import elbo_terms as uncompiled
from vdm.models.vdm.elbo import gamma_and_weight, prior_matching, reconstruction
from vdm.models.vdm.make import make_model
from vdm.models.vdm.noise import Noise, training_noise
from vdm.models.vdm.objective import make_elbo_loss
from vdm.schedules.base import per_example
from vdm.schedules.linear import Linear
from vdm.types import TERM_NAMES, Batch, DataSpec, ElboTerms, bits_per_dim

SHAPE = (4, 3, 1)
DIMS = 12
MLP = {"width": 16, "num_blocks": 1}
elbo_terms = jax.jit(uncompiled, static_argnums=(0, 4))


def make(num_levels=17, parameterisation="eps", reconstruct="expected", schedule=None, **mlp):
    """A small model on 4x3 images with learned end points."""
    spec = DataSpec("toy", SHAPE, num_levels, {"train": 1}, "0" * 64)
    ends = {"name": "learned_linear", "gamma_0": None, "gamma_1": None, **(schedule or {})}
    denoiser = {"name": "mlp", "mlp": {**MLP, **mlp}}
    sections = {"parameterisation": parameterisation, "reconstruction": reconstruct}
    return make_model(spec, sections, ends, denoiser)


def random_params(model, scale=0.3):
    generator = np.random.default_rng(0)
    params = model.init(jax.random.key(0))
    draw = lambda p: p + jnp.asarray(scale * generator.standard_normal(p.shape), jnp.float32)  # noqa: E731
    return {**params, "denoiser": jax.tree.map(draw, params["denoiser"])}


def make_batch(size: int, num_levels=17, mask=None) -> Batch:
    images = np.random.default_rng(1).integers(0, num_levels, (size, *SHAPE))
    mask = np.ones(size, bool) if mask is None else np.asarray(mask)
    flags = jnp.asarray(np.arange(size) % 2, jnp.float32)
    return Batch(jnp.asarray(images, jnp.int32), np.arange(size), jnp.asarray(mask), flags)


def noise_for(batch: Batch) -> Noise:
    return training_noise(jax.random.key(7), batch.images.shape[0], SHAPE)


@pytest.mark.parametrize("num_timesteps", [0, 10])
def test_terms_add_up_to_the_total(num_timesteps):
    """To 1e-6, per image and as mean bits/dim; the fourth term is 0 without a context."""
    model, batch = make(), make_batch(5)
    terms = elbo_terms(model, random_params(model), batch, noise_for(batch), num_timesteps)
    parts = [np.asarray(getattr(terms, name), np.float64) for name in TERM_NAMES]
    assert all(p.shape == (5,) for p in parts) and not parts[3].any()
    assert all((p > 0).all() for p in parts[:3])
    np.testing.assert_allclose(terms.total, sum(parts), rtol=1e-6)
    means = mean_bits_per_dim(terms, batch.mask, model.num_dims)
    exact = sum(parts).mean() / (DIMS * np.log(2))
    assert float(means["bits_per_dim"]) == pytest.approx(exact, rel=1e-6)
    assert sum(float(means[n]) for n in TERM_NAMES) == pytest.approx(exact, rel=1e-6)
    with_context = dataclasses.replace(terms, auxiliary=jnp.full(5, 2.0))
    np.testing.assert_allclose(with_context.total - terms.total, 2.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("mean_square", "anchor"), [(0.25, 0.00122), (0.30, 0.00146), (1 / 3, 0.00163)]
)
def test_prior_anchors_at_gamma_1_of_5(mean_square, anchor):
    """facts, section 2: bits/dim."""
    x = jnp.full((1, 2, 2, 2), np.sqrt(mean_square), jnp.float32)
    bits = bits_per_dim(prior_matching(x, jnp.full((1, 1, 1, 1), 5.0)), 8)
    assert float(bits[0]) == pytest.approx(anchor, abs=5e-6)


@pytest.mark.parametrize("gamma_1", [-3.0, 0.0, 5.0, 12.0, 24.0])
def test_prior_is_the_gaussian_kl(gamma_1):
    """Against -1/2 sum(1 + ln var - mean^2 - var), whose cancellation float64 survives."""
    x = np.random.default_rng(0).uniform(-1, 1, (3, *SHAPE)).astype(np.float32)
    alpha_squared = np.exp(-np.logaddexp(0, np.float64(gamma_1)))
    log_variance = -np.log1p(np.exp(-np.float64(gamma_1)))
    kl = 0.5 * (alpha_squared * np.float64(x) ** 2 + np.expm1(log_variance) - log_variance)
    ours = prior_matching(jnp.asarray(x), jnp.full((1, 1, 1, 1), gamma_1))
    np.testing.assert_allclose(ours, kl.sum((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize(
    ("gamma_0", "anchor"),
    [(-14.0, 0.000079), (-13.3, 0.010453), (-13.0, 0.037703), (-11.0, 1.112302), (-8.0, 3.276)],
)
def test_reconstruction_anchors(gamma_0, anchor):
    """facts, section 2: bits/dim of interior codes at 256 levels."""
    model = make(256)
    images = jnp.full((1, *SHAPE), 100)
    nats = reconstruction(model, images, jnp.full((1, 1, 1, 1), gamma_0), jnp.zeros((1, *SHAPE)))
    digits = 1e-3 if gamma_0 == -8.0 else 2e-6
    assert float(bits_per_dim(nats, DIMS)[0]) == pytest.approx(anchor, abs=digits)


@pytest.mark.parametrize(("num_levels", "gamma_0"), [(17, -7.0), (17, -4.0), (2, -3.0), (256, -12)])
def test_sampled_reconstruction_has_the_expected_one_as_its_mean(num_levels, gamma_0):
    """Within 4 standard errors of 2000 draws per image, edges included."""
    models = [make(num_levels, reconstruct=r) for r in ("expected", "sampled")]
    images = jnp.tile(make_batch(2, num_levels).images.at[0, 0].set(0), (2000, 1, 1, 1))
    eps = jax.random.normal(jax.random.key(3), images.shape)
    gamma = jnp.full((1, 1, 1, 1), gamma_0, jnp.float32)
    exact, drawn = (np.float64(reconstruction(m, images, gamma, eps)) for m in models)
    drawn = drawn.reshape(2000, 2)
    error = drawn.std(axis=0, ddof=1) / np.sqrt(2000)
    assert (error < 0.1 * exact[:2]).all()
    np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - exact[:2]), 4 * error)


@pytest.mark.parametrize("num_timesteps", [0, 1, 10])
def test_a_fresh_model_has_a_closed_form(num_timesteps):
    """eps_hat = z: E|eps - z|^2 = D (1 - sigma)^2 + alpha^2 |x|^2; over 4000 draws a time."""
    model, image = make(), make_batch(1)
    params = model.init(jax.random.key(0))
    times, draws = np.array([0.05, 0.55, 0.99]), 4000
    batch = jax.tree.map(lambda a: jnp.repeat(jnp.asarray(a), 3 * draws, axis=0), image)
    noise = noise_for(batch).replace(times=jnp.tile(jnp.asarray(times, jnp.float32), draws))
    terms = elbo_terms(model, params, batch, noise, num_timesteps)
    drawn = np.float64(terms.denoising_matching).reshape(draws, 3)

    low, high = -13.3 + 2 * np.log(256 / 17), 5.0
    width = high - low
    t = times if num_timesteps == 0 else np.ceil(times * num_timesteps) / num_timesteps
    gamma = low + width * t
    weight = 0.5 * width
    if num_timesteps:
        weight = 0.5 * num_timesteps * np.expm1(width / num_timesteps)
    x = (2 * np.float64(image.images) + 1) / 17 - 1
    alpha_squared, sigma = 1 / (1 + np.exp(gamma)), np.sqrt(1 / (1 + np.exp(-gamma)))
    exact = weight * (DIMS * (1 - sigma) ** 2 + alpha_squared * np.sum(x**2))
    error = drawn.std(axis=0, ddof=1) / np.sqrt(draws)
    assert (error < 0.03 * exact).all()
    np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - exact), 4 * error)


@pytest.mark.parametrize("num_timesteps", [1, 7, 1000])
def test_weight_is_the_kl_between_the_reverse_steps(num_timesteps):
    """T KL(q(z_s|z_t,x) || p(z_s|z_t)) from means and variances in float64 (Kingma 2021, app. A)."""
    model = make(256)
    params = model.init(jax.random.key(0))
    times = jnp.asarray([0.0, 0.3, 0.62, 0.9999], jnp.float32)
    gamma_t, weight = gamma_and_weight(model, params, times, num_timesteps)

    step = np.minimum(np.floor(np.float64(times) * num_timesteps) + 1, num_timesteps)
    g_s, g_t = (-13.3 + 18.3 * (step - k) / num_timesteps for k in (1, 0))
    np.testing.assert_allclose(gamma_t.ravel(), g_t, atol=2e-6)
    (a_s, s_s), (a_t, s_t) = ((1 / (1 + np.exp(g)), 1 / (1 + np.exp(-g))) for g in (g_s, g_t))
    ratio = a_t / a_s
    step_variance = s_t - ratio * s_s
    variance = step_variance * s_s / s_t
    # The means differ by (x - x_hat) times the posterior's weight on x; x - x_hat = sigma/alpha.
    gap = np.sqrt(a_s) * step_variance / s_t * np.sqrt(s_t / a_t)
    kl = 0.5 * gap**2 / variance
    np.testing.assert_allclose(weight.ravel(), num_timesteps * kl, rtol=2e-6)


class Converted(nn.Module):
    """One noise prediction, 0.6 z + 0.1 gamma + 0.2 flag, told in any parameterisation."""

    parameterisation: str
    time_map: tuple

    @nn.compact
    def __call__(self, z, time, known, train):
        assert z.dtype == time.dtype == jnp.float32
        gamma = self.time_map[0] + time * (self.time_map[1] - self.time_map[0])
        eps = 0.6 * z + 0.1 * gamma + 0.2 * known.augmented[:, None, None, None]
        return diffusion.from_eps(self.parameterisation, eps, z, gamma)


@pytest.mark.parametrize("num_timesteps", [0, 10])
def test_one_prediction_told_in_four_ways_gives_one_bound(num_timesteps):
    batch = make_batch(4)
    totals = {}
    for name in diffusion.TO_EPS:
        model = make(parameterisation=name)
        model = dataclasses.replace(model, denoiser=Converted(name, model.time_map))
        params = {**model.init(jax.random.key(0)), "denoiser": {}}
        terms = elbo_terms(model, params, batch, noise_for(batch), num_timesteps)
        totals[name] = np.float64(terms.total)
    for total in totals.values():
        np.testing.assert_allclose(total, totals["eps"], rtol=2e-5)


def padded(batch: Batch, noise: Noise, extra: int):
    """The same images and noise, followed by `extra` images of padding."""

    def grow(a, value):
        return jnp.concatenate([jnp.asarray(a), jnp.full((extra, *a.shape[1:]), value)])

    grown = Batch(
        grow(batch.images, 16),
        grow(batch.index, 0),
        grow(batch.mask, False),
        grow(batch.conditioning, 1.0),
    )
    return grown, Noise(grow(noise.times, 0.9), grow(noise.eps, 3.0), grow(noise.eps_0, -2.0))


def test_padding_changes_neither_the_mean_nor_its_gradient():
    model, batch = make(), make_batch(3)
    params, noise = random_params(model), noise_for(make_batch(3))
    value = jax.jit(jax.value_and_grad(make_elbo_loss(model, 0), has_aux=True))
    (loss, metrics), grads = value(params, batch, noise, jax.random.key(0))
    (loss_padded, metrics_padded), grads_padded = value(
        params, *padded(batch, noise, 5), jax.random.key(0)
    )
    assert float(loss) == pytest.approx(float(loss_padded), rel=1e-6)
    for name in metrics:
        assert float(metrics[name]) == pytest.approx(float(metrics_padded[name]), rel=1e-6)
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads))
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(grads_padded), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * largest)


def test_a_batch_of_padding_alone_counts_nothing():
    terms = ElboTerms(*(jnp.ones(3) for _ in TERM_NAMES))
    means = mean_bits_per_dim(terms, jnp.zeros(3, bool), make().num_dims)
    assert {float(v) for v in means.values()} == {0.0}


@pytest.mark.parametrize("num_timesteps", [0, 10])
def test_bfloat16_inside_changes_only_the_network_s_term(num_timesteps):
    """Times, gamma, z and every term stay float32; what needs no network is equal bit for bit."""
    exact, half = make(), make(dtype="bfloat16")
    params, batch = random_params(exact), make_batch(6)
    terms = [elbo_terms(m, params, batch, noise_for(batch), num_timesteps) for m in (exact, half)]
    for name in TERM_NAMES:
        assert {getattr(t, name).dtype for t in terms} == {jnp.dtype("float32")}
    for name in ("reconstruction", "prior_matching"):
        np.testing.assert_array_equal(*(getattr(t, name) for t in terms))
    matching = [t.denoising_matching for t in terms]
    np.testing.assert_allclose(*matching, rtol=0.02)
    assert not np.array_equal(*matching)


class Given:
    """A denoiser that knows a context which the schedule of its model does not take."""

    def __init__(self, module, context):
        self.module, self.context = module, context

    def apply(self, variables, z, time, known, *rest, **options):
        known = known.replace(context=self.context)
        return self.module.apply(variables, z, time, known, *rest, **options)


@pytest.mark.parametrize(
    ("context", "num_timesteps"), [(per_pixel.GAUSSIAN, 0), (per_pixel.BITS, 10)]
)
def test_a_constant_context_gives_the_unconditional_bound(context, num_timesteps):
    """The numbers that the context shifts to, as numbers of an unconditional schedule."""
    told = per_pixel.make_small("conditional_polynomial", context)
    params = per_pixel.shaken(told)
    params["encoder"] = jax.tree.map(jnp.zeros_like, params["encoder"])
    noise = per_pixel.noise_of(told, 4)
    noise = dataclasses.replace(
        noise, context=jnp.broadcast_to(noise.context[:1], noise.context.shape)
    )
    terms = elbo_terms(told, params, per_pixel.make_batch(4), noise, num_timesteps)
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
    other = elbo_terms(plain, same, per_pixel.make_batch(4), noise, num_timesteps)
    for name in TERM_NAMES[:3]:
        np.testing.assert_allclose(getattr(terms, name), getattr(other, name), rtol=1e-6)


@dataclasses.dataclass(frozen=True)
class OwnEnds(Linear):
    """End points that differ between pixels."""

    def gamma(self, params, t, context=None):
        return per_example(t) + jnp.arange(12.0).reshape(1, *per_pixel.SHAPE) - 9.0

    def end_gammas(self, params, context=None):
        return self.gamma(params, jnp.zeros(1)), self.gamma(params, jnp.ones(1))


def test_end_points_per_pixel_need_a_drawn_reconstruction():
    model = per_pixel.make_small("learned_linear")
    model = dataclasses.replace(per_pixel.make_small(), schedule=OwnEnds(model.schedule.endpoints))
    params, batch = per_pixel.shaken(per_pixel.make_small()), per_pixel.make_batch(2)
    with pytest.raises(
        ConfigError, match=r"'expected': needs one gamma_0.*\(1, 3, 4, 1\).*'sampled'"
    ):
        elbo_terms(model, params, batch, per_pixel.noise_of(model, 2))
    drawn = dataclasses.replace(model, expected_reconstruction=False)
    assert np.isfinite(elbo_terms(drawn, params, batch, per_pixel.noise_of(model, 2)).total).all()
