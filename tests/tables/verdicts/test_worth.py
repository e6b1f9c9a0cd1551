"""The undecided claims as questions: which runs, up to which look, and what it would show."""

import numpy as np
import pytest
from workplaces import made_body

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.inference.looks import LOOKS
from tables.verdicts.parts import CONTROLS, PARTS
from tables.verdicts.worth import BED, PRIOR, questions

CPU, PAPER, SMOKE = profile("cpu"), profile("paper"), profile("smoke")


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / "results")


def test_every_part_of_a_profile_is_open_at_first(records):
    asked = {q.name.split(":")[0]: q for q in questions(PAPER, records)}
    assert list(asked) == [part.label for part in (*CONTROLS, *PARTS)]
    assert {len(q.seeds) for q in asked.values()} == {LOOKS[-1]}
    assert asked["C"].importance == BED and asked["1a"].importance == 1.0
    assert {q.name.split(":")[0] for q in questions(CPU, records)} == set(asked)
    old = profile("cpu-bf16-12")
    labels = {q.name.split(":")[0] for q in questions(old, records)}
    assert labels == set(asked) - {"1c", "1d", "10a", "10b", "Ct"}  # CIFAR-10 alone


def test_a_seed_is_every_comparisons_pair_side_by_side(records):
    (asked,) = (q for q in questions(PAPER, records) if q.name.startswith("2a"))
    for number, seed in enumerate(asked.seeds):
        assert len(seed) == 16 and {c.seed for c in seed} == {number}
        for ours, theirs in zip(seed[::2], seed[1::2], strict=True):
            assert (ours.optimizer.name, theirs.optimizer.name) == ("s2sam", "sgd")
            assert ours.sparsity == theirs.sparsity


def test_only_some_tables(records):
    asked = questions(PAPER, records, ["control"])
    assert {q.table for q in asked} == {"control"} and len(asked) == 3


def test_smoke_asks_for_its_own_seeds_and_promises_nothing(records):
    for q in questions(SMOKE, records):
        n = 1 if q.table == "surfaces" else 2  # which looks at the first seed alone
        assert len(q.seeds) == n and q.looks == (n,) and q.expects(n) == ""


def test_what_is_decided_is_no_question_any_more(records):
    for config in TABLES.build(Spec("control"), profile=PAPER).runs():
        noise = np.random.default_rng(int(config.fingerprint, 16)).normal(0, 0.05)
        gain = {"sgd": 0.0, "sam": 1.0, "s2sam": 0.45}[config.optimizer.name]
        records.write(config, "finished", made_body(last=90.0 + noise + gain))
    asked = {q.name.split(":")[0]: q for q in questions(PAPER, records, ["control"])}
    assert set(asked) == {"3b"}  # 0.55 below SAM: marginal or not is open
    says = asked["3b"].expects(5)
    assert says.startswith("standard error 0.0") and "the records' spread" in says


def test_what_a_look_would_show_is_the_computed_power(records):
    (asked,) = (q for q in questions(PAPER, records) if q.name.startswith("1a"))
    # 21 cells of error 10 points: 0.07 sqrt(10) sqrt(2 / 21n).
    assert f"standard error {0.07 * np.sqrt(10 * 2 / 21 / 3):.2f} points" in asked.expects(3)
    power = [int(asked.expects(n).split("power ")[1].split("%")[0]) for n in LOOKS]
    assert power == sorted(power) and power[-1] > 95
    assert "assumed spread" in asked.expects(3)


def test_the_error_of_an_answer_falls_from_what_is_known_before(records):
    for q in questions(PAPER, records):
        errors = [q.error(n) for n in (0, *LOOKS)]
        assert errors[0] == PRIOR and errors == sorted(errors, reverse=True)
    (asked,) = (q for q in questions(PAPER, records) if q.name.startswith("8"))
    # A standard error is worth as many margins as another: 0.5 points under corruptions.
    se = 0.07 * np.sqrt(10 * 2 / 4 / 5)
    assert asked.error(5) == pytest.approx((PRIOR**-2 + se**-2) ** -0.5)
    assert f"standard error {2.5 * se:.2f} points" in asked.expects(5)
    (asked,) = (q for q in questions(PAPER, records) if q.name.startswith("Wa"))
    se = 0.07 * np.sqrt(10 * 2 / 5)
    assert asked.error(5) == pytest.approx((PRIOR**-2 + se**-2) ** -0.5)
