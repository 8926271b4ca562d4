"""The canonical order of images, and the hash of a split that follows from it.

TFDS shuffles when it prepares, archives and folders have orders of their own. Sorted by the
SHA-256 of each image (and by label where two are equal), the same images become the same array
whatever way they came. The smallest hashes are also a fair draw: the first images of the canonical
order of "train" are therefore held out as validation split, the same ones on every machine.
"""

import hashlib
import json

import numpy as np

from vdm.data.cache.content import code_dtype, in_chunks


def image_hashes(images: np.ndarray, num_levels: int) -> np.ndarray:
    """Return the SHA-256 of each image's codes, uint8 [N,32].

    The bytes are the codes row by row, channels last, little-endian; dtype and memory layout of
    `images` change nothing.
    """
    hashes = np.empty((len(images), 32), np.uint8)
    position = 0
    for chunk in in_chunks(images):
        codes = np.ascontiguousarray(chunk, dtype=code_dtype(num_levels))
        for image in codes.reshape(len(codes), -1).view(np.uint8):
            hashes[position] = np.frombuffer(hashlib.sha256(image.data).digest(), np.uint8)
            position += 1
    return hashes


def canonical_order(hashes: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Return positions [N] that sort images by hash, and by label where two images are equal.

    Args:
      hashes: SHA-256 of each image [N,32].
      labels: class of each image [N], or None.
    """
    # Four big-endian words sort as the 32 bytes do; lexsort takes its last key first.
    words = np.ascontiguousarray(hashes).view(">u8")
    labels = np.zeros(len(hashes), np.int64) if labels is None else labels
    return np.lexsort((labels, *words.T[::-1]))


def pixel_hash(hashes: np.ndarray, shape: tuple[int, ...], num_levels: int) -> str:
    """Return the SHA-256 (hex) of a split: of shape and levels as JSON, then of sorted hashes.

    Args:
      hashes: SHA-256 of each image, in any order [N,32].
      shape: (H, W, C) of the images.
      num_levels: integer codes per channel.
    """
    facts = {"num_levels": int(num_levels), "shape": [len(hashes), *map(int, shape)]}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(hashes[canonical_order(hashes)].tobytes())
    return digest.hexdigest()
