"""Fewer bits per channel: floor(x / 2^(b - bits)).

Source: Glow, Kingma & Dhariwal 2018 (arXiv:1807.03039), whose data sets have 5 bits.
"""

import numpy as np

from vdm.errors import ConfigError

MAX_BITS = 16
"""Most bits per channel of any image."""


def shift_for(num_levels: int, bits: int | None, where: str) -> int:
    """Return the number of low bits to drop from codes of `num_levels` levels; 0 for bits=None.

    Args:
      num_levels: integer codes per channel.
      bits: bits to keep per channel, or None for all.
      where: name of the data in messages.

    Raises:
      ConfigError: bits is not in 1..16, or the levels are no power of two that is large enough.
    """
    if bits is None:
        return 0
    if not 1 <= bits <= MAX_BITS:
        raise ConfigError(f"data.bits={bits}: must be in 1..{MAX_BITS}")
    stored = (num_levels - 1).bit_length()
    if num_levels != 2**stored:
        raise ConfigError(
            f"data.bits={bits}: {where} has {num_levels} levels, no power of two, so its bits "
            "cannot be counted; leave data.bits unset"
        )
    if bits > stored:
        raise ConfigError(f"data.bits={bits}: {where} has only {stored} bits per channel")
    return stored - bits


def reduce_levels(images: np.ndarray, shift: int) -> np.ndarray:
    """Return the codes without their `shift` lowest bits: floor(x / 2^shift)."""
    return images >> shift if shift else images


def describe(num_levels: int, shift: int) -> str:
    """Return the note that must stand beside every number of reduced codes."""
    stored = (num_levels - 1).bit_length()
    return (
        f"{stored - shift} of {stored} bits per channel (floor of code / {2**shift}): "
        f"not comparable with {stored}-bit numbers"
    )
