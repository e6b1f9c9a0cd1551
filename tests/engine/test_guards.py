"""What the engine refuses, each in a sentence, and what it must not compute silently."""

import copy

import pytest
import torch
import torch.nn.functional as F
from networks import (
    SIZE,
    batch,
    engine,
    engine_gradients,
    errors,
    gradients,
    masks_for,
    resnet,
)
from torch import nn

from paper_repro.engine import SparseNet, Uncovered, attach, obstacle, worth
from paper_repro.errors import UserError
from paper_repro.models.resnet import ResNet
from paper_repro.optim import ESAM, S2SAM, Released
from paper_repro.sparse import CHEX, MEST, RigL, prunable


def made(seed=0, **options):
    model = resnet(seed)
    return engine(model, masks_for(model), **options)


def loss_of(net, images, labels):
    return F.cross_entropy(net(images), labels)


@pytest.mark.parametrize("between", ["train", "eval", "larger", "masks"])
def test_backward_after_something_else_took_the_activations(between):
    net = made()
    images, labels = batch()
    loss = loss_of(net, images, labels)
    if between == "train":
        net(images)
    elif between == "eval":
        net.eval()(images)
        net.train()
    elif between == "larger":
        net(batch(50)[0])
    else:
        name = next(iter(net.layout.active))
        net.adopt(net.layout.with_masks({name: torch.ones(net.layout.shapes[name]).bool()}))
    with pytest.raises(RuntimeError, match="latest forward pass only"):
        loss.backward()


def test_backward_after_the_weights_were_changed():
    net = made()
    loss = loss_of(net, *batch())
    with torch.no_grad():
        net.flat.add_(1.0)
    with pytest.raises(RuntimeError, match="weights were changed"):
        loss.backward()


def test_a_loss_may_outlive_masks_of_another_size():
    """As in every training loop, where the last step's loss is there while the next one runs."""
    model = resnet()
    masks = masks_for(model)
    net = engine(model, masks)
    images, labels = batch()
    loss = loss_of(net, images, labels)
    loss.backward()
    name = next(iter(masks))
    fewer = {name: masks[name] & (torch.arange(masks[name].numel()).view_as(masks[name]) % 2 > 0)}
    net.adopt(net.layout.with_masks(fewer))
    assert net.flat.grad.shape == net.flat.shape
    found = engine_gradients(net, images, labels)
    net.write_back()
    truth, _ = gradients(model, {**masks, **fewer}, images, labels, torch.float64)
    assert max(errors(found, truth).values()) < 1e-3 and loss.requires_grad


def test_gradients_add_up():
    net = made()
    images, labels = batch()
    loss_of(net, images, labels).backward()
    once = net.flat.grad.clone()
    loss_of(net, images, labels).backward()
    assert torch.equal(net.flat.grad, 2 * once)


def test_batch_norm_buffers_that_are_replaced_are_found_again():
    net = made()
    images, _ = batch()
    net(images)
    other = resnet(5)
    other(batch(seed=3)[0])
    other.load_state_dict({**other.state_dict(), **dict(net.model.named_parameters())})
    # Not a copy into the old buffers: new ones.
    net.model.load_state_dict(
        {**net.model.state_dict(), **{n: b.clone() for n, b in other.named_buffers()}}, assign=True
    )
    with torch.no_grad():
        expected = copy.deepcopy(net.model).eval()(images)
    assert torch.allclose(net.eval()(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(4, 3, SIZE, SIZE + 2), "made for images"),
        (torch.zeros(4, 1, SIZE, SIZE), "made for images"),
        (torch.zeros(3, SIZE, SIZE), "made for images"),
        (torch.zeros(0, 3, SIZE, SIZE), "at least one image"),
        (torch.zeros(4, 3, SIZE, SIZE, device="meta"), "on the CPU"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_images_that_do_not_fit(images, message, training):
    with pytest.raises(UserError, match=message):
        made().train(training)(images)


def test_one_value_a_channel_is_no_batch():
    torch.manual_seed(0)
    model = ResNet(3, 5, (4, 8), 1)
    net = SparseNet(model, {}, image=(3, 2, 2), batch=4)
    with pytest.raises(UserError, match="more than one value a channel"):
        net(torch.zeros(1, 3, 2, 2))
    net(torch.randn(2, 3, 2, 2))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m, k: (m.double(), k), "float32 on the CPU"),
        (lambda m, k: (m.to("meta"), k), "float32 on the CPU"),
        (lambda m, k: (m, {**k, "bn1.weight": torch.ones(4).bool()}), "has no mask"),
        (lambda m, k: (m, {**k, "nowhere.weight": torch.ones(4).bool()}), "has no mask"),
        (lambda m, k: (m, {**k, "conv1.weight": torch.ones(4, 3, 3, 5).bool()}), "has shape"),
    ],
)
def test_networks_and_masks_that_do_not_fit(change, message):
    model = resnet()
    model, masks = change(model, masks_for(model))
    with pytest.raises(UserError, match=message):
        engine(model, masks)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"storage": "float16"}, "storage is"),
        ({"batch": 0}, "batch is at least 1"),
        ({"image": (1, SIZE, SIZE)}, "takes 3 channels"),
        ({"image": (3, 15, SIZE)}, "cannot be halved"),
        ({"image": (3, 0, 0)}, "at least one pixel"),
        ({"isa": "mmx"}, "instruction set 'mmx'"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        made(**options)


class Twice(ResNet):
    """Another network than its layers tell."""

    def forward(self, x):
        return 2 * super().forward(x)


def _another_padding(model):
    model.stages[0][0].conv1.padding_mode = "reflect"


UNCOVERED = {
    "another class": (lambda m: nn.Sequential(m), "not among the networks"),
    "a class derived": (lambda m: Twice(3, 5, (4, 8), 1), "not among the networks"),
    "a hook": (lambda m: m.fc.register_forward_hook(lambda *_: None) and m, "hooks"),
    "eps": (lambda m: setattr(m.bn1, "eps", 1e-3) or m, "differ in eps"),
    "momentum": (lambda m: setattr(m.bn1, "momentum", None) or m, "batch norm"),
    "groups": (lambda m: setattr(m, "conv1", nn.Conv2d(3, 4, 5, bias=False)) or m, "1x1 or 3x3"),
    "bias": (lambda m: setattr(m, "conv1", nn.Conv2d(3, 4, 3, padding=1)) or m, "1x1 or 3x3"),
    "padding": (lambda m: _another_padding(m) or m, "1x1 or 3x3"),
}


@pytest.mark.parametrize("name", UNCOVERED)
def test_networks_it_does_not_cover(name):
    change, message = UNCOVERED[name]
    with pytest.raises(Uncovered, match=message) as caught:
        engine(change(resnet()), {})
    assert isinstance(caught.value, UserError)


def parts(wrap=lambda base: base, method=RigL, **options):
    model = resnet()
    optimizer = wrap(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    return model, optimizer, method(model, optimizer, sparsity=0.9, total_steps=100, **options)


IMAGE = (3, SIZE, SIZE)


def test_what_trains_whole_tensors_or_more_than_masks_is_named():
    assert obstacle(*parts(), IMAGE) is None
    assert obstacle(*parts(S2SAM), IMAGE) is None
    for wrap in (ESAM, Released):
        model, optimizer, method = parts(wrap)
        assert "a way of its own" in obstacle(model, optimizer, method, IMAGE)
    model, optimizer, method = parts(method=CHEX)
    assert "more than its masks" in obstacle(model, optimizer, method, IMAGE)
    assert "cannot be halved" in obstacle(*parts(), (3, 15, 15))
    with pytest.raises(UserError, match="more than its masks"):
        attach(model, optimizer, method, IMAGE, 20)


def test_optimizers_that_cannot_be_moved_are_named():
    model, optimizer, method = parts()
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    assert "more than one parameter group" in obstacle(model, optimizer, method, IMAGE)
    model, optimizer, method = parts()
    F.cross_entropy(model(batch()[0]), batch()[1]).backward()
    optimizer.step()
    assert "state already" in obstacle(model, optimizer, method, IMAGE)
    model, optimizer, method = parts()
    model.fc.bias.requires_grad_(False)
    assert "all of the network's parameters" in obstacle(model, optimizer, method, IMAGE)


def test_where_it_would_not_pay():
    model, _, method = parts(method=MEST)
    assert "so small" in worth(model, method, IMAGE)
    model = resnet(widths=(32, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = MEST(model, optimizer, sparsity=0.9, total_steps=10)
    assert worth(model, method, (3, 32, 32)) is None
    dense = {n: torch.ones(w.shape).bool() for n, w in prunable(model).items() if n in method.masks}
    method.masks.replace(dense)
    assert "100%" in worth(model, method, (3, 32, 32))
