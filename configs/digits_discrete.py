"""The digits with T = 1000 steps instead of continuous time.

python -m experiments.train --config=configs/digits_discrete.py --workdir=runs/digits_discrete

Cost: as configs/digits.py.
Expected: a little above the continuous bound of configs/digits.py, in bits/dim.
"""

from configs import digits


def get_config():
    """`configs/digits.py`, trained and evaluated at T = 1000."""
    config = digits.get_config()
    config.objective.num_timesteps = 1000
    return config
