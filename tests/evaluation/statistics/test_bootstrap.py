"""Intervals by resampling images, by how often they hold the truth."""

import math

import numpy as np

from vdm.evaluation.statistics.bootstrap import bootstrap_interval

TRIALS = 800


def test_intervals_cover_where_randomisations_shift_all_images_alike():
    """95 % within 2.5 %, three standard errors of the share; the shift is half of the variance."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(TRIALS):
        images, shifts = rng.normal(size=60), 0.4 * rng.normal(size=(8, 1))
        values = images + shifts + 0.3 * rng.normal(size=(8, 60))
        low, high = bootstrap_interval(values * math.log(2.0), 1)
        hits += low <= 0.0 <= high
    assert abs(hits / TRIALS - 0.95) < 0.025
