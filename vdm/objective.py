"""What training minimises: today the bound itself, for every parameter group."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vdm.elbo import elbo_terms
from vdm.model import VDM
from vdm.noise import Noise
from vdm.schedules.base import endpoints
from vdm.types import Batch, ElboTerms, Params, PRNGKey, bits_per_dim

Metrics = dict[str, jax.Array]
LossFn = Callable[[Params, Batch, Noise, PRNGKey], tuple[jax.Array, Metrics]]
"""(params, batch, noise, dropout_key) -> (scalar to minimise, metrics)."""

TERM_NAMES = ("reconstruction", "prior_matching", "denoising_matching", "auxiliary")


def make_elbo_loss(model: VDM, num_timesteps: int) -> LossFn:
    """The mean negative ELBO in bits/dim over unmasked images, for T steps or T = 0 (continuous)."""

    def loss_fn(params, batch, noise, dropout_key):
        terms = elbo_terms(
            model, params, batch, noise, num_timesteps, train=True, dropout_key=dropout_key
        )
        means = mean_bits_per_dim(terms, batch.mask, model)
        return means["bits_per_dim"], {**means, **endpoint_metrics(model, params)}

    return loss_fn


def mean_bits_per_dim(terms: ElboTerms, mask: Any, model: VDM) -> Metrics:
    """Masked mean of the total and of every term, bits/dim."""
    num_dims = model.shape[0] * model.shape[1] * model.shape[2]
    weight = mask.astype(jnp.float32) / jnp.maximum(jnp.sum(mask), 1)
    per_example = {"bits_per_dim": terms.total, **{n: getattr(terms, n) for n in TERM_NAMES}}
    return {n: bits_per_dim(jnp.sum(weight * v), num_dims) for n, v in per_example.items()}


def endpoint_metrics(model: VDM, params: Params) -> Metrics:
    """The mean end points of gamma."""
    gamma_0, gamma_1 = endpoints(model.schedule, params["schedule"])
    return {"gamma_0": jnp.mean(gamma_0), "gamma_1": jnp.mean(gamma_1)}
