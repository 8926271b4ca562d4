"""The digits with the paper's monotone network as schedule: its shape lowers the bound's variance.

python -m experiments.train --config=configs/digits_learned.py --workdir=runs/digits_learned

Cost: as configs/digits.py.
Expected: 1.77 bits/dim on the 297 test images (one seed; standard error over images .02).
"""

from configs import digits


def get_config():
    """`configs/digits.py` with a learned shape between learned end points."""
    config = digits.get_config()
    config.schedule.name = "monotone_network"
    # The shape has a thousand weights, whose mean counts.
    config.optimizer.shape_learning_rate = 4e-3
    return config
