"""The digits with fixed, equal end points and few steps: what the study of schedules varies.

python -m experiments.studies.schedules --workdir=runs/study

is the study; one of its runs is

python -m experiments.train --config=configs/digits_study.py --workdir=runs/digits_study

Cost: 400 steps of 32 images, at most 45 seconds on two idle CPU cores.
Expected: 2.32 bits/dim with the line, 2.24 with a rational spline (one seed each): far from converged,
so that only the order of schedules is of interest.
"""

from configs import digits


def get_config():
    """`configs/digits.py`, shorter, with end points that no schedule moves."""
    config = digits.get_config()
    config.schedule.name = "linear"
    learned = ("monotone_network", "piecewise_linear", "rational_spline")
    for name in (*learned, "pixel_polynomial", "conditional_polynomial"):
        config.schedule[name].learned_endpoints = False
    # Fixed end points cannot run away, and the shape has few steps.
    config.optimizer.shape_learning_rate = 2e-2
    config.optimizer.warmup_steps = 50
    config.train.num_steps = 400
    config.train.evaluate_every_steps = 0
    config.train.save_every_steps = 200
    config.train.keep_latest = 1
    config.train.num_samples = 0
    config.train.writers = ("json_lines",)
    return config
