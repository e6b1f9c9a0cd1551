import math

import pytest

from benchmarks.agreement import ENGINES, compared, runs


def test_means_and_intervals_are_of_a_spread_that_all_engines_share():
    found = compared({"dense": [50.0, 52.0], "sparse": [51.0, 53.0], "sparse-bf16": [49.0, 49.0]})
    assert found["n"] == 2
    pooled = math.sqrt((2 + 2 + 0) / 3)
    assert found["pooled_std"] == pytest.approx(pooled)
    t = 3.182446  # 97.5 % of Student's t with 3 degrees of freedom
    d = found["minus dense"]["sparse"]
    assert d["mean"] == pytest.approx(1.0)
    assert d["high"] - d["mean"] == pytest.approx(t * pooled, rel=1e-5)
    own = found["interval"]["dense"]
    assert own["mean"] - own["low"] == pytest.approx(t * pooled / math.sqrt(2), rel=1e-5)


def test_one_seed_says_nothing_of_differences():
    assert "minus dense" not in compared({name: [50.0] for name in ENGINES})


def test_the_runs_differ_by_their_seeds_alone():
    configs = runs(range(3))
    assert len({c.fingerprint for c in configs}) == 3
    assert len({str({**c.to_dict(), "seed": 0}) for c in configs}) == 1
