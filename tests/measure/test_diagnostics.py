"""Diagnostics: right on a problem with a known Hessian, and without a trace on training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from paper_repro.data import load
from paper_repro.experiment.profiles import profile
from paper_repro.measure.diagnostics import churn, diagnose, largest_eigenvalue
from paper_repro.measure.effective_perturbation import effective_perturbation
from paper_repro.optim import OPTIMIZERS, S2SAM
from paper_repro.sparse import Masks, Random
from paper_repro.train import Trainer


@pytest.mark.parametrize("sign", [1, -1])
def test_largest_eigenvalue_of_a_quadratic_on_its_active_coordinates(sign: int) -> None:
    torch.manual_seed(0)
    root = torch.randn(6, 6, dtype=torch.float64)
    hessian = sign * root @ root.T + torch.eye(6, dtype=torch.float64)

    def loss(at: list[torch.Tensor]) -> torch.Tensor:
        x = torch.cat(list(at))
        return 0.5 * x @ hessian @ x

    weights = [torch.randn(2, dtype=torch.float64), torch.randn(4, dtype=torch.float64)]
    keep = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.float64)
    for factors in (torch.ones(6, dtype=torch.float64), keep):
        active = factors.bool()
        true = torch.linalg.eigvalsh(hessian[active][:, active]).max()
        found = largest_eigenvalue(
            loss, weights, [factors[:2], factors[2:]], torch.Generator().manual_seed(1), 400
        )
        assert abs(found - float(true)) < 1e-4 * abs(float(true))


def _network() -> tuple[nn.Module, S2SAM, Random, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3)
    ).double()
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)
    method = Random(model, optimizer, sparsity=0.5, distribution="uniform-rigl", seed=0)
    batch = (torch.randn(20, 4, 4).double(), torch.randint(3, (20,)))
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
    return model, optimizer, method, batch


def test_rises_and_cosine_against_their_definitions() -> None:
    model, optimizer, method, batch = _network()
    measured = diagnose(model, optimizer, method.masks, batch, torch.Generator().manual_seed(0))

    previous = torch.cat([p.grad.flatten() for p in model.parameters()])
    optimizer.eval()  # the parameters now hold w, where everything is measured

    def loss_moved(direction: torch.Tensor) -> float:
        saved = [p.detach().clone() for p in model.parameters()]
        sizes = [p.numel() for p in model.parameters()]
        with torch.no_grad():
            for p, d in zip(model.parameters(), direction.split(sizes), strict=True):
                p.add_(d.view_as(p))
            value = float(nn.functional.cross_entropy(model(batch[0]), batch[1]))
            for p, old in zip(model.parameters(), saved, strict=True):
                p.copy_(old)
        return value

    model.zero_grad()
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    base = loss_moved(torch.zeros_like(gradient))
    cosine = float(previous @ gradient / (previous.norm() * gradient.norm()))
    assert abs(measured["cosine"] - cosine) < 1e-12
    for name, direction in (("rise_s2sam", previous), ("rise_sam", gradient)):
        expected = loss_moved(0.05 * direction / direction.norm()) - base
        assert abs(measured[name] - expected) < 1e-12
    assert measured["rise_sam"] > measured["rise_random"]


def test_measuring_leaves_no_trace() -> None:
    model, optimizer, method, batch = _network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    random = torch.get_rng_state()
    diagnose(model, optimizer, method.masks, batch, torch.Generator().manual_seed(0))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(random, torch.get_rng_state())


def test_churn_counts_new_positions_among_the_active() -> None:
    before = {"a": torch.tensor([1, 1, 0, 0]).bool(), "b": torch.tensor([1, 0]).bool()}
    after = {"a": torch.tensor([1, 0, 1, 0]).bool(), "b": torch.tensor([1, 0]).bool()}
    assert churn(before, before) == 0.0
    assert churn(before, after) == 1 / 3


def test_training_is_the_same_with_diagnostics_and_they_are_logged() -> None:
    data = load("digits", train_size=256)
    size = profile("smoke")
    config = size.config(
        "cifar10",
        "resnet32x2",
        size.method("set", sparsity=0.9, distribution="uniform"),
        OPTIMIZERS.spec("s2sam"),
        seed=0,
        epochs=2,
        train_size=256,
    )
    plain, measured = Trainer(config, data), Trainer(config, data, diagnostics=True)
    for trainer in (plain, measured):
        trainer.run_epoch()
        trainer.run_epoch()
    ours, theirs = plain.outcome()["weights"], measured.outcome()["weights"]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    logged = measured.curve[0]["diagnostics"]
    assert set(logged) == {
        "cosine", "rise_s2sam", "rise_sam", "rise_random", "sharpness", "rho", "churn",
        "effective",
    }  # fmt: skip
    assert logged["churn"] > 0 and logged["sharpness"] > 0 and logged["rho"] == 0.05
    assert "diagnostics" not in plain.curve[0]


def test_what_arrives_of_the_perturbation_is_measured_where_the_optimizer_stands() -> None:
    model, optimizer, method, batch = _network()
    measured = diagnose(model, optimizer, method.masks, batch, torch.Generator().manual_seed(0))
    for precision in ("tf32", "bf16"):
        expected = effective_perturbation(model, optimizer, masks=method.masks, precision=precision)
        found = measured["effective"][precision]
        assert found["changed"] == expected.overall.changed > 0
        assert (found["cosine"], found["ratio"]) == (
            expected.overall.cosine,
            expected.overall.ratio,
        )
        assert found["layers"] == {n: s.changed for n, s in expected.layers.items()}


def test_an_optimizer_that_stands_at_w_is_measured_along_the_batchs_gradient() -> None:
    model, _, method, batch = _network()
    method.detach()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    model.zero_grad()
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    masks = method.masks
    named = dict(model.named_parameters())
    for name in masks:
        named[name].grad.mul_(masks[name])
    norm = torch.cat([p.grad.flatten() for p in named.values()]).norm()
    epsilon = {name: 0.01 * p.grad / norm for name, p in named.items()}
    expected = effective_perturbation(model, epsilon=epsilon, masks=masks)
    measured = diagnose(model, sgd, masks, batch, torch.Generator().manual_seed(0), rho=0.01)
    found = measured["effective"]["bf16"]
    assert 0 < found["changed"] == pytest.approx(expected.overall.changed, abs=0.01)
    assert found["cosine"] == pytest.approx(expected.overall.cosine, abs=0.01)


def test_dropout_is_the_same_throughout_a_measurement() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Dropout(0.5), nn.Linear(64, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = (torch.randn(20, 16).double(), torch.randint(3, (20,)))
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    measured = diagnose(
        model, optimizer, Masks(model, optimizer, {}), batch, torch.Generator(), rho=1e-9
    )
    for name in ("rise_s2sam", "rise_sam", "rise_random"):
        assert abs(measured[name]) < 1e-7


@pytest.mark.parametrize("size", [float("nan"), float("inf"), 1e200])
def test_where_gradients_are_not_finite_nothing_is_0(size: float) -> None:
    """Of 1e200 the square is not finite, in float64."""
    model, optimizer, method, batch = _network()
    next(model.parameters()).grad.fill_(size)  # the last step's, S2-SAM's direction
    measured = diagnose(model, optimizer, method.masks, batch, torch.Generator().manual_seed(0))
    assert math.isnan(measured["cosine"]) and math.isnan(measured["rise_s2sam"])
    assert math.isfinite(measured["rise_sam"]) and math.isfinite(measured["sharpness"])


def test_of_weights_that_are_not_numbers_nothing_is_0() -> None:
    model, optimizer, method, batch = _network()
    optimizer.eval()
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    measured = diagnose(model, sgd, method.masks, batch, torch.Generator().manual_seed(0))
    for name in ("cosine", "rise_s2sam", "rise_sam", "rise_random", "sharpness"):
        assert math.isnan(measured[name])
    for found in measured["effective"].values():
        assert math.isnan(found["cosine"]) and math.isnan(found["ratio"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
def test_an_eigenvalue_of_a_hessian_that_is_not_finite_is_not_a_number(value: float) -> None:
    def loss(at: list[torch.Tensor]) -> torch.Tensor:
        return value * (at[0] ** 2).sum()

    weights = [torch.ones(3, dtype=torch.float64)]
    found = largest_eigenvalue(loss, weights, weights, torch.Generator().manual_seed(1), 5)
    assert math.isnan(found)
