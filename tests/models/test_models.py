import pytest
import torch
from torch import nn

from paper_repro.data import Augmenter, load
from paper_repro.errors import UserError
from paper_repro.measure.flops import layer_macs
from paper_repro.models import MODELS, build
from paper_repro.models.init import INITS

#: Parameters for 10 classes.
SIZES = {
    "efficientnet_b0": 4_020_358,
    "efficientnet_b0_64": 4_020_358,
    "efficientnet_digits": 14_280,
    "mobilenet_digits": 12_298,
    "mobilenetv2": 2_236_682,
    "mobilenetv2_half": 587_178,
    "resnet20": 272_474,
    "resnet32": 466_906,
    "resnet32x2": 1_860_522,
    "resnet34": 21_289_802,
    "resnet34_64": 21_282_122,
    "resnet34_64_quarter": 1_334_618,
    "resnet34_digits": 6_306,
    "resnet50": 23_528_522,
    "resnet50_64": 23_520_842,
    "resnet50_64_quarter": 1_484_186,
    "resnet50_digits": 9_442,
    "resnet_digits": 19_706,
    "vgg19": 20_035_018,
    "vgg19_quarter": 1_255_546,
    "vgg_digits": 16_794,
}
#: What torchvision says of its ImageNet networks: parameters and multiply-accumulates.
PUBLIC = {
    "efficientnet_b0": (5_288_548, 0.386e9),
    "resnet34": (21_797_672, 3.664e9),
    "resnet50": (25_557_032, 4.089e9),
}
#: CIFAR's networks, of which tests below know more.
CIFAR = [n for n in SIZES if n.startswith(("mobile", "vgg", "resnet20", "resnet32", "resnet_"))]


def image(name):
    return (1, 8, 8) if name.endswith("digits") else (3, 32, 32)


def classifier(model):
    return [m for m in model.modules() if isinstance(m, nn.Linear)][-1]


def make(name, classes=10, seed=0):
    return build(name, classes=classes, channels=image(name)[0], seed=seed)


def test_every_model_is_known():
    translating = ["transformer_base", "transformer_tiny", "transformer_toy"]
    assert list(MODELS) == sorted([*SIZES, *translating])


@pytest.mark.parametrize("name", SIZES)
def test_parameters(name):
    model = make(name)
    assert sum(p.numel() for p in model.parameters()) == SIZES[name]
    features = classifier(model).in_features
    hundred = make(name, classes=100)
    assert sum(p.numel() for p in hundred.parameters()) == SIZES[name] + 90 * (features + 1)


@pytest.mark.parametrize("name", SIZES)
def test_forward_and_backward(name):
    model = make(name, classes=7)
    assert model.training
    x = torch.randn(2, *image(name), generator=torch.Generator().manual_seed(0))
    out = model(x)
    assert out.shape == (2, 7)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", PUBLIC)
def test_the_imagenet_networks_are_torchvisions(name):
    """As many parameters and multiply-accumulates, the same names, and the same outputs."""
    from paper_repro.vision import torchvision

    parameters, macs = PUBLIC[name]
    model = make(name, classes=1000)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(layer_macs(model, (3, 224, 224)).values()) == pytest.approx(macs, rel=2e-3)
    other = getattr(torchvision.models, name)(weights=None)
    assert {k: v.shape for k, v in other.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    model.load_state_dict(other.state_dict())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = model.eval()(x), other.eval()(x)
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    "name, last", [("resnet50_64", 4), ("resnet34_64_quarter", 4), ("efficientnet_b0_64", 4)]
)
def test_a_stem_for_small_images_leaves_something_to_average(name, last):
    model, seen = make(name).eval(), []
    inner = model.layer4 if name.startswith("resnet") else model.features
    inner.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert seen == [(last, last)]


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_a_quarter_of_the_width_is_a_sixteenth_of_the_work(name):
    whole, narrow = (
        sum(layer_macs(make(f"{name}_64{size}"), (3, 64, 64)).values()) for size in ("", "_quarter")
    )
    assert narrow == pytest.approx(whole / 16, rel=0.03)


@pytest.mark.parametrize("name", CIFAR)
def test_names_that_sparse_methods_rely_on(name):
    model = make(name)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert layers[0] is model.conv1 and layers[-1] is model.fc
    assert isinstance(model.fc, nn.Linear)
    assert all(m.bias is None for m in layers[:-1])
    shortcuts = {n for n, m in model.named_modules() if n.endswith(".shortcut.0")}
    ones = {
        n
        for n, m in model.named_modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and name.startswith("resnet")
    }
    assert shortcuts == ones
    assert len(shortcuts) == (0 if not ones else 1 if name == "resnet_digits" else 2)


def test_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = make("resnet20", seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    two, other = make("resnet20", seed=3).state_dict(), make("resnet20", seed=4).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])
    assert not torch.equal(one["fc.bias"], other["fc.bias"])


def test_a_spec_builds_the_same():
    one = build(MODELS.spec("resnet20"), classes=10, channels=3, seed=0)
    assert torch.equal(one.conv1.weight, make("resnet20").conv1.weight)


def test_weights_are_kaiming_normal():
    weight = make("resnet32x2").stages[2][4].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.01)
    assert abs(weight.mean().item()) < 1e-3


def test_bad_names():
    with pytest.raises(UserError, match="unknown model 'resnet33'"):
        build("resnet33", classes=10, channels=3, seed=0)
    with pytest.raises(UserError, match="has no option 'width'"):
        MODELS.spec("resnet20", width=2)


def test_the_small_resnet_learns_digits():
    data = load("digits")
    augmenter, model = Augmenter(data), make("resnet_digits")
    generator = torch.Generator().manual_seed(0)
    epochs, size = 6, 32
    steps = epochs * (len(data.train) // size)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, steps)
    for _ in range(epochs):
        plan = augmenter.draw(len(data.train), generator)
        order = torch.randperm(len(data.train), generator=generator)
        for index in order.split(size)[: len(data.train) // size]:
            logits = model(augmenter.batch(index, plan))
            nn.functional.cross_entropy(logits, data.train.labels[index]).backward()
            sgd.step()
            sgd.zero_grad()
            schedule.step()
    model.eval()
    with torch.no_grad():
        right = model(augmenter.normalise(data.test.images)).argmax(1) == data.test.labels
    assert right.double().mean() > 0.96


@pytest.mark.parametrize("name", ["resnet20", "vgg19", "mobilenetv2"])
def test_the_released_initial_weights(name):
    model = build(name, classes=10, channels=3, seed=0, init="released")
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for m in convolutions:
        fan_out = m.out_channels * m.kernel_size[0] * m.kernel_size[1]
        spread = float(m.weight.detach().std()) / (2 / fan_out) ** 0.5
        assert spread == pytest.approx(1.0, abs=4 / m.weight.numel() ** 0.5)
    (fc,) = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert float(fc.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    assert not fc.bias.any()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(bool((m.weight == 1).all()) and not m.bias.any() for m in norms)


def test_initial_weights_are_a_function_of_the_seed_under_each_init():
    def draw(seed, init):
        state = torch.get_rng_state()
        model = build("resnet20", classes=10, channels=3, seed=seed, init=init)
        assert torch.equal(state, torch.get_rng_state())
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    for init in INITS:
        assert torch.equal(draw(0, init), draw(0, init))
        assert not torch.equal(draw(0, init), draw(1, init))
    assert not torch.equal(draw(0, "fan_in"), draw(0, "released"))
    plain = build("resnet20", classes=10, channels=3, seed=0)
    assert torch.equal(draw(0, "fan_in"), torch.cat([p.flatten() for p in plain.parameters()]))


def test_an_unknown_init():
    with pytest.raises(UserError, match="unknown init 'zeros'; known are fan_in, released"):
        build("resnet20", classes=10, channels=3, seed=0, init="zeros")
