"""The digits with a fixed log-SNR line from gamma = -7.88 to 5: nothing of the schedule is learned.

python -m experiments.train --config=configs/digits_linear.py --workdir=runs/digits_linear

Cost: as configs/digits.py.
Expected: 1.786 bits/dim on the 297 test images (one seed; standard error over images .026).
"""

from configs import digits


def get_config():
    """`configs/digits.py` with a fixed line."""
    config = digits.get_config()
    config.schedule.name = "linear"
    return config
