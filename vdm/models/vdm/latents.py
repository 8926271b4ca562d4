"""The VDM at T steps as a chain of T + 1 Gaussian latents.

z_t of the chain is the latent at time (t - 1)/T of the diffusion: z_1 has the noise of gamma(0) and
z_{T+1} that of gamma(1) (Luo 2022, arXiv:2208.11970, whose T is T + 1 here).
"""

import jax
import jax.numpy as jnp

from vdm import diffusion
from vdm.distributions import codes
from vdm.distributions.diagonal import DiagonalGaussian
from vdm.errors import ConfigError
from vdm.models.chain import Chain
from vdm.models.diffusion_model import DiffusionModel
from vdm.schedules.base import alpha_sigma, step_times
from vdm.types import Context, Gamma, Images, Known, Latents, Params, PerExample, PRNGKey


def latent_chain(
    model: DiffusionModel, params: Params, num_timesteps: int, context: Context | None
) -> Chain:
    """Return the factors of q(z|x) and p(x, z) at T steps, each an exact Gaussian.

    Args:
      model: a diffusion model.
      params: its parameters.
      num_timesteps: T, at least 1.
      context: c of every image [B,K] for a conditional schedule; None for any other.

    Raises:
      ConfigError: T < 1, or a model whose schedule needs a context and gets none.
    """
    if num_timesteps < 1:
        raise ConfigError(f"num_timesteps={num_timesteps}: a chain has T of at least 1 step")
    if (model.context is None) != (context is None):
        raise ConfigError(
            "context: give the images' contexts to a model that has one, and none to any other"
        )
    gamma_0, _ = model.end_gammas(params, context)
    ends = _decoder(model, gamma_0)

    def at(t: int | jax.Array, z: Latents) -> tuple[Gamma, Gamma]:
        """Return (gamma of z_t, its increment from z_{t-1}), each broadcastable to z."""
        step = jnp.full((len(z),), t, jnp.int32) - 1
        gamma = model.gamma(params, step_times(step, num_timesteps)[0], context)
        return gamma, model.gamma_increment(params, step, num_timesteps, context)

    def q_1(images: Images) -> DiagonalGaussian:
        x = codes.bin_centres(images, model.num_levels)
        return diffusion.forward_marginal(x, gamma_0)

    def q_up(t, z: Latents) -> DiagonalGaussian:
        gamma, increment = at(t, z)
        return diffusion.forward_step(z, gamma - increment, gamma)

    def p_down(t, z: Latents) -> DiagonalGaussian:
        gamma, increment = at(t, z)
        eps_hat = model.predict(params, z, gamma, Known(jnp.zeros(len(z)), context=context))
        return diffusion.reverse_step(z, eps_hat, gamma, increment)

    def prior(num_images: int) -> DiagonalGaussian:
        return DiagonalGaussian(jnp.zeros((num_images, *model.shape)), jnp.ones(()))

    return Chain(num_timesteps + 1, lambda t: tuple(model.shape), q_1, q_up, p_down, prior, *ends)


def _decoder(model: DiffusionModel, gamma_0: Gamma):
    """Return p(x|z_1) as the functions (log_prob, decoder, draw_codes) of `Chain`.

    z_1 is the chain's cleanest latent, the diffusion's z_0: its noise is that of gamma(0).
    """
    num_levels = model.num_levels

    def rescaled(z_1: Latents) -> Latents:
        # z_1 / alpha_0 = x + exp(gamma_0 / 2) eps, the form in which `codes` takes latents.
        return z_1 / alpha_sigma(gamma_0)[0]

    def log_prob(images: Images, z_1: Latents) -> PerExample:
        log_probs = codes.log_prob(images, rescaled(z_1), gamma_0, num_levels)
        return jnp.sum(log_probs, axis=(1, 2, 3))

    def decoder(z_1: Latents) -> jax.Array:
        return codes.log_probs(rescaled(z_1), gamma_0, num_levels)

    def draw_codes(keys: PRNGKey, z_1: Latents) -> Images:
        return codes.sample(keys, rescaled(z_1), gamma_0, num_levels)

    return log_prob, decoder, draw_codes
