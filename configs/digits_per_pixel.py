"""The digits with a schedule for every pixel, a polynomial of degree 5, between fixed end points.

python -m experiments.train --config=configs/digits_per_pixel.py --workdir=runs/digits_per_pixel

The schedule minimises the bound. The network sees the map of gamma.

Cost: as configs/digits.py.
Expected: bits/dim after 400 steps, see docs/guide/schedules.md; after 3000 not yet
measured.
"""

from configs import digits


def get_config():
    """`configs/digits_linear.py` with 64 polynomials in place of the line."""
    config = digits.get_config()
    config.schedule.name = "pixel_polynomial"
    config.schedule.pixel_polynomial.learned_endpoints = False
    # As in the study of docs/guide/schedules.md; not tuned.
    config.optimizer.shape_learning_rate = 4e-3
    return config
