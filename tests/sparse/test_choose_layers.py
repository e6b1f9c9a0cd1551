"""Which layers are masked: the rule, and what users say of their own."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from toys import advance, batches, convnet, images, mlp, train

from paper_repro.errors import UserError
from paper_repro.optim import S2SAM
from paper_repro.sparse import (
    CHEX,
    DSR,
    MEST,
    MESTEMS,
    Chase,
    GraNet,
    Magnitude,
    Random,
    RigL,
    choose_layers,
    layer_counts,
    maskable,
    prunable,
)
from paper_repro.sparse.distribution import kept_dense


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def test_the_rule():
    model = nn.ModuleDict(
        {
            "one": nn.Conv1d(4, 4, 3),
            "three": nn.Conv3d(4, 4, 3),
            "up1": nn.ConvTranspose1d(4, 4, 3),
            "up": nn.ConvTranspose2d(4, 4, 3),
            "up3": nn.ConvTranspose3d(4, 4, 3),
            "depthwise": nn.Conv2d(4, 4, 3, groups=4),
            "attention": nn.MultiheadAttention(8, 2),
            "other": nn.MultiheadAttention(8, 2, kdim=4, vdim=6),
            "words": nn.Embedding(10, 8),
            "head": nn.Linear(8, 10, bias=False),
            "norm": nn.LayerNorm(8),
            "lstm": nn.LSTM(8, 8),
        }
    )
    model["head"].weight = model["words"].weight
    assert list(maskable(model)) == [
        "one.weight",
        "three.weight",
        "up1.weight",
        "up.weight",
        "up3.weight",
        "depthwise.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "other.q_proj_weight",
        "other.k_proj_weight",
        "other.v_proj_weight",
        "other.out_proj.weight",
    ]
    assert "depthwise.weight" in kept_dense(model, "uniform-rigl")
    assert "depthwise.weight" in kept_dense(model, "uniform")
    assert "one.weight" in kept_dense(model, "uniform-rigl")  # the stem
    assert "up.weight" not in kept_dense(model, "uniform")
    # By its full name, anything with two dimensions or more.
    choose_layers(model, include=["words.weight", "lstm.weight_hh_l0", "up*"])
    assert set(prunable(model)) == {
        "words.weight",
        "lstm.weight_hh_l0",
        "up.weight",
        "up1.weight",
        "up3.weight",
    }


LAYERS = {
    "conv1d": (lambda: nn.Conv1d(6, 6, 3, padding=1), (8, 6, 5)),
    "conv3d": (lambda: nn.Conv3d(6, 6, 3, padding=1), (8, 6, 3, 3, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 6, 2), (8, 6, 4, 4)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(6, 6, 2), (8, 6, 4)),
}


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers_of_every_kind_train_sparse(make, shape):
    torch.manual_seed(0)
    model = nn.Sequential(make(), nn.Tanh(), make(), nn.Flatten(), nn.LazyLinear(3))
    model(torch.ones(shape))
    optimizer = S2SAM(sgd(model), rho=0.1)
    method = RigL(model, optimizer, sparsity=0.7, total_steps=20, delta_t=2, distribution="erk")
    before = method.masks.state_dict()
    assert {"0.weight", "2.weight"} <= set(before)
    train(model, optimizer, batches(9, shape=shape[1:]))
    for name, weight in method.masks.weights.items():
        assert not weight[~method.masks[name]].any()
        assert weight[method.masks[name]].any()
    assert method.updates > 2 and method.moved > 0


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x)[0].mean(1))


def test_attention_trains_sparse():
    torch.manual_seed(0)
    model = Attends()
    optimizer = S2SAM(sgd(model), rho=0.1)
    method = RigL(model, optimizer, sparsity=0.5, total_steps=20, delta_t=2)
    assert "attention.in_proj_weight" in method.masks
    train(model, optimizer, batches(7, shape=(4, 6)))
    for name, weight in method.masks.weights.items():
        assert not weight[~method.masks[name]].any()


def test_include_and_exclude_take_names_patterns_and_types():
    model = convnet()
    everything = list(prunable(model))
    assert everything == ["0.weight", "3.weight", "8.weight"]
    for entry in ("3", "3.weight", "3*", "[3]"):
        choose_layers(model, exclude=[entry])
        assert list(prunable(model)) == ["0.weight", "8.weight"]
        choose_layers(model, include=[entry])
        assert list(prunable(model)) == ["3.weight"]
    choose_layers(model, exclude=[nn.Conv2d])
    assert list(prunable(model)) == ["8.weight"]
    choose_layers(model, include=[nn.Conv2d], exclude=["0"])
    assert list(prunable(model)) == ["3.weight"]
    assert list(prunable(copy.deepcopy(model))) == ["3.weight"]
    assert list(prunable(nn.parallel.DistributedDataParallel.__mro__[1]())) == []
    choose_layers(model)
    assert list(prunable(model)) == everything


def test_a_wrapped_model_has_its_choice_too():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    model = convnet()
    choose_layers(model, exclude=["3"], densities={"8": 0.5})
    wrapped = Wrapper(model)
    assert list(prunable(wrapped)) == ["module.0.weight", "module.8.weight"]
    assert layer_counts(wrapped, 0.9, "uniform")["module.8.weight"] == 12


@pytest.mark.parametrize("kind", [RigL, MEST, Random, Magnitude, CHEX])
def test_an_excluded_layer_is_masked_by_no_method(kind):
    model = convnet()
    if kind is CHEX:
        model.insert(3, nn.Conv2d(6, 6, 3, padding=1))
    choose_layers(model, exclude=["0"])
    steps = {} if kind in (Random, Magnitude) else {"total_steps": 10}
    method = kind(model, sgd(model), sparsity=0.5, **steps)
    assert method.masks and "0.weight" not in method.masks
    assert model[0].weight.all()


@pytest.mark.parametrize("distribution", ["uniform", "uniform-rigl", "erk"])
def test_a_layer_of_its_own_density(distribution):
    model = convnet()
    weights = prunable(model)
    free = layer_counts(model, 0.6, distribution)
    choose_layers(model, densities={"0": 0.5, "8": 1.0})
    counts = layer_counts(model, 0.6, distribution)
    assert counts["0.weight"] == weights["0.weight"].numel() // 2
    assert "8.weight" not in counts  # dense, so it is not masked
    assert free["0.weight"] != counts["0.weight"]
    optimizer = sgd(model)
    method = RigL(model, optimizer, sparsity=0.6, total_steps=20, distribution=distribution)
    assert method.masks.counts()["0.weight"] == counts["0.weight"]


def test_a_method_that_shares_weights_out_by_itself_refuses_them():
    model = convnet()
    choose_layers(model, densities={"0": 0.9})
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(UserError, match="shares weights out among the layers by itself"):
        Magnitude(model, sgd(model), sparsity=0.9)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    choose_layers(model)
    Magnitude(model, sgd(model), sparsity=0.9)  # and is not half attached


@pytest.mark.parametrize("kind", [DSR, GraNet, Chase])
def test_so_does_one_that_moves_weights_between_layers_later(kind):
    model = convnet()
    if kind is Chase:  # a channel that can be removed
        model.insert(3, nn.Conv2d(6, 6, 3, padding=1))
    options = {"distribution": "erk", **({"delta_t": 3} if kind is GraNet else {})}
    choose_layers(model, densities={"0": 0.5})
    with pytest.raises(UserError, match="shares weights out among the layers by itself"):
        kind(model, sgd(model), sparsity=0.6, total_steps=30, **options)
    choose_layers(model, exclude=["0"])
    assert kind(model, sgd(model), sparsity=0.6, total_steps=30, **options).masks


@pytest.mark.parametrize("kind", [MEST, MESTEMS])
def test_a_layer_of_its_own_density_is_mutated_as_the_others(kind):
    model = convnet()
    optimizer = sgd(model)
    choose_layers(model, densities={"3": 0.5})
    method = kind(model, optimizer, sparsity=0.8, total_steps=32, distribution="erk", updates=8)
    if kind is MEST:  # to 84 %, that is to 4 of 5 of what there is
        assert method.lower[0]["3.weight"] == round(0.8 * method.target["3.weight"])
    else:
        grown = 1 - method.grown[0]
        wanted = round(method.target["3.weight"] * grown / 0.2)
        assert method.upper[0]["3.weight"] == wanted > method.target["3.weight"]
    before = method.masks["3.weight"]
    for batch in images(32):
        advance(model, optimizer, batch)
    assert not torch.equal(before, method.masks["3.weight"])
    assert method.masks.counts()["3.weight"] == method.target["3.weight"]


def test_what_fits_nothing_is_said():
    model = convnet()
    for arguments in (
        {"exclude": ["head"]},
        {"include": ["1"]},  # batch norm
        {"include": [nn.Conv3d]},
        {"exclude": [3]},
        {"densities": {"nothing": 0.5}},
    ):
        with pytest.raises(UserError):
            choose_layers(model, **arguments)
    for density in (0, -1, 1.5, "half"):
        with pytest.raises(UserError, match="must lie above 0"):
            choose_layers(model, densities={"0": density})
    choose_layers(model, exclude=["0", "3", "8"])
    with pytest.raises(UserError, match="no convolution or linear layer to prune"):
        Random(model, sparsity=0.5)


def test_frozen_and_parametrized_layers_are_left_out_with_a_note():
    model = nn.Sequential(mlp(), nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 3))
    model[0][0].weight.requires_grad_(False)
    parametrizations.orthogonal(model[2])
    nn.utils.parametrizations.weight_norm(model[1])
    with pytest.warns(UserWarning, match=r"leaves layers dense: 0\.0\.weight: it is frozen"):
        method = Random(model, sgd(model), sparsity=0.5, distribution="erk")
    assert set(method.masks) == {"0.2.weight", "3.weight"}
    frozen = model[0][0].weight.clone()
    advance(model, method.optimizer, batches(1)[0])
    assert torch.equal(frozen, model[0][0].weight)
    assert parametrize.is_parametrized(model[2])
    # Left out on purpose, there is nothing to note.
    method.detach()
    choose_layers(model, include=["0.2", "3"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Random(model, sgd(model), sparsity=0.5, distribution="erk")


def test_a_lazy_layer_needs_a_batch_first():
    with pytest.raises(UserError, match="run one batch"):
        Random(nn.Sequential(nn.LazyLinear(3)), sparsity=0.5)


def test_complex_weights_are_refused():
    model = nn.Sequential(nn.Linear(3, 3, dtype=torch.complex64))
    with pytest.raises(UserError, match="complex"):
        Random(model, sgd(model), sparsity=0.5, distribution="erk")
    with pytest.raises(UserError, match="no rule for complex parameters"):
        S2SAM(sgd(model))
    optimizer = S2SAM(sgd(mlp()))
    with pytest.raises(UserError, match="complex"):
        optimizer.add_param_group({"params": model.parameters()})
