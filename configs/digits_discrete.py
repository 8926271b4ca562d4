"""The digits with T = 1000 steps instead of continuous time.

python -m experiments.train --config=configs/digits_discrete.py --workdir=runs/digits_discrete

Cost: as configs/digits.py.
Expected: 1.790 bits/dim on the 297 test images (one seed; standard error over images .026).
"""

from configs import digits


def get_config():
    """`configs/digits.py`, trained and evaluated at T = 1000."""
    config = digits.get_config()
    config.objective.num_timesteps = 1000
    return config
