"""Integer images and latents as PNG files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from vdm.plots.images import codes_to_bytes, tile_images
from vdm.runs.folder import write_bytes
from vdm.types import Latents

__all__ = ["codes_to_bytes", "latents_to_bytes", "write_grid"]


def latents_to_bytes(latents: Latents | np.ndarray) -> np.ndarray:
    """Return values in [-1, 1] as brightness 0 .. 255, uint8 of the same array shape, clipped."""
    return np.round(np.clip((np.asarray(latents, np.float64) + 1.0) * 127.5, 0, 255)).astype(
        np.uint8
    )


def write_grid(path: Path, tiles: np.ndarray, num_columns: int | None = None) -> None:
    """Write tiles [N,H,W,C] of brightness 0 .. 255 as one PNG, see `vdm.plots.images.tile_images`.

    Written with Pillow, not drawn on axes: a pixel of the file is a pixel of the sheet, and training
    writes its samples without matplotlib.
    """
    sheet = tile_images(tiles, num_columns)
    picture = Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    write_bytes(path, file.getvalue())
