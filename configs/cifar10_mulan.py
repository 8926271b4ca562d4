"""CIFAR-10 with MuLAN's schedule: a polynomial for each of 3072 dimensions, conditional on the image.

python -m experiments.train --config=configs/cifar10_mulan.py --workdir=runs/cifar10_mulan

Without a network: --config.data.source_dir=FOLDER, a folder with cifar-10-python.tar.gz.
After Sahoo et al. 2024, with two differences. Their context has 15 ones of 50 and is charged as one
categorical, which gives no bound; here it is 50 bits, all charged, at most 34.7 nats or .016 bits/dim.
Their network is told the mean of gamma; here it sees the map (--config.model.gamma_input=mean is
theirs).

Cost: 10 million steps of 128 images: days on several accelerators.
Expected: 2.55 bits/dim by the paper, with the ODE and its own context; here not yet measured.
"""

from configs import cifar10


def get_config():
    """`configs/cifar10.py` with 3072 polynomials and a context of 50 bits."""
    config = cifar10.get_config()
    config.schedule.name = "conditional_polynomial"
    config.schedule.conditional_polynomial.learned_endpoints = False
    config.schedule.gamma_0, config.schedule.gamma_1 = -13.3, 5.0
    config.context.name = "categorical"
    config.context.categorical.num_variables, config.context.categorical.num_classes = 50, 2
    config.context.encoder.channels, config.context.encoder.num_hidden = 32, 256
    return config
