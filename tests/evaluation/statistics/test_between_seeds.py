"""Intervals between training seeds: by hand, by another library, and by how often they hold."""

import math

import numpy as np
import pytest
from scipy import stats

from vdm.evaluation.statistics.between_seeds import between_seeds, seed_gap

TRIALS = 2000


def test_between_seeds_by_hand_and_by_coverage():
    found = between_seeds([1.0, 2.0, 6.0])
    # Mean 3, variance 7; t with 2 degrees of freedom reaches 4.30265.
    assert found.mean == 3.0 and math.isclose(found.deviation, math.sqrt(7.0))
    assert math.isclose(found.interval[1], 3.0 + 4.30265 * math.sqrt(7 / 3), rel_tol=1e-5)
    assert math.isclose(found.next_seed[1], 3.0 + 4.30265 * math.sqrt(7 * 4 / 3), rel_tol=1e-5)
    rng, mean, following = np.random.default_rng(0), 0, 0
    for _ in range(TRIALS):
        *seeds, another = rng.normal(size=4)
        found = between_seeds(seeds)
        mean += found.interval[0] <= 0.0 <= found.interval[1]
        following += found.next_seed[0] <= another <= found.next_seed[1]
    assert abs(mean / TRIALS - 0.95) < 0.015 and abs(following / TRIALS - 0.95) < 0.015
    with pytest.raises(ValueError, match="at least two"):
        between_seeds([1.0])


def test_gaps_of_groups_are_those_of_scipy():
    one, other = {0: 1.0, 1: 2.5, 2: 1.5}, {0: 0.5, 1: 2.1, 2: 0.4}
    paired = stats.ttest_rel(list(one.values()), list(other.values()))
    found = seed_gap(one, other)
    assert found.paired and math.isclose(found.p_value, paired.pvalue, rel_tol=1e-9)
    np.testing.assert_allclose(found.interval, paired.confidence_interval(0.95))
    apart = dict(zip((5, 6, 7), other.values(), strict=True))
    welch = stats.ttest_ind(list(one.values()), list(other.values()), equal_var=False)
    found = seed_gap(one, apart)
    assert not found.paired and math.isclose(found.p_value, welch.pvalue, rel_tol=1e-9)
    np.testing.assert_allclose(found.interval, welch.confidence_interval(0.95))


def test_groups_without_scatter():
    found = seed_gap({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0})
    assert found.mean == 0.0 and found.interval == (0.0, 0.0) and found.p_value is None
