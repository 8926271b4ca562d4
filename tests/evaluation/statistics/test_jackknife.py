"""The jackknife against closed forms: of a mean it gives the textbook's interval."""

import numpy as np
import pytest
from scipy import stats

from vdm.evaluation.statistics.jackknife import jackknife, log_jackknife

VALUES = np.random.default_rng(0).gamma(3.0, 2.0, 25)


def test_of_a_mean_it_is_student_s_interval():
    found = jackknife(lambda keep: float(VALUES[keep].mean()), len(VALUES))
    expected = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.95)
    assert found.value == VALUES.mean()
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-12)


def test_of_a_logarithm_it_is_the_exponential_of_the_interval():
    """A geometric mean: Student's interval of the mean of logarithms, exponentiated."""
    logs = np.log(VALUES)
    found = log_jackknife(lambda keep: float(logs[keep].mean()), len(VALUES))
    low, high = stats.ttest_1samp(logs, 0.0).confidence_interval(0.95)
    assert found.value == pytest.approx(stats.gmean(VALUES))
    np.testing.assert_allclose((found.low, found.high), np.exp((low, high)), rtol=1e-12)
