"""The contract of a denoiser; a new name in DENOISERS needs only a line in OPTIONS."""

import dataclasses
import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import ConfigError
from vdm.networks import DENOISERS, make_denoiser
from vdm.networks.base import OPTIONS as CONTRACT
from vdm.types import Known

OPTIONS = {
    "unet": {"channels": 16, "num_blocks": 1, "dropout": 0.3},
    "mlp": {"width": 32, "num_blocks": 2, "dropout": 0.3},
}
"""Small options by name."""
SHAPES = [(8, 8, 3), (5, 7, 1), (1, 2, 4)]
LEVELS = 256
BATCH = 3

pytestmark = pytest.mark.parametrize("name", DENOISERS)


def build(name: str, **changes):
    return make_denoiser(name, LEVELS, {**OPTIONS[name], **changes})


def example(shape=SHAPES[0]):
    """Return (z, time, known) of a batch, as arrays of NumPy: their arithmetic compiles nothing."""
    z = np.random.default_rng(1).standard_normal((BATCH, *shape), np.float32)
    time = np.linspace(0.1, 0.9, BATCH, dtype=np.float32)[:, None, None, None]
    return z, time, Known(np.array([0.0, 1.0, 0.0], np.float32))


@functools.partial(jax.jit, static_argnums=(0,), static_argnames=("train",))
def apply(module, params, z, time, known, train=False, key=None):
    rngs = None if key is None else {"dropout": key}
    return module.apply({"params": params}, z, time, known, train, rngs=rngs)


@functools.partial(jax.jit, static_argnums=0)
def initial(module, *inputs):
    # This generator compiles in a third of the default's time.
    return module.init(jax.random.key(0, impl="unsafe_rbg"), *inputs, False)["params"]


@functools.cache
def perturbed(name: str, shape=SHAPES[0]):
    """Random parameters, none of them zero as some are at the start."""
    init = functools.partial(build(name).init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), *example(shape))["params"]
    leaves, tree = jax.tree.flatten(shapes)
    generator = np.random.default_rng(2)
    random = [np.asarray(0.15 * generator.standard_normal(s.shape), s.dtype) for s in leaves]
    return jax.tree.unflatten(tree, random)


def rms(x) -> float:
    return float(np.sqrt(np.mean(np.square(np.float64(x)))))


@pytest.mark.parametrize("shape", SHAPES)
def test_takes_any_shape_and_gives_float32(name, shape):
    inputs = example(shape)
    prediction = apply(build(name), perturbed(name, shape), *inputs)
    assert prediction.dtype == jnp.float32 and prediction.shape == (BATCH, *shape)
    assert np.isfinite(prediction).all() and rms(prediction - inputs[0]) > 0.01


def test_starts_as_z_or_zero(name):
    inputs = example(SHAPES[1])
    params = initial(build(name), *inputs)
    for add_input, expected in ((True, inputs[0]), (False, np.zeros_like(inputs[0]))):
        prediction = apply(build(name, add_input=add_input), params, *inputs)
        np.testing.assert_array_equal(prediction, expected)


def test_parameters_serve_any_batch_size_and_one_gamma_for_all(name):
    """A time of shape [1,1,1,1] stands for the whole batch, as from a jitted end point."""
    module, params = build(name), perturbed(name)
    z, time, known = example()
    together = apply(module, params, z, time, known)
    for i in range(BATCH):
        part = slice(i, i + 1)
        alone = apply(module, params, z[part], time[part], Known(known.augmented[part]))
        np.testing.assert_allclose(together[part], alone, rtol=1e-5, atol=1e-5)
    everywhere = apply(module, params, z, np.full((BATCH, 1, 1, 1), 0.4, np.float32), known)
    once = apply(module, params, z, np.full((1, 1, 1, 1), 0.4, np.float32), known)
    np.testing.assert_allclose(once, everywhere, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("changed", ["z", "time", "known"])
def test_depends_on_every_input(name, changed):
    """Of image 1 only, and so does the output: no image sees another."""
    module, params = build(name), perturbed(name)
    inputs = dict(zip(("z", "time", "known"), example(), strict=True))
    before = np.asarray(apply(module, params, *inputs.values()))
    second = np.float32([0.0, 0.3, 0.0])
    inputs[changed] = jax.tree.map(
        lambda a: a + second.reshape(BATCH, *[1] * (a.ndim - 1)), inputs[changed]
    )
    net = np.asarray(apply(module, params, *inputs.values())) - before
    if changed == "z":
        net[1] -= 0.3  # what add_input alone would change
    assert rms(net[1]) > 1e-3 * rms(before)
    np.testing.assert_allclose(net[[0, 2]], 0.0, atol=1e-5 * rms(before))


def test_every_parameter_matters(name):
    """After perturbation no parameter has a gradient of zero, so that all of them can be trained."""
    module, params = build(name), perturbed(name)
    inputs = example()
    target = np.random.default_rng(3).standard_normal(inputs[0].shape, np.float32)
    loss = lambda p: jnp.mean(jnp.square(apply(module, p, *inputs) - target))  # noqa: E731
    dead = [
        jax.tree_util.keystr(path)
        for path, grad in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params))
        if rms(grad) < 1e-8
    ]
    # A constant added to every key moves no softmax.
    assert [path for path in dead if "['k']['bias']" not in path] == []


def test_dropout_follows_the_key_only_when_training(name):
    module, params, inputs = build(name), perturbed(name), example()
    keys = jax.random.split(jax.random.key(4))
    first, again, other = (
        apply(module, params, *inputs, train=True, key=k) for k in (keys[0], keys[0], keys[1])
    )
    np.testing.assert_array_equal(first, again)
    assert rms(first - other) > 1e-3
    silent = [apply(module, params, *inputs, key=k) for k in (None, *keys)]
    np.testing.assert_array_equal(silent[0], silent[1])
    np.testing.assert_array_equal(silent[0], silent[2])
    without = apply(build(name, dropout=0.0), params, *inputs, train=True)
    np.testing.assert_allclose(without, silent[0], rtol=1e-6, atol=1e-6)


def test_bfloat16_inside_stays_close_and_keeps_float32_outside(name):
    """Close only if Fourier features stay float32: of a bf16 z they would be noise."""
    inputs, params = example(), perturbed(name)
    half = build(name, dtype="bfloat16")
    init = jax.eval_shape(functools.partial(half.init, train=False), jax.random.key(0), *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(init)} == {jnp.dtype("float32")}
    exact = apply(build(name), params, *inputs) - inputs[0]
    rounded = apply(half, params, *inputs)
    assert rounded.dtype == jnp.float32
    error = rms(rounded - inputs[0] - exact) / rms(exact)
    assert 1e-5 < error < 0.02  # 0 would mean that nothing was computed in bfloat16


def test_fourier_features_follow_the_number_of_levels(name):
    """Exponents 6, 7 for 256 levels and 2, 3 for 17, or those given; () leaves them out."""
    for levels, exponents in ((256, (6, 7)), (17, (2, 3)), (2, (-1, 0))):
        assert make_denoiser(name, levels, OPTIONS[name]).fourier_exponents == exponents
    assert build(name, fourier_exponents=[5, 6]).fourier_exponents == (5, 6)
    inputs, params = example(), perturbed(name)
    with_features = apply(build(name), params, *inputs)
    without = build(name, fourier_exponents=())
    with pytest.raises(flax.errors.ScopeParamShapeError):
        apply(without, params, *inputs)  # its first layer is narrower
    assert not np.allclose(
        with_features, apply(build(name, fourier_exponents=(5, 6)), params, *inputs)
    )


def test_takes_every_option_that_callers_count_on(name):
    fields = {field.name for field in dataclasses.fields(DENOISERS[name])}
    assert {option for option, facts in CONTRACT.items() if facts.required} <= fields
    for option in fields & CONTRACT.keys():
        assert CONTRACT[option].beside in (None, *fields), option
    open_ones = {"dtype": "float32", "fourier_exponents": None, "num_groups": None, "unroll": None}
    for option, value in open_ones.items():
        if option in fields:
            assert getattr(build(name, **{option: value}), option) is not None


def test_wrong_options_are_refused_by_name(name):
    with pytest.raises(ConfigError, match=f"denoiser.{name}.chanels=3: no such option") as error:
        build(name, chanels=3)
    for option, facts in CONTRACT.items():
        assert not facts.required or option in str(error.value)
    assert "parent" not in str(error.value)  # Linen's own fields are no options
    with pytest.raises(ConfigError, match=rf"denoiser.{name}.dtype='float16'.*bfloat16, float32"):
        build(name, dtype="float16")
    required = next(iter(OPTIONS[name]))
    with pytest.raises(ConfigError, match=rf"denoiser.{name}.{required}.*missing"):
        make_denoiser(name, LEVELS, {k: v for k, v in OPTIONS[name].items() if k != required})


def test_a_map_of_times_is_heard_everywhere(name):
    """With `gamma_map`: equal times give the same however they are shaped, others another answer."""
    module = build(name, gamma_map=True)
    z, time, known = example()
    known = known.replace(context=0.5 - known.augmented[:, None])
    shapes = jax.eval_shape(
        functools.partial(module.init, train=False), jax.random.key(0), z, time, known
    )
    leaves, tree = jax.tree.flatten(shapes["params"])
    draw = np.random.default_rng(2).standard_normal
    params = tree.unflatten([np.asarray(0.15 * draw(s.shape), s.dtype) for s in leaves])
    plain = apply(module, params, z, time, known)
    wide = np.broadcast_to(time, z.shape)
    np.testing.assert_allclose(apply(module, params, z, wide, known), plain, rtol=1e-4, atol=1e-4)
    swing = np.zeros((1, z.shape[1], 1, 1), np.float32)
    swing[:, :2] = [[[0.2]], [[-0.2]]]
    swung = wide + swing  # of the same mean
    assert rms(apply(module, params, z, swung, known) - plain) > 1e-3 * rms(plain)
    other = apply(module, params, z, wide, known.replace(context=known.context + 0.5))
    assert rms(other - plain) > 1e-3 * rms(plain)


def test_time_per_pixel_is_refused_unless_supported(name):
    """One embedded time per image: a map of times must not be read as a batch of them."""
    z, _, known = example()
    try:
        prediction = apply(
            build(name), perturbed(name), z, np.full(z.shape, 0.5, np.float32), known
        )
    except ValueError as error:
        assert "time" in str(error)
    else:
        assert prediction.shape == z.shape
