"""Verdicts follow from the records by the rule that the page states."""

import json

import pytest
from workplaces import made_body, tiny

from paper_repro.errors import UserError
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Spec
from tables import TABLES, claims
from tables.base import Cell, Delta, last_accuracy
from tables.render import csv, latex, markdown
from tables.verdicts import FAILS, HOLDS, NOT_MEASURED, UNDECIDED, above, everywhere, trend

SGD = OPTIMIZERS.spec("sgd")
CPU, PAPER, SMOKE = profile("cpu"), profile("paper"), profile("smoke")


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / "results")


def delta(records, batch_size, gains):
    """A difference whose runs were measured with these gains by seed; None is no record."""
    seeds = range(len(gains))
    base = [tiny(seed=s, batch_size=batch_size, optimizer=SGD) for s in seeds]
    ours = [tiny(seed=s, batch_size=batch_size) for s in seeds]
    for theirs, mine, gain in zip(base, ours, gains, strict=True):
        if gain is not None:
            records.write(theirs, "finished", made_body(last=50.0))
            records.write(mine, "finished", made_body(last=50.0 + gain))
    return Delta(Cell(tuple(ours)), Cell(tuple(base)))


UP, DOWN, MIXED = (1.0, 1.1, 0.9), (-1.0, -1.001, -0.999), (1.0, -1.0, 0.5)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([UP, UP], HOLDS),
        ([UP, MIXED], UNDECIDED),
        ([UP, DOWN], FAILS),
        ([MIXED, DOWN], FAILS),
        ([UP, (None,)], UNDECIDED),
        ([UP, (2.0, 2.0)], UNDECIDED),  # fewer than three seeds decide nothing
        ([(-5.0,), (-5.0, -5.0)], UNDECIDED),
        ([(None,), (None, None)], NOT_MEASURED),
    ],
)
def test_everywhere(records, gains, verdict):
    deltas = {f"cell {i}": delta(records, 8 + i, g) for i, g in enumerate(gains)}
    found = everywhere(deltas, records, last_accuracy)
    assert found.verdict == verdict
    measured = sum(any(v is not None for v in g) for g in gains)
    assert found.evidence.startswith(f"{measured} of {len(gains)} differences measured")
    assert (verdict == FAILS) == ("(cell 1)" in found.evidence)


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_gain_of_which_a_run_was_lost_is_none(records, status):
    deltas = {"a": delta(records, 8, (*UP, None)), "b": delta(records, 9, UP)}
    run = deltas["a"].treatment.runs[3]
    records.write(run, status, made_body())
    found = everywhere(deltas, records, last_accuracy)
    assert found.verdict == UNDECIDED and "failed or diverged: 1" in found.evidence
    rising = {0.0: delta(records, 10, (0.0, 0.01, 0.02)), 1.0: deltas["a"]}
    found = trend(rising, records, last_accuracy, "slope")
    assert found.verdict == UNDECIDED and "failed or diverged: 1" in found.evidence
    only = Delta(Cell((run,)), Cell())
    assert everywhere({"a": only}, records, last_accuracy).verdict == UNDECIDED


def test_one_cell_of_many_that_is_below_by_chance_does_not_refute(records):
    # Its 95 % interval lies below 0, the one that k cells share does not.
    gains = (-1.0, -1.3, -0.8)
    alone = everywhere({"a": delta(records, 8, gains)}, records, last_accuracy)
    deltas = {f"{i}": delta(records, 8 + i, gains if i == 0 else UP) for i in range(24)}
    assert alone.verdict == FAILS
    assert everywhere(deltas, records, last_accuracy).verdict == UNDECIDED


@pytest.mark.parametrize(
    ("values", "verdict", "evidence"),
    [
        ((), NOT_MEASURED, "gain: no seed has it"),
        ((3.0,), UNDECIDED, "gain: +3.00 points (n = 1)"),
        ((3.0, 3.1), UNDECIDED, "gain: +3.05 [+2.41, +3.69] points (n = 2)"),
        ((3.0, 3.1, 3.05), HOLDS, "gain: +3.05 [+2.93, +3.17] points (n = 3)"),
        ((-3.0, -3.1, -3.05), FAILS, "gain: -3.05 [-3.17, -2.93] points (n = 3)"),
        ((3.0, -3.1, 0.0), UNDECIDED, None),
    ],
)
def test_above(values, verdict, evidence):
    found = above(values, -0.5, "gain")
    assert found.verdict == verdict
    assert evidence in (None, found.evidence)


def test_a_trend_is_the_slope_of_each_seed_that_has_every_point(records):
    points = {
        0.0: delta(records, 8, (1.0, 2.0, None)),
        1.0: delta(records, 9, (2.0, 4.0, 9.0)),
        5.0: delta(records, 10, (6.0, 12.1, 9.0)),
    }
    found = trend(points, records, last_accuracy, "slope")
    # 1 exactly for seed 0; for seed 1 (2, 4, 12.1) at 0, 1, 5: 28.4 / 14 = 2.03.
    assert found.verdict == UNDECIDED and "slope: +1.51 [" in found.evidence
    assert "(n = 2)" in found.evidence
    del points[0.0]
    assert "(n = 3)" in trend(points, records, last_accuracy, "slope").evidence


def build(size):
    return TABLES.build(Spec("claims"), profile=size)


def fill(records, table, size, gain):
    """Records of every run of a table: S2-SAM above everything else by ``gain(config)``."""
    for config in TABLES.build(Spec(table), profile=size).runs():
        ours = config.optimizer.name == "s2sam"
        last = 80.0 + 0.01 * config.seed + (gain(config) if ours else 0.0)
        records.write(config, "finished", made_body(last=last, best=last))


def verdicts(records, size):
    return [row.entries[0].say(records) for row in build(size).rows]


def test_verdicts_of_made_up_records(records):
    assert verdicts(records, PAPER)[:3] == [NOT_MEASURED] * 3
    # The tables share runs, those of LT at 20 % a round and of MEST(EM): the later table's stay.
    fill(records, "ablation-ratio", PAPER, lambda c: -c.method["prune_ratio"])
    for table in ("table1", "ablation-lrr", "ablation-sam"):
        fill(records, table, PAPER, lambda c: 1.0 + 0.01 * c.seed)
    fill(records, "ablation-sweep", PAPER, lambda c: c.sparsity + 0.01 * c.seed)
    found = verdicts(records, PAPER)
    assert found[0] == found[1] == found[2] == found[6] == HOLDS
    assert found[5] == FAILS  # less gain at larger ratios
    assert [found[i] for i in (4, 7, 9)] == [NOT_MEASURED] * 3
    assert found[8] == UNDECIDED  # dense ResNet-32 alone cannot confirm it
    assert found[10] == FAILS  # the committed theory report


def test_dense_training_that_suffers_refutes(records):
    fill(records, "ablation-sweep", PAPER, lambda c: -1.0 - 0.001 * c.seed)
    assert verdicts(records, PAPER)[8] == FAILS


def test_a_size_that_is_no_evidence_has_no_verdicts(records):
    fill(records, "table1", SMOKE, lambda c: 1.0 + 0.01 * c.seed)
    assert set(verdicts(records, SMOKE)) == {"no evidence"}


def test_cost_is_read_from_the_benchmarks_results(records, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_CHECKOUT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    assert claims.cost(PAPER, records).verdict == NOT_MEASURED

    def write(s2sam, sam):
        ratio = {"low": 0.9, "high": 1.1, "n": 40}
        step = {"s2sam/sgd": {**ratio, "median": s2sam}, "sam/sgd": {**ratio, "median": sam}}
        content = {"environment": {"device": "a CPU"}, "step bf16": {"step_ratio": step}}
        (tmp_path / "benchmarks" / "results-cpu.json").write_text(json.dumps(content))
        return claims.cost(PAPER, records)

    assert write(1.01, 2.0).verdict == HOLDS
    assert write(1.2, 2.0).verdict == write(1.0, 1.5).verdict == FAILS
    assert write(1.01, 2.0).evidence == (
        "a CPU, bf16: S2-SAM/SGD 1.010 (0.900 to 1.100, n = 40), "
        "SAM/SGD 2.000 (0.900 to 1.100, n = 40)"
    )
    (tmp_path / "benchmarks" / "results-cuda.json").write_text("{}")
    with pytest.raises(UserError, match=r"results-cuda.json is no result of the benchmarks"):
        claims.cost(PAPER, records)


def test_theory_is_read_from_its_report(records, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_CHECKOUT", tmp_path)
    (tmp_path / "theory").mkdir()
    report = tmp_path / "theory" / "report.md"
    names = ("lemma1_equal_printed", "theorem1_printed", "theorem1_appendix_printed", "smooth")

    def write(*said):
        rows = zip(names, said, strict=False)
        report.write_text("".join(f"| {name} | {verdict} | 1 |\n" for name, verdict in rows))
        return claims.theory(PAPER, records)

    assert write("holds", "holds", "holds").verdict == HOLDS
    assert write("holds", "inconclusive", "holds").verdict == UNDECIDED
    found = write("violated", "holds", "holds", "holds")
    assert found.verdict == FAILS and "Lemma 1 violated, Theorem 1 holds" in found.evidence
    assert "corrected statements that hold: 1 of 1" in found.evidence
    found = write("violated", "holds", "holds", "inconclusive")
    assert "corrected statements that hold: 0 of 1" in found.evidence
    with pytest.raises(UserError, match="has no verdict on theorem1_appendix_printed"):
        write("holds", "holds")


@pytest.mark.parametrize("size", [CPU, PAPER, SMOKE], ids=lambda p: p.name)
def test_the_page_shows_every_claim_with_its_rule(records, size):
    page = markdown(build(size), records, size)
    assert all(claim.text in page and claim.rule in page for claim in claims.CLAIMS)
    assert len(claims.CLAIMS) == 11
    assert "runs have a record" not in page
    assert latex(build(size), records, size).count(r" \\" + "\n") == 12
    lines = csv(build(size), records, size).splitlines()
    assert len(lines) == 1 + 2 * 11 and lines[0].endswith("column,words")
