"""CIFAR-10 in half an hour on two CPU cores, or (:gpu) in half an hour on one GPU.

python -m experiments.train --config=configs/cifar10_small.py --workdir=runs/cifar10_small
python -m experiments.train --config=configs/cifar10_small.py:gpu --workdir=runs/cifar10_small_gpu

Without a network: --config.data.source_dir=FOLDER, a folder with cifar-10-python.tar.gz.
Cost: 4000 steps of 16 images, 71 minutes of processor time with the evaluation, half of that on two
idle CPU cores; :gpu 40,000 steps of 128 images, not yet measured.
Expected: 3.76 bits/dim on the test images (one seed; standard error over images .008); JPEG XL has 3.97
on the same ones. :gpu not yet measured.
"""

from configs import base
from vdm.errors import choose


def get_config(device: str = "cpu"):
    """The paper's network, small; `device` is cpu or gpu."""
    config = base.get_config()
    config.data.name = "cifar10"
    config.denoiser.unet.dropout = 0.0
    config.optimizer.decay = "cosine"
    choose("configs/cifar10_small.py:", device, SIZES, "setting")(config)
    return config


def for_cpu(config) -> None:
    """A quarter of a million parameters, a few thousand steps."""
    unet = config.denoiser.unet
    unet.channels, unet.num_blocks = 32, 2
    config.optimizer.learning_rate = 2e-3
    # Fast end points retreat from a network that is still young.
    config.optimizer.schedule_learning_rate = 2e-4
    config.optimizer.ema_decay = 0.998
    config.train.num_steps = 4000
    config.train.batch_size = 16
    config.train.log_every_steps = 100
    config.train.evaluate_every_steps = 1000
    config.train.save_every_steps = 500
    config.train.num_samples = 64
    config.evaluate.batch_size = 100
    # More would take longer than the training; `evaluate --randomisations=8` for a number to publish.
    config.evaluate.randomisations, config.evaluate.repeats = 2, 1


def for_gpu(config) -> None:
    """A fifth of the paper's depth, a batch of 128."""
    unet = config.denoiser.unet
    unet.channels, unet.num_blocks, unet.dtype = 128, 6, "bfloat16"
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule_learning_rate = 1e-4
    config.optimizer.ema_decay = 0.9995
    config.train.num_steps = 40_000
    config.train.batch_size = 128
    config.train.log_every_steps = 500
    config.train.evaluate_every_steps = 5000
    config.train.save_every_steps = 5000
    config.train.num_samples = 64
    config.train.num_sample_steps = 250
    config.evaluate.batch_size = 500


SIZES = {"cpu": for_cpu, "gpu": for_gpu}
