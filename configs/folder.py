"""A VDM on your own folder of images: PNG, WebP, TIFF, BMP or JPEG, all of one size.

    python -m experiments.train --config=configs/folder.py --config.data.folder.path=photos

Images of different sizes: --config.data.resize.crop=N cuts out the central square, and
--config.data.resize.size=N resizes it. Folders train/, val/ and test/ in it are those splits.
"""

from ml_collections import config_dict

from configs import arrays
from vdm.runs.variants import Variant, make_variant


def get_config(variant: str = "") -> config_dict.ConfigDict:
    """Return the configuration of `variant`, a key of VARIANTS."""
    return make_variant("configs/folder.py", VARIANTS, variant)


def folder() -> config_dict.ConfigDict:
    """Return the network of configs/arrays.py on a folder of images."""
    config = arrays.arrays()
    config.data.name = "folder"
    return config


VARIANTS = {
    "": Variant(folder, "Your own images, in a folder.", arrays.COST, arrays.EXPECTED),
}
"""The variants by what follows the colon."""
