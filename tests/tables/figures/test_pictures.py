"""The README's pictures: the step is one that the optimizers take, the evidence is the records'."""

import numpy as np
import torch
from test_plots import CPU, fill

from paper_repro.optim import S2SAM, SAM
from tables.pictures.__main__ import main
from tables.pictures.step import ETA, RHO, gradient, steps


def quadratic(parameter):
    return (torch.tensor(gradient(np.ones(2))) * parameter**2).sum() / 2


def one(optimizer, parameter):
    def closure():
        optimizer.zero_grad()
        loss = quadratic(parameter)
        loss.backward()
        return loss

    optimizer.step(closure)


def test_the_steps_drawn_are_the_optimizers():
    theirs, ours, before = steps()
    weights = torch.nn.Parameter(torch.tensor(theirs.w))
    one(SAM(torch.optim.SGD([weights], lr=ETA), rho=RHO), weights)
    np.testing.assert_allclose(weights.detach().numpy(), theirs.after, rtol=1e-12)
    assert (ours.w == theirs.w).all() and (before.after == ours.w).all()
    # S2-SAM from its start: a step without a perturbation, the one before, and the one drawn.
    start = before.w / (1 - ETA * gradient(np.ones(2)))
    weights = torch.nn.Parameter(torch.tensor(start))
    optimizer = S2SAM(torch.optim.SGD([weights], lr=ETA), rho=RHO)
    for w, u in ((before.w, before.u), (ours.w, ours.u), (ours.after, None)):
        one(optimizer, weights)
        if u is not None:
            np.testing.assert_allclose(weights.detach().numpy(), u, rtol=1e-12)
        optimizer.eval()
        np.testing.assert_allclose(weights.detach().numpy(), w, rtol=1e-12)
        optimizer.train()


def test_a_step_of_sam_takes_two_gradients_and_one_of_s2sam_one():
    theirs, ours, before = steps()
    assert (len(theirs.gradients), len(ours.gradients), len(before.gradients)) == (2, 1, 1)
    assert (ours.up == before.gradients[0][1]).all()  # the one that is there already
    for step in (theirs, ours):
        np.testing.assert_allclose(np.linalg.norm(step.u - step.w), RHO)


def test_both_are_written_from_records_and_never_from_what_is_no_evidence(tmp_path, capsys):
    docs, results = tmp_path / "docs", tmp_path / "results"
    where = ["--docs", str(docs), "--results", str(results)]
    assert main(["--profile", "smoke", *where]) == 2
    assert "the smoke profile is none" in capsys.readouterr().err and not docs.exists()
    assert main(where) == 1  # no record yet
    assert {path.name for path in docs.iterdir()} == {"method.png", "method.svg"}
    fill(results, "control", CPU)
    assert main(where) == 0
    assert "Trained on wrong labels" in (docs / "evidence.svg").read_text()
    assert "Trained on" not in (docs / "method.svg").read_text()
