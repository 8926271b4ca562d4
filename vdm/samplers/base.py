"""The contract of a sampler: noise -> integer codes, and what the way there looked like.

    trajectory = sampler(model, params, seed, index, num_steps, num_frames)

A variant for diffusion models defines one step, z_t -> z_s; the loop over steps, the frames, the
guesses of the image and the decoding are in `StepSampler`. A sampler is pure and may be jitted with
num_steps and num_frames static. All it draws for a sample depends on (seed, index of the sample) alone,
so that the size of a batch changes nothing.
"""

import abc
import dataclasses
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm import diffusion
from vdm.distributions import codes
from vdm.models.base import Model, require_support
from vdm.models.diffusion_model import DiffusionModel
from vdm.schedules.base import alpha_sigma
from vdm.seeds import stream_key
from vdm.types import Context, Images, Index, Known, Latents, Params, PRNGKey

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


@dataclasses.dataclass(frozen=True)
class Sampler(abc.ABC):
    """See the module; fields of a variant are its options.

    Attributes:
      name: the sampler's key in `vdm.samplers.SAMPLERS`.
    """

    name: ClassVar[str]

    def __call__(
        self,
        model: Model,
        params: Params,
        seed: int | jax.Array,
        index: Index,
        num_steps: int,
        num_frames: int = 1,
    ) -> Trajectory:
        """Samples number `index` [B], after num_steps steps where their number is free.

        Raises:
          ConfigError: the sampler does not serve this model.
        """
        require_support("samplers", self.name, model)
        return self.trajectory(model, params, sample_keys(seed, index), num_steps, num_frames)

    @abc.abstractmethod
    def trajectory(
        self, model: Model, params: Params, keys: PRNGKey, num_steps: int, num_frames: int
    ) -> Trajectory:
        """The samples of one key each [B], from noise to codes.

        Args:
          model: a model that this sampler serves.
          params: its parameters.
          keys: the stream of every sample [B].
          num_steps: T.
          num_frames: stretches of the way whose ends are kept.
        """


@dataclasses.dataclass(frozen=True)
class StepSampler(Sampler):
    """A sampler of diffusion models, from z_1 ~ N(0, I) step by step in one compiled loop."""

    @abc.abstractmethod
    def step(
        self,
        model: DiffusionModel,
        params: Params,
        z_t: Latents,
        i: jax.Array,
        num_steps: int,
        known: Known,
        eps: Latents,
    ) -> Latents:
        """z_s at s = (i - 1)/T from z_t at t = i/T [B,H,W,C].

        Args:
          model: predicts the noise, `model.predict`, and knows the schedule.
          params: the model's parameters.
          z_t: the latents [B,H,W,C].
          i: number of the step, T down to 1, a scalar.
          num_steps: T.
          known: record of what the network knows of each image.
          eps: standard normal noise of this step [B,H,W,C]; a deterministic sampler leaves it.
        """

    def trajectory(self, model, params, keys, num_steps, num_frames):
        """See `Sampler.trajectory`."""
        diffuses = model.as_diffusion(f"sampler {self.name}")
        known = Known(jnp.zeros(len(keys)), context=draw_context(diffuses, keys))

        def step(done, z):
            i = num_steps - done
            eps = draw(keys, i, diffuses.shape)
            return self.step(diffuses, params, z, i, num_steps, known, eps)

        def frame(z, bounds):
            z = jax.lax.fori_loop(bounds[0], bounds[1], step, z)
            return z, z

        ends = jnp.asarray([round(f * num_steps / num_frames) for f in range(num_frames + 1)])
        z_1 = draw(keys, 0, diffuses.shape)
        z_0, later = jax.lax.scan(frame, z_1, jnp.stack([ends[:-1], ends[1:]], axis=1))
        z, times = jnp.concatenate([z_1[None], later]), 1.0 - ends / num_steps
        x_hat = jax.lax.map(lambda at: guess(diffuses, params, at[0], at[1], known), (z, times))
        # The first key of a sample's stream that no step uses.
        key = jax.vmap(lambda k: jax.random.fold_in(k, num_steps + 1))(keys)
        return Trajectory(decode(diffuses, params, z_0, known, key), z, x_hat)


def guess(model: DiffusionModel, params: Params, z: Latents, t, known: Known) -> Latents:
    """The denoiser's guess x_hat of the images behind z at one time t for all [B,H,W,C]."""
    gamma = model.gamma(params, jnp.full((z.shape[0],), t), known.context)
    return diffusion.x_from_eps(model.predict(params, z, gamma, known), z, gamma)


def decode(
    model: DiffusionModel, params: Params, z_0: Latents, known: Known, keys: PRNGKey
) -> Images:
    """Codes x ~ p(x|z_0) [B,H,W,C], from one key per sample [B]."""
    gamma_0, _ = model.end_gammas(params, known.context)
    return codes.sample(keys, z_0 / alpha_sigma(gamma_0)[0], gamma_0, model.num_levels)


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
