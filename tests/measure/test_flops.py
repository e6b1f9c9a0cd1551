import pytest
import torch
from torch import nn

from paper_repro.measure.flops import (
    dense_gradient_flops,
    inference_flops,
    layer_flops,
    layer_macs,
    planned_flops,
    training_flops,
)
from paper_repro.measure.micronet import rigl_training
from paper_repro.models import build
from paper_repro.sparse import METHODS, Plan, Stage


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 6, (3, 1), groups=3)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout()
        self.twice = nn.Linear(6, 6)
        self.out = nn.Linear(6, 5)

    def forward(self, x):
        x = self.drop(self.norm(self.grouped(self.first(x)))).mean((2, 3))
        return self.out(self.twice(self.twice(x)))


HAND = {
    "first.weight": (6 * 2 * 9) * (4 * 5),  # [2, 8, 10] -> [6, 4, 5]
    "grouped.weight": (6 * 2 * 3) * (2 * 5),  # -> [6, 2, 5], two input channels a group
    "twice.weight": 2 * 36,
    "out.weight": 30,
}


def test_counts_by_hand():
    assert layer_macs(Small(), (2, 8, 10)) == HAND


def test_other_dimensions_and_types():
    assert layer_macs(nn.Conv1d(2, 3, 5).double(), (2, 9)) == {"weight": 30 * 5}
    assert layer_macs(nn.Conv3d(1, 2, 2), (1, 3, 3, 3)) == {"weight": 16 * 8}
    tokens = nn.Sequential(nn.Linear(4, 3))
    assert layer_macs(tokens, (7, 4)) == {"0.weight": 12 * 7}


def test_leaves_the_model_as_it_was():
    model = Small()
    model.drop.eval()  # modes need not be all the same
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    random = torch.get_rng_state()
    layer_macs(model, (2, 8, 10))
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.device.type == "cpu" and p.grad is None for p in model.parameters())


def test_leaves_the_model_as_it_was_after_a_failure():
    model = Small()
    with pytest.raises(RuntimeError):
        layer_macs(model, (3, 8, 10))
    assert all(m.training and not m._forward_hooks for m in model.modules())
    assert all(p.device.type == "cpu" for p in model.parameters())


def test_resnet32_of_double_width():
    macs = layer_macs(build("resnet32x2", classes=10, channels=3, seed=0), (3, 32, 32))
    stage1 = 10 * (32 * 32 * 9) * 32**2
    stage2 = (32 * 64 * 9 + 9 * 64 * 64 * 9 + 32 * 64) * 16**2
    stage3 = (64 * 128 * 9 + 9 * 128 * 128 * 9 + 64 * 128) * 8**2
    assert sum(macs.values()) == 3 * 32 * 9 * 32**2 + stage1 + stage2 + stage3 + 1280
    assert sum(macs.values()) == 275_612_928
    assert macs["conv1.weight"] == 884_736 and macs["fc.weight"] == 1280


def test_flops_follow_density():
    assert inference_flops(HAND, {}) == 2 * sum(HAND.values())
    density = {"first.weight": 0.25, "out.weight": 0.0}
    assert inference_flops(HAND, density) == 2 * (540 + 360 + 72)
    assert training_flops(HAND, density) == 3 * inference_flops(HAND, density)
    assert training_flops(HAND, density, gradients=2) == 6 * inference_flops(HAND, density)


def test_a_density_of_something_unknown():
    with pytest.raises(KeyError, match=r"norm\.weight"):
        inference_flops(HAND, {"norm.weight": 0.5})


def test_flops_of_each_layer_sum_to_the_whole():
    density = {"first.weight": 0.25, "out.weight": 0.5}
    layers = layer_flops(HAND, density)
    assert layers["first.weight"] == 2 * 0.25 * HAND["first.weight"] and layers["out.weight"] == 30
    assert sum(layers.values()) == inference_flops(HAND, density)


def test_a_dense_gradient_makes_a_step_2_sparse_and_1_dense():
    density = dict.fromkeys(HAND, 0.1)
    sparse, dense = inference_flops(HAND, density), inference_flops(HAND, {})
    step = training_flops(HAND, density) + dense_gradient_flops(HAND, density)
    assert step == pytest.approx(2 * sparse + dense)


def test_a_training_is_integrated_over_its_stages():
    """By hand: 10 steps at a half of one layer, 4 of them with dense gradients; then 5 dense."""
    macs = {"a.weight": 100, "b.weight": 10}
    plan = Plan((Stage(10, {"a.weight": 0.5}, 4), Stage(5, {})))
    total = planned_flops(macs, plan, batch_size=3)
    assert total["a.weight"] == 3 * (3 * 10 * 100 + 4 * 100 + 3 * 5 * 200)
    assert total["b.weight"] == 3 * (3 * 15 * 20)
    twice = planned_flops(macs, plan, batch_size=3, gradients=2)
    assert twice["b.weight"] == 2 * total["b.weight"]
    assert twice["a.weight"] == 2 * total["a.weight"] - 3 * 4 * 100  # growth needs one gradient


def test_rigl_over_a_whole_training_is_their_formula():
    """(3 f_S ΔT + 2 f_S + f_D) / (ΔT + 1), where updates go on to the end."""
    model = Small()
    spec = METHODS.spec("rigl", sparsity=0.9, delta_t=101, stop=1.0)
    macs, steps = layer_macs(model, (2, 8, 10)), 101 * 200
    plan = METHODS["rigl"].planned(spec, model, steps, 1)
    mine = sum(planned_flops(macs, plan, 1).values())
    sparse, dense = inference_flops(macs, plan.final), inference_flops(macs, {})
    # The formula counts an update at step 0 too.
    assert mine + dense - sparse == pytest.approx(steps * rigl_training(sparse, dense, 100))
