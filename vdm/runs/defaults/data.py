"""Defaults of section "data"; see docs/guide/data.md."""

from typing import Any


def data() -> dict[str, Any]:
    """Return the source of images; a source's own options lie under its name."""
    return {
        # Name of the set: digits, arrays:FILE, folder:PATH, tfds:BUILDER, or a published set.
        "name": "digits",
        # Folder of prepared arrays; None = $VDM_DATA_DIR or ~/.cache/vdm/data.
        "cache_dir": None,
        # A folder with a published set's archives or files; None = TensorFlow Datasets downloads it.
        "source_dir": None,
        # Bits kept per channel, 1..16, as Glow does (arXiv:1807.03039):
        # floor(code / 2^(stored - bits)); None = all.
        "bits": None,
        # Images held out of train where a set has no validation split; None = 1000, or 5 % if fewer.
        "num_validation": None,
        # Each transform has probability 1/2 per training image; the network is told which were made,
        # and evaluation makes none.
        "augment": {"flip": False, "rotate": False, "permute_channels": False},
        # Images that are not all of the size wanted: for the sources folder, tfds and celeb_a.
        "resize": {
            # Side in pixels of the central square that is cut out; 0 = none.
            "crop": 0,
            # Side in pixels that the square image is resized to; 0 = not resized.
            "size": 0,
            # Filter of the resizing: box, bilinear, bicubic or lanczos, anti-aliased.
            "filter": "lanczos",
        },
        "digits": {},
        "arrays": {
            # A .npz with arrays train, test and perhaps validation, or one .npy.
            "path": "",
            # Codes per channel, 2..65536; None = what uint8 or uint16 implies.
            "num_levels": None,
        },
        # A folder, tar or zip of images. splits: "auto" takes train/, test/ and the like for splits;
        # with "none" every folder is a class, and all images are split by hash.
        "folder": {"path": "", "splits": "auto"},
        # Any image builder of TensorFlow Datasets, such as "omniglot".
        "tfds": {"builder": ""},
        "celeb_a": {},
    }
