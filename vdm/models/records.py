"""Records and signatures that a model family exchanges with what uses it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from vdm.models.means import Metrics
from vdm.types import Batch, ElboTerms, Latents, Params, PerExample, PRNGKey

Noise = Any
"""All randomness that one evaluation of the terms consumes; a family's own record of arrays."""
ModelState = Any
"""What a family carries from step to step besides parameters, such as a density of times; or None."""
ModelGradient = Callable[
    [Params, ModelState, Batch, Noise, PRNGKey], tuple[Params, ModelState, Metrics]
]
"""(params, state, batch, noise, dropout key) -> (what to descend along, next state, metrics)."""


TermsFn = Callable[[Params, Batch, Noise], ElboTerms]
"""(params, batch, noise) -> terms of every image [B], nats."""


@dataclasses.dataclass(frozen=True)
class Support:
    """The tools that serve a model.

    Attributes:
      bounds: names of `vdm.evaluation.bounds.BOUNDS`; None = every one, also one added later.
      samplers: names of `vdm.samplers.SAMPLERS`; None = every one.
      codec: whether images can be coded losslessly with it.
    """

    bounds: tuple[str, ...] | None = ()
    samplers: tuple[str, ...] | None = ()
    codec: bool = False


class TermMaps(NamedTuple):
    """The terms of every image before their sums over dimensions, nats.

    Attributes:
      reconstruction, prior_matching, denoising_matching: [B,H,W,C].
      auxiliary: what belongs to no dimension, such as the KL of a context [B].
      gamma: each image's noise level, its mean over dimensions [B].
    """

    reconstruction: Latents
    prior_matching: Latents
    denoising_matching: Latents
    auxiliary: PerExample
    gamma: PerExample
