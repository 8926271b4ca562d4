"""One image file -> integer codes [H,W,C], as stored, or cropped and resized on request."""

import dataclasses
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from vdm.data.reading.archives import describe
from vdm.errors import ConfigError, DataError, choose

SUFFIXES = (".png", ".webp", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Filters for resizing, by name; all of them average over the source pixels (anti-aliasing)."""
_FORMATS = ("PNG", "WEBP", "TIFF", "BMP", "JPEG")
_LEVELS = {"1": 2, "L": 256, "RGB": 256, "I;16": 65_536, "I;16L": 65_536, "I;16B": 65_536}
"""Integer codes per channel of every Pillow mode that is read."""
_REFUSED = {
    "P": "a palette",
    "PA": "a palette",
    "LA": "an alpha channel",
    "La": "an alpha channel",
    "RGBA": "an alpha channel",
    "RGBa": "an alpha channel",
    "CMYK": "CMYK colours",
}
"""Pillow modes whose pixels are no plain integers per channel, with what is wrong about them."""
_BITS_PER_SAMPLE = 258  # TIFF's tag
_STRIP_PIXELS = 2**20


@dataclasses.dataclass(frozen=True)
class Resize:
    """Crop and size that a user asked for; images are never changed otherwise.

    Attributes:
      crop: side of a square cut from the centre, in pixels; 0 for none.
      size: side that the (then square) image is resized to, in pixels; 0 for none.
      filter: a key of FILTERS.
    """

    crop: int = 0
    size: int = 0
    filter: str = "lanczos"

    def __post_init__(self):
        choose("data.resize.filter", self.filter, FILTERS, "filter")
        for name in ("crop", "size"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"data.resize.{name}={getattr(self, name)}: must be at least 0 (none)"
                )

    def describe(self) -> str:
        """Return the note that must stand beside every number; "" where images are unchanged."""
        changes = []
        if self.crop:
            changes.append(f"cropped to the central {self.crop} x {self.crop}")
        if self.size:
            changes.append(f"resized to {self.size} x {self.size} ({self.filter}, Pillow)")
        return "images " + ", ".join(changes) if changes else ""

    def __call__(self, image: np.ndarray, where: str) -> np.ndarray:
        """Return the cropped and resized image, [H,W,C] -> [H',W',C].

        Raises:
          DataError: too small for the crop, not square, or not of 8 bits, which resizing needs.
        """
        if self.crop:
            image = _crop(image, self.crop, where)
        if not self.size or image.shape[:2] == (self.size, self.size):
            return image

        # Nothing is distorted or requantised in silence: the user decides how an image becomes
        # square.
        if image.shape[0] != image.shape[1]:
            raise DataError(
                f"{where}: {image.shape[0]} x {image.shape[1]} is not square, so resizing to "
                f"{self.size} x {self.size} would distort it; crop it first (crop=N)"
            )
        if image.dtype != np.uint8:
            raise DataError(f"{where}: only images of 8 bits can be resized; resize it yourself")
        side = (self.size, self.size)

        # Channel by channel, because Pillow has no mode for every number of channels.
        planes = [
            np.asarray(Image.fromarray(image[..., c]).resize(side, FILTERS[self.filter]))
            for c in range(image.shape[-1])
        ]
        return np.stack(planes, axis=-1)


def decode(source: Path | bytes, where: str, max_pixels: int) -> tuple[np.ndarray, dict]:
    """Return the codes [H,W,C] of an image file, and {"num_levels", "lossy"}.

    Orientation tags and colour profiles are ignored: the codes are those stored.

    Args:
      source: a path, or the file's content.
      where: name of the file in messages.
      max_pixels: largest number of pixels; larger images are refused before they are unpacked.

    Raises:
      DataError: no image, a damaged one, or one of a kind that has no integers of its own.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of its own, lower limit on pixels
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(file, formats=_FORMATS) as image:
                num_levels = _check_kind(image, where, max_pixels)
                lossy = _is_lossy(image, source)
                codes = _codes(image, np.uint16 if num_levels > 256 else np.uint8)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: {describe(error)} It is made to fill the memory") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{where}: no image that can be read; PNG, WebP, TIFF, BMP and JPEG can"
        ) from None
    # A damaged file makes the decoders raise nearly anything.
    except Exception as error:
        raise DataError(f"{where}: cannot be read ({describe(error)}); it is damaged") from None

    return codes, {"num_levels": num_levels, "lossy": lossy}


def _codes(image: Image.Image, dtype: Any) -> np.ndarray:
    """Return an image's codes [H,W,C], one channel where it is grey."""
    width, height = image.size
    codes = np.empty((height, width, len(image.getbands())), dtype)
    # In strips: as a whole, Pillow would hold two more copies of the image in memory.
    num_rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, num_rows):
        strip = image.crop((0, top, width, min(top + num_rows, height)))
        codes[top : top + num_rows] = np.asarray(strip).reshape(-1, width, codes.shape[2])
    return codes


def _check_kind(image: Image.Image, where: str, max_pixels: int) -> int:
    """Return the number of levels, or refuse an image before its pixels are unpacked."""
    if image.width * image.height > max_pixels:
        raise DataError(
            f"{where}: {image.width} x {image.height} pixels are more than {max_pixels}; "
            "it is no image to train on, or made to fill the memory"
        )

    # Every kind that has no single obvious array of integers is refused: a silent conversion would
    # change the data that a likelihood is reported on.
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{where}: holds several images; split it into one file each")
    if image.mode in _REFUSED or "transparency" in image.info:
        kind = _REFUSED.get(image.mode, "an alpha channel")
        raise DataError(f"{where}: has {kind}; convert it to grey or RGB without one")
    if image.mode not in _LEVELS:
        raise DataError(f"{where}: has mode {image.mode}; grey, RGB and 16-bit grey are read")

    # Pillow reads these without a word, and drops half of their bits.
    if image.mode == "RGB" and _has_16_bits(image):
        raise DataError(
            f"{where}: RGB of 16 bits, of which only 8 would be read; "
            "store such images as uint16 [N,H,W,3] in a .npz (data.name=arrays)"
        )
    return _LEVELS[image.mode]


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether an RGB image has more than 8 bits per channel: its mode does not say so."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    tiles = getattr(image, "tile", [])
    return any("16" in str(tile[3]) for tile in tiles) or max(bits) > 8


def _is_lossy(image: Image.Image, source: Path | bytes) -> bool:
    """Return whether the file was compressed with loss, as JPEG and some WebP are."""
    if image.format == "WEBP":
        # Pillow does not tell the two kinds of WebP apart; the lossless one has a chunk named
        # VP8L.
        head = source[:4096] if isinstance(source, bytes) else source.open("rb").read(4096)
        return b"VP8L" not in head
    return image.format == "JPEG" or image.info.get("compression") in ("jpeg", "webp")


def _crop(image: np.ndarray, side: int, where: str) -> np.ndarray:
    """Return the central square of `side` pixels."""
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise DataError(f"{where}: {height} x {width} is smaller than crop={side}")
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]
