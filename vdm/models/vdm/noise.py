"""Randomness of the bound as arrays: times, and the noise of every image.

Training draws from a key. Its times are one jittered sample in each of B strata of the *global* batch,
so that the number of devices and the sharding change nothing. Noise of evaluation depends on (seed,
randomisation, repeat, image index) alone: batch size, padding and further repeats change nothing
already drawn.
"""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from vdm.seeds import stream_key
from vdm.types import Index, Latents, PerExample, PRNGKey

# Two-dimensional golden ratio (plastic number 1.3247): fractional steps per image and per repeat of a
# Kronecker sequence, as 32-bit integers, because index * phi loses its fraction in float32.
_PER_IMAGE = 3242174889
_PER_REPEAT = 2447445414
_CONTEXT_KEY = 3  # beyond those that the split of `training_noise` gives

DrawContext = Callable[[PRNGKey], jax.Array]
"""Function key -> the noise of one image's context, see `vdm.distributions.base`."""


@flax.struct.dataclass
class Noise:
    """Draws that one evaluation of the bound consumes.

    Attributes:
      times: uniform in [0, 1) [B]; t itself, or mapped to a step of T by `timestep`.
      eps: noise of z_t [B,H,W,C].
      eps_0: noise of z_0 [B,H,W,C]; unused when the reconstruction is taken in expectation.
      importance: 1/p(times) [B] where times were drawn from a density p; None = uniform.
      context: noise of each image's context [B,...]; None for a model without one.
    """

    times: PerExample
    eps: Latents
    eps_0: Latents
    importance: PerExample | None = None
    context: jax.Array | None = None


def training_noise(
    key: PRNGKey,
    batch_size: int,
    shape: tuple[int, int, int],
    draw_context: DrawContext | None = None,
) -> Noise:
    """Draw the noise of one training step.

    Args:
      key: key of the step, consumed.
      batch_size: B, over all devices.
      shape: (H, W, C) of an image.
      draw_context: function that draws a context's noise; None for a model without one.
    """
    key_times, key_eps, key_eps_0 = jax.random.split(key, 3)
    size = (batch_size, *shape)
    return Noise(
        stratified_times(key_times, batch_size),
        jax.random.normal(key_eps, size),
        jax.random.normal(key_eps_0, size),
        context=_contexts(jax.random.fold_in(key, _CONTEXT_KEY), batch_size, draw_context),
    )


def _contexts(key: PRNGKey, batch_size: int, draw_context: DrawContext | None):
    if draw_context is None:
        return None
    return jax.vmap(draw_context)(jax.random.split(key, batch_size))


def stratified_times(key: PRNGKey, batch_size: int) -> PerExample:
    """Draw times (pi(i) + u_i)/B [B]: one uniform draw in each of B strata, `key` consumed.

    The permutation pi unties strata from places in the batch, which microbatches and devices share out.
    """
    key_order, key_jitter = jax.random.split(key)
    stratum = jax.random.permutation(key_order, batch_size).astype(jnp.float32)
    times = (stratum + jax.random.uniform(key_jitter, (batch_size,))) / batch_size
    return _below_one(times)


def evaluation_noise(
    seed: int,
    randomisation: int | jax.Array,
    repeat: int | jax.Array,
    index: Index,
    shape: tuple[int, int, int],
    draw_context: DrawContext | None = None,
) -> Noise:
    """Draw the noise of images in one repeat of one independent randomisation.

    Over images and repeats the times form a randomly shifted low-discrepancy sequence,
    frac(U + index phi_1 + repeat phi_2) with U from (seed, randomisation): uniform for every image,
    and evenly spread over any number of images and repeats.

    Args:
      seed: seed of the evaluation.
      randomisation: number of the independent randomisation.
      repeat: number of the repeat within it.
      index: position of each image in its split [B].
      shape: (H, W, C) of an image.
      draw_context: function that draws a context's noise, from a stream of its own; None for a model
        without a context.
    """
    _, key_eps = _evaluation_keys(seed, randomisation)
    key_eps = jax.random.fold_in(key_eps, repeat)

    def draw(i):
        return jax.random.normal(jax.random.fold_in(key_eps, i), (2, *shape))

    eps = jax.vmap(draw)(index)
    contexts = evaluation_contexts(seed, randomisation, repeat, index, draw_context)
    times = evaluation_times(seed, randomisation, repeat, index)
    return Noise(times, eps[:, 0], eps[:, 1], context=contexts)


def evaluation_contexts(
    seed: int,
    randomisation: int | jax.Array,
    repeat: int | jax.Array,
    index: Index,
    draw_context: DrawContext | None,
) -> jax.Array | None:
    """Draw the noise of contexts [B,...]; None for a model without a context.

    Args:
      seed: seed of the evaluation.
      randomisation: number of the independent randomisation.
      repeat: number of the repeat within it.
      index: position of each image in its split [B].
      draw_context: function that draws one image's noise.
    """
    if draw_context is None:
        return None
    key = jax.random.fold_in(stream_key(seed, "context"), randomisation)
    key = jax.random.fold_in(key, repeat)
    return jax.vmap(lambda i: draw_context(jax.random.fold_in(key, i)))(index)


def evaluation_times(
    seed: int, randomisation: int | jax.Array, repeat: int | jax.Array, index: Index
) -> PerExample:
    """Return the times of `evaluation_noise` [B], without drawing its noise.

    Args:
      seed: seed of the evaluation.
      randomisation: number of the independent randomisation.
      repeat: number of the repeat within it.
      index: position of each image in its split [B].
    """
    key_shift, _ = _evaluation_keys(seed, randomisation)
    return _kronecker_times(key_shift, repeat, index)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def all_evaluation_times(seed: int, repeats: int, randomisations: int, index: Index) -> PerExample:
    """Return the times of every repeat and randomisation [repeats, randomisations, N].

    Args:
      seed: seed of the evaluation.
      repeats: number of repeats.
      randomisations: number of independent randomisations.
      index: position of each image in its split [N].
    """
    of_one = lambda n, r: evaluation_times(seed, r, n, index)  # noqa: E731
    of_repeat = lambda n: jax.vmap(lambda r: of_one(n, r))(jnp.arange(randomisations))  # noqa: E731
    return jax.vmap(of_repeat)(jnp.arange(repeats))


def timestep(times: PerExample, num_timesteps: int) -> jax.Array:
    """Return the step i in 1..T that each uniform time falls into, int32 [B]."""
    step = 1 + jnp.floor(times * num_timesteps).astype(jnp.int32)
    return jnp.clip(step, 1, num_timesteps)


def _evaluation_keys(seed, randomisation) -> tuple[PRNGKey, PRNGKey]:
    key = jax.random.fold_in(stream_key(seed, "evaluation"), randomisation)
    key_shift, key_eps = jax.random.split(key)
    return key_shift, key_eps


def _kronecker_times(key, repeat, index) -> PerExample:
    shift = jax.random.bits(key, dtype=jnp.uint32)
    # Integers modulo 2^32 are turns of a circle: their sums wrap round without rounding.
    turns = index.astype(jnp.uint32) * jnp.uint32(_PER_IMAGE)
    turns = shift + turns + jnp.asarray(repeat).astype(jnp.uint32) * jnp.uint32(_PER_REPEAT)
    return (turns >> 8).astype(jnp.float32) * 2.0**-24


def _below_one(times: PerExample) -> PerExample:
    # (127 + u)/128 rounds up to 1.0 in float32, which would be step T + 1.
    return jnp.minimum(times, jnp.float32(1.0 - 2.0**-24))
