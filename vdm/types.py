"""Array types with axis names, and the frozen records that stages exchange.

Axes: B = batch, H = height, W = width, C = channels, D = H * W * C.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

Host = Array | np.ndarray
"""An array of a batch: of NumPy as it is read, of JAX once it is placed on devices."""
Images = Integer[Host, "B H W C"]
"""Codes 0 .. num_levels - 1, signed or unsigned."""
Latents = Float[Array, "B H W C"]
"""Continuous images: x in [-1, 1], z_t, noise, predictions."""
PerExample = Float[Array, " B"]
"""One value per image; terms of the bound are in nats."""
Gamma = Float[Array, "#B #H #W #C"]
"""gamma = -log SNR, broadcastable to a latent: [B,1,1,1] when scalar, [B,H,W,C] when per pixel."""
Context = Float[Array, "B K"]
"""Context c of each image, drawn from q(c|x) or p(c), for a schedule that is conditional on it."""
Augmented = Float[Host, " B"]
"""Augmentation flag of each image: 1 = augmented, 0 = clean."""
Index = Int[Host, " B"]
Mask = Bool[Host, " B"]
PRNGKey = jax.Array
Params = Any
"""A tree of arrays with the named branches "schedule", "denoiser" and, with contexts, "encoder"."""


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Facts of a data set on which everything downstream may depend.

    Attributes:
      name: the data set's name.
      shape: (height, width, channels) of every image.
      num_levels: number of integer codes per channel, 2 .. 65,536.
      split_sizes: images per split.
      content_hash: SHA-256 (hex) over the pixels of all splits, their shapes and levels.
      notes: facts that must be printed beside a number (missing images, quantisation), or "".
      missing: number of published images that the source lacks, per split; 0 for a split not named.
    """

    name: str
    shape: tuple[int, int, int]
    num_levels: int
    split_sizes: Mapping[str, int]
    content_hash: str
    notes: str = ""
    missing: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def num_dims(self) -> int:
        """Number of dimensions of an image, D = H * W * C."""
        return math.prod(self.shape)


@flax.struct.dataclass
class Batch:
    """A batch of images.

    Attributes:
      images: integer codes [B,H,W,C].
      index: position of each image in its split [B].
      mask: false for padding [B].
      conditioning: augmentation flag, 1 = augmented, 0 = clean [B].
    """

    images: Images
    index: Index
    mask: Mask
    conditioning: Augmented


@flax.struct.dataclass
class Known:
    """Side information about each image that a network may use besides z and gamma.

    Attributes:
      augmented: 1 for an augmented image, 0 for a clean one [B].
      label: class of the image, -1 for none [B]; None where no network takes one.
      context: c of a conditional schedule [B,K]; None for any other schedule.
    """

    augmented: Augmented
    label: Int[Host, " B"] | None = None
    context: Context | None = None


@flax.struct.dataclass
class ElboTerms:
    """Negative ELBO of each image in nats, term by term.

    The names are those of Luo 2022, "Understanding Diffusion Models" (arXiv:2208.11970), eq. 58.

    Attributes:
      reconstruction: E_q(z_0|x)[-log p(x|z_0)] [B].
      prior_matching: KL(q(z_1|x) || N(0, I)) [B].
      denoising_matching: sum or integral over time of KL(q(z_s|z_t,x) || p(z_s|z_t)) [B].
      auxiliary: further terms, such as the KL of a schedule's context; 0 without one [B].
    """

    reconstruction: PerExample
    prior_matching: PerExample
    denoising_matching: PerExample
    auxiliary: PerExample

    @property
    def total(self) -> PerExample:
        """Negative ELBO [B], nats: the sum of the four terms."""
        parts = (self.reconstruction, self.prior_matching, self.denoising_matching)
        return sum(parts, start=self.auxiliary)


TERM_NAMES = ("reconstruction", "prior_matching", "denoising_matching", "auxiliary")
"""Names of the fields of `ElboTerms`, in their order."""


def bits_per_dim(nats, num_dims: int):
    """Convert nats of an image of D dimensions to bits/dim: nats / (D ln 2)."""
    return nats / (num_dims * math.log(2.0))
