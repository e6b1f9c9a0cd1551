import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_repro.train.schedule import cosine


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
