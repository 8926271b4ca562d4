"""The digits with a schedule for every pixel that depends on the image, through 8 Gaussian numbers.

python -m experiments.train --config=configs/digits_conditional.py --workdir=runs/digits_conditional

What the context tells is charged as the auxiliary term; with --config.context.name=categorical it is 8
bits, which cost at most 8 ln 2 nats.

Cost: as configs/digits.py.
Expected: bits/dim after 400 steps, see docs/guide/schedules.md; after 3000 not yet
measured.
"""

from configs import digits_per_pixel


def get_config():
    """`configs/digits_per_pixel.py` with a context."""
    config = digits_per_pixel.get_config()
    config.schedule.name = "conditional_polynomial"
    config.schedule.conditional_polynomial.learned_endpoints = False
    config.context.name = "gaussian"
    return config
