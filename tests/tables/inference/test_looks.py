"""How the error is spent over the looks, by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from tables.inference.looks import ALPHA, LOOKS, increments, level, levels, spent


def test_all_looks_together_spend_the_error_and_no_look_spends_it_before():
    assert sum(increments()) == pytest.approx(ALPHA, rel=1e-12)
    assert spent(0.0) == 0.0 and spent(1.0) == pytest.approx(ALPHA)
    pairs = zip(increments(), levels(), strict=True)
    assert all(0 < own <= p * (1 + 1e-9) < ALPHA for own, p in pairs)
    assert levels()[0] == pytest.approx(increments()[0], rel=1e-9)


def test_a_process_without_effect_leaves_the_bounds_as_often_as_is_spent():
    # Plain simulation of the looks' z statistics beside the numerical integration.
    rng = np.random.default_rng(0)
    times = np.array(LOOKS) / LOOKS[-1]
    steps = rng.standard_normal((400_000, len(LOOKS))) * np.sqrt(np.diff(times, prepend=0.0))
    z = steps.cumsum(1) / np.sqrt(times)
    left = np.logical_or.accumulate(z > stats.norm.isf(levels()), axis=1).mean(0)
    expected = [spent(t) for t in times]
    assert left == pytest.approx(expected, abs=4 * math.sqrt(ALPHA / 400_000))


def test_few_degrees_of_freedom_get_the_looks_own_share():
    assert level(2, 4) == increments()[2] and level(2, 100) == levels()[2]
