"""ImageNet at 64x64 in the old down-sampling, with the paper's hyper-parameters.

python -m experiments.train --config=configs/imagenet64.py --workdir=runs/imagenet64

The archives of the old set are gone from their site: --config.data.source_dir=FOLDER, a folder with
train_64x64.tar and valid_64x64.tar. The new set is --config.data.name=imagenet_resized_64.
Cost: 2 million steps of 512 images, 238 M parameters: days on a pod.
Expected: 3.40 bits/dim by the paper on the old set; here not yet measured.
"""

from configs import imagenet32


def get_config():
    """Kingma 2021, app. B: 64 blocks of 256 channels."""
    config = imagenet32.get_config()
    config.data.name = "downsampled_imagenet_64"
    config.denoiser.unet.num_blocks = 64
    return config
