"""Findings F to J of the audit of the released code: gradients, checkpoints, settings, biases.

Each is reproduced by a switch of ``Released`` or a run's setting, and absent from S2SAM.
"""

import pytest
import torch
from released_cases import ours, released, sgd
from toys import (
    advance,
    batches,
    clones,
    convnet,
    equal,
    flat,
    images,
    mlp,
    through_disk,
    train,
    weights,
)

from paper_repro import data
from paper_repro.experiment.profiles import profile
from paper_repro.optim import OPTIMIZERS, S2SAM
from paper_repro.sparse import MEST
from paper_repro.train import Trainer


@pytest.mark.parametrize(
    ("wrap", "after_step", "zero"),
    [(released, "zero", True), (released, "keep", False), (ours, None, False)],
)
def test_f_gradients_are_zero_when_masks_are_updated(wrap, after_step, zero):
    model = mlp()
    optimizer = wrap(model) if after_step is None else wrap(model, after_step=after_step)
    often = {"total_steps": 8, "updates": 2, "distribution": "uniform-all"}
    method = MEST(model, optimizer, sparsity=0.5, gradient_weight=1.0, **often)
    seen = []
    choose = method.choose

    def spying(t):
        seen.append(max(float(p.grad.abs().max()) for p in model.parameters()))
        return choose(t)

    method.choose = spying
    train(model, optimizer, batches(4))
    assert len(seen) == 1
    assert (seen[0] == 0.0) is zero


@pytest.mark.parametrize("stale", [True, False])
def test_g_a_perturbation_left_out_is_subtracted_again(stale):
    model = mlp(dtype=torch.float64)
    optimizer = released(model, sgd(model, lr=0.0), stale_perturbation=stale, after_step="zero")
    data = batches(3, dtype=torch.float64)
    w = flat(clones(model))
    train(model, optimizer, data[:2])
    torch.testing.assert_close(flat(clones(model)), w, rtol=0, atol=1e-15)
    optimizer.zero_grad(set_to_none=True)
    advance(model, optimizer, data[2])
    moved = float((flat(clones(model)) - w).norm())
    assert moved == pytest.approx(0.05 if stale else 0.0, abs=1e-12)


def test_g_ours_does_not_move():
    model = mlp(dtype=torch.float64)
    optimizer = S2SAM(sgd(model, lr=0.0))
    before = clones(model)
    for batch in batches(3, dtype=torch.float64):
        advance(model, optimizer, batch)
        optimizer.zero_grad(set_to_none=True)
    optimizer.eval()
    assert equal(before, model.parameters())


def resumed(wrap):
    """Largest difference that stopping and resuming makes after 5 steps."""
    model = mlp(dtype=torch.float64)
    optimizer = wrap(model)
    data = batches(10, dtype=torch.float64)
    train(model, optimizer, data[:5])
    saved = through_disk({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    train(model, optimizer, data[5:])
    other = mlp(seed=1, dtype=torch.float64)
    again = wrap(other)
    other.load_state_dict(saved["model"])
    again.load_state_dict(saved["optimizer"])
    train(other, again, data[5:])
    return float((flat(clones(model)) - flat(clones(other))).abs().max())


def test_h_checkpoints_hold_no_momentum():
    def lossy(model):
        return released(model, lossy_checkpoint=True)

    assert resumed(lossy) > 0.01
    assert resumed(released) == resumed(ours) == 0.0
    model = mlp()
    optimizer = lossy(model)
    train(model, optimizer, batches(2))
    assert all("momentum_buffer" not in s for s in optimizer.state_dict()["state"].values())


def test_h_after_loading_a_scheduler_has_no_effect():
    def moved(wrap):
        model = mlp(dtype=torch.float64)
        optimizer = wrap(model)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.0)
        data = batches(3, dtype=torch.float64)
        train(model, optimizer, data[:2])
        optimizer.load_state_dict(through_disk(optimizer.state_dict()))
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] == 0.0
        before = flat(weights(model, optimizer))
        train(model, optimizer, data[2:])
        return float((flat(weights(model, optimizer)) - before).abs().max())

    assert moved(lambda model: released(model, lossy_checkpoint=True)) > 1e-3
    assert moved(released) < 1e-15
    assert moved(ours) == 0.0


def config(name="released", method=None, **settings):
    size = profile("smoke")
    options = settings.pop("options", {})
    spec = method or size.method("mest", sparsity=0.9)
    return size.config(
        "cifar10",
        "resnet32x2",
        spec,
        OPTIMIZERS.spec(name, **options),
        0,
        **{"epochs": 2, "train_size": 96, "augment": False, **settings},
    )


def test_i_weight_decay_is_a_runs_setting():
    theirs, same = config("sgd", weight_decay=1e-4), config("sgd")
    assert theirs.fingerprint != same.fingerprint
    digits = data.load("digits", train_size=96)
    assert Trainer(theirs, digits).optimizer.param_groups[0]["weight_decay"] == 1e-4
    assert Trainer(same, digits).optimizer.param_groups[0]["weight_decay"] == 5e-4


def test_j_biases_that_start_at_zero_stay_there():
    def trained(wrap, **switches):
        model = convnet()
        torch.nn.init.zeros_(model[8].bias)  # the classifier's, as the released networks have it
        optimizer = wrap(model, **switches)
        train(model, optimizer, images(5))
        for _ in range(2):  # also over a checkpoint and back
            saved = through_disk(optimizer.state_dict())
            model2 = convnet(seed=3)
            model2.load_state_dict(model.state_dict())
            optimizer = wrap(model2, **switches)
            optimizer.load_state_dict(saved)
            model = model2
            train(model, optimizer, images(2, seed=1))
        optimizer.eval()
        return model

    zero_at_start = ("1.bias", "4.bias", "8.bias")
    for late in (True, False):
        model = trained(released, frozen_bias=True, mask_after_step=late)
        for name, p in model.named_parameters():
            assert bool(p.any()) is (name not in zero_at_start), name
    for wrap in (released, ours):
        assert all(p.any() for p in trained(wrap).parameters())


def test_j_a_tenth_of_zeros_is_enough_and_only_those_are_held():
    model = torch.nn.Sequential(torch.nn.Linear(6, 20), torch.nn.Tanh(), torch.nn.Linear(20, 20))
    with torch.no_grad():
        model[0].bias[:2] = 0.0  # a tenth
        model[2].bias[:1] = 0.0  # less
    optimizer = released(model, frozen_bias=True)
    train(model, optimizer, batches(3))
    assert (model[0].bias == 0).tolist() == [True] * 2 + [False] * 18
    assert model[2].bias.all()


def test_a_run_of_it_is_told_of_the_masks():
    trainer = Trainer(config(), data.load("digits", train_size=96))
    weight = next(iter(trainer.method.masks.weights.values()))
    dense_forwards = []

    def look(*_):
        off = ~next(iter(trainer.method.masks[name] for name in trainer.method.masks))
        dense_forwards.append(bool(weight[off].any()))

    trainer.model.register_forward_pre_hook(look)
    trainer.train_epoch()
    assert dense_forwards == [False, True, True]
    off = ~next(iter(trainer.method.masks[name] for name in trainer.method.masks))
    assert not weight[off].any()
    assert trainer.optimizer.state[weight]["momentum_buffer"][off].any()
