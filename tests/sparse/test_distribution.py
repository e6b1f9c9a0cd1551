import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toys import convnet, mlp

from paper_repro.errors import UserError
from paper_repro.models import build
from paper_repro.sparse import layer_counts, prunable
from paper_repro.sparse.distribution import DISTRIBUTIONS, erk_densities, kept_dense


@pytest.fixture(scope="module")
def resnet():
    return build("resnet32x2", classes=10, channels=3, seed=0)


def dense_layers(model, sparsity, distribution):
    sizes = {n: w.numel() for n, w in prunable(model).items()}
    return {n for n, k in layer_counts(model, sparsity, distribution).items() if k == sizes[n]}


def overall(model, sparsity, distribution):
    total = sum(w.numel() for w in prunable(model).values())
    return 1 - sum(layer_counts(model, sparsity, distribution).values()) / total


def test_erk_on_the_papers_network(resnet):
    """Which layers come out dense, as the facts of the method say."""
    assert dense_layers(resnet, 0.9, "erk") == {
        "conv1.weight",
        "fc.weight",
        "stages.1.0.shortcut.0.weight",
    }
    assert resnet.stages[1][0].shortcut[0].weight.shape[0] == 64
    assert dense_layers(resnet, 0.95, "erk") == {"fc.weight"}


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.98])
def test_erk_counts_are_floored_and_reach_the_total(resnet, sparsity):
    shapes = {n: tuple(w.shape) for n, w in prunable(resnet).items()}
    densities = erk_densities(shapes, 1 - sparsity)
    total = sum(math.prod(s) for s in shapes.values())
    exact = sum(densities[n] * math.prod(s) for n, s in shapes.items())
    assert exact == pytest.approx((1 - sparsity) * total, rel=1e-12)
    counts = layer_counts(resnet, sparsity, "erk")
    assert all(0 <= densities[n] * math.prod(s) - counts[n] < 1 for n, s in shapes.items())
    # Proportional to the score among the sparse layers, which score below every dense one.
    score = {n: sum(s) / math.prod(s) for n, s in shapes.items()}
    sparse = {n: densities[n] / score[n] for n in shapes if densities[n] < 1}
    assert max(sparse.values()) == pytest.approx(min(sparse.values()), rel=1e-12)
    dense = [score[n] for n in shapes if n not in sparse]
    assert min(dense, default=math.inf) > max(score[n] for n in sparse)


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3),
        st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple),
        min_size=1,
        max_size=8,
    ),
    st.floats(0.001, 1.0),
)
def test_erk_solves_its_equation_for_any_shapes(shapes, density):
    densities = erk_densities(shapes, density)
    total = sum(math.prod(s) for s in shapes.values())
    assert all(0 < d <= 1 for d in densities.values())
    kept = sum(densities[n] * math.prod(s) for n, s in shapes.items())
    assert kept == pytest.approx(density * total, rel=1e-9)


@pytest.mark.parametrize(("nominal", "expected"), [(0.9, 89.4), (0.95, 94.4), (0.98, 97.4)])
def test_nominal_and_overall_sparsity_of_the_released_preset(resnet, nominal, expected):
    # Printed to a tenth; 97.35 is what 98 % comes to.
    assert 100 * overall(resnet, nominal, "uniform") == pytest.approx(expected, abs=0.06)


def test_what_the_presets_leave_dense(resnet):
    shortcuts = {n for n in prunable(resnet) if "shortcut" in n}
    assert len(shortcuts) == 2
    assert dense_layers(resnet, 0.9, "uniform") == {"conv1.weight", "fc.weight"} | shortcuts
    assert dense_layers(resnet, 0.9, "uniform-rigl") == {"conv1.weight"}
    assert kept_dense(resnet, "erk") == set()
    assert kept_dense(mlp(), "uniform") == {"0.weight", "2.weight"}
    assert kept_dense(mlp(), "uniform-rigl") == {"0.weight"}


@pytest.mark.parametrize("distribution", ["uniform", "uniform-rigl"])
def test_uniform_counts_are_rounded(resnet, distribution):
    dense = kept_dense(resnet, distribution)
    for name, k in layer_counts(resnet, 0.9, distribution).items():
        n = prunable(resnet)[name].numel()
        assert k == (n if name in dense else round(0.1 * n))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_sparsity_0_is_dense_and_no_layer_dies(distribution):
    model = convnet()
    sizes = {n: w.numel() for n, w in prunable(model).items()}
    assert layer_counts(model, 0, distribution) == sizes
    assert all(k >= 1 for k in layer_counts(model, 0.9999, distribution).values())


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan"), "0.9", None])
def test_bad_sparsity(sparsity):
    with pytest.raises(UserError, match="sparsity must be at least 0 and below 1"):
        layer_counts(convnet(), sparsity, "erk")


def test_bad_distribution_and_model():
    with pytest.raises(UserError, match="unknown distribution 'er'; known are uniform"):
        layer_counts(convnet(), 0.9, "er")
    with pytest.raises(UserError, match="no convolution or linear layer"):
        layer_counts(nn.Sequential(nn.BatchNorm1d(3)), 0.9, "uniform")


def test_what_the_presets_leave_dense_of_imagenets_networks():
    resnet = build("resnet50_digits", classes=10, channels=1, seed=0)
    assert kept_dense(resnet, "uniform") == {
        "conv1.weight",
        "fc.weight",
        "layer1.0.downsample.0.weight",
        "layer2.0.downsample.0.weight",
    }
    mobile = build("mobilenet_digits", classes=10, channels=1, seed=0)
    single = {n for n, w in prunable(mobile).items() if w.dim() == 4 and w.shape[1] == 1}
    assert len(single) == 4 and "conv1.weight" in single  # the stem reads one channel
    depthwise = single - {"conv1.weight"}
    assert kept_dense(mobile, "erk") == depthwise
    assert kept_dense(mobile, "uniform-rigl") == depthwise | {"conv1.weight"}
    assert kept_dense(mobile, "uniform") == depthwise | {"conv1.weight", "fc.weight"}


def test_squeeze_and_excitation_is_dense_in_one_preset():
    model = build("efficientnet_digits", classes=10, channels=1, seed=0)
    gates = {n for n in prunable(model) if n.endswith(("fc1.weight", "fc2.weight"))}
    assert len(gates) == 6
    assert gates <= kept_dense(model, "uniform")
    assert not gates & (kept_dense(model, "uniform-rigl") | kept_dense(model, "erk"))


def test_grouped_convolutions_that_mix_channels_are_masked():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 8, 3))
    for distribution in DISTRIBUTIONS:
        assert "1.weight" not in kept_dense(model, distribution)


def test_erk_reaches_its_total_beside_layers_that_stay_dense():
    model = build("mobilenetv2", classes=10, channels=3, seed=0)
    assert overall(model, 0.9, "erk") == pytest.approx(0.9, abs=1e-4)
    counts, dense = layer_counts(model, 0.9, "erk"), kept_dense(model, "erk")
    assert len(dense) == 17
    assert all(counts[n] == prunable(model)[n].numel() for n in dense)
    with pytest.raises(UserError, match=r"a density of 0\.001 leaves nothing"):
        layer_counts(model, 0.999, "erk")
