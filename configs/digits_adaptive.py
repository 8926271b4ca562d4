"""The digits with a fixed line and times drawn where the loss is large, instead of a learned shape.

python -m experiments.train --config=configs/digits_adaptive.py --workdir=runs/digits_adaptive

Cost: as configs/digits.py.
Expected: 1.76 bits/dim (one seed; standard error over images .020).
"""

from configs import digits_linear


def get_config():
    """`configs/digits_linear.py` with adaptive times."""
    config = digits_linear.get_config()
    config.objective.times = "adaptive"
    return config
