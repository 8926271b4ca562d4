"""The digits with the cosine schedule, cut to gamma in [-7.88, 5].

python -m experiments.train --config=configs/digits_cosine.py --workdir=runs/digits_cosine

Cost: as configs/digits.py.
Expected: 1.95 bits/dim on the 297 test images (one seed; standard error over images .08, most of it
Monte Carlo: the cosine spends few of its times where the bits are).
"""

from configs import digits


def get_config():
    """`configs/digits.py` with a fixed cosine."""
    config = digits.get_config()
    config.schedule.name = "cosine"
    return config
