import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from subjects import subject

from paper_repro.errors import UserError
from paper_repro.measure.landscape import Landscape


def test_loss_and_gradient_are_those_of_a_network_that_stands_there():
    trained = subject()
    landscape = Landscape(trained, samples=40, seed=3)
    offset = {n: 0.1 * torch.randn_like(w) for n, w in landscape.weights.items() if "bias" not in n}
    moved = copy.deepcopy(trained.model)
    with torch.no_grad():
        for name, p in moved.named_parameters():
            p += offset.get(name, 0.0)
    inputs, targets = trained.sample(40, 3)
    loss = F.cross_entropy(moved(inputs), targets)
    loss.backward()
    assert landscape.loss(offset) == pytest.approx(float(loss.detach()), rel=1e-6)
    found, gradient = landscape.gradient(offset)
    assert found == pytest.approx(float(loss.detach()), rel=1e-6)
    for name, p in moved.named_parameters():
        torch.testing.assert_close(gradient[name], p.grad, rtol=1e-5, atol=1e-7)


def test_samples_taken_in_pieces_make_the_same_mean(monkeypatch):
    trained = subject()
    whole = Landscape(trained, samples=50, seed=0)
    monkeypatch.setattr("paper_repro.measure.landscape._AT_ONCE", 7)
    pieces = Landscape(trained, samples=50, seed=0)
    assert len(pieces.batches) == 8 and len(whole.batches) == 1
    assert pieces.loss() == pytest.approx(whole.loss(), rel=1e-6)
    for a, b in zip(pieces.gradient()[1].values(), whole.gradient()[1].values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_on_a_cpu_images_are_channels_last_in_pieces_that_fit_its_caches(monkeypatch):
    monkeypatch.setattr("paper_repro.measure.landscape._ON_CPU", 40)
    landscape = Landscape(subject(), samples=64, seed=0)
    assert [len(targets) for _, targets in landscape.batches] == [40, 24]
    for inputs, _ in landscape.batches:
        assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_no_samples_are_no_landscape():
    with pytest.raises(UserError, match="at least 1 sample, not 0"):
        Landscape(subject(), samples=0, seed=0)


def test_what_reads_sentences_has_no_landscape():
    sentences = replace(subject(), sample=lambda n, seed: (("a", "b"), torch.zeros(2)))
    with pytest.raises(UserError, match="this network is none"):
        Landscape(sentences, samples=2, seed=0)
