"""scikit-learn's handwritten digits: 1,797 images, 8x8x1, 17 levels.

They need no download and train on a laptop: the set of the examples and of many tests.
"""

import importlib.util
from pathlib import Path

import numpy as np

from vdm.data.base import SPLIT_SEED, split_permutation

NUM_LEVELS = 17  # each pixel counts the set pixels of a 4x4 block: 0..16
_ENDS = {"train": (0, 1400), "validation": (1400, 1500), "test": (1500, 1797)}


def source() -> tuple[dict[str, np.ndarray], int, str]:
    """Return the digits as uint8 [N,8,8,1] in three splits, the levels, and the notes."""
    images = digit_images().astype(np.uint8)[..., None]  # whole numbers as float64
    images = images[split_permutation(len(images))]
    splits = {name: images[start:end] for name, (start, end) in _ENDS.items()}
    sizes = "/".join(str(len(array)) for array in splits.values())
    notes = f"digits have no official split; train/validation/test {sizes} by seed {SPLIT_SEED}"
    return splits, NUM_LEVELS, notes


def digit_images() -> np.ndarray:
    """Return `sklearn.datasets.load_digits().images` [N,8,8], read from its file.

    Importing scikit-learn takes a second, which every start would pay; it is the way that remains
    where the file has moved.
    """
    package = importlib.util.find_spec("sklearn")
    if package and package.origin:
        path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")[:, :-1].reshape(-1, 8, 8)
    from sklearn.datasets import load_digits

    return load_digits().images
