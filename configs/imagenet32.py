"""ImageNet at 32x32 in the old down-sampling, with the paper's hyper-parameters.

python -m experiments.train --config=configs/imagenet32.py --workdir=runs/imagenet32

The archives of the old set are gone from their site: --config.data.source_dir=FOLDER, a folder with
train_32x32.tar and valid_32x32.tar. The new set, about 0.26 bits/dim easier and another set
altogether, is --config.data.name=imagenet_resized_32.
Cost: 2 million steps of 512 images, 122 M parameters: days on a pod.
Expected: 3.72 bits/dim by the paper on the old set; here not yet measured.
"""

from configs import cifar10


def get_config():
    """Kingma 2021, app. B: 32 blocks of 256 channels, learned end points."""
    config = cifar10.get_config()
    config.data.name = "downsampled_imagenet_32"
    config.denoiser.unet.channels = 256
    config.train.batch_size = 512
    config.train.num_steps = 2_000_000
    return config
