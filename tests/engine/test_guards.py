"""What the engine refuses, each in a sentence, and what it must not compute silently."""

import copy
import io

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
    loss_of,
    made,
    masks_for,
    resnet,
    told,
    vgg,
)
from torch import nn

from paper_repro.engine import SparseNet, Uncovered, attach, choose, obstacle, worth
from paper_repro.engine.buffers import Size
from paper_repro.errors import UserError
from paper_repro.models.resnet import ResNet
from paper_repro.optim import ESAM, S2SAM, Released
from paper_repro.sparse import CHEX, MEST, RigL, prunable


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


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def put(model, name, layer):
    """The model with another layer."""
    model.set_submodule(name, layer)
    return model


def conv(*sizes, **options):
    return nn.Conv2d(*sizes, **{"padding": 1, "bias": False, **options})


def _more(model, name, layer):
    model.get_submodule(name).append(layer)
    return model


def _parametrized(model):
    nn.utils.parametrize.register_parametrization(model.conv1, "weight", nn.Identity())
    return model


def _twice(model):
    model.stages[0][1].conv1 = model.stages[0][0].conv1
    return model


UNCOVERED = {
    "another class": (lambda m: nn.Sequential(m), "not among the networks"),
    "a class derived": (lambda m: Twice(3, 5, (4, 8), 1), "not among the networks"),
    "another forward": (lambda m: told(m, "", forward=lambda x: x), "not among the networks"),
    "a hook": (lambda m: m.fc.register_forward_hook(lambda *_: None) and m, "hooks"),
    "a hook before": (lambda m: m.fc.register_forward_pre_hook(lambda *_: None) and m, "hooks"),
    "a hook back": (lambda m: m.fc.register_full_backward_hook(lambda *_: None) and m, "hooks"),
    "a gradient hook": (lambda m: m.fc.weight.register_hook(lambda g: g) and m, "gradient hooks"),
    "eps": (lambda m: told(m, "bn1", eps=1e-3), "differ in eps"),
    "frozen": (lambda m: m.bn1.eval() and m, "a batch norm is frozen"),
    "no momentum": (lambda m: told(m, "bn1", momentum=None), "1x1 or 3x3"),
    "not affine": (lambda m: put(m, "bn1", nn.BatchNorm2d(4, affine=False)), "1x1 or 3x3"),
    "no statistics": (lambda m: told(m, "bn1", track_running_stats=False), "1x1 or 3x3"),
    "kernel": (lambda m: put(m, "conv1", conv(3, 4, 5, padding=2)), "1x1 or 3x3"),
    "oblong": (lambda m: put(m, "conv1", conv(3, 4, (3, 1), padding=(1, 0))), "1x1 or 3x3"),
    "bias": (lambda m: put(m, "conv1", conv(3, 4, 3, bias=True)), "1x1 or 3x3"),
    "no padding": (lambda m: put(m, "conv1", conv(3, 4, 3, padding=0)), "1x1 or 3x3"),
    "padding": (lambda m: told(m, "conv1", padding_mode="reflect"), "1x1 or 3x3"),
    "groups": (lambda m: told(m, "stages.0.0.conv1", groups=2), "1x1 or 3x3"),
    "dilation": (lambda m: told(m, "conv1", dilation=(2, 2)), "1x1 or 3x3"),
    "stride": (lambda m: told(m, "conv1", stride=(1, 2)), "1x1 or 3x3"),
    "a long stride": (lambda m: told(m, "conv1", stride=(3, 3)), "1x1 or 3x3"),
    "a derived layer": (lambda m: put(m, "conv1", Doubled(3, 4, 3)), "conv1 is a Doubled"),
    "a derived norm": (lambda m: put(m, "bn1", nn.SyncBatchNorm(4)), "bn1 is a SyncBatchNorm"),
    "parametrized": (_parametrized, "conv1 is a Parametrized"),
    "another block": (lambda m: put(m, "stages.0.1", conv(4, 4, 3)), "0.1 is a Conv2d"),
    "another stage": (lambda m: put(m, "stages.0", m.stages[0][0]), "stages.0 is a Block"),
    "more shortcut": (lambda m: _more(m, "stages.1.0.shortcut", nn.Dropout()), "more than a conv"),
    "another shortcut": (lambda m: put(m, "stages.0.0.shortcut", nn.ReLU()), "shortcut is a ReLU"),
    "a short shortcut": (
        lambda m: told(m, "stages.1.0.shortcut.0", stride=(1, 1)),
        "shortcut does not fit",
    ),
    "channels": (lambda m: put(m, "bn1", nn.BatchNorm2d(3)), "conv1 does not fit"),
    "inputs": (lambda m: put(m, "stages.0.0.conv1", conv(5, 4, 3)), "conv1 does not fit"),
    "no fc bias": (lambda m: put(m, "fc", nn.Linear(8, 5, bias=False)), "fc has no bias"),
    "a deep fc": (lambda m: put(m, "fc", nn.Sequential(nn.Linear(8, 5))), "fc is a Sequential"),
    "a wide fc": (lambda m: put(m, "fc", nn.Linear(9, 5)), "fc does not fit"),
    "one layer twice": (_twice, "one in two layers"),
    "a layer too many": (lambda m: told(m, "", more=nn.Linear(2, 2)), "parameters of no layer"),
}


@pytest.mark.parametrize("name", UNCOVERED)
def test_networks_it_does_not_cover(name):
    change, message = UNCOVERED[name]
    with pytest.raises(Uncovered, match=message) as caught:
        engine(change(resnet()), {})
    assert isinstance(caught.value, UserError)


# Layers: conv, norm, ReLU, pooling, and so on.
UNCOVERED_VGG = {
    "another ReLU": (lambda m: put(m, "features.2", nn.LeakyReLU()), "2 is a LeakyReLU"),
    "another pooling": (lambda m: put(m, "features.3", nn.AvgPool2d(2)), "3 is a AvgPool2d"),
    "pooling of 3": (lambda m: put(m, "features.3", nn.MaxPool2d(3)), "only 2x2 pooling"),
    "its stride": (lambda m: put(m, "features.3", nn.MaxPool2d(2, 1)), "only 2x2 pooling"),
    "its padding": (lambda m: put(m, "features.3", nn.MaxPool2d(2, padding=1)), "only 2x2"),
    "its dilation": (lambda m: put(m, "features.3", nn.MaxPool2d(2, dilation=2)), "only 2x2"),
    "its ceiling": (lambda m: put(m, "features.3", nn.MaxPool2d(2, ceil_mode=True)), "only 2x2"),
    "dropout": (lambda m: _more(m, "features", nn.Dropout()), "is a Dropout"),
    "pooling at the end": (lambda m: _more(m, "features", nn.MaxPool2d(2)), "without a conv"),
    "a bare layer": (lambda m: _more(m, "features", conv(8, 8, 3)), "no convolution with batch"),
    "channels": (lambda m: put(m, "features.4", conv(3, 8, 3)), "features.4 does not fit"),
    "features": (lambda m: put(m, "features", nn.ModuleList(m.features)), "is a ModuleList"),
}


@pytest.mark.parametrize("name", UNCOVERED_VGG)
def test_networks_of_the_other_family_it_does_not_cover(name):
    change, message = UNCOVERED_VGG[name]
    with pytest.raises(Uncovered, match=message):
        engine(change(vgg(None)), {})
    engine(put(vgg(None), "features.3", nn.MaxPool2d((2, 2), (2, 2))), {})


def test_copies_and_pickles_are_refused_in_a_sentence():
    net = made()
    net(batch()[0])
    for copied in (copy.deepcopy, lambda n: torch.save(n, io.BytesIO())):
        with pytest.raises(UserError, match="cannot be copied or pickled"):
            copied(net)


def test_threads_that_come_later_have_no_memory_of_their_own():
    """Buffers are for as many threads as there were when they were made."""
    before = torch.get_num_threads()
    found = []
    try:
        for later in (1, 4):
            torch.set_num_threads(1)
            net = made(batch=64, threads=None)
            torch.set_num_threads(later)
            assert net._call(64).threads == 1
            found.append(engine_gradients(net, *batch(64)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])


def test_offsets_that_int32_cannot_hold():
    buffers = made().activations
    with pytest.raises(UserError, match="batch of 20 is too large"):
        buffers.padded_gradient(Size(2**16, 62, 62))


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


@pytest.mark.parametrize("wrap", [lambda base: base, S2SAM])
def test_base_optimizers_that_look_at_a_layers_matrix_are_named(wrap):
    model = resnet()
    optimizer = wrap(torch.optim.Adafactor(model.parameters(), lr=0.1))
    method = MEST(model, optimizer, sparsity=0.9, total_steps=100)
    assert "Adafactor is not known to treat" in obstacle(model, optimizer, method, IMAGE)
    model = resnet()
    optimizer = wrap(torch.optim.AdamW(model.parameters(), lr=0.1))
    method = MEST(model, optimizer, sparsity=0.9, total_steps=100)
    assert obstacle(model, optimizer, method, IMAGE) is None


def test_auto_trains_dense_what_is_not_in_float32():
    model, optimizer, method = parts()
    model.double()
    assert "float32 on the CPU" in choose("auto", model, optimizer, method, IMAGE)[1]


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
