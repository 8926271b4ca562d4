"""The contract of a sampler: noise -> integer codes, and what the way there looked like.

    trajectory = sampler(model, params, seed, index, num_steps, num_frames)

A sampler is pure and may be jitted with num_steps and num_frames static. All it draws for a sample
depends on (seed, index of the sample) alone, so that the size of a batch changes nothing.
"""

from typing import Protocol

import flax.struct
import jax
from jaxtyping import Array, Float

from vdm.models.base import Model
from vdm.seeds import stream_key
from vdm.types import Context, Images, Index, Latents, Params, PRNGKey

_CONTEXT_STAGE = 2**32 - 1  # no sampler has so many


@flax.struct.dataclass
class Trajectory:
    """Attributes:
    images: integer codes [B,H,W,C].
    z: the latent at num_frames + 1 equally spaced steps from t = 1 to t = 0 [F,B,H,W,C]; no frames
      (F = 0) of a sampler whose latents are no images.
    x_hat: the denoiser's guess of the image at the same steps, not clipped [F,B,H,W,C].
    """

    images: Images
    z: Float[Array, "F B H W C"]
    x_hat: Float[Array, "F B H W C"]


class Sampler(Protocol):
    """See the module."""

    def __call__(
        self,
        model: Model,
        params: Params,
        seed: int | jax.Array,
        index: Index,
        num_steps: int,
        num_frames: int = 1,
    ) -> Trajectory: ...


def sample_keys(seed: int | jax.Array, index: Index) -> PRNGKey:
    """One key per sample [B]."""
    key = stream_key(seed, "sampling")
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def draw_context(model: Model, keys: PRNGKey) -> Context | None:
    """c ~ p(c) of every sample; None for a model without a context."""
    return model.sample_context(jax.vmap(lambda key: jax.random.fold_in(key, _CONTEXT_STAGE))(keys))


def draw(keys: PRNGKey, stage: int | jax.Array, shape: tuple[int, int, int]) -> Latents:
    """Standard normal noise of every sample at one stage [B,H,W,C]; stages are numbered from 0."""
    one = lambda key: jax.random.normal(jax.random.fold_in(key, stage), shape)  # noqa: E731
    return jax.vmap(one)(keys)
