"""Differences with intervals whose spread all cells share."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from workplaces import made_body

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from tables.base import Cell, Delta, last_accuracy
from tables.effects import effects, mean_effect

CPU = profile("cpu")
SPARSITIES = (0.9, 0.95, 0.98)


def deltas(seeds=(0, 1, 2)):
    """S2-SAM minus SGD with MEST at three sparsities."""
    size = replace(CPU, seeds=seeds)

    def cell(sparsity, optimizer):
        method = size.method("mest", sparsity=sparsity)
        spec = size.optimizer(optimizer)
        return Cell(tuple(size.config("cifar10", "resnet32x2", method, spec, s) for s in seeds))

    return {f"{s:.0%}": Delta(cell(s, "s2sam"), cell(s, "sgd"), 0.5) for s in SPARSITIES}


def write(records, delta, ours, theirs):
    for cell, values in ((delta.treatment, ours), (delta.baseline, theirs)):
        for config, value in zip(cell.runs, values, strict=True):
            if value is not None:
                records.write(config, "finished", made_body(last=value, best=value))


def test_with_equal_seeds_by_hand(tmp_path):
    records, rng = Records(tmp_path), np.random.default_rng(1)
    ours, theirs = rng.normal(80, 0.5, (2, 3, 3))
    for delta, t, b in zip(deltas().values(), ours, theirs, strict=True):
        write(records, delta, t, b)
    found = effects(deltas(), records, last_accuracy)
    assert found.df == 12
    each = list(found.each.values())
    assert [e.mean for e in each] == pytest.approx(list((ours - theirs).mean(-1)))
    arms = np.stack([ours, theirs])
    error = 100 - arms.mean(-1)
    phi = (arms.var(-1) * 3 / error).sum() / 12
    assert [e.se for e in each] == pytest.approx(list(np.sqrt(phi * error.sum(0) / 3)))
    assert each[0].half == pytest.approx(stats.t.ppf(0.975, 12) * each[0].se)
    mean = mean_effect(found, deltas())
    assert mean.mean == pytest.approx(float((ours - theirs).mean()))
    assert (mean.se, mean.half) == (None, None)  # cells of one seed are not independent


def test_a_cell_of_one_seed_borrows_its_interval_from_the_others(tmp_path):
    records, (first, second, third) = Records(tmp_path), deltas().values()
    write(records, first, (80.0, 81.0, 82.0), (80.0, 80.5, 81.0))
    write(records, second, (81.0, None, None), (80.0, 80.0, None))
    found = effects(deltas(), records, last_accuracy)
    assert set(found.each) == {"90%", "95%"} and found.wanted == 3
    assert found.each["95%"].gains == {0: 1.0} and found.each["95%"].published == 0.5
    # Of the same spread, with a third of the seeds.
    ratio = found.each["95%"].half / found.each["90%"].half
    assert ratio == pytest.approx(3**0.5, rel=0.05)
    records.write(third.baseline.runs[0], "diverged", {**made_body(), "accuracy": None})
    assert not effects(deltas(), records, last_accuracy).each.keys() - {"90%", "95%"}
    records.write(second.treatment.runs[1], "diverged", {**made_body(), "accuracy": None})
    assert effects(deltas(), records, last_accuracy).each["95%"].lost


def test_one_seed_everywhere_has_no_interval(tmp_path):
    records = Records(tmp_path)
    for delta in deltas().values():
        write(records, delta, (81.0, None, None), (80.0, None, None))
    found = effects(deltas(), records, last_accuracy)
    assert found.df == 0
    assert {(e.mean, e.se, e.half, e.n) for e in found.each.values()} == {(1.0, None, None, 1)}
    assert mean_effect(found, deltas()).half is None


def test_the_same_runs_count_once(tmp_path):
    records, one = Records(tmp_path), deltas()
    for gain, delta in zip((1.0, 2.0, 6.0), one.values(), strict=True):
        write(records, delta, (80.0 + gain,) * 3, (80.0, 80.1, 79.9))
    twice = {**one, "98% again": one["98%"]}
    found = effects(twice, records, last_accuracy)
    assert found.df == effects(one, records, last_accuracy).df
    assert mean_effect(found, twice).mean == pytest.approx(3.0) and mean_effect(found, twice).n == 3
    assert mean_effect(found, {name: one[name] for name in ("90%", "95%")}).mean == 1.5
    alone = {"98%": one["98%"], "98% again": one["98%"]}
    assert mean_effect(effects(alone, records, last_accuracy), alone) is None


@given(st.floats(-3, 3), st.integers(0, 2**32 - 1))
def test_a_shift_moves_means_and_no_spread(shift, seed):
    """A shift of one arm moves every mean by as much and no spread."""
    import tempfile
    from pathlib import Path

    rng = np.random.default_rng(seed)
    ours, theirs = rng.normal(60, 0.5, (2, 3, 3))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for offset in (0.0, shift):
            records = Records(Path(folder) / str(offset))
            for delta, t, b in zip(deltas().values(), ours, theirs, strict=True):
                write(records, delta, t + offset, b)
            found.append(effects(deltas(), records, last_accuracy).each)
    for name in found[0]:
        assert found[1][name].mean == pytest.approx(found[0][name].mean + shift, abs=1e-9)
        assert found[1][name].half == pytest.approx(found[0][name].half, rel=0.1)
