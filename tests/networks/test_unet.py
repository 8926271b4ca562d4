"""The U-Net's stacked blocks: looping or written out, one tree and one set of numbers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import ConfigError
from vdm.networks import make_denoiser
from vdm.networks.layers import Dropout
from vdm.training.optimizer import kernels_only
from vdm.types import Known

OPTIONS = {"channels": 8, "num_blocks": 2, "dropout": 0.2, "attention": True}


def inputs():
    z = jax.random.normal(jax.random.key(1), (2, 4, 3, 1))
    return z, jnp.array([0.2, 0.7])[:, None, None, None], Known(jnp.array([0.0, 1.0]))


def shapes(module):
    init = functools.partial(module.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), *inputs())["params"]


def random_params(module):
    generator = np.random.default_rng(0)
    draw = lambda s: jnp.asarray(0.2 * generator.standard_normal(s.shape), s.dtype)  # noqa: E731
    return jax.tree.map(draw, shapes(module))


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_loop_and_written_out_blocks_agree(remat, monkeypatch):
    """Same tree, outputs and gradients, with dropout, recomputed or not: a checkpoint serves both."""
    monkeypatch.setattr("vdm.networks.attention.MIN_POSITIONS_BY_IMAGE", 12)
    options = {**OPTIONS, "num_blocks": 1, "attention": not remat}
    loop = make_denoiser("unet", 16, {**options, "unroll": False, "remat": remat})
    flat = make_denoiser("unet", 16, {**options, "unroll": True, "attend_by_image": False})
    assert shapes(loop) == shapes(flat)
    params = random_params(flat)
    target = jax.random.normal(jax.random.key(3), (2, 4, 3, 1))

    def loss(module, params):
        rngs = {"dropout": jax.random.key(5, impl="unsafe_rbg")}
        prediction = module.apply({"params": params}, *inputs(), True, rngs=rngs)
        return jnp.mean(jnp.square(prediction - target)), prediction

    run = jax.jit(jax.value_and_grad(loss, argnums=1, has_aux=True), static_argnums=0)
    (loss_a, out_a), grad_a = run(loop, params)
    (loss_b, out_b), grad_b = run(flat, params)
    np.testing.assert_allclose(loss_a, loss_b, rtol=1e-6)
    np.testing.assert_allclose(out_a, out_b, rtol=1e-5, atol=1e-5)
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grad_b))
    for a, b in zip(jax.tree.leaves(grad_a), jax.tree.leaves(grad_b), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * largest)


def test_a_loop_stores_what_is_dear_and_nothing_else():
    """Of images: input, first convolution and mask; of attention: input, q, k, v and result."""

    def stored(attention):
        options = {**OPTIONS, "num_blocks": 3, "attention": attention, "unroll": False}
        module = make_denoiser("unet", 16, options)

        def loss(params):
            rngs = {"dropout": jax.random.key(5)}
            return jnp.sum(module.apply({"params": params}, *inputs(), True, rngs=rngs))

        jaxpr = jax.make_jaxpr(jax.grad(loss))(shapes(module)).jaxpr
        down = next(e for e in jaxpr.eqns if e.primitive.name == "scan" and len(e.outvars) > 3)
        found = [v.aval for v in down.outvars if v.aval.shape[:1] == (3,)]  # one for each block
        return sum(aval.size // 3 for aval in found if aval.size >= 3 * 2 * 4 * 3 * 8)

    image = 2 * 4 * 3 * 8
    joined = image  # the emitted h, which blocks on the way out join
    assert stored(attention=False) == 3 * image + joined
    assert stored(attention=True) == 3 * image + joined + 5 * image


@pytest.mark.slow
def test_blocks_join_in_reverse_order():
    """The last in-block joins the first out-block: seen from their inputs and outputs."""
    module = make_denoiser("unet", 16, {**OPTIONS, "dropout": 0.0})
    params, seen = random_params(module), []

    def record(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        if type(context.module).__name__ == "_Block" and not isinstance(result, jax.core.Tracer):
            seen.append((args[0], result))
        return result

    with nn.intercept_methods(record):
        module.apply({"params": params}, *inputs(), False)
    down, up = seen[:2], seen[4:]
    skips = [down[1][1], down[0][1], down[0][0]]  # z's own convolution comes last
    assert len(up) == 3
    for (joined, _), skip in zip(up, skips, strict=True):
        np.testing.assert_array_equal(joined[..., OPTIONS["channels"] :], skip)


def test_every_residual_branch_starts_at_zero():
    """The last layer of each: a fresh network is its skeleton, however deep."""
    module = make_denoiser("unet", 16, OPTIONS)
    last = ("conv2", "cond_proj", "proj_out", "conv_out")

    @jax.jit
    def kernels(key):
        params = module.init(key, *inputs(), False)["params"]
        leaves = jax.tree_util.tree_leaves_with_path(params)
        named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
        return {
            n: k for n, k in named.items() if "kernel" in n and any(f"'{x}'" in n for x in last)
        }

    found = kernels(jax.random.key(0))
    assert len(found) == 3 + 3 + 3 + 2 + 1  # down, up, middle1; middle2 has no attention; output
    assert not any(kernel.any() for kernel in found.values())


def test_stacked_blocks_start_different_from_each_other():
    """Each with the spread of its fan-in, as if it had been initialised alone."""
    module = make_denoiser("unet", 16, OPTIONS)

    @jax.jit
    def kernels(key):
        params = module.init(key, *inputs(), False)["params"]
        return [params[part]["residual"]["conv1"]["kernel"] for part in ("down", "up")]

    for kernel, length in zip(kernels(jax.random.key(0)), (2, 3), strict=True):
        assert kernel.shape[0] == length
        fan_in = np.prod(kernel.shape[1:-1])
        for i in range(length):
            assert float(kernel[i].std()) == pytest.approx(fan_in**-0.5, rel=0.15)
            assert not np.allclose(kernel[i], kernel[i - 1])


@pytest.mark.slow
def test_dropout_differs_from_block_to_block():
    """No two of the seven blocks may drop the same units."""
    options = {**OPTIONS, "attention": False, "dropout": 0.5}
    module = make_denoiser("unet", 16, options)
    params = random_params(module)
    masks = []

    def record(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        if isinstance(context.module, Dropout) and not isinstance(result, jax.core.Tracer):
            masks.append(np.asarray(result == 0.0))
        return result

    with nn.intercept_methods(record):
        module.apply({"params": params}, *inputs(), True, rngs={"dropout": jax.random.key(0)})
    assert len(masks) == 2 + 2 + 3
    for i, mask in enumerate(masks):
        assert 0.3 < mask.mean() < 0.7
        assert not any(np.array_equal(mask, other) for other in masks[:i])


def test_weight_decay_marks_stacked_kernels_and_nothing_else():
    """Convolutions, dense layers and projections; no bias, no norm."""
    params = random_params(make_denoiser("unet", 16, OPTIONS))
    marks = jax.tree_util.tree_leaves_with_path(kernels_only(params))
    for (path, marked), leaf in zip(marks, jax.tree.leaves(params), strict=True):
        stacked = path[0].key in ("down", "up")
        assert marked == (leaf.ndim - stacked >= 2), jax.tree_util.keystr(path)


def test_attention_after_every_block_only_if_asked():
    for attention in (False, True):
        tree = shapes(make_denoiser("unet", 16, {**OPTIONS, "attention": attention}))
        assert [("attention" in tree[part]) for part in ("down", "up")] == [attention] * 2
        assert "attention" in tree["middle1"] and "attention" not in tree["middle2"]


@pytest.mark.slow
def test_the_paper_s_network_has_its_number_of_parameters():
    """30.6 million for CIFAR-10 (Kingma et al. 2021, app. B)."""
    options = {"channels": 128, "num_blocks": 32, "num_groups": 32, "unroll": False}
    module = make_denoiser("unet", 256, options)
    z = jnp.zeros((1, 32, 32, 3))
    init = functools.partial(module.init, train=False)
    arguments = (z, jnp.zeros((1, 1, 1, 1)), Known(jnp.zeros((1,))))
    tree = jax.eval_shape(init, jax.random.key(0), *arguments)
    total = sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert round(total / 1e6, 1) == 30.6


def test_missing_channels_are_named():
    with pytest.raises(ConfigError, match=r"denoiser\.unet\.channels: missing"):
        make_denoiser("unet", 256, {"num_blocks": 1})
