"""MNIST in half an hour on two CPU cores, or (:gpu) in half an hour on one GPU.

python -m experiments.train --config=configs/mnist.py --workdir=runs/mnist
python -m experiments.train --config=configs/mnist.py:gpu --workdir=runs/mnist_gpu

Without a network: --config.data.source_dir=FOLDER, a folder with the four idx files.
Cost: as configs/fashion_mnist.py.
Expected: not yet measured, bits/dim on the 10,000 test images.
"""

from configs import fashion_mnist


def get_config(device: str = "cpu"):
    """`configs/fashion_mnist.py` on MNIST; `device` is cpu or gpu."""
    config = fashion_mnist.get_config(device)
    config.data.name = "mnist"
    return config
