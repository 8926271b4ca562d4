"""A VDM on your own folder of images: PNG, WebP, TIFF, BMP or JPEG, all of one size.

python -m experiments.train --config=configs/folder.py --config.data.folder.path=photos

Images of different sizes: --config.data.folder.crop=N cuts out the central square, and
--config.data.folder.size=N resizes it. Folders train/, val/ and test/ in it are those splits.
Cost and bits/dim depend on the images: --dry_run shows memory and the time of one step.
"""

from configs import arrays


def get_config():
    """The network of `configs/arrays.py`."""
    config = arrays.get_config()
    config.data.name = "folder"
    return config
