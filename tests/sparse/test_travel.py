"""A method's state travels with its optimizer's, and what cannot work is refused untouched."""

import copy
import pickle

import pytest
import torch
from contract_runs import BATCH, IMAGES, STEPS, batch, spec
from torch import nn
from toys import (
    advance,
    batches,
    clones,
    convnet,
    equal,
    images,
    mlp,
    same_state,
    snapshot,
    through_disk,
    train,
)

from paper_repro import models
from paper_repro.errors import UserError
from paper_repro.optim import S2SAM, SAM
from paper_repro.sparse import CHEX, METHODS, SET, GraNet, Magnitude, Masks, Random, RigL, prunable
from paper_repro.sparse.travel import KEY


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def s2sam(model):
    return S2SAM(sgd(model), rho=0.1)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


MAKES = {"sgd": sgd, "s2sam": s2sam, "adamw": adamw}
makes = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def rigl(model, optimizer, seed=0):
    return RigL(model, optimizer, sparsity=0.6, total_steps=24, delta_t=3, seed=seed)


@makes
@pytest.mark.parametrize("stop", [1, 4, 9])
@pytest.mark.parametrize("weights_first", [True, False], ids=["attached to loaded", "loaded after"])
def test_a_training_resumed_by_model_and_optimizer_alone_is_the_one_never_stopped(
    make, stop, weights_first
):
    # As Lightning resumes: the weights are there before the optimizer and its method are made.
    data = batches(14)
    whole = mlp()
    optimizer = make(whole)
    method = rigl(whole, optimizer)
    train(whole, optimizer, data[:stop])
    saved = through_disk([whole.state_dict(), optimizer.state_dict()])
    train(whole, optimizer, data[stop:])

    other = mlp(seed=3)
    if weights_first:
        other.load_state_dict(saved[0])
    second = make(other)
    late = rigl(other, second, seed=9)  # other masks, until the optimizer's state is loaded
    if not weights_first:
        other.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    assert late.steps == stop
    train(other, second, data[stop:])
    assert same_state(snapshot(whole, optimizer), snapshot(other, second))
    assert same_state(method.state_dict(), late.state_dict())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_travels(name):
    def begin(seed):
        model = models.build("resnet_digits", classes=10, channels=1, seed=seed)
        optimizer = s2sam(model)
        parent = {"weights": model.state_dict(), "masks": {}}
        method = METHODS.build(
            spec(name),
            model=model,
            optimizer=optimizer,
            total_steps=STEPS,
            steps_per_epoch=IMAGES // BATCH,
            batch=batch(40),
            loss_fn=nn.functional.cross_entropy,
            seed=seed,
            parent=parent,
        )
        return model, optimizer, method

    model, optimizer, method = begin(0)
    data = [tuple(t[:8] for t in batch(40))] * 7
    train(model, optimizer, data)
    saved = through_disk([model.state_dict(), optimizer.state_dict()])
    assert saved[1][KEY]["name"] == type(method).__name__
    other, second, _ = begin(1)
    other.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    train(model, optimizer, data)
    train(other, second, data)
    assert same_state(snapshot(model, optimizer), snapshot(other, second))


def test_weights_found_by_the_first_masks_are_there_under_the_checkpoints():
    model = mlp()
    dense = clones(model)
    optimizer = sgd(model)
    method = rigl(model, optimizer)
    first = method.masks.state_dict()
    new = {name: ~mask for name, mask in first.items()}
    method.masks.load_state_dict(new)
    for before, (name, p) in zip(dense, model.named_parameters(), strict=True):
        assert torch.equal(p, before * new[name]) if name in new else torch.equal(p, before)
    # Somebody wrote to the weights: they are what is written, and nothing is brought back.
    with torch.no_grad():
        model[0].weight.fill_(2.0)
    method.masks.load_state_dict(first)
    assert (model[0].weight == 2.0).all()
    assert torch.equal(model[2].weight, dense[2] * first["2.weight"])


def test_the_copy_of_the_weights_is_gone_with_the_first_gradient():
    model = mlp()
    method = rigl(model, sgd(model))
    assert method.masks._gate.found
    model(torch.ones(2, 6)).sum().backward()
    assert not method.masks._gate.found


@makes
def test_a_state_without_masks_is_refused_and_nothing_is_changed(make):
    plain = mlp()
    bare = make(plain)
    train(plain, bare, batches(3))
    model = mlp()
    optimizer = make(model)
    method = rigl(model, optimizer)
    train(model, optimizer, batches(4))
    before = snapshot(model, optimizer)
    with pytest.raises(UserError, match="no masks of RigL"):
        optimizer.load_state_dict(bare.state_dict())
    assert same_state(before, snapshot(model, optimizer))
    with method.apart():
        optimizer.load_state_dict(bare.state_dict())
        assert KEY not in optimizer.state_dict()
    assert KEY in optimizer.state_dict()


@makes
def test_a_state_that_torch_refuses_moves_no_mask(make):
    model, other = mlp(), mlp()
    optimizer, second = make(model), make(other)
    method = rigl(model, optimizer)
    rigl(other, second, seed=5)
    train(other, second, batches(4))
    state = second.state_dict()
    state["param_groups"][0]["params"].pop()
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match="parameter group"):
        optimizer.load_state_dict(state)
    assert same_state(before, snapshot(model, optimizer))
    assert method.steps == 0


def test_the_state_of_another_method_is_refused():
    model = mlp()
    optimizer = sgd(model)
    SET(model, optimizer, sparsity=0.6, total_steps=24, steps_per_epoch=3)
    state = optimizer.state_dict()
    other = mlp()
    second = sgd(other)
    rigl(other, second)
    with pytest.raises(UserError, match="masks of SET, and RigL is attached"):
        second.load_state_dict(state)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (RigL, {"sparsity": 90}),
        (RigL, {"sparsity": 0.9, "delta_t": 0}),
        (RigL, {"sparsity": 0.9, "distribution": "nonsense"}),
        (SET, {"sparsity": 0.9, "steps_per_epoch": 2, "regrown": "never"}),
        (GraNet, {"sparsity": 0.9, "delta_t": 1000}),
        (CHEX, {"sparsity": -1.0}),
    ],
)
def test_a_method_that_is_refused_leaves_model_and_optimizer_alone(kind, options):
    model = convnet()
    optimizer = s2sam(model)
    before = clones(model)
    with pytest.raises(UserError):
        kind(model, optimizer, total_steps=20, **options)
    assert "step" not in optimizer.__dict__
    assert KEY not in optimizer.state_dict()
    assert equal(before, model.parameters())
    train(model, optimizer, images(3))
    assert all(p.all() for n, p in model.named_parameters() if n in prunable(model))
    rigl(model, optimizer)  # and takes another


def test_what_a_method_cannot_attach_to():
    model = mlp()
    optimizer = sgd(model)
    with pytest.raises(UserError, match=r"RigL\(model, optimizer"):
        rigl(model, None)
    with pytest.raises(UserError, match=r"torch\.optim\.Optimizer, not to Linear"):
        rigl(model, nn.Linear(2, 2))
    before = clones(model)
    with pytest.raises(UserError, match=r"does not train '\d.weight'"):
        rigl(model, sgd(mlp()))
    assert equal(before, model.parameters())
    first = rigl(model, optimizer)
    with pytest.raises(UserError, match="RigL is attached to this optimizer already"):
        Random(model, optimizer, sparsity=0.5, distribution="uniform-all")
    with pytest.raises(UserError, match="masked already"):
        Random(model, sgd(model), sparsity=0.5, distribution="erk")
    with pytest.raises(UserError, match="masked already"):
        Random(model, sparsity=0.5, distribution="erk")
    with pytest.raises(UserError, match="make the S2SAM first"):
        S2SAM(optimizer)
    first.detach()
    Random(model, optimizer, sparsity=0.5, distribution="uniform-all")
    wrapped = S2SAM(sgd(mlp()))
    with pytest.raises(UserError, match="inside a S2SAM"):
        rigl(mlp(), wrapped.base)


@makes
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_go_on_by_themselves_as_the_original_does(make, how):
    model = mlp()
    optimizer = make(model)
    method = rigl(model, optimizer)
    train(model, optimizer, batches(5))
    whole = (model, optimizer, method)
    copied = copy.deepcopy(whole) if how == "deepcopy" else pickle.loads(pickle.dumps(whole))
    other, second, late = copied
    assert late.optimizer is second and late.model is other
    for data in (batches(9, seed=1), batches(4, seed=2)):
        train(other, second, data)
        moved = snapshot(other, second)
        train(model, optimizer, data)
        assert same_state(moved, snapshot(model, optimizer))
    assert late.steps == method.steps == 18
    assert same_state(late.state_dict(), method.state_dict())
    assert late.updates > 1
    for name, p in late.masks.weights.items():
        assert p is dict(other.named_parameters())[name]
        assert not p[~late.masks[name]].any()


def test_a_model_or_optimizer_copied_alone_is_an_ordinary_one():
    model = mlp()
    optimizer = s2sam(model)
    rigl(model, optimizer)
    train(model, optimizer, batches(2))
    twin = copy.deepcopy(model)
    other = sgd(twin)
    train(twin, other, batches(2))
    assert all(p.all() for p in twin.parameters())
    alone = copy.deepcopy(optimizer)
    assert KEY not in alone.state_dict()


def test_a_detached_method_trains_densely_and_travels_no_more():
    model = mlp()
    optimizer = s2sam(model)
    method = rigl(model, optimizer)
    train(model, optimizer, batches(2))
    method.detach()
    assert KEY not in optimizer.state_dict()
    train(model, optimizer, batches(3))
    assert all(p.all() for p in model.parameters())


@makes
def test_finalize_leaves_the_sparse_network_at_w(make):
    model = mlp()
    optimizer = make(model)
    method = rigl(model, optimizer)
    train(model, optimizer, batches(8))
    wanted = {n: method.weight(n).clone() for n in method.masks}
    masks = method.masks.state_dict()
    assert method.finalize() is model
    for name, mask in masks.items():
        weight = dict(model.named_parameters())[name]
        assert torch.equal(weight, wanted[name])
        assert not weight[~mask].any() and weight[mask].all()
        assert not weight._post_accumulate_grad_hooks
    assert "step" not in optimizer.__dict__


def test_masks_of_ones_own_hold_in_copies_too():
    model = mlp()
    optimizer = sgd(model)
    masks = Masks(model, optimizer, {"0.weight": torch.rand(8, 6) < 0.5})
    model, optimizer, masks = copy.deepcopy((model, optimizer, masks))
    train(model, optimizer, batches(3))
    assert not model[0].weight[~masks["0.weight"]].any()
    assert model[0].weight[masks["0.weight"]].all()


def test_sam_resumes_through_the_optimizer_alone():
    model = mlp()
    optimizer = SAM(sgd(model), rho=0.1)
    method = Magnitude(model, optimizer, sparsity=0.5)
    advance(model, optimizer, batches(1)[0])
    saved = through_disk(optimizer.state_dict())
    other = mlp(seed=2)
    second = SAM(sgd(other), rho=0.1)
    late = Magnitude(other, second, sparsity=0.5)
    second.load_state_dict(saved)
    assert same_state(method.masks.state_dict(), late.masks.state_dict())
