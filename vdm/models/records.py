"""Records and signatures that a model family exchanges with what uses it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from vdm.models.means import Metrics
from vdm.types import Batch, ElboTerms, Latents, Params, PerExample, PRNGKey

Noise = Any
"""Randomness that one evaluation of the terms consumes, as a family's own record of arrays."""
ModelState = Any
"""State that a family carries from step to step besides parameters, such as a density of times."""
ModelGradient = Callable[
    [Params, ModelState, Batch, Noise, PRNGKey], tuple[Params, ModelState, Metrics]
]
"""(params, state, batch, noise, dropout key) -> (gradient, next state, metrics in bits/dim)."""
TermsFn = Callable[[Params, Batch, Noise], ElboTerms]
"""(params, batch, noise) -> terms of the negative ELBO of every image [B], nats."""


@dataclasses.dataclass(frozen=True)
class Support:
    """Names of the tools that a model works with.

    Attributes:
      bounds: keys of `vdm.evaluation.bounds.BOUNDS`; None = all of them, later additions included.
      samplers: keys of `vdm.samplers.SAMPLERS`; None = all of them.
      codec: whether the model can code images losslessly.
    """

    bounds: tuple[str, ...] | None = ()
    samplers: tuple[str, ...] | None = ()
    codec: bool = False


class TermMaps(NamedTuple):
    """Terms of every image before they are summed over dimensions, nats.

    Attributes:
      reconstruction, prior_matching, denoising_matching: [B,H,W,C].
      auxiliary: terms that no dimension owns, such as the KL of a context [B].
      gamma: noise level of each image, averaged over dimensions [B].
    """

    reconstruction: Latents
    prior_matching: Latents
    denoising_matching: Latents
    auxiliary: PerExample
    gamma: PerExample
