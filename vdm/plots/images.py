"""Integer images as brightness, singly and as a sheet of tiles."""

import math
from typing import TYPE_CHECKING

import numpy as np

from vdm.types import Images

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_TILE_PIXELS = 32
GAP_PIXELS = 2
_GAP_BRIGHTNESS = 128


def plot_image(axes: "Axes", brightness: np.ndarray, title: str = "") -> None:
    """Draw one image without ticks and frame, with a title such as its bits/dim.

    Args:
      axes: where to draw.
      brightness: [H,W,C], 0 to 255; three channels are colours, of any other number the mean is drawn.
      title: shown above in small type.
    """
    picture = brightness if brightness.shape[-1] == 3 else brightness.mean(axis=-1)
    axes.imshow(picture.astype(np.uint8), cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    axes.set_title(title, fontsize="small")


def plot_images(
    axes: "Axes", images: Images, num_levels: int, num_columns: int | None = None
) -> None:
    """Draw integer images [N,H,W,C] as one sheet of tiles, such as the samples of a run.

    Args:
      axes: where to draw, without ticks and frame.
      images: integers from 0 to num_levels - 1.
      num_levels: number of levels per channel, `DataSpec.num_levels`.
      num_columns: tiles per row; None = about as many rows as columns.
    """
    sheet = tile_images(codes_to_bytes(images, num_levels), num_columns)
    axes.imshow(sheet[..., 0] if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()


def codes_to_bytes(images: Images, num_levels: int) -> np.ndarray:
    """Return integers 0 .. num_levels - 1 as brightness 0 .. 255, uint8 of the same array shape."""
    return np.round(np.asarray(images, np.float64) * (255.0 / (num_levels - 1))).astype(np.uint8)


def tile_images(tiles: np.ndarray, num_columns: int | None = None) -> np.ndarray:
    """Arrange tiles row by row on one grey sheet, with a gap around each.

    Args:
      tiles: brightness 0 .. 255 [N,H,W,C]; small ones are magnified to at least MIN_TILE_PIXELS.
      num_columns: tiles per row; None = about as many rows as columns.

    Returns:
      The sheet, uint8 [rows of pixels, columns of pixels, 1 or 3].
    """
    columns = num_columns or math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)

    # By repetition, not interpolation: a pixel of the data stays a square of one brightness.
    coloured = _to_rgb_or_grey(tiles)
    scale = max(1, math.ceil(MIN_TILE_PIXELS / max(coloured.shape[1:3])))
    coloured = coloured.repeat(scale, axis=1).repeat(scale, axis=2)

    _, height, width, depth = coloured.shape
    size = (rows * (height + GAP_PIXELS) + GAP_PIXELS, columns * (width + GAP_PIXELS) + GAP_PIXELS)
    sheet = np.full((*size, depth), _GAP_BRIGHTNESS, np.uint8)
    for number, tile in enumerate(coloured):
        row, column = divmod(number, columns)
        top = GAP_PIXELS + row * (height + GAP_PIXELS)
        left = GAP_PIXELS + column * (width + GAP_PIXELS)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _to_rgb_or_grey(tiles: np.ndarray) -> np.ndarray:
    """Return 3 channels as colours, and any other number side by side in grey."""
    channels = tiles.shape[-1]
    if channels in (1, 3):
        return tiles
    return np.concatenate([tiles[..., c : c + 1] for c in range(channels)], axis=2)
