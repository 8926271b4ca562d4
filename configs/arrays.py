"""A VDM on your own images: integer arrays [N,H,W,C] in a .npz or .npy file.

    python -m experiments.train --config=configs/arrays.py --config.data.arrays.path=images.npz

A .npz holds arrays "train", "test" and perhaps "validation"; a .npy is split 90/5/5. uint8 means 256
levels and uint16 65,536; otherwise add --config.data.arrays.num_levels=N.

The network is small; on an accelerator raise denoiser.unet.channels and num_blocks to the paper's 128
and 32.
"""

from ml_collections import config_dict

from configs import base
from vdm.runs.variants import Variant, make_variant


def get_config(variant: str = "") -> config_dict.ConfigDict:
    """Return the configuration of `variant`, a key of VARIANTS."""
    return make_variant("configs/arrays.py", VARIANTS, variant)


def arrays() -> config_dict.ConfigDict:
    """Return a small network and a short run, to be overridden."""
    config = base.get_config()
    config.data.name = "arrays"
    unet = config.denoiser.unet
    unet.channels, unet.num_blocks = 64, 4
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule_learning_rate = 1e-3
    config.optimizer.decay = "cosine"
    config.optimizer.ema_decay = 0.999
    return config


COST = "10,000 steps of 128 images; --dry_run shows memory and the time of one step"
EXPECTED = "bits/dim depend on the images"
VARIANTS = {
    "": Variant(arrays, "Your own images, in a .npz or .npy file.", COST, EXPECTED),
}
"""The variants by what follows the colon."""
