import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_repro import config
from paper_repro.train.schedule import SCHEDULES, cosine, inverse_sqrt, warm


def test_values():
    assert cosine(0, 100, 0.1, 4e-8) == pytest.approx(0.1, rel=1e-12)
    assert cosine(50, 100, 0.1, 0.02) == pytest.approx(0.06, rel=1e-12)
    assert cosine(100, 100, 0.1, 4e-8) == pytest.approx(4e-8, rel=1e-6)
    assert cosine(25, 100, 1.0, 0.0) == pytest.approx((1 + math.sqrt(0.5)) / 2, rel=1e-12)


@given(st.integers(1, 10_000), st.floats(1e-3, 1.0), st.floats(0.0, 1e-3))
def test_falls_from_start_to_end_and_is_symmetric(total, start, end):
    steps = sorted({0, 1, total // 3, total // 2, total - 1, total} & set(range(total + 1)))
    rates = [cosine(t, total, start, end) for t in steps]
    assert all(a >= b - 1e-15 for a, b in itertools.pairwise(rates))
    assert all(end - 1e-15 <= rate <= start + 1e-15 for rate in rates)
    for t, rate in zip(steps, rates, strict=True):
        mirrored = cosine(total - t, total, start, end)
        assert rate + mirrored == pytest.approx(start + end, rel=1e-9)


def test_schedules_are_those_that_a_config_may_name():
    assert tuple(SCHEDULES) == config.SCHEDULES


def test_without_warm_up_the_cosine_is_what_it_was():
    assert all(warm(t, 90, 0.1, 4e-8, 0) == cosine(t, 90, 0.1, 4e-8) for t in range(90))


def test_a_cosine_after_a_warm_up():
    rates = [warm(t, 100, 1.0, 0.0, 10) for t in range(100)]
    assert rates[:10] == pytest.approx([(t + 1) / 10 for t in range(10)])
    assert rates[10:] == [cosine(t, 90, 1.0, 0.0) for t in range(90)]
    assert warm(4, 5, 1.0, 0.0, 10) == 0.5  # shorter than its warm-up


@given(st.integers(1, 5000), st.floats(1e-4, 1.0), st.integers(0, 20_000))
def test_the_inverse_square_root_is_vaswanis(warmup, peak, t):
    width = (peak**2 * warmup) ** -1.0  # whose (width * warmup)^(-1/2) is the peak
    step = t + 1
    published = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
    assert inverse_sqrt(t, 10, peak, 0.0, warmup) == pytest.approx(published, rel=1e-9)
    assert inverse_sqrt(t, 10, peak, peak / 3, warmup) == pytest.approx(max(published, peak / 3))


def test_the_inverse_square_root_rises_to_its_peak_and_needs_no_warm_up():
    assert inverse_sqrt(99, 1000, 0.1, 0.0, 100) == pytest.approx(0.1)
    assert inverse_sqrt(399, 1000, 0.1, 0.0, 100) == pytest.approx(0.05)
    assert inverse_sqrt(0, 1000, 0.1, 0.0, 0) == pytest.approx(0.1)
