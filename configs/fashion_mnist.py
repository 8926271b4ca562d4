"""Fashion-MNIST in half an hour on two CPU cores, or (:gpu) in half an hour on one GPU.

python -m experiments.train --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
python -m experiments.train --config=configs/fashion_mnist.py:gpu --workdir=runs/fashion_mnist_gpu

Without a network: --config.data.source_dir=FOLDER, a folder with the four idx files.
Cost: 4000 steps of 16 images, 24 minutes with the evaluation on two idle CPU cores; :gpu 40,000 steps
of 128 images, not yet measured.
Expected: 3.03 bits/dim on the 10,000 test images (one seed; standard error over images .012); on the
first 2,000, where JPEG XL has 3.47, 3.04. :gpu not yet measured.
"""

from configs import cifar10_small


def get_config(device: str = "cpu"):
    """`configs/cifar10_small.py` on 28x28x1; `device` is cpu or gpu."""
    config = cifar10_small.get_config(device)
    config.data.name = "fashion_mnist"
    return config
