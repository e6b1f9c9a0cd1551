import math

import pytest
from workplaces import made_body, tiny

from paper_repro.experiment.records import Records
from tables.base import Cell, Delta, Interaction, MeanDelta, best_accuracy, last_accuracy
from tables.stats import summarise

SGD = {"weight_decay": 0.0}  # any difference will do for a baseline


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path)


def cell(n, **changes):
    return Cell(tuple(tiny(seed=seed, **changes) for seed in range(n)))


def fill(records, runs, values):
    """Write a record of each run: an accuracy, a status, or nothing for None."""
    for config, value in zip(runs, values, strict=True):
        if isinstance(value, str):
            records.write(config, value, made_body())
        elif value is not None:
            records.write(config, "finished", made_body(last=value, best=value + 1))


def test_mean_and_sample_deviation_by_hand(records):
    entry = cell(3)
    fill(records, entry.runs, (90.0, 92.0, 97.0))
    found = summarise(entry, records, last_accuracy)
    assert found.mean == 93.0 and found.n == 3 and not found.difference
    assert found.std == pytest.approx(math.sqrt((9 + 1 + 16) / 2), rel=1e-12)
    assert found.low is None and found.high is None
    assert summarise(entry, records, best_accuracy).mean == 94.0


def test_one_run_has_no_deviation(records):
    entry = cell(1)
    fill(records, entry.runs, (90.0,))
    found = summarise(entry, records, last_accuracy)
    assert (found.mean, found.std, found.n) == (90.0, None, 1)


def test_what_is_missing_failed_or_diverged_is_counted_and_never_filled_in(records):
    entry = cell(6)
    fill(records, entry.runs, (90.0, None, "failed", "diverged", "diverged", 92.0))
    found = summarise(entry, records, last_accuracy)
    assert (found.mean, found.n) == (91.0, 2)
    assert (found.missing, found.failed, found.diverged) == (1, 1, 2)


def test_runs_that_missed_the_sparsity_asked_for_are_counted_with_their_values(records):
    ours, theirs = cell(3), cell(3, **SGD)
    for config, missed in zip(ours.runs, (0.0, -0.03, None), strict=True):
        body = made_body()
        records.write(
            config, "finished", {**body, "sparsity": {**body["sparsity"], "missed": missed}}
        )
    fill(records, theirs.runs, (90.0, 91.0, 92.0))  # older records do not say
    found = summarise(ours, records, last_accuracy)
    assert (found.n, found.elsewhere) == (3, 1)
    assert summarise(theirs, records, last_accuracy).elsewhere == 0
    delta = Delta(ours, theirs)
    assert summarise(delta, records, last_accuracy).elsewhere == 1
    assert summarise(MeanDelta((delta, delta)), records, last_accuracy).elsewhere == 2


def test_nothing_is_nothing(records):
    for entry in (Cell(), cell(2), Delta(Cell(), Cell()), MeanDelta(())):
        found = summarise(entry, records, last_accuracy)
        assert (found.mean, found.std, found.low, found.n) == (None, None, None, 0)
    assert summarise(cell(2), records, last_accuracy).missing == 2


def test_a_difference_is_paired_by_seed_with_its_t_interval_by_hand(records):
    ours, theirs = cell(3), cell(3, **SGD)
    fill(records, ours.runs, (90.5, 92.0, 94.5))
    fill(records, theirs.runs, (90.0, 91.0, 92.0))
    found = summarise(Delta(ours, theirs), records, last_accuracy)
    # Differences 0.5, 1.0, 2.5: mean 4/3, sample variance 13/12; t(0.975, 2) = 4.30265.
    half = 4.302652729911275 * math.sqrt(13 / 12) / math.sqrt(3)
    assert found.mean == pytest.approx(4 / 3, rel=1e-12) and found.n == 3 and found.difference
    assert found.std == pytest.approx(math.sqrt(13 / 12), rel=1e-12)
    assert found.low == pytest.approx(4 / 3 - half, rel=1e-9)
    assert found.high == pytest.approx(4 / 3 + half, rel=1e-9)


def test_a_pair_that_lacks_one_side_is_left_out(records):
    ours, theirs = cell(4), cell(4, **SGD)
    fill(records, ours.runs, (91.0, 95.0, "diverged", None))
    fill(records, theirs.runs, (90.0, None, 50.0, "failed"))
    found = summarise(Delta(ours, theirs), records, last_accuracy)
    assert (found.mean, found.std, found.low, found.n) == (1.0, None, None, 1)
    assert (found.missing, found.failed, found.diverged) == (2, 1, 1)


def test_the_order_of_seeds_does_not_matter(records):
    ours, theirs = cell(3), cell(3, **SGD)
    fill(records, ours.runs, (1.0, 2.0, 4.0))
    fill(records, theirs.runs, (0.0, 0.0, 0.0))
    turned = Delta(Cell(ours.runs[::-1]), theirs)
    assert summarise(turned, records, last_accuracy) == summarise(
        Delta(ours, theirs), records, last_accuracy
    )


def test_a_mean_of_differences_averages_over_rows_and_not_over_runs(records):
    # One row with two pairs, +1 and +3, and one with a single pair, -1: the mean is 0.5.
    rows = []
    for batch_size, gains in ((8, (1.0, 3.0)), (9, (-1.0,))):
        n = len(gains)
        theirs = cell(n, batch_size=batch_size, **SGD)
        ours = cell(n, batch_size=batch_size)
        fill(records, theirs.runs, [50.0] * n)
        fill(records, ours.runs, [50.0 + gain for gain in gains])
        rows.append(Delta(ours, theirs))
    failing = cell(1, batch_size=10)
    fill(records, failing.runs, ("failed",))
    rows += [Delta(cell(1, batch_size=11), Cell()), Delta(failing, Cell())]
    found = summarise(MeanDelta(tuple(rows)), records, last_accuracy)
    assert found.mean == 0.5 and found.n == 2 and found.std == pytest.approx(math.sqrt(4.5))
    assert (found.low, found.high) == (None, None)  # a row of one seed
    assert (found.missing, found.failed) == (1, 1)


def test_a_mean_of_differences_has_the_interval_of_its_seeds(records):
    rows = []
    for batch_size, gains in ((8, (1.0, 3.0)), (9, (-1.0, 0.0))):
        theirs, ours = cell(2, batch_size=batch_size, **SGD), cell(2, batch_size=batch_size)
        fill(records, theirs.runs, (50.0, 50.0))
        fill(records, ours.runs, [50.0 + gain for gain in gains])
        rows.append(Delta(ours, theirs))
    gap = Delta(cell(1, batch_size=10), Cell())
    found = summarise(MeanDelta((*rows, gap)), records, last_accuracy)
    # The seeds' means over the two rows are 0 and 1.5; t(0.975, 1) = 12.7062.
    half = 12.706204736432095 * math.sqrt(1.5**2 / 2) / math.sqrt(2)
    assert found.mean == 0.75 and (found.n, found.missing) == (2, 1)
    assert found.low == pytest.approx(0.75 - half) and found.high == pytest.approx(0.75 + half)
    assert found.std == pytest.approx(math.sqrt(2 * 1.25**2))  # of the rows


def test_a_cells_own_value_wins_over_the_tables(records):
    entry = Cell(cell(1).runs, value=lambda record: 7.0)
    fill(records, entry.runs, (90.0,))
    assert summarise(entry, records, last_accuracy).mean == 7.0
    assert summarise(Delta(entry, cell(1)), records, last_accuracy).mean == -83.0


def test_a_finished_run_in_which_something_was_not_measured_is_missing_and_not_failed(records):
    entry = Cell(cell(1).runs, value=lambda record: None)
    fill(records, entry.runs, (90.0,))
    found = summarise(entry, records, last_accuracy)
    assert (found.mean, found.missing, found.failed, found.diverged) == (None, 1, 0, 0)


def test_an_interaction_is_a_difference_of_differences_paired_by_seed(records):
    arms = [cell(2, batch_size=b) for b in (8, 9, 10, 11)]
    for runs, values in zip(
        arms, ((91.0, 92.0), (90.0, 90.0), (80.0, 81.0), (80.0, "diverged")), strict=True
    ):
        fill(records, runs.runs, values)
    entry = Interaction(Delta(arms[0], arms[1]), Delta(arms[2], arms[3]))
    found = summarise(entry, records, last_accuracy)
    assert (found.mean, found.n, found.diverged, found.difference) == (1.0, 1, 1, True)
    records.write(arms[3].runs[1], "finished", made_body(last=80.0))
    found = summarise(entry, records, last_accuracy)
    assert (found.mean, found.n, found.std, found.diverged) == (1.0, 2, 0.0, 0)
