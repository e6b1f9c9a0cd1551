"""What is done to a model beside the net that trains it: followed, or refused in a sentence."""

import copy

import pytest
import torch
from networks import (
    batch,
    engine,
    engine_gradients,
    loss_of,
    made,
    masks_for,
    resnet,
    told,
)

from paper_repro.errors import UserError


@pytest.mark.parametrize("freeze", ["norm", "parameter"])
def test_what_is_frozen_is_not_trained_all_the_same(freeze):
    net = made()
    images, labels = batch()
    loss_of(net, images, labels).backward()
    if freeze == "norm":
        net.model.stages[0][0].bn1.eval()
    else:
        net.model.conv1.weight.requires_grad_(False)
    with pytest.raises(UserError, match="frozen"):
        net(images)
    net.eval()(images)
    model = resnet()
    model.conv1.weight.requires_grad_(False)
    with pytest.raises(UserError, match=r"conv1.weight is frozen"):
        engine(model, {})


@pytest.mark.parametrize("mode", [False, True], ids=["eval", "train"])
def test_a_pass_in_inference_mode_leaves_training_possible(mode):
    nets = made(), made()
    images, labels = batch()
    for net, first in zip(nets, (torch.inference_mode, torch.no_grad), strict=True):
        for n in (20, 50):  # and where it makes room for more
            with first():
                net.train(mode)(batch(n)[0])
            loss_of(net.train(), images, labels).backward()
    assert torch.equal(nets[0].flat.grad, nets[1].flat.grad)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_another_default_type_changes_nothing(default):
    model, (images, labels) = resnet(), batch()
    masks = masks_for(model)
    found = []
    for dtype in (torch.float32, default):
        torch.set_default_dtype(dtype)
        try:
            net = engine(copy.deepcopy(model), masks)
            net.open = True
            found.append(engine_gradients(net, images, labels))
        finally:
            torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])


CHANGES = {
    "double": (lambda m: m.double(), "float32 on the CPU: .*float64"),
    "half": (lambda m: m.half(), "float32 on the CPU: .*float16"),
    "bfloat16": (lambda m: m.bfloat16(), "float32 on the CPU: .*bfloat16"),
    "another device": (lambda m: m.to("meta"), "float32 on the CPU: .*meta"),
    "another size": (lambda m: told(m, "bn1", running_var=torch.ones(2)), "hold 4 numbers"),
    "nothing": (lambda m: told(m, "bn1", running_mean=None), "bn1.running_mean, which is gone"),
    "strides": (lambda m: told(m, "bn1", running_var=torch.ones(8)[::2]), "hold 4 numbers"),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_what_the_kernels_cannot_read_is_refused_later_too(name, training):
    change, message = CHANGES[name]
    net = made().train(training)
    net(batch()[0])
    change(net.model)
    with pytest.raises(UserError, match=message):
        net(batch()[0])


def test_a_net_of_another_type_is_refused():
    net = made().double()
    with pytest.raises(UserError, match=r"float32 on the CPU: flat is torch.float64"):
        net(batch()[0])
    net.float()(batch()[0])


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_weights_loaded_into_the_model_are_not_passed_over(training, assign):
    net = made().train(training)
    images, _ = batch()
    net(images)
    other = resnet(5)
    masks = masks_for(other)
    net.model.load_state_dict(other.state_dict(), assign=assign)
    with pytest.raises(UserError, match=r"take_in\(\) takes them over"):
        net(images)
    net.take_in()
    with torch.no_grad():
        expected = copy.deepcopy(other).eval()(images)
    assert torch.allclose(net.eval()(images), expected, rtol=1e-4, atol=1e-5)
    assert masks and torch.equal(net.model.fc.weight, other.fc.weight)


def test_or_they_are_overwritten():
    net = made()
    images, _ = batch()
    expected = net.eval()(images)
    with torch.no_grad():
        net.model.fc.weight.zero_()
    net.write_back()
    assert torch.equal(net(images), expected) and net.model.fc.weight.any()
