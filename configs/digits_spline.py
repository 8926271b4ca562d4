"""The digits with a monotone rational spline of 16 knots between learned end points.

python -m experiments.train --config=configs/digits_spline.py --workdir=runs/digits_spline

Cost: as configs/digits.py.
Expected: 1.76 bits/dim (one seed; standard error over images .018).
"""

from configs import digits_learned


def get_config():
    """`configs/digits_learned.py` with a spline in place of the network."""
    config = digits_learned.get_config()
    config.schedule.name = "rational_spline"
    return config
