"""What a position starts from that one topology update drops and grows again."""

import pytest
import torch
from toys import BASES, convnet, images, train

from paper_repro.errors import UserError
from paper_repro.optim import S2SAM
from paper_repro.sparse import METHODS, RigL

#: Start from 0, as everything that is grown.
AFRESH = {
    "set": {"zeta": 0.9},
    "set-itop": {"delta_t": 4, "death_rate": 0.9},
    "mest": {"distribution": "erk"},
    "mest-ems": {"distribution": "erk"},
    "chase": {"updates": 8, "alpha": 1.0, "stop": 0.0, "minimum_ratio": 0.1},
}
#: Go on with value and momentum.
GO_ON = {
    "rigl": {"delta_t": 4, "alpha": 0.9},
    "rigl-itop": {"delta_t": 4, "death_rate": 0.9},
    "set": {"zeta": 0.9, "regrown": "keep"},
    "set-itop": {"delta_t": 4, "death_rate": 0.9, "regrown": "keep"},
    "mest": {"distribution": "erk", "regrown": "keep"},
    "chase": {**AFRESH["chase"], "regrown": "keep"},
}
STEPS = 32

wraps = pytest.mark.parametrize(
    "wrap", [lambda base: base, lambda base: S2SAM(base, rho=2.0)], ids=["sgd", "s2sam"]
)


def train_and_compare(wrap, name, options):
    """Trains, and counts over all updates the positions that stay active, by what became of them.

    Returns how many went on as they were and how many were set to 0.
    """
    model = convnet()
    optimizer = wrap(BASES["momentum"](model.parameters()))
    method = METHODS.build(
        METHODS.spec(name, sparsity=0.4, **options),
        model=model,
        optimizer=optimizer,
        total_steps=STEPS,
        steps_per_epoch=4,
        seed=0,
    )
    update, counts = method.update, [0, 0]

    def held(layer):
        momentum = optimizer.state[method.masks.weights[layer]]["momentum_buffer"]
        return torch.stack([method.weight(layer), momentum]).clone()

    def watched(t):
        active = method.masks.state_dict()
        before = {layer: held(layer) for layer in method.masks}
        update(t)
        for layer, old in before.items():
            now, mask = held(layer), method.masks[layer]
            assert not now[:, ~mask].any()
            assert not now[:, mask & ~active[layer]].any()
            stay = mask & active[layer] & (old != 0).all(0)
            same, zero = (now == old).all(0) & stay, (now == 0).all(0) & stay
            assert torch.equal(same | zero, stay)
            counts[0] += int(same.sum())
            counts[1] += int(zero.sum())

    method.update = watched
    train(model, optimizer, images(STEPS))
    assert method.updates > 3
    return counts


@pytest.mark.parametrize("name", ["set", "set-itop", "mest", "chase"])
def test_there_is_no_third_way(name):
    with pytest.raises(UserError, match="regrown is zero or keep, not 'no'"):
        train_and_compare(lambda base: base, name, {"regrown": "no"})


def test_growth_by_gradient_sees_the_dense_one_even_when_regrown_from_zero():
    class Fresh(RigL):
        regrown = "zero"

    model = convnet()
    optimizer = BASES["momentum"](model.parameters())
    method = Fresh(model, optimizer, sparsity=0.5, total_steps=40, delta_t=2, alpha=0.9)
    growth_score, seen = method.growth_score, []

    def watched(name):
        seen.append((growth_score(name)[~method.masks[name]] != 0).float().mean())
        return growth_score(name)

    method.growth_score = watched
    train(model, optimizer, images(4))
    assert method.updates == 1 and min(seen) > 0.5


@wraps
@pytest.mark.parametrize("name", AFRESH)
def test_it_starts_from_zero(wrap, name):
    same, zero = train_and_compare(wrap, name, AFRESH[name])
    assert same > 100 and zero > 20


@wraps
@pytest.mark.parametrize("name", GO_ON)
def test_it_goes_on(wrap, name):
    same, zero = train_and_compare(wrap, name, GO_ON[name])
    assert same > 100 and zero == 0
