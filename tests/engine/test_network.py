"""Whole networks against PyTorch: gradients, running statistics, evaluation."""

import copy
import statistics

import pytest
import torch
import torch.nn.functional as F
from networks import (
    batch,
    engine,
    engine_gradients,
    errors,
    gradients,
    margin,
    masks_for,
    resnet,
    unflippable,
    vgg,
)
from torch import nn

from paper_repro import models
from paper_repro.engine.build import supported
from paper_repro.optim import S2SAM, SAM
from paper_repro.optim.batchnorm import still_batch_norm

NETWORKS = {
    "resnet": lambda monkeypatch, seed: resnet(seed),
    "three stages": lambda monkeypatch, seed: resnet(seed, (3, 5, 7), 1),
    "vgg": vgg,
}


@pytest.fixture(params=NETWORKS)
def network(request, monkeypatch):
    return lambda seed=0: NETWORKS[request.param](monkeypatch, seed)


@pytest.mark.parametrize("images_seed", range(2))
@pytest.mark.parametrize("isa", supported())
def test_gradients_are_the_true_ones_where_no_relu_flips(network, isa, images_seed):
    model = unflippable(network())
    masks = masks_for(model)
    images, labels = batch(seed=images_seed)
    assert margin(model, images) > 1e-3
    truth, _ = gradients(model, masks, images, labels, torch.float64)
    found = engine_gradients(engine(model, masks, isa=isa), images, labels)
    off = errors(found, truth)
    assert max(off.values()) < 1e-4, off
    assert any(g.abs().sum() > 0 for n, g in truth.items() if n in masks)


def test_gradients_are_as_good_as_those_of_pytorch_in_float32(network):
    ours, theirs = [], []
    for seed in range(7):
        model = network(seed)
        masks = masks_for(model, seed=seed)
        images, labels = batch(seed=seed)
        truth, _ = gradients(model, masks, images, labels, torch.float64)
        plain, _ = gradients(model, masks, images, labels, torch.float32)
        found = engine_gradients(engine(model, masks), images, labels)
        ours.append(max(errors(found, truth).values()))
        theirs.append(max(errors(plain, truth).values()))
    # A ReLU that flips in one of them decides single seeds.
    assert statistics.median(ours) < 3 * statistics.median(theirs), (ours, theirs)
    assert statistics.median(ours) < 1e-4


def test_bfloat16_storage_is_off_by_no_more_than_autocast(network):
    ours, theirs = [], []
    for seed in range(5):
        model = network(seed)
        masks = masks_for(model, seed=seed)
        images, labels = batch(seed=seed)
        truth, _ = gradients(model, masks, images, labels, torch.float64)
        found = engine_gradients(engine(model, masks, "bfloat16"), images, labels)
        cast = copy.deepcopy(model)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(cast(images), labels)
        loss.backward()
        by_cast = {
            n: p.grad.double() * masks.get(n, torch.tensor(True))
            for n, p in cast.named_parameters()
        }
        ours.append(_overall(found, truth))
        theirs.append(_overall(by_cast, truth))
    assert statistics.median(ours) < 1.2 * statistics.median(theirs), (ours, theirs)


def _overall(found, truth):
    flat = torch.cat([(found[n] - g).flatten() for n, g in truth.items()])
    return float(flat.norm() / torch.cat([g.flatten() for g in truth.values()]).norm())


@pytest.mark.parametrize("images_seed", range(2))
def test_running_statistics_and_evaluation(network, images_seed):
    model = network()
    masks = masks_for(model)
    reference = copy.deepcopy(model).double()
    net = engine(model, masks)
    for seed in range(3):
        images, _ = batch(seed=seed)
        net.train()(images)
        reference.train()(images.double())
    for (name, ours), theirs in zip(model.named_buffers(), reference.buffers(), strict=True):
        assert torch.allclose(ours.double(), theirs.double(), rtol=1e-5, atol=1e-6), name
    for n in (20, 1, 7, 33, 47):  # and more images than the engine was made for
        images, _ = batch(n, seed=images_seed + 10)
        with torch.no_grad():
            expected = reference.eval()(images.double())
        found = net.eval()(images)
        assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-4)
    assert not found.requires_grad


@pytest.mark.parametrize("n", [1, 3, 15, 16, 17, 37])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_batches_of_any_size(storage, n):
    model = unflippable(resnet())
    masks = masks_for(model)
    images, labels = batch(n)
    truth, _ = gradients(model, masks, images, labels, torch.float64)
    net = engine(model, masks, storage)
    engine_gradients(net, *batch(20, seed=5))  # what it leaves must not be seen
    off = _overall(engine_gradients(net, images, labels), truth)
    plain, _ = gradients(model, masks, images, labels, torch.float32)
    # One image that is classified for sure has a gradient of rounding alone.
    assert off < (max(1e-4, 2 * _overall(plain, truth)) if storage == "float32" else 0.1)


def test_a_memory_format_changes_no_bit():
    model = resnet()
    masks = masks_for(model)
    images, labels = batch()
    net = engine(model, masks)
    one = engine_gradients(net, images, labels)
    two = engine_gradients(net, images.contiguous(memory_format=torch.channels_last), labels)
    assert all(torch.equal(one[n], two[n]) for n in one)
    assert torch.equal(net.layout.pack(dict(model.named_parameters())), net.flat.detach())
    channels_last = engine(model.to(memory_format=torch.channels_last), masks)
    assert torch.equal(channels_last.flat, net.flat)


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_the_same_bits_again_and_with_any_number_of_threads(network, storage):
    model = network()
    masks = masks_for(model)
    images, labels = batch(40)
    results = []
    for threads in (1, 1, 2, 3):
        again = copy.deepcopy(model)
        net = engine(again, masks, storage, threads=threads, batch=40)
        found = [engine_gradients(net, images, labels) for _ in range(2)]
        results.append((found[0], found[1], dict(again.named_buffers()), net.eval()(images)))
    first = results[0]
    for one, two, buffers, logits in results:
        assert all(torch.equal(one[n], two[n]) for n in one)
        assert all(torch.equal(one[n], first[0][n]) for n in one)
        assert all(torch.equal(buffers[n], first[2][n]) for n in buffers)
        assert torch.equal(logits, first[3])


@pytest.mark.parametrize("by_model", [True, False], ids=["model", "global hook"])
def test_batch_norm_is_still_when_told(by_model):
    model = resnet()
    net = engine(model, masks_for(model))
    before = [b.clone() for b in model.buffers()]
    images, _ = batch()
    with still_batch_norm(model if by_model else None):
        still = net(images)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    assert torch.equal(net(images), still)
    moved = [not torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True)]
    assert all(moved)


def test_sam_moves_the_running_statistics_once_a_step():
    model = resnet()
    net = engine(model, masks_for(model))
    optimizer = SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.05)
    images, labels = batch()

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {int(m.num_batches_tracked) for m in norms} == {1}


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_the_perturbation_arrives(storage):
    """Nearly every active weight that the kernels read differs between w and u."""
    model = resnet(widths=(16, 32))
    masks = masks_for(model, 0.1)
    net = engine(model, masks, storage)
    optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.05)
    images, labels = batch()
    for _ in range(2):
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    def read():
        logits = net.eval()(images)
        bound = net._bound
        assert bound.weights.data_ptr() == net.flat.data_ptr()
        net.train()
        return bound.weights.clone(), logits

    at_u, logits_at_u = read()
    optimizer.eval()
    at_w, logits_at_w = read()
    parts = [net.layout.slices[name] for name in masks]
    changed = torch.cat([(at_u != at_w)[s] for s in parts]).float().mean()
    assert changed >= 0.99 and not torch.equal(logits_at_u, logits_at_w)
    net.write_back(at_u)
    with torch.no_grad():
        expected = model.eval()(images)
    tolerance = 1e-4 if storage == "float32" else 0.1
    assert torch.allclose(logits_at_u, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name, density", [("resnet32x2", 0.1), ("vgg19", 0.02)])
def test_the_papers_networks(name, density, size):
    """At their real widths, with biases that let no ReLU flip."""
    model = unflippable(models.build(name, classes=10, channels=3, seed=0))
    masks = masks_for(model, density)
    images, labels = batch(6, size=size)
    truth, _ = gradients(model, masks, images, labels, torch.float64)
    plain, _ = gradients(model, masks, images, labels, torch.float32)
    net = engine(model, masks, image=(3, size, size), batch=6)
    off = _overall(engine_gradients(net, images, labels), truth)
    assert off < max(1e-4, 2 * _overall(plain, truth))
