"""The digits with the cosine schedule, cut to gamma in [-7.88, 5].

python -m experiments.train --config=configs/digits_cosine.py --workdir=runs/digits_cosine
"""

from configs import digits


def get_config():
    """`configs/digits.py` with a fixed cosine."""
    config = digits.get_config()
    config.schedule.name = "cosine"
    return config
