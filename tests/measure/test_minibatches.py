"""Minibatches: the loss of training, at any weights, and pruned weights without gradient."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from subjects import subject

from paper_repro.errors import UserError
from paper_repro.measure.minibatches import Minibatches


def test_loss_and_gradient_are_those_of_the_model_in_training_mode():
    trained = subject()
    batches = Minibatches(trained, 8, 0)
    with batches.training():
        inputs, labels = batch = batches.draw()
        plain = F.cross_entropy(trained.model(inputs), labels)
        expected = torch.autograd.grad(plain, list(trained.model.parameters()))
        found = batches.gradient(batches.weights, batch)
        loss = batches.loss(batches.weights, batch).detach()
        assert float(loss) == pytest.approx(float(plain.detach()))
    flat = torch.cat([g.flatten() for g in expected])
    assert torch.allclose(found, flat * batches.active, atol=1e-6)
    assert 0 < int((~batches.active).sum()) == sum(int((~m).sum()) for m in trained.masks.values())
    assert not found[~batches.active].any() and flat[~batches.active].any()


def test_a_seed_gives_its_batches_and_another_gives_others():
    def drawn(seed):
        return Minibatches(subject(), 8, seed).draw()

    assert torch.equal(drawn(1)[0], drawn(1)[0])
    assert not torch.equal(drawn(1)[0], drawn(2)[0])
    assert Minibatches(subject(), 8, 0).draw(3)[0].shape[0] == 3


def test_bad_input():
    with pytest.raises(UserError, match="at least 2 images, not 1"):
        Minibatches(subject(), 1, 0)
    with pytest.raises(UserError, match="this network sees none"):
        Minibatches(replace(subject(), normalise=None), 8, 0)
    with pytest.raises(UserError, match="these are streamed"):
        Minibatches(replace(subject(), data=object()), 8, 0)
