"""The largest eigenvalue against the whole Hessian of a small network."""

import pytest
import torch
from subjects import subject

from paper_repro.errors import UserError
from paper_repro.measure.curvature import curvature
from paper_repro.measure.minibatches import Minibatches


def test_it_is_the_hessians_over_the_active_and_over_all_weights():
    trained = subject()
    found = curvature(trained, samples=16, iterations=60)
    batches = Minibatches(trained, 16, 0)
    with batches.training():
        batch = batches.draw()
        hessian = torch.autograd.functional.hessian(
            lambda at: batches.loss(at, batch), batches.weights
        )
    active = batches.active
    for name, part in (("all", hessian), ("active", hessian[active][:, active])):
        largest = float(torch.linalg.eigvalsh(part.double()).max())
        assert found[name] == pytest.approx(largest, rel=0.05)
    assert found["active"] < found["all"]


def test_no_iterations():
    with pytest.raises(UserError, match="at least 1 iteration"):
        curvature(subject(), iterations=0)
