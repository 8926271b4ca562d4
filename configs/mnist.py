"""MNIST and Fashion-MNIST in half an hour on two CPU cores, or in half an hour on one GPU.

python -m experiments.train --config=configs/mnist.py --workdir=runs/mnist
python -m experiments.train --config=configs/mnist.py:fashion --workdir=runs/fashion_mnist

Without a network: --config.data.source_dir=FOLDER, a folder with the four idx files.
VARIANTS has the cost and the expected bits/dim on the 10,000 test images of each.
"""

import functools

from ml_collections import config_dict

from configs import cifar10
from vdm.runs.variants import Variant, make_variant


def get_config(variant: str = "") -> config_dict.ConfigDict:
    """Return the configuration of `variant`, a key of VARIANTS."""
    return make_variant("configs/mnist.py", VARIANTS, variant)


def small(data: str) -> config_dict.ConfigDict:
    """Return configs/cifar10.py:small on 28x28x1 images of the set `data`.

    4000 steps of 16 are 1.1 passes over 59,000 training images; 1,000 more are the validation
    split. 6000 steps did not fit half an hour on two cores.
    """
    config = cifar10.small()
    config.data.name = data
    return config


def small_gpu(data: str) -> config_dict.ConfigDict:
    """Return configs/cifar10.py:small_gpu on 28x28x1 images of the set `data`.

    40,000 steps of 128 are 87 passes over the training images. Rates and widths are those for CIFAR-10.
    """
    config = cifar10.small_gpu()
    config.data.name = data
    return config


COST = "4000 steps of 16 images, 24 minutes with the evaluation on two idle CPU cores"
GPU_COST = "40,000 steps of 128 images, not yet measured"
UNKNOWN = "bits/dim not yet measured"
VARIANTS = {
    "": Variant(
        functools.partial(small, "mnist"),
        "MNIST in half an hour on two CPU cores.",
        COST,
        UNKNOWN,
    ),
    "gpu": Variant(
        functools.partial(small_gpu, "mnist"),
        "MNIST in half an hour on one GPU.",
        GPU_COST,
        UNKNOWN,
    ),
    "fashion": Variant(
        functools.partial(small, "fashion_mnist"),
        "Fashion-MNIST in half an hour on two CPU cores.",
        COST,
        "3.03 bits/dim (one seed; standard error over images .012); on the first 2,000, where JPEG XL "
        "has 3.47, 3.04",
    ),
    "fashion_gpu": Variant(
        functools.partial(small_gpu, "fashion_mnist"),
        "Fashion-MNIST in half an hour on one GPU.",
        GPU_COST,
        UNKNOWN,
    ),
}
"""The variants by what follows the colon."""
