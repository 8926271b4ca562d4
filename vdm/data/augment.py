"""Augmentation as in the paper (Kingma 2021, sec. 5): flips, quarter turns, exchanged channels.

Each transform is drawn with probability 1/2 for each image, from (seed, step, place in the global
batch) alone. The conditioning flag is 1 for an image that came out changed and 0 for one that did not,
so that the network knows which images are data; evaluation uses clean images and 0.
"""

import dataclasses
import itertools

import numpy as np

from vdm.errors import ConfigError

_STREAM = 0x61756763
"""Sets the draws apart from those of the order of images, which have the same seed."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Which transforms are drawn.

    Attributes:
      flip: left and right exchanged.
      rotate: by 90, 180 or 270 degrees, equally likely; square images only.
      permute_channels: any order of the channels but the stored one, equally likely.
    """

    flip: bool = False
    rotate: bool = False
    permute_channels: bool = False

    @property
    def is_active(self) -> bool:
        """Whether any transform is drawn."""
        return self.flip or self.rotate or self.permute_channels

    def check(self, shape: tuple[int, int, int]) -> None:
        """ConfigError unless images [H,W,C] of `shape` can be transformed so."""
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
class Draws:
    """What is done to each image of a batch.

    Attributes:
      flip: whether left and right are exchanged [B].
      quarter_turns: 0..3, counter-clockwise [B].
      order: where each channel comes from [B,C].
    """

    flip: np.ndarray
    quarter_turns: np.ndarray
    order: np.ndarray

    def part(self, start: int, stop: int) -> "Draws":
        """Those of images start .. stop - 1."""
        return Draws(self.flip[start:stop], self.quarter_turns[start:stop], self.order[start:stop])


def draw(augmentation: Augmentation, seed: int, step: int, batch_size: int, channels: int) -> Draws:
    """The transforms of the global batch number `step`, a pure function of the arguments."""
    key = np.random.SeedSequence([seed, step, _STREAM])
    rng = np.random.Generator(np.random.PCG64(key))
    # Always drawn, in one order: turning one transform off changes nothing of the others.
    chosen = rng.random((3, batch_size)) < 0.5
    turns = rng.integers(1, 4, batch_size)
    stored, *others_stored = itertools.permutations(range(channels))
    others = np.array(others_stored or [stored])
    orders = others[rng.integers(0, len(others), batch_size)]
    identity = np.arange(channels)[None, :]
    permute = chosen[2] & augmentation.permute_channels
    return Draws(
        flip=chosen[0] & augmentation.flip,
        quarter_turns=np.where(chosen[1] & augmentation.rotate, turns, 0),
        order=np.where(permute[:, None], orders, identity),
    )


def apply(draws: Draws, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transformed images [B,H,W,C], and the conditioning flag [B]: 1 where any pixel changed."""
    out = images.copy()
    out[draws.flip] = out[draws.flip, :, ::-1]
    for turns in (1, 2, 3):
        rows = np.flatnonzero(draws.quarter_turns == turns)
        if len(rows):
            out[rows] = np.rot90(out[rows], turns, axes=(1, 2))
    rows = np.flatnonzero((draws.order != np.arange(images.shape[-1])).any(axis=1))
    if len(rows):
        out[rows] = np.take_along_axis(out[rows], draws.order[rows][:, None, None, :], axis=-1)
    changed = (out != images).reshape(len(images), -1).any(axis=1)
    return out, changed.astype(np.float32)
