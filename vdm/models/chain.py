"""Markov chains of Gaussian latents over codes: posterior draws, importance weights and samples.

    q(z_1..T|x)    = q(z_1|x) prod_t q(z_t|z_{t-1})
    p(x, z_1..T)   = p(z_T) prod_t p(z_{t-1}|z_t) p(x|z_1)             t = 2 .. T

(Luo 2022, arXiv:2208.11970, eq. 32-35). A family gives the factors; posterior draws, the importance
weight p(x, z)/q(z|x) and samples are derived here, from one latent to the next, so that two are in
memory. z_1 is nearest to the data.

The importance weighted bound of a VDM (`vdm.evaluation.bounds.importance`) does not use `log_weight`:
here a step's weight is the difference of two log-densities, each far larger than the difference, and
in float32 the errors add up over steps. For 64 dimensions they are 0.003 nats per image at T = 100 and
0.010 at T = 1000, against 0.00003 and 0.00002 for that bound's own trajectories. Those are written in
the noise of the latents, where nothing cancels, and take several steps in one call of the network.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import jax

from vdm.distributions.diagonal import DiagonalGaussian
from vdm.types import Images, PerExample, PRNGKey

Draws = Callable[[int], jax.Array]
"""t -> standard normal noise of the shape of z_t [B, ...]."""


@dataclasses.dataclass(frozen=True)
class Chain:
    """Factors of a chain of T latents, as pure functions.

    Attributes:
      length: T.
      latent_shape: t -> shape of one image's z_t.
      q_1: codes [B,H,W,C] -> q(z_1|x).
      q_up: (t, z_{t-1}) -> q(z_t|z_{t-1}), t = 2 .. T.
      p_down: (t, z_t) -> p(z_{t-1}|z_t), t = 2 .. T.
      prior: batch size -> p(z_T).
      log_prob: (codes, z_1) -> log p(x|z_1), summed over an image's entries [B], nats.
      decoder: z_1 -> log-probabilities of every code [B,H,W,C,L], nats.
      draw_codes: (one key per image [B], z_1) -> a draw of x ~ p(x|z_1).
    """

    length: int
    latent_shape: Callable[[int], tuple[int, ...]]
    q_1: Callable[[Images], DiagonalGaussian]
    q_up: Callable[[int, jax.Array], DiagonalGaussian]
    p_down: Callable[[int, jax.Array], DiagonalGaussian]
    prior: Callable[[int], DiagonalGaussian]
    log_prob: Callable[[Images, jax.Array], PerExample]
    decoder: Callable[[jax.Array], jax.Array]
    draw_codes: Callable[[PRNGKey, jax.Array], Images]


def sample_posterior(chain: Chain, images: Images, draws: Draws) -> Iterator[jax.Array]:
    """Yield z_1 ~ q(z_1|x), then z_t ~ q(z_t|z_{t-1}) for t = 2 .. T.

    Args:
      chain: the model's factors.
      images: codes [B,H,W,C].
      draws: noise of every latent.
    """
    z = chain.q_1(images).sample(draws(1))
    yield z
    for t in range(2, chain.length + 1):
        z = chain.q_up(t, z).sample(draws(t))
        yield z


def log_weight(chain: Chain, images: Images, latents: Iterable[jax.Array]) -> PerExample:
    """Return log p(x, z_1..T) - log q(z_1..T|x) [B], nats, whose mean under q is the ELBO.

    Args:
      chain: the model's factors.
      images: codes [B,H,W,C].
      latents: z_1, z_2, ..., z_T, such as `sample_posterior` gives.

    Raises:
      ValueError: fewer or more latents than the chain has.
    """
    total: PerExample | None = None
    t, z = 0, None
    for t, above in enumerate(latents, start=1):
        if t > chain.length:
            raise ValueError(f"latents: more than the {chain.length} levels of the chain")
        total = _level(chain, images, total, t, z, above)
        z = above
    if z is None or t != chain.length:
        raise ValueError(f"latents: {t} of the {chain.length} levels of the chain")
    return total + chain.prior(len(z)).log_prob(z)  # type: ignore[operator]


def _level(chain: Chain, images: Images, total, t: int, below, z) -> PerExample:
    """Add the factors that join z_t to the latent below it to the sum so far."""
    if t == 1:
        return chain.log_prob(images, z) - chain.q_1(images).log_prob(z)
    return total + chain.p_down(t, z).log_prob(below) - chain.q_up(t, below).log_prob(z)


def sample_prior(chain: Chain, num_images: int, draws: Draws) -> Iterator[jax.Array]:
    """Yield z_T ~ p(z_T), then z_{t-1} ~ p(z_{t-1}|z_t) for t = T .. 2.

    Args:
      chain: the model's factors.
      num_images: B.
      draws: noise of every latent.
    """
    z = chain.prior(num_images).sample(draws(chain.length))
    yield z
    for t in range(chain.length, 1, -1):
        z = chain.p_down(t, z).sample(draws(t - 1))
        yield z


def sample(
    chain: Chain, keys: PRNGKey, draws: Draws, *, return_latents: bool = False
) -> Images | tuple[Images, list[jax.Array]]:
    """Draw codes x ~ p(x) by ancestral sampling [B,H,W,C].

    Args:
      chain: the model's factors.
      keys: one key per image [B], for the draw of codes given z_1.
      draws: noise of every latent.
      return_latents: whether [z_1, ..., z_T] are returned beside the codes.
    """
    latents: list[jax.Array] = []
    for z in sample_prior(chain, len(keys), draws):
        latents = [z, *latents] if return_latents else [z]
    codes = chain.draw_codes(keys, latents[0])
    return (codes, latents) if return_latents else codes
