"""Integer codes as they are stored, piece by piece, and the hash that names their content."""

import hashlib
import json
from collections.abc import Iterator, Mapping

import numpy as np

BLOCK_BYTES = 2**22
"""Size of the blocks that are hashed one by one, and of what is held in memory while writing."""


def content_hash(splits: Mapping[str, np.ndarray], num_levels: int) -> str:
    """Return the SHA-256 (hex) over split names, shapes, levels and pixels, for any dtype."""
    digest = content_digest({name: a.shape for name, a in splits.items()}, num_levels)
    for name in sorted(splits):
        for chunk in in_chunks(splits[name]):
            digest.update(code_bytes(chunk, num_levels))
    return digest.hexdigest()


def in_chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Return the images of an array, some megabytes at a time."""
    size = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    return (array[start : start + size] for start in range(0, len(array), size))


def code_dtype(num_levels: int) -> np.dtype:
    """Return the smallest of uint8 and uint16, little-endian, that holds the codes."""
    return np.dtype("<u1" if num_levels <= 256 else "<u2")


def content_digest(shapes: Mapping[str, tuple[int, ...]], num_levels: int):
    """Return a SHA-256 object that has taken in names, shapes and levels, but no pixels yet."""
    listed = [[name, list(shapes[name])] for name in sorted(shapes)]
    header = json.dumps({"num_levels": int(num_levels), "splits": listed}, sort_keys=True)
    return hashlib.sha256(header.encode())


def code_bytes(images: np.ndarray, num_levels: int):
    """Return the codes of some images as bytes in the stored form."""
    codes = np.ascontiguousarray(images, dtype=code_dtype(num_levels))
    return codes.reshape(-1).view(np.uint8).data
