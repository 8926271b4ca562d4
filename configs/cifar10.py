"""CIFAR-10: the paper's runs, MuLAN's schedule, and small runs of half an hour.

python -m experiments.train --config=configs/cifar10.py --workdir=runs/cifar10
python -m experiments.train --config=configs/cifar10.py:small --workdir=runs/cifar10_small

Without a network: --config.data.source_dir=FOLDER, a folder with cifar-10-python.tar.gz.
VARIANTS has the cost and the expected bits/dim of each. The paper trained on all 50,000 images; here
1,000 of them choose the checkpoint.
"""

from ml_collections import config_dict

from configs import base
from vdm.runs.variants import Variant, make_variant


def get_config(variant: str = "") -> config_dict.ConfigDict:
    """Return the configuration of `variant`, a key of VARIANTS."""
    return make_variant("configs/cifar10.py", VARIANTS, variant)


def paper() -> config_dict.ConfigDict:
    """Return 32 blocks of 128 channels with learned end points (arXiv:2107.00630, app. B)."""
    config = base.get_config()
    config.data.name = "cifar10"
    unet = config.denoiser.unet
    unet.channels, unet.num_blocks, unet.dropout = 128, 32, 0.1
    # Learning rate 2e-4, weight decay .01 and average .9999 are the paper's too, and the defaults.
    config.train.batch_size = 128
    # 26,000 passes over 49,000 training images.
    config.train.num_steps = 10_000_000
    # These periods are this project's, not the paper's.
    config.train.log_every_steps = 1000
    config.train.evaluate_every_steps = 10_000
    config.train.save_every_steps = 10_000
    config.train.sample_every_steps = 100_000
    config.train.num_samples = 64
    return config


def augmented() -> config_dict.ConfigDict:
    """Return 32 blocks of 256 channels, attention everywhere, monotone network (app. B)."""
    config = paper()
    # The network is told which transforms were made, and evaluation makes none: bits/dim are those of
    # the images as they are.
    config.data.augment.flip = True
    config.data.augment.rotate = True
    config.data.augment.permute_channels = True
    config.schedule.name = "monotone_network"
    unet = config.denoiser.unet
    unet.channels, unet.dropout, unet.attention = 256, 0.05, True
    config.train.batch_size = 1024
    return config


def mulan() -> config_dict.ConfigDict:
    """Return `paper` with 3072 polynomials and a context of 50 bits.

    After Sahoo et al. 2023 (arXiv:2312.13236), with two differences. Their context has 15 ones of 50
    and is charged as one categorical, which gives no bound; here it is 50 bits, all charged, at most
    34.7 nats or .016 bits/dim. Their network is told the mean of gamma; here it sees the map
    (--config.model.gamma_input=mean is theirs).
    """
    config = paper()
    config.schedule.name = "conditional_polynomial"
    # Fixed where learned ones begin at 256 levels: the paths between them are what is learned.
    config.schedule.learned_endpoints = False
    config.schedule.gamma_0, config.schedule.gamma_1 = -13.3, 5.0
    config.context.name = "categorical"
    config.context.categorical.num_variables, config.context.categorical.num_classes = 50, 2
    config.context.encoder.channels, config.context.encoder.num_hidden = 32, 256
    return config


def small() -> config_dict.ConfigDict:
    """Return a network of a quarter of a million parameters, and a few thousand steps."""
    config = base.get_config()
    config.data.name = "cifar10"
    unet = config.denoiser.unet
    # 1.3 passes over the training images, so that none is seen more than twice: there is little to
    # overfit, and no dropout.
    unet.channels, unet.num_blocks, unet.dropout = 32, 2, 0.0
    # Ten times the paper's, for a run of 4000 steps.
    config.optimizer.learning_rate = 2e-3
    # Fast end points retreat from a network that is still young.
    config.optimizer.schedule_learning_rate = 2e-4
    config.optimizer.decay = "cosine"
    # The average reaches back 500 steps, an eighth of the run.
    config.optimizer.ema_decay = 0.998
    # Sized by processor time: half an hour on two idle cores, with the evaluation.
    config.train.num_steps = 4000
    config.train.batch_size = 16
    config.train.log_every_steps = 100
    # Four validations, the last of them of the finished run.
    config.train.evaluate_every_steps = 1000
    config.train.save_every_steps = 500
    config.train.num_samples = 64
    # Divides the 1,000 validation and 10,000 test images, so that no batch is filled up.
    config.evaluate.batch_size = 100
    # More would take longer than the training; `evaluate --randomisations=8` for a number to publish.
    config.evaluate.randomisations, config.evaluate.repeats = 2, 1
    return config


def small_gpu() -> config_dict.ConfigDict:
    """Return a fifth of the paper's depth in bfloat16, with a batch of 128."""
    config = base.get_config()
    config.data.name = "cifar10"
    unet = config.denoiser.unet
    # The paper's width and batch; bfloat16 is for the accelerator and gains nothing on a CPU.
    unet.channels, unet.num_blocks, unet.dropout, unet.dtype = 128, 6, 0.0, "bfloat16"
    # Between the rates of `paper` and `small`, as the number of steps is; not yet measured.
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule_learning_rate = 1e-4
    config.optimizer.decay = "cosine"
    config.optimizer.ema_decay = 0.9995
    # 104 passes over the training images.
    config.train.num_steps = 40_000
    config.train.batch_size = 128
    config.train.log_every_steps = 500
    config.train.evaluate_every_steps = 5000
    config.train.save_every_steps = 5000
    config.train.num_samples = 64
    config.train.num_sample_steps = 250
    config.evaluate.batch_size = 500
    return config


COST = "10 million steps of 128 images, 30.6 M parameters: days on several accelerators"
VARIANTS = {
    "": Variant(
        paper,
        "Without augmentation, with the paper's hyper-parameters.",
        COST,
        "2.65 bits/dim by the paper (trained on all 50,000 images); here not yet measured",
    ),
    "aug": Variant(
        augmented,
        "With flips, rotations and exchanged channels, with the paper's hyper-parameters.",
        "10 million steps of 1024 images, 139 M parameters: a week on a pod",
        "2.49 bits/dim by the paper; here not yet measured",
    ),
    "mulan": Variant(
        mulan,
        "MuLAN's schedule: a polynomial for each of 3072 dimensions, conditional on the image.",
        COST,
        "2.55 bits/dim by the paper, with the ODE and its own context; here not yet measured",
    ),
    "small": Variant(
        small,
        "The paper's network, small: half an hour on two CPU cores.",
        "4000 steps of 16 images, 71 minutes of processor time with the evaluation, half of that on "
        "two idle CPU cores",
        "3.76 bits/dim on the test images (one seed; standard error over images .008); JPEG XL has "
        "3.97 on the same ones",
    ),
    "small_gpu": Variant(
        small_gpu,
        "A fifth of the paper's depth: half an hour on one GPU.",
        "40,000 steps of 128 images, not yet measured",
        "bits/dim not yet measured",
    ),
}
"""The variants by what follows the colon."""
