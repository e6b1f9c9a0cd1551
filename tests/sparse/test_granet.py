"""GraNet: cubic global pruning, then renewal within each layer."""

import pytest
import torch
from toys import advance, backward, convnet, images

from paper_repro.errors import UserError
from paper_repro.sparse import GraNet
from paper_repro.sparse.itop import decayed

T = 60


def granet(sparsity=0.9, **options):
    model = convnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return GraNet(
        model, optimizer, sparsity=sparsity, **{"total_steps": T, "delta_t": 5, **options}
    )


def total(method):
    return sum(method.masks.counts().values())


def test_the_number_of_weights_falls_along_a_cubic():
    method = granet()
    size = sum(w.numel() for w in method.masks.weights.values())
    assert method.initial == pytest.approx(0.5 * size, abs=3)
    assert method.target == pytest.approx(0.1 * size, abs=3)
    for t, batch in enumerate(images(T)):
        advance(method.model, method.optimizer, batch)
        last = t // 5 * 5  # the last update
        left = max(0.0, 1 - last / 30) ** 3
        want = method.target + (method.initial - method.target) * left
        assert abs(total(method) - want) <= 0.5, t
    assert total(method) == method.target
    assert method.updates == 11  # it goes on renewing to the end


@pytest.mark.parametrize("t", [5, 30, 45])
def test_an_update_against_a_plain_version(t):
    method = granet()
    model, masks = method.model, method.masks
    with torch.no_grad():
        for weight in masks.weights.values():
            weight.add_(torch.randn(weight.shape) * (weight != 0))
    backward(model, images(1)[0])
    gradients = {n: torch.randn(w.shape) for n, w in masks.weights.items()}
    for name, weight in masks.weights.items():
        weight.grad = gradients[name].clone()
    size = {n: w.detach().abs() * masks[n] for n, w in masks.weights.items()}
    before = {n: w.detach().clone() for n, w in masks.weights.items()}
    left = max(0.0, 1 - t / 30) ** 3
    keep = method.target + round((method.initial - method.target) * left)
    cut = torch.cat([s.flatten() for s in size.values()]).sort(descending=True).values[keep - 1]
    rate = 0.005 + (0.5 - 0.005) / 2 * (1 + torch.cos(torch.tensor(torch.pi * t / T)).item())
    method.update(t)
    for name, s in size.items():
        n = int((s >= cut).sum())
        dropped = -int(-rate * n // 1)
        kept = s >= s.flatten().sort(descending=True).values[max(0, n - dropped - 1)]
        kept = kept if n > dropped else torch.zeros_like(kept)
        score = torch.where(kept, -1.0, gradients[name].abs())
        new = kept | (score >= score.flatten().sort(descending=True).values[dropped - 1])
        assert torch.equal(masks[name], new)
        assert torch.equal(masks.weights[name], torch.where(new, before[name], 0.0))


def test_the_update_replaces_the_step_and_sees_dense_gradients():
    method = granet()
    seen = []
    method.gradient = lambda name: (
        seen.append(method.masks.weights[name].grad.clone()) or GraNet.gradient(method, name)
    )
    data = images(6)
    for batch in data[:5]:
        advance(method.model, method.optimizer, batch)
    masks, bias = method.masks.state_dict(), method.model[8].bias.detach().clone()
    advance(method.model, method.optimizer, data[5])
    assert torch.equal(bias, method.model[8].bias)
    for gradient, mask in zip(seen, masks.values(), strict=True):
        assert mask.all() or gradient[~mask].any()


def test_it_can_start_dense():
    method = granet(initial_sparsity=0.0)
    assert all(method.masks[n].all() for n in method.masks)
    assert len(method.masks) == 3
    for batch in images(T):
        advance(method.model, method.optimizer, batch)
    assert total(method) == method.target < 0.11 * method.initial


def test_the_rate_of_renewal():
    assert decayed(0, 100, 0.5) == 0.5
    assert decayed(50, 100, 0.5) == pytest.approx((0.5 + 0.005) / 2)
    assert decayed(100, 100, 0.5) == pytest.approx(0.005)
    assert decayed(30, 100, 0.001) == pytest.approx(0.001)  # never above where it starts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta_t": 0}, "GraNet needs delta_t"),
        ({"death_rate": 1.5}, "GraNet needs delta_t"),
        ({"stop": 1.5}, "GraNet needs delta_t"),
        ({"sparsity": 0.3}, "cannot prune from sparsity 0.5 down to 0.3"),
        ({"delta_t": 31}, "makes no update in 0.5 of 60 steps"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        granet(**options)
