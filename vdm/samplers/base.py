"""The contract of a sampler: from noise to integer codes, with intermediate latents on request.

    trajectory = sampler(model, params, seed, index, num_steps, num_frames)

A variant for diffusion models defines one step, z_t -> z_s with s = t - 1/T; the loop over steps, the
frames, the predictions x_hat of the image and the decoding are in `StepSampler`. A sampler is pure and
may be jitted with num_steps and num_frames static. All randomness of a sample depends on (seed, index
of the sample) alone, so that the size of a batch changes nothing.
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
from vdm.models.base import Model
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.support import require_support
from vdm.schedules.base import alpha_sigma
from vdm.seeds import stream_key
from vdm.types import Context, Images, Index, Known, Latents, Params, PRNGKey

# Stage of a sample's random stream that draws its context: the last 32-bit number, which no step
# reaches.
_CONTEXT_STAGE = 2**32 - 1


@flax.struct.dataclass
class Trajectory:
    """Samples with the latents that led to them, F = num_frames + 1 frames.

    Attributes:
      images: integer codes 0 .. num_levels - 1 [B,H,W,C].
      z: the latents at F equally spaced times from t = 1 to t = 0 [F,B,H,W,C]; F = 0 for a sampler
        whose latents do not have the images' shape.
      x_hat: E[x|z_t] as the denoiser predicts it at the same times, not clipped to [-1, 1]
        [F,B,H,W,C].
    """

    images: Images
    z: Float[Array, "F B H W C"]
    x_hat: Float[Array, "F B H W C"]


@dataclasses.dataclass(frozen=True)
class Sampler(abc.ABC):
    """A way from noise to images; the dataclass fields of a variant are its options.

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
        """Draw the samples with the numbers `index`.

        Args:
          model: a model that this sampler serves.
          params: its parameters; pass the EMA parameters.
          seed: random seed of all noise.
          index: number of each sample in the stream of `seed` [B]; the same number gives the same
            sample in any batch.
          num_steps: T; unused where the family fixes its number of latents.
          num_frames: intervals into which the T steps are divided; z and x_hat are recorded at their
            ends.

        Raises:
          ConfigError: the sampler does not serve this model.
        """
        require_support("samplers", self.name, model)
        return self.trajectory(model, params, sample_keys(seed, index), num_steps, num_frames)

    @abc.abstractmethod
    def trajectory(
        self, model: Model, params: Params, keys: PRNGKey, num_steps: int, num_frames: int
    ) -> Trajectory:
        """Draw one sample per key [B], from noise to codes.

        Args:
          model: a model that this sampler serves.
          params: its parameters.
          keys: random key of every sample, the root of all that it draws [B].
          num_steps: T.
          num_frames: intervals into which the T steps are divided; z and x_hat are recorded at their
            ends.
        """


@dataclasses.dataclass(frozen=True)
class StepSampler(Sampler):
    """A sampler of diffusion models: z_1 ~ N(0, I), T steps in one compiled loop, then x ~ p(x|z_0).

    A variant defines `step`.
    """

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
        """Return z_s at s = (i - 1)/T from z_t at t = i/T [B,H,W,C].

        Args:
          model: predicts the noise (`model.predict`) and gives gamma(t) (`model.gamma`).
          params: the model's parameters.
          z_t: the latents [B,H,W,C].
          i: number of the step, T down to 1; a traced scalar.
          num_steps: T.
          known: what network and schedule may know of each image besides z and gamma.
          eps: standard normal noise of this step [B,H,W,C]; a deterministic sampler ignores it.
        """

    def trajectory(self, model, params, keys, num_steps, num_frames):
        """Draw one sample per key, see `Sampler.trajectory`."""
        # Samples are of clean, not augmented, images; a context is drawn once and kept for all steps.
        diffusion_model = model.as_diffusion(f"sampler {self.name}")
        known = Known(jnp.zeros(len(keys)), context=draw_context(diffusion_model, keys))

        def step(steps_done, z):
            i = num_steps - steps_done
            eps = draw(keys, i, diffusion_model.shape)
            return self.step(diffusion_model, params, z, i, num_steps, known, eps)

        def frame(z, bounds):
            z = jax.lax.fori_loop(bounds[0], bounds[1], step, z)
            return z, z

        # A loop of steps inside a scan over frames: memory grows with the frames, not with T, and
        # the network is compiled once.
        ends = jnp.asarray([round(f * num_steps / num_frames) for f in range(num_frames + 1)])
        z_1 = draw(keys, 0, diffusion_model.shape)
        z_0, later = jax.lax.scan(frame, z_1, jnp.stack([ends[:-1], ends[1:]], axis=1))

        # One frame at a time, because all frames in one batch may not fit the device.
        z, times = jnp.concatenate([z_1[None], later]), 1.0 - ends / num_steps
        x_hat = jax.lax.map(
            lambda at: predict_x(diffusion_model, params, at[0], at[1], known), (z, times)
        )

        # Stage 0 drew z_1 and stages 1 .. T the steps: T + 1 is the first that is still unused.
        decoder_keys = jax.vmap(lambda key: jax.random.fold_in(key, num_steps + 1))(keys)
        return Trajectory(decode(diffusion_model, params, z_0, known, decoder_keys), z, x_hat)


def predict_x(model: DiffusionModel, params: Params, z: Latents, t, known: Known) -> Latents:
    """Return the denoiser's prediction x_hat = (z - sigma eps_hat)/alpha of the images [B,H,W,C].

    Args:
      model, params: the diffusion model.
      z: latents, all at the same time [B,H,W,C].
      t: that time, a scalar in [0, 1].
      known: what network and schedule may know of each image besides z and gamma.
    """
    gamma = model.gamma(params, jnp.full((z.shape[0],), t), known.context)
    return diffusion.x_from_eps(model.predict(params, z, gamma, known), z, gamma)


def decode(
    model: DiffusionModel, params: Params, z_0: Latents, known: Known, keys: PRNGKey
) -> Images:
    """Draw codes x ~ p(x|z_0) [B,H,W,C].

    Args:
      model, params: the diffusion model.
      z_0: latents at t = 0 [B,H,W,C].
      known: its context, where the schedule has one, sets gamma_0.
      keys: one key per sample [B], consumed.
    """
    # The decoder's logits are those of N(x_v, exp(gamma_0)) around z_0/alpha_0, in the units of x.
    gamma_0, _ = model.end_gammas(params, known.context)
    return codes.sample(keys, z_0 / alpha_sigma(gamma_0)[0], gamma_0, model.num_levels)


def sample_keys(seed: int | jax.Array, index: Index) -> PRNGKey:
    """Return the key of every sample [B], from (seed, its index) alone."""
    key = stream_key(seed, "sampling")
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def draw_context(model: Model, keys: PRNGKey) -> Context | None:
    """Draw c ~ p(c) for every sample [B,K]; None for a model without a context."""
    return model.sample_context(jax.vmap(lambda key: jax.random.fold_in(key, _CONTEXT_STAGE))(keys))


def draw(keys: PRNGKey, stage: int | jax.Array, shape: tuple[int, int, int]) -> Latents:
    """Draw standard normal noise for every sample at one stage [B, *shape].

    Args:
      keys: one key per sample [B]; they are folded with the stage, not consumed.
      stage: 0 for z_1, i for step i; may be traced.
      shape: (H, W, C).
    """
    one = lambda key: jax.random.normal(jax.random.fold_in(key, stage), shape)  # noqa: E731
    return jax.vmap(one)(keys)
