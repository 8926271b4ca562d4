"""The U-Net, the terms of the bound and the reverse step against the official implementation.

Its 64-channel parameters are too large to commit, so what needs the network needs the shared
folder; the terms and weights that do not are checked without it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import diffusion
from vdm.distributions.codes import bin_centres, log_prob, nearest_codes
from vdm.models.means import mean_bits_per_dim
from vdm.models.vdm.elbo import elbo_terms, gamma_and_weight, prior_matching
from vdm.models.vdm.noise import Noise
from vdm.schedules.base import endpoints, gamma_and_derivative
from vdm.types import Batch, Known

KINDS = ["fixed", "learnable_scalar"]
CASES = {"T0_anti": 0, "T0_indep": 0, "T10_anti": 10, "T10_indep": 10, "T1000_anti": 1000}
VARIANTS = [(0, 0), (0, 1), (1, 0), (1, 1)]
QUICK_AND_SLOW = [
    (0, 0),
    pytest.param(0, 1, marks=pytest.mark.slow),
    pytest.param(1, 0, marks=pytest.mark.slow),
    (1, 1),
]
"""Every option on and off; those that differ in one only from both, for .ci/run."""


def uniform_times(arrays, case: str) -> jax.Array:
    """Our uniform times for the official t: t itself, or the middle of step t T."""
    t, steps = arrays[f"{case}/f32/t"], CASES[case]
    return jnp.asarray(t if steps == 0 else (np.round(t * steps) - 0.5) / steps, jnp.float32)


compiled_terms = jax.jit(elbo_terms, static_argnums=(0, 4))


@functools.partial(jax.jit, static_argnums=0)
def apply(module, params, z, gamma, flag):
    time = ((gamma + 13.3) / 18.3)[:, None, None, None]
    return module.apply({"params": params}, z, time, Known(flag), False)


@pytest.mark.slow
@pytest.mark.parametrize(("fourier", "attention"), QUICK_AND_SLOW)
def test_unet(shared, official_unet, official_params, assert_official, fourier, attention):
    """Also with another gamma and another flag, to which the output must have responded."""
    arrays = shared("score_n64")
    z, gamma, flag = (jnp.asarray(arrays[n]) for n in ("z", "g_t", "conditioning"))
    module, params = official_unet(fourier, attention), official_params(fourier, attention)
    name = f"fourier{fourier}_attn{attention}/{{}}/eps_hat"
    eps_hat = apply(module, params, z, gamma, flag)
    assert_official(eps_hat, arrays, name)
    for changed, suffix in (
        ((gamma.at[0].set(2.5), flag), "_img0_g=2.5"),
        ((gamma, flag.at[0].set(7.0)), "_img0_cond=7"),
    ):
        other = apply(module, params, z, *changed)
        assert_official(other[:1], arrays, name + suffix)
        assert np.abs(other[0] - eps_hat[0]).max() > 0.01
        np.testing.assert_array_equal(other[1:], eps_hat[1:])


def test_every_parameter_is_translated(official_unet, official_params):
    """The translated tree is the module's own, name by name and shape by shape."""
    shape = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)  # noqa: E731
    for fourier, attention in VARIANTS:
        module = official_unet(fourier, attention)
        inputs = (jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 1, 1, 1)), Known(jnp.zeros((1,))))
        init = functools.partial(module.init, train=False)
        own = jax.eval_shape(init, jax.random.key(0), *inputs)["params"]
        assert shape(official_params(fourier, attention)) == shape(own)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_terms(committed, official_model, assert_official, kind, case):
    arrays, inputs = committed(f"loss_{kind}"), committed("loss_inputs")
    model, params = official_model(kind)
    mask = jnp.ones(4, bool)
    batch = Batch(inputs["images"], np.arange(4), mask, jnp.asarray(inputs["conditioning"]))
    noise = Noise(uniform_times(arrays, case), inputs["eps"], inputs["eps_0"])
    terms = compiled_terms(model, params, batch, noise, CASES[case])
    assert_official(terms.reconstruction, arrays, f"{case}/{{}}/loss_recon")
    assert_official(terms.prior_matching, arrays, f"{case}/{{}}/loss_klz")
    assert_official(terms.denoising_matching, arrays, f"{case}/{{}}/loss_diff")
    bits = mean_bits_per_dim(terms, mask, model.num_dims)["bits_per_dim"]
    assert_official(bits, arrays, f"{case}/{{}}/bpd")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_terms_without_the_network(committed, official_schedule, assert_official, kind, case):
    """Prior, reconstruction, gamma, and the weight as loss_diff over the squared error."""
    arrays, inputs = committed(f"loss_{kind}"), committed("loss_inputs")
    schedule, shape = official_schedule(kind)
    gamma_0, gamma_1 = endpoints(schedule, shape)
    x = bin_centres(inputs["images"], 256)
    assert_official(prior_matching(x, gamma_1), arrays, f"{case}/{{}}/loss_klz")

    z_0 = x + jnp.exp(0.5 * gamma_0) * inputs["eps_0"]
    surprise = -log_prob(inputs["images"], z_0, gamma_0, 256).sum((1, 2, 3))
    assert_official(surprise, arrays, f"{case}/{{}}/loss_recon")

    holder = ScheduleOnly(schedule)
    times = uniform_times(arrays, case)
    gamma_t, weight = gamma_and_weight(holder, {"schedule": shape}, times, CASES[case])
    assert_official(gamma_t, arrays, f"{case}/{{}}/g_t", rel=3e-7)
    exact = arrays[f"{case}/f64/loss_diff"] / arrays[f"{case}/f64/loss_diff_mse"]
    # Nearer than the official float32 run, which is off by 5e-5 at T = 1000.
    np.testing.assert_allclose(np.asarray(weight).reshape(-1), exact, rtol=1e-6)


class ScheduleOnly:
    """The part of a model that `gamma_and_weight` uses."""

    def __init__(self, schedule):
        self.schedule = schedule

    def gamma(self, params, t, context=None):
        return self.schedule.gamma(params["schedule"], t, context)

    def gamma_and_derivative(self, params, t, context=None):
        return gamma_and_derivative(self.schedule, params["schedule"], t, context)

    def gamma_increment(self, params, step, num_timesteps, context=None):
        return self.schedule.gamma_increment(params["schedule"], step, num_timesteps, context)


@pytest.mark.parametrize("kind", KINDS)
def test_reverse_step(shared, official_model, assert_official, kind):
    """z_s from the official z_t, the network's own eps_hat and the official noise."""
    arrays = shared("sample")
    model, params = official_model(kind)
    z_t, eps, flag = (jnp.asarray(arrays[n]) for n in ("z_t", "eps", "conditioning"))

    @jax.jit
    def step(t, s):
        gamma_t, gamma_s = (model.schedule.gamma(params["schedule"], u) for u in (t, s))
        eps_hat = model.predict_eps(params, z_t, gamma_t, Known(flag))
        return diffusion.reverse_step(z_t, eps_hat, gamma_t, gamma_t - gamma_s).sample(eps)

    for num_steps in (10, 1000):
        for done in (0, 5):
            t, s = ((num_steps - done - k) / num_steps for k in (0, 1))
            z_s = step(jnp.full((2,), t), jnp.full((2,), s))
            assert_official(z_s, arrays, f"{kind}/T{num_steps}_i{done}/{{}}/z_s")


@pytest.mark.parametrize("kind", KINDS)
def test_generated_codes(shared, kind, official_schedule):
    """From z_0 to codes: the official argmax over levels is our nearest bin centre."""
    arrays = shared("sample")
    schedule, shape = official_schedule(kind)
    gamma_0, _ = endpoints(schedule, shape)
    z_0_rescaled = arrays[f"{kind}/generate_z_0"] / jnp.sqrt(jax.nn.sigmoid(-gamma_0))
    codes = nearest_codes(z_0_rescaled, 256)
    np.testing.assert_array_equal(codes, arrays[f"{kind}/f64/generate_x"])
