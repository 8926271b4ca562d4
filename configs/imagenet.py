"""ImageNet at 32x32 or 64x64 in the old down-sampling, with the paper's hyper-parameters.

python -m experiments.train --config=configs/imagenet.py:32 --workdir=runs/imagenet32
python -m experiments.train --config=configs/imagenet.py:64 --workdir=runs/imagenet64

The archives of the old set are gone from their site: --config.data.source_dir=FOLDER, a folder with
train_32x32.tar and valid_32x32.tar (64x64 likewise). The new set, at 32x32 about 0.26 bits/dim easier
and another set altogether, is --config.data.name=imagenet_resized_32.
VARIANTS has the cost and the expected bits/dim of each.
"""

from ml_collections import config_dict

from configs import cifar10
from vdm.runs.variants import Variant, make_variant


def get_config(variant: str = "") -> config_dict.ConfigDict:
    """Return the configuration of `variant`, a key of VARIANTS; a size must be chosen."""
    return make_variant("configs/imagenet.py", VARIANTS, variant)


def at_32() -> config_dict.ConfigDict:
    """Return 32 blocks of 256 channels with learned end points (arXiv:2107.00630, app. B)."""
    config = cifar10.paper()
    config.data.name = "downsampled_imagenet_32"
    config.denoiser.unet.channels = 256
    config.train.batch_size = 512
    config.train.num_steps = 2_000_000
    return config


def at_64() -> config_dict.ConfigDict:
    """Return 64 blocks of 256 channels (app. B)."""
    config = at_32()
    config.data.name = "downsampled_imagenet_64"
    config.denoiser.unet.num_blocks = 64
    return config


VARIANTS = {
    "32": Variant(
        at_32,
        "ImageNet at 32x32 in the old down-sampling, with the paper's hyper-parameters.",
        "2 million steps of 512 images, 122 M parameters: days on a pod",
        "3.72 bits/dim by the paper on the old set; here not yet measured",
    ),
    "64": Variant(
        at_64,
        "ImageNet at 64x64 in the old down-sampling, with the paper's hyper-parameters.",
        "2 million steps of 512 images, 238 M parameters: days on a pod",
        "3.40 bits/dim by the paper on the old set; here not yet measured",
    ),
}
"""The variants by what follows the colon."""
