"""The contract of a model family; a new name in FAMILIES is tested without a change here."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import compiled
from vdm.errors import ConfigError
from vdm.evaluation.bounds import BOUNDS
from vdm.models import FAMILIES, chain, make_family
from vdm.runs.defaults import default_config
from vdm.samplers import SAMPLERS, make_sampler, serving
from vdm.training.optimizer import KINDS, make_optimizer
from vdm.training.state import init_state
from vdm.training.step import make_train_step
from vdm.types import TERM_NAMES, Batch, DataSpec

SPEC = DataSpec("small", (3, 2, 1), 5, {}, "")
STEPS = 3
"""T of chains, for families whose T is free."""
NUM_IMAGES, DRAWS = 4, 400


def config_of(name):
    config = default_config()
    config["model"]["family"] = name
    config["denoiser"]["name"] = "mlp"
    config["denoiser"]["mlp"] |= {"width": 8, "num_blocks": 1}
    config["optimizer"] |= {"learning_rate": 0.01, "warmup_steps": 1}
    return config


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return make_family(SPEC, config_of(request.param))


@pytest.fixture(scope="module")
def params(model):
    """Random parameters, none of them zero as some are at the start."""
    return model.project(compiled.shaken(compiled.init(model), 0.1))


def make_batch(size=NUM_IMAGES):
    """Return NUM_IMAGES images, repeated; each place in the batch has noise of its own."""
    images = np.random.default_rng(0).integers(0, SPEC.num_levels, (NUM_IMAGES, *SPEC.shape))
    places = np.arange(size, dtype=np.int32)
    flag = np.zeros(size, np.float32)
    return Batch(images[places % NUM_IMAGES], places, np.ones(size, bool), flag)


def evaluated(model, params, batch, seed=0):
    """Return the terms of `batch` under the noise of evaluation."""
    noise = evaluation_noise(model, seed, 0, 0, batch.index)
    return compiled_terms(model, params, batch, noise)


compiled_terms = jax.jit(
    lambda model, params, batch, noise: model.terms(params, batch, noise), static_argnums=0
)
evaluation_noise = jax.jit(
    lambda model, *arguments: model.evaluation_noise(*arguments), static_argnums=(0, 1, 2, 3)
)


def test_frozen_hashable_and_equal_to_its_like(model):
    again = make_family(SPEC, config_of(model.family))
    assert model == again and hash(model) == hash(again)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.num_levels = 3
    assert model.shape == SPEC.shape and model.num_dims == 6
    assert FAMILIES[model.family](SPEC, config_of(model.family)) == model


def test_terms_are_float32_per_image_and_add_up(model, params):
    terms = evaluated(model, params, make_batch())
    values = [getattr(terms, name) for name in TERM_NAMES]
    for value in values:
        assert value.shape == (NUM_IMAGES,) and value.dtype == jnp.float32
        assert np.isfinite(value).all()
    total = np.sum(np.float64(values), axis=0)
    np.testing.assert_allclose(terms.total, total, rtol=1e-6)
    assert (total > 0).all()


def test_evaluation_noise_is_an_image_s_own(model):
    index, some_index = np.arange(6, dtype=np.int32), np.array([3, 5, 5], np.int32)
    whole = jax.device_get(evaluation_noise(model, 0, 1, 2, index))
    part = evaluation_noise(model, 0, 1, 2, some_index)
    for all_images, some in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        np.testing.assert_array_equal(all_images[some_index], some)
    for other in ((1, 1, 2), (0, 0, 2), (0, 1, 1)):
        changed = jax.tree.leaves(jax.device_get(evaluation_noise(model, *other, index)))
        leaves = zip(jax.tree.leaves(whole), changed, strict=True)
        assert not any(np.any(one == another) for one, another in leaves)


def test_training_noise_has_the_structure_of_evaluation_s(model):
    drawn = (
        jax.eval_shape(lambda key: model.training_noise(key, 6), jax.random.key(0)),
        jax.eval_shape(lambda index: model.evaluation_noise(0, 0, 0, index), jnp.arange(6)),
    )
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), noise) for noise in drawn]
    assert shapes[0] == shapes[1]


def test_groups_have_an_optimizer_each(model, params):
    labels, kinds = model.groups(params), model.group_kinds()
    assert jax.tree.structure(labels) == jax.tree.structure(params)
    assert set(jax.tree.leaves(labels)) <= set(kinds) and set(kinds.values()) <= set(KINDS)


def test_a_gradient_ignores_padding(model, params):
    """Whatever the images are that the mask leaves out."""
    batch, mask = make_batch(6), np.arange(6) < NUM_IMAGES
    noise = jax.jit(lambda key: model.training_noise(key, 6))(jax.random.key(2))
    gradient, found = jax.jit(model.gradient), []
    for filler in (0, SPEC.num_levels - 1):
        images = np.where(mask[:, None, None, None], batch.images, filler)
        padded = batch.replace(images=images, mask=mask)
        grads, _, metrics = gradient(params, model.init_state(), padded, noise, jax.random.key(3))
        found.append((grads, metrics))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), *found)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found[0][0])) > 0


def test_a_few_steps_of_training_lower_the_bound(model):
    options = config_of(model.family)["optimizer"]
    optimizer = make_optimizer(options, 30, model.group_kinds(), model.groups)
    state = jax.jit(lambda key: init_state(model, optimizer, key))(jax.random.key(0))
    step = jax.jit(make_train_step(model, model.gradient, optimizer, 0, 0.9))
    many = make_batch(64 * NUM_IMAGES)
    before = np.mean(evaluated(model, state.params, many).total)
    for _ in range(30):
        state, metrics = step(state, make_batch(4 * NUM_IMAGES))
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert np.mean(evaluated(model, state.params, many).total) < before


def test_facts_are_json_and_name_the_family(model):
    facts = json.loads(json.dumps(model.facts()))
    assert facts["family"] == model.family and facts["dtype"] == "float32"
    assert facts["timesteps_train"] == model.timesteps_train
    if model.timesteps_train is None:
        with pytest.raises(ConfigError, match="num_timesteps=7"):
            model.with_timesteps(7)
    else:
        assert model.with_timesteps(7).timesteps_train == 7


def test_what_it_supports_exists(model, params):
    support = model.supports()
    served = set(SAMPLERS if support.samplers is None else support.samplers)
    assert set(support.bounds or ()) <= set(BOUNDS) and served <= set(SAMPLERS)
    for name in sorted(served):
        assert serving(model, name) == name
        draw = jax.jit(lambda index, name=name: make_sampler(name)(model, params, 0, index, STEPS))
        images = np.asarray(draw(jnp.arange(5)).images)
        assert images.shape == (5, *SPEC.shape) and images.dtype == np.int32
        assert images.min() >= 0 and images.max() < SPEC.num_levels
    for name in set(SAMPLERS) - served:
        with pytest.raises(ConfigError, match=f"sampler='{name}': does not serve"):
            serving(model, name)


def chain_of(model, params):
    """(its chain, the model whose bound that is); skips a family that is none."""
    steps = 0 if model.timesteps_train is None else STEPS
    try:
        return model.chain(params, steps), model.with_timesteps(steps)
    except ConfigError as error:
        pytest.skip(str(error))


def normal(key, size, shape_of):
    """`draws` of `vdm.models.chain`."""
    return lambda t: jax.random.normal(jax.random.fold_in(key, t), (size, *shape_of(t)))


def test_the_mean_log_weight_of_its_chain_is_the_bound(model, params):
    factors, bounded = chain_of(model, params)
    batch = make_batch(NUM_IMAGES * DRAWS)

    @jax.jit
    def log_weight(images):
        draws = normal(jax.random.key(5), len(images), factors.latent_shape)
        return chain.log_weight(factors, images, chain.sample_posterior(factors, images, draws))

    by_chain = -np.float64(log_weight(jnp.asarray(batch.images))).reshape(DRAWS, NUM_IMAGES)
    by_terms = np.float64(evaluated(bounded, params, batch).total).reshape(DRAWS, NUM_IMAGES)
    gap = by_chain.mean(0) - by_terms.mean(0)
    error = np.hypot(by_chain.std(0), by_terms.std(0)) / np.sqrt(DRAWS)
    assert (np.abs(gap) < 4 * error).all(), (gap, error)
    # Sharp enough to miss no term.
    assert (error < 0.1 * np.abs(by_terms.mean(0))).all(), error


def test_its_chain_draws_codes_with_a_distribution(model, params):
    factors, _ = chain_of(model, params)

    @jax.jit
    def sample(key, latents_key):
        draws = normal(latents_key, 5, factors.latent_shape)
        keys = jax.random.split(key, 5)
        codes, latents = chain.sample(factors, keys, draws, return_latents=True)
        return codes, latents, factors.decoder(latents[0]), factors.log_prob(codes, latents[0])

    codes, latents, table, expected = sample(jax.random.key(6), jax.random.key(7))
    assert [z.shape for z in latents] == [
        (5, *factors.latent_shape(t)) for t in range(1, factors.length + 1)
    ]
    assert codes.shape == (5, *SPEC.shape) and codes.dtype == jnp.int32
    assert 0 <= int(codes.min()) and int(codes.max()) < SPEC.num_levels
    table = np.float64(table)
    assert table.shape == (*codes.shape, SPEC.num_levels)
    np.testing.assert_allclose(np.exp(table).sum(-1), 1.0, rtol=1e-5)
    chosen = np.take_along_axis(table, np.asarray(codes)[..., None], -1)
    np.testing.assert_allclose(chosen.sum((1, 2, 3, 4)), expected, rtol=1e-4, atol=1e-5)
