"""Lines of a comparison as text."""

import pytest

from experiments.reports.comparison.text import format_difference
from vdm.evaluation.analysis.paired import Difference


@pytest.mark.parametrize(("shrinkage", "is_told"), [(1.02, False), (0.97, False), (1.6, True)])
def test_pairing_is_told_where_it_gains(shrinkage, is_told):
    gap = Difference(0.01, (0.0, 0.02), (0.0, 0.02), None, 0.05, shrinkage, False)
    assert ("narrower" in format_difference(gap)) == is_told
