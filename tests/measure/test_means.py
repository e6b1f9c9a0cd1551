import statistics

import pytest

from paper_repro.measure.means import deviation, mean


def test_of_numbers_they_are_the_usual_ones():
    values = [1.0, 2.5, -4.0, 0.25]
    assert mean(values) == pytest.approx(statistics.mean(values))
    assert deviation(values) == pytest.approx(statistics.stdev(values))


def test_of_what_is_not_wholly_known_there_is_none():
    assert mean([1.0, None]) is None and deviation([1.0, None]) is None
    assert mean([None, None]) is None and deviation([None, None]) is None
