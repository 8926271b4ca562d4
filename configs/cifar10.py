"""CIFAR-10 without augmentation, with the paper's hyper-parameters.

python -m experiments.train --config=configs/cifar10.py --workdir=runs/cifar10

Without a network: --config.data.source_dir=FOLDER, a folder with cifar-10-python.tar.gz.
Cost: 10 million steps of 128 images, 30.6 M parameters: days on several accelerators.
Expected: 2.65 bits/dim by the paper (trained on all 50,000 images; here 1,000 of them choose the
checkpoint); here not yet measured.
"""

from configs import base


def get_config():
    """Kingma 2021, app. B: 32 blocks of 128 channels, learned end points."""
    config = base.get_config()
    config.data.name = "cifar10"
    unet = config.denoiser.unet
    unet.channels, unet.num_blocks, unet.dropout = 128, 32, 0.1
    config.train.batch_size = 128
    config.train.num_steps = 10_000_000
    config.train.log_every_steps = 1000
    config.train.evaluate_every_steps = 10_000
    config.train.save_every_steps = 10_000
    config.train.sample_every_steps = 100_000
    config.train.num_samples = 64
    return config
