"""Integer images and latents as PNG files."""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from vdm.runs.folder import write_bytes
from vdm.types import Images, Latents

MIN_TILE_PIXELS = 32


def codes_to_bytes(images: Images, num_levels: int) -> np.ndarray:
    """Codes 0 .. num_levels - 1 as brightness 0 .. 255."""
    return np.round(np.asarray(images, np.float64) * (255.0 / (num_levels - 1))).astype(np.uint8)


def latents_to_bytes(latents: Latents | np.ndarray) -> np.ndarray:
    """[-1, 1] as brightness 0 .. 255; what lies outside is clipped."""
    return np.round(np.clip((np.asarray(latents, np.float64) + 1.0) * 127.5, 0, 255)).astype(
        np.uint8
    )


def write_grid(path: Path, tiles: np.ndarray, num_columns: int | None = None) -> None:
    """Tiles [N,H,W,C] of brightness, row by row; square unless `num_columns` is given."""
    columns = num_columns or math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    colour = _to_rgb_or_gray(tiles)
    scale = max(1, math.ceil(MIN_TILE_PIXELS / max(colour.shape[1:3])))
    colour = colour.repeat(scale, axis=1).repeat(scale, axis=2)
    _, height, width, depth = colour.shape
    gap = 2
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, depth), 128)
    for n, tile in enumerate(colour):
        row, column = divmod(n, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    picture = Image.fromarray((sheet[..., 0] if depth == 1 else sheet).astype(np.uint8))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    write_bytes(path, file.getvalue())


def _to_rgb_or_gray(tiles: np.ndarray) -> np.ndarray:
    """3 channels are colours; any other number stands side by side in gray."""
    channels = tiles.shape[-1]
    if channels in (1, 3):
        return tiles
    return np.concatenate([tiles[..., c : c + 1] for c in range(channels)], axis=2)
