"""Intervals between training seeds: by hand, by another library, and by how often they hold."""

import math

import numpy as np
import pytest
from scipy import special

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


def student(mean, error, freedom):
    """Interval and p value by the textbook."""
    reach = special.stdtrit(freedom, 0.975) * error
    return (mean - reach, mean + reach), 2 * special.stdtr(freedom, -abs(mean) / error)


def test_gaps_of_groups_by_hand():
    one, other = {0: 1.0, 1: 2.5, 2: 1.5}, {1: 2.1, 0: 0.5, 2: 0.4}
    found = seed_gap(one, other)
    gaps = np.array([0.5, 0.4, 1.1])
    interval, p_value = student(gaps.mean(), gaps.std(ddof=1) / math.sqrt(3), 2)
    assert found.paired and math.isclose(found.p_value, p_value, rel_tol=1e-12)
    np.testing.assert_allclose(found.interval, interval, rtol=1e-12)
    # Variances of means a/n and b/m; degrees of freedom by Welch and Satterthwaite.
    apart = {5: 2.1, 6: 0.5, 7: 0.4, 8: 1.1}
    found = seed_gap(one, apart)
    a, b = (np.var(list(g.values()), ddof=1) / len(g) for g in (one, apart))
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 3)
    interval, p_value = student(5 / 3 - 4.1 / 4, math.sqrt(a + b), freedom)
    assert not found.paired and math.isclose(found.p_value, p_value, rel_tol=1e-12)
    np.testing.assert_allclose(found.interval, interval, rtol=1e-12)


def test_groups_without_scatter():
    for gap, other in ((0.0, {0: 1.0, 1: 1.0}), (0.5, {0: 0.5, 1: 0.5}), (0.5, {2: 0.5, 3: 0.5})):
        found = seed_gap({0: 1.0, 1: 1.0}, other)
        assert found.mean == gap and found.interval == (gap, gap) and found.p_value is None
    by_rounding = seed_gap({0: 1.1, 1: 2.1, 2: 0.1}, {0: 1.0, 1: 2.0, 2: 0.0})
    np.testing.assert_allclose(by_rounding.interval, (0.1, 0.1), rtol=1e-12)
