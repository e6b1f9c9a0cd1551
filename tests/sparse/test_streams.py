"""Random masks follow neither size nor sign of initial weights drawn with the same seed."""

import pytest
import torch
from torch import nn

from paper_repro import models
from paper_repro.experiment.profiles import PROFILES, profile
from paper_repro.sparse import METHODS
from paper_repro.sparse.method import seed_of_stream

#: MEST starts by magnitude, and its growth comes later.
START_RANDOM = ("random", "set", "rigl", "dsr", "set-itop", "rigl-itop", "granet", "chase")


def follows(model, method):
    """How far the active weights' mean, and that of their sizes, are from all weights', in σ.

    Over all masked layers, each in units of its own spread.
    """
    signs, sizes = [], []
    for name in method.masks:
        mask, w = method.masks[name].bool(), model.drawn[name]
        if mask.all() or not mask.any():
            continue
        for found, values in ((signs, w), (sizes, w.abs())):
            z = (values[mask] - values.mean()) / values.std()
            found.append(z)
    return [float(torch.cat(z).sum() / torch.cat(z).numel() ** 0.5) for z in (signs, sizes)]


def drawn(model):
    """The model, which remembers the weights that a method then prunes."""
    model.drawn = {name: p.detach().clone() for name, p in model.named_parameters()}
    return model


def attach(name, model, seed, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    spec = METHODS.spec(name, **options)
    return METHODS.build(
        spec, model=model, optimizer=optimizer, seed=seed, total_steps=10_000, steps_per_epoch=50,
        batch=None, loss_fn=nn.functional.cross_entropy, parent=None,
    )  # fmt: skip


def options(name, distribution):
    own = {"distribution": distribution} if name != "granet" else {"initial_sparsity": 0.8}
    return {"sparsity": 0.9, **own}


@pytest.mark.parametrize("name", START_RANDOM)
@pytest.mark.parametrize("init", ["released", "fan_in"])
def test_masks_are_drawn_apart_from_the_initial_weights(name, init):
    model = drawn(models.build("resnet20", classes=10, seed=1, init=init))
    method = attach(name, model, seed=1, **options(name, "erk"))
    assert all(abs(z) < 5 for z in follows(model, method))


def network(seed):
    """A user's own, whose initial weights come from torch's global generator."""
    torch.manual_seed(seed)
    return drawn(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)))


@pytest.mark.parametrize("seed", range(3))
def test_so_they_are_in_a_loop_of_ones_own(seed):
    for distribution in ("erk", "uniform-all"):
        model = network(seed)
        method = attach("rigl", model, seed, sparsity=0.9, distribution=distribution)
        assert all(abs(z) < 5 for z in follows(model, method))
        # What it is for: from the same numbers, the most positive weights are kept.
        model = network(seed)
        method = attach(
            "rigl", model, seed_of_stream(seed), sparsity=0.9, distribution=distribution
        )
        assert follows(model, method)[0] > 20


@pytest.mark.parametrize("name", ["dsr", "rigl", "set"])
@pytest.mark.parametrize("init", ["released", "fan_in"])
@pytest.mark.parametrize("distribution", ["uniform", "uniform-rigl"])
@pytest.mark.parametrize("network", ["resnet20", "resnet32x2"])
def test_where_runs_keep_the_old_stream_neither_follows_the_other(
    network, name, init, distribution
):
    for seed in (0, 1, 2, 3):
        model = drawn(models.build(network, classes=10, seed=seed, init=init))
        method = attach(name, model, seed_of_stream(seed), **options(name, distribution))
        assert all(abs(z) < 5 for z in follows(model, method))


@pytest.mark.parametrize("size", sorted(PROFILES))
def test_profiles_keep_the_old_stream_just_there(size):
    size = profile(size)
    streams = {
        ("rigl", "erk"): "own",
        ("set", "uniform-all"): "own",
        ("chase", "erk"): "own",
        ("random", "2:4"): "own",
        ("mest", "uniform"): "weights",
        ("mest", "uniform-rigl"): "weights",
        ("magnitude", "global"): "weights",
        ("dense", None): "weights",
    }
    for (name, distribution), stream in streams.items():
        chosen = {} if distribution is None else {"distribution": distribution}
        if name != "dense":
            chosen["sparsity"] = 0.5
        method, sgd = size.method(name, **chosen), size.optimizer("sgd")
        assert size.config("cifar10", "resnet32x2", method, sgd, 0).mask_stream == stream
