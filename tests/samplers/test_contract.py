"""What every sampler promises: integer codes, frames, and nothing that depends on the batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import per_pixel
from vdm.errors import ConfigError
from vdm.models.records import Support
from vdm.models.vdm.make import make_model
from vdm.models.vdm.model import VDM
from vdm.samplers import SAMPLERS, make_sampler
from vdm.samplers.base import StepSampler
from vdm.types import DataSpec

SPEC = DataSpec("small", (3, 5, 2), 7, {}, "")


@pytest.fixture(scope="module")
def model_and_params():
    model = make_model(
        SPEC,
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": "learned_linear", "gamma_0": None, "gamma_1": None},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    )
    shake = lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape)  # noqa: E731
    params = model.init(jax.random.key(0))
    return model, {**params, "denoiser": jax.tree.map(shake, params["denoiser"])}


@pytest.fixture(params=SAMPLERS)
def sample(request, model_and_params):
    sampler, (model, params) = make_sampler(request.param), model_and_params
    return lambda index, seed=0, steps=7, frames=3: jax.jit(
        lambda index: sampler(model, params, seed, index, steps, frames)
    )(jnp.asarray(index))


def test_codes_and_frames(sample):
    found = sample(range(50))
    assert found.images.shape == (50, *SPEC.shape) and found.images.dtype == jnp.int32
    assert set(np.unique(found.images)) == set(range(7))
    frames = len(found.z)
    assert frames in (0, 4)  # of latents that are no images there are none
    assert found.z.shape == found.x_hat.shape == (frames, 50, *SPEC.shape)
    assert np.isfinite(found.z).all() and np.isfinite(found.x_hat).all()


def test_a_sample_depends_on_seed_and_index_alone(sample):
    whole, part, other = sample(range(6)), sample([4, 1]), sample(range(6), seed=1)
    np.testing.assert_array_equal(part.images, whole.images[jnp.array([4, 1])])
    np.testing.assert_allclose(part.z, whole.z[:, jnp.array([4, 1])], atol=2e-5)
    assert not np.any(np.asarray(other.z[:1]) == np.asarray(whole.z[:1]))
    assert np.any(np.asarray(other.images) != np.asarray(whole.images))


def test_frames_only_look(sample):
    few, many = sample(range(4), frames=1), sample(range(4), frames=7)
    np.testing.assert_array_equal(few.images, many.images)
    np.testing.assert_allclose(few.z[-1:], many.z[-1:], atol=2e-5)


def test_more_frames_than_steps_repeat_themselves(sample):
    found = sample(range(2), steps=1, frames=3)
    assert found.z.shape[0] in (0, 4) and np.isfinite(found.z).all()


def test_unknown_sampler():
    with pytest.raises(ConfigError, match=r"'ancestal'.*ancestral"):
        make_sampler("ancestal")


@pytest.mark.parametrize("name", SAMPLERS)
def test_unknown_options_are_named(name):
    with pytest.raises(ConfigError, match=rf"sampler\.{name}\.wobble=3: no such option; .+"):
        make_sampler(name, {"wobble": 3})


@dataclasses.dataclass(frozen=True)
class Shrink(StepSampler):
    """z_s = factor z_t + i: no noise, and every number of a step in the result."""

    factor: float = 0.5
    name = "shrink"

    def step(self, model, params, z_t, i, num_steps, known, eps):
        return self.factor * z_t + i


class Choosy(VDM):
    """A model that one sampler serves."""

    def supports(self):
        return Support(samplers=("ancestral",))


def test_a_variant_is_one_step(monkeypatch, model_and_params):
    """Steps T..1 in order, frames after each, and codes from what they end at."""
    monkeypatch.setitem(SAMPLERS, "shrink", Shrink)
    sampler, (model, params) = make_sampler("shrink", {"factor": 0.25}), model_and_params
    found = jax.jit(lambda index: sampler(model, params, 0, index, 3, 3))(jnp.arange(2))
    for k, i in enumerate((3, 2, 1)):
        np.testing.assert_allclose(found.z[k + 1], 0.25 * found.z[k] + i, atol=1e-6)
    assert (np.asarray(found.images) == SPEC.num_levels - 1).mean() > 0.9  # z_0 is about 1.7


def test_a_model_that_a_sampler_does_not_serve_is_refused(model_and_params):
    model, params = model_and_params
    choosy = Choosy(**{f.name: getattr(model, f.name) for f in dataclasses.fields(model)})
    with pytest.raises(ConfigError, match=r"sampler='shrink'.*family 'vdm'.*ancestral"):
        Shrink()(choosy, params, 0, jnp.arange(2), 3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_gammas_give_the_samples_of_a_scalar_one(sampler):
    found, name = [], "pixel_network"
    for model, params in zip(
        per_pixel.pair(name), per_pixel.paired_parameters(name, 0.1), strict=True
    ):
        draw = jax.jit(lambda i, m=model, p=params: make_sampler(sampler)(m, p, 0, i, 5, 2))
        found.append(draw(jnp.arange(4)))
    np.testing.assert_array_equal(found[0].images, found[1].images)
    scale = float(jnp.abs(found[1].z).max(initial=0.0))
    np.testing.assert_allclose(found[0].z, found[1].z, atol=1e-6 * scale)
