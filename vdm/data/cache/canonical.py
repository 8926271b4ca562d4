"""The canonical order of images, and the hash of a split that follows from it.

TFDS shuffles when it prepares, archives and folders have orders of their own. Sorted by the SHA-256 of
each image (and by label where two are equal), the same images become the same array whatever way they
came. The smallest hashes are also a fair draw, so that the first images of the canonical order of
"train" are what is held out as validation split: the same ones on every machine.
"""

import hashlib
import json

import numpy as np

from vdm.data.cache.prepared import code_dtype, in_chunks


def image_hashes(images: np.ndarray, num_levels: int) -> np.ndarray:
    """SHA-256 of each image's codes, row by row, channels last, little-endian; uint8 [N,32]."""
    hashes = np.empty((len(images), 32), np.uint8)
    position = 0
    for chunk in in_chunks(images):
        codes = np.ascontiguousarray(chunk, dtype=code_dtype(num_levels))
        for image in codes.reshape(len(codes), -1).view(np.uint8):
            hashes[position] = np.frombuffer(hashlib.sha256(image.data).digest(), np.uint8)
            position += 1
    return hashes


def canonical_order(hashes: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Positions [N] that sort images by hash, and by label where two images are equal."""
    words = np.ascontiguousarray(hashes).view(">u8")
    labels = np.zeros(len(hashes), np.int64) if labels is None else labels
    return np.lexsort((labels, *words.T[::-1]))


def pixel_hash(hashes: np.ndarray, shape: tuple[int, ...], num_levels: int) -> str:
    """SHA-256 (hex) of a split: of its shape and levels as JSON, then of its images' sorted hashes."""
    facts = {"num_levels": int(num_levels), "shape": [len(hashes), *map(int, shape)]}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(hashes[canonical_order(hashes)].tobytes())
    return digest.hexdigest()
