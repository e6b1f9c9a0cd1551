import math
from dataclasses import replace

import pytest
import torch
from subjects import subject
from torch import nn

from paper_repro.errors import UserError
from paper_repro.measure.sharpness import sharpness
from paper_repro.measure.trained import Trained


def bowl(weights, curvatures):
    """A "network" whose loss is the quadratic sum(h w^2) / 2 of its weights."""
    model = nn.Linear(len(weights), 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weights]))
    h = torch.tensor(curvatures)

    def loss(outputs, targets):
        # outputs are the weights themselves: the inputs are the unit vectors
        return (h * outputs.squeeze(1).square()).sum() / 2

    unit = torch.eye(len(weights))
    return Trained(model, {}, None, lambda n, seed: (unit, torch.zeros(len(unit))), loss)


def test_the_worst_case_of_a_bowl_is_known():
    # L(w + |w| v) - L(w) with w = (1, 0.5), h = (2, 8): in v both curvatures are 2, and the
    # maximum at radius rho lies where both weights grow alike.
    rho = 0.5
    found = sharpness(bowl([1.0, 0.5], [2.0, 8.0]), rho=rho, samples=2, steps=50)
    assert found["loss"] == pytest.approx(2.0)
    assert found["worst"] == pytest.approx(math.sqrt(2) * 2 * rho + rho**2, rel=1e-4)


def test_the_average_case_of_a_bowl_is_known():
    found = sharpness(bowl([1.0, 0.5], [2.0, 8.0]), sigma=0.1, draws=4000, samples=2, steps=1)
    error = found["average_std"] / math.sqrt(4000)
    assert found["average"] == pytest.approx(0.1**2 * (2 + 2) / 2, abs=4 * error)
    assert error < 0.01


def test_a_pruned_weight_has_no_part_in_it():
    plain = sharpness(bowl([1.0, 0.5], [2.0, 8.0]), samples=2)
    padded = sharpness(bowl([1.0, 0.5, 0.0], [2.0, 8.0, 1e6]), samples=2)
    assert padded["worst"] == pytest.approx(plain["worst"], rel=1e-5)
    assert padded["average"] < 1e3  # which a moved third weight would exceed


def test_the_worst_case_is_no_less_than_the_first_step_and_grows_with_the_radius():
    found = [sharpness(subject(), rho=rho, samples=40)["worst"] for rho in (0.1, 0.5, 1.0)]
    assert 0 < found[0] < found[1] < found[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rho": 0.0}, "rho and sigma above 0"),
        ({"sigma": -1.0}, "rho and sigma above 0"),
        ({"steps": 0}, "at least 1 step and 2 draws"),
        ({"draws": 1}, "at least 1 step and 2 draws"),
        ({"samples": 0}, "at least 1 sample"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        sharpness(subject(), **options)


@pytest.mark.parametrize("after", [1, 3, 6])  # in the ascent, and at the loss where it ends
def test_a_search_that_leaves_the_numbers_has_no_highest_loss(after):
    trained = bowl([1.0, 0.5], [2.0, 8.0])
    asked = []

    def loss(outputs, targets):
        asked.append(1)
        value = trained.loss_fn(outputs, targets)
        # After one loss at w and two of the average case.
        return value * math.nan if len(asked) == 3 + after else value

    found = sharpness(replace(trained, loss_fn=loss), samples=2, steps=5, draws=2)
    assert len(asked) == 3 + after and math.isnan(found["loss"]) is False
    assert found["worst"] is None and found["average"] is not None


def test_a_rise_that_is_not_finite_leaves_no_average():
    trained = bowl([1.0, 0.5], [2.0, 8.0])
    asked = []

    def loss(outputs, targets):
        asked.append(1)
        value = trained.loss_fn(outputs, targets)
        return value * math.inf if len(asked) == 2 else value

    found = sharpness(replace(trained, loss_fn=loss), samples=2, steps=5, draws=3)
    assert found["average"] is None and found["average_std"] is None
    assert found["worst"] > 0
