"""Seventeen things that could be wrong with the theory, each of which the checks must notice."""

import pytest

from theory.mutants import mutants, named
from theory.objections import objections
from theory.proofs import PROOFS

NAMED = named()
ONCE_UNNOTICED = {
    "scheduled: zeta(3/2) is zeta(2)",
    "momentum: no noise in the buffer",
    "smooth: eta <= 2/L",
    "momentum: eta <= (1-beta)/(L+lambda)",
    "weight_decay: grad F, not of F_lambda",
}


@pytest.mark.parametrize("proof", PROOFS, ids=lambda p: p.name)
def test_nothing_speaks_against_the_proofs_as_they_are(proof):
    assert list(objections(proof)) == []


def test_the_seventeen_are_over_premises_left_and_right_sides():
    assert len(NAMED) == 17
    assert {mutant.kind for mutant in NAMED} == {"premise", "left side", "right side"}
    assert {mutant.name for mutant in NAMED} >= ONCE_UNNOTICED


@pytest.mark.parametrize("mutant", NAMED, ids=lambda m: m.name)
def test_a_mutant_is_caught(mutant):
    assert mutant.caught()


@pytest.mark.parametrize(
    "name",
    [
        "scheduled: zeta(3/2) is zeta(2)",
        "momentum: no noise in the buffer",
        "smooth: half the variance",
    ],
)
def test_a_mistake_carried_through_the_whole_proof_is_caught_by_runs_alone(name):
    (mutant,) = [m for m in NAMED if m.name == name]
    assert mutant.proof.failures() == ()
    assert all(mutant.proof.reaches(statement) for statement in mutant.proof.proves)
    assert mutant.caught().startswith("false in a run")


@pytest.mark.slow
def test_more_than_sixty_mutants_and_more_than_95_percent_caught():
    every = mutants()
    assert len({mutant.name for mutant in every}) == len(every) >= 60
    missed = [mutant.name for mutant in every if not mutant.caught()]
    assert len(missed) < 0.05 * len(every), missed
