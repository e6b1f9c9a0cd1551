"""What is assumed of a problem is tested on it, and a problem that lacks it is caught."""

from dataclasses import replace

import numpy as np
import pytest

from theory import corrected
from theory.assumptions import PROPERTIES, largest_ratio
from theory.problems import Logistic, Quadratic, Robust, digits, rotated
from theory.reshuffle import reshuffled


def _quadratic():
    rng = np.random.default_rng(0)
    return Quadratic(rotated(np.geomspace(0.1, 2.0, 5), rng), rng.standard_normal(5), sigma=0.4)


def _robust():
    rng = np.random.default_rng(1)
    return Robust(rng.standard_normal((20, 4)), rng.standard_normal(20), sigma=0.4)


def _example():
    images, labels, _, _ = digits(np.random.default_rng(2), 40)
    return Logistic(images, labels, batch=1)


TRUE = {
    "smooth": (_quadratic, {"L": 2.0}),
    "infimum": (_quadratic, {"F_*": 0.0}),
    "pl": (_quadratic, {"mu": 0.1, "F_*": 0.0}),
    "unbiased": (_robust, {}),
    "variance": (_robust, {"sigma": 0.4}),
    "lipschitz": (_robust, {"B": None}),
    "example smooth": (_example, {"L": 0.5}),
    "convex": (_example, {"L": 0.5}),
}
WRONG = {
    "smooth": {"L": 1.9},
    "infimum": {"F_*": 0.01},
    "pl": {"mu": 0.12, "F_*": 0.0},
    "variance": {"sigma": 0.35},
    "lipschitz": {"B": 0.4},
    "example smooth": {"L": 0.1},
}


def _numbers(name):
    make, numbers = TRUE[name]
    problem = make()
    return problem, {k: problem.lipschitz() if v is None else v for k, v in numbers.items()}


@pytest.mark.parametrize("name", TRUE)
def test_a_property_that_a_problem_has_is_found(name):
    problem, numbers = _numbers(name)
    assert largest_ratio(name, problem, numbers, np.random.default_rng(0)) <= 1 + 1e-9


@pytest.mark.parametrize("name", WRONG)
def test_a_constant_that_is_too_good_is_refuted(name):
    problem, numbers = _numbers(name)
    claimed = {**numbers, **WRONG[name]}
    assert largest_ratio(name, problem, claimed, np.random.default_rng(0)) > 1


def test_a_biased_gradient_and_a_loss_that_is_not_convex_are_refuted():
    class Biased(Robust):
        def sample_gradient(self, w, drawn):
            return super().sample_gradient(w, drawn) + 0.05

    problem = _robust()
    biased = Biased(problem.features, problem.targets, problem.sigma)
    assert largest_ratio("unbiased", biased, {}, np.random.default_rng(0)) > 1
    numbers = {"L": problem.smoothness}
    assert largest_ratio("convex", problem, numbers, np.random.default_rng(0)) > 1


def test_unknown_properties_and_missing_constants_are_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown property 'tame'; known: smooth, "):
        largest_ratio("tame", _robust(), {}, rng)
    with pytest.raises(ValueError, match="the property 'smooth' needs a value for 'L'"):
        largest_ratio("smooth", _robust(), {}, rng)


def test_every_property_that_a_statement_assumes_can_be_tested():
    used = {name for statement in corrected.CORRECTED for name in statement.properties}
    assert used == set(PROPERTIES)


NUMBERS = {
    "L": 2.0, "lambda": 0.0, "beta": 0.0, "eta": 0.5, "rho": 0.1, "T": 10, "F_0": 1.0,
    "F_*": 0.0, "sigma": 0.0,
}  # fmt: skip


def test_a_statement_admits_its_edge_and_nothing_beyond():
    assert corrected.SMOOTH.admits(**NUMBERS)
    assert not corrected.SMOOTH.admits(**{**NUMBERS, "eta": 0.51})
    assert not corrected.SMOOTH.admits(**{**NUMBERS, "lambda": 0.1})
    assert not corrected.SMOOTH.admits(**{**NUMBERS, "beta": 0.1})
    assert not corrected.PL.admits(**NUMBERS)  # mu is not known
    stable = {"L": 1.0, "B": 1.0, "rho": 0.1, "n": 10, "eta": 0.1, "lambda": 1.0}
    assert not corrected.STABILITY.admits(**stable)  # lambda > L is strict
    assert corrected.STABILITY.admits(**{**stable, "lambda": 1.01})


def test_the_largest_step_is_the_one_that_is_printed():
    numbers = {"L": 3.0, "lambda": 0.5, "beta": 0.9}
    assert corrected.MOMENTUM.largest_step(**numbers) == pytest.approx(0.01 / (1.9 * 3.5))
    assert corrected.WEIGHT_DECAY.largest_step(**numbers) == pytest.approx(1 / 3.5)
    assert corrected.LEMMA1.largest_step(**{**numbers, "lambda": 0.0}) == np.inf
    with pytest.raises(ValueError, match="momentum: no largest step, no value given for beta"):
        corrected.MOMENTUM.largest_step(L=1.0, **{"lambda": 0.0})
    free = replace(corrected.SMOOTH, assumptions=())
    with pytest.raises(ValueError, match="smooth: no largest step, nothing bounds eta"):
        free.largest_step(L=1.0)


def test_what_is_printed_of_a_condition_is_what_is_decided():
    for statement in corrected.CORRECTED:
        for assumption in statement.assumptions:
            assert assumption.shown()


def test_reshuffled_epochs_break_the_descent_bound_and_drawing_afresh_does_not():
    fresh, shuffled = reshuffled(8, 15_000, 0)
    assert not fresh.shuffled
    assert fresh.ratio.high < 1
    assert shuffled.ratio.low > 2
    assert shuffled.ratio_example.high < 1
