"""Data augmentation: flips, quarter turns and exchanged channels (Kingma et al. 2021,
arXiv:2107.00630, sec. 6).

Each transform is drawn with probability 1/2 for each image, from (seed, step, place in the global
batch) alone. The conditioning flag is 1 for an image that came out changed and 0 for one that did
not, so that the network knows which images are data; evaluation uses clean images and the flag 0.
"""

import dataclasses
import itertools

import numpy as np

from vdm.errors import ConfigError

_STREAM = 0x61756763
"""A third number in the seed, which separates these draws from the order of images, drawn from the
same seed.
"""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The transforms that are drawn.

    Attributes:
      flip: exchange left and right.
      rotate: turn by 90, 180 or 270 degrees, equally likely; square images only.
      permute_channels: any order of the channels but the stored one, equally likely.
    """

    flip: bool = False
    rotate: bool = False
    permute_channels: bool = False

    @property
    def is_active(self) -> bool:
        """True if any transform is drawn."""
        return self.flip or self.rotate or self.permute_channels

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise ConfigError unless images of `shape` (H, W, C) admit the transforms."""
        height, width, channels = shape
        if self.rotate and height != width:
            raise ConfigError(
                f"data.augment.rotate=True: images of {height} x {width} are not square; "
                "turn it off, or crop them"
            )
        if self.permute_channels and channels < 2:
            raise ConfigError(
                f"data.augment.permute_channels=True: images have {channels} channel; turn it off"
            )


@dataclasses.dataclass(frozen=True)
class Transforms:
    """The transforms drawn for each image of a batch.

    Attributes:
      flip: whether left and right are exchanged [B].
      quarter_turns: quarter turns, 0..3, counter-clockwise [B].
      order: stored channel that each channel is taken from [B,C].
    """

    flip: np.ndarray
    quarter_turns: np.ndarray
    order: np.ndarray

    def part(self, start: int, stop: int) -> "Transforms":
        """Return the transforms of images start .. stop - 1."""
        return Transforms(
            self.flip[start:stop], self.quarter_turns[start:stop], self.order[start:stop]
        )


def draw(
    augmentation: Augmentation, seed: int, step: int, batch_size: int, channels: int
) -> Transforms:
    """Return the transforms of global batch number `step`, a pure function of the arguments.

    Args:
      augmentation: the transforms that may be drawn.
      seed: seed of the run.
      step: batch number from 0.
      batch_size: images in the global batch B, so that the number of devices changes no draw.
      channels: channels C of an image.
    """
    key = np.random.SeedSequence([seed, step, _STREAM])
    rng = np.random.Generator(np.random.PCG64(key))
    # Always drawn, in one order: turning one transform off changes nothing of the others.
    chosen = rng.random((3, batch_size)) < 0.5
    turns = rng.integers(1, 4, batch_size)

    # The first permutation is the stored order, which would be no transform; an image of one
    # channel has no other.
    stored, *others_stored = itertools.permutations(range(channels))
    others = np.array(others_stored or [stored])
    orders = others[rng.integers(0, len(others), batch_size)]
    identity = np.arange(channels)[None, :]
    permute = chosen[2] & augmentation.permute_channels
    return Transforms(
        flip=chosen[0] & augmentation.flip,
        quarter_turns=np.where(chosen[1] & augmentation.rotate, turns, 0),
        order=np.where(permute[:, None], orders, identity),
    )


def apply(transforms: Transforms, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return transformed images [B,H,W,C], and the flag [B], 1 where any pixel changed."""
    out = images.copy()
    out[transforms.flip] = out[transforms.flip, :, ::-1]

    # np.rot90 takes one number of turns for all: the images are grouped by it.
    for turns in (1, 2, 3):
        rows = np.flatnonzero(transforms.quarter_turns == turns)
        if len(rows):
            out[rows] = np.rot90(out[rows], turns, axes=(1, 2))
    rows = np.flatnonzero((transforms.order != np.arange(images.shape[-1])).any(axis=1))
    if len(rows):
        out[rows] = np.take_along_axis(out[rows], transforms.order[rows][:, None, None, :], axis=-1)

    # Compared by pixels: a symmetric image that was flipped is still an image of the data.
    changed = (out != images).reshape(len(images), -1).any(axis=1)
    return out, changed.astype(np.float32)
