import pytest
import torch
from toys import BASES, convnet, images, train

from paper_repro.errors import UserError
from paper_repro.optim import S2SAM
from paper_repro.sparse import SET


def begin(wrap=lambda base: base, **options):
    model = convnet()
    optimizer = wrap(BASES["momentum"](model.parameters()))
    options = {"sparsity": 0.5, "total_steps": 20, "steps_per_epoch": 4, **options}
    return model, optimizer, SET(model, optimizer, **options)


def test_updates_follow_the_last_step_of_every_epoch_but_the_last():
    _, _, method = begin()
    assert [t for t in range(20) if method.due(t)] == [3, 7, 11, 15]
    _, _, method = begin(period=0.5)
    assert [t for t in range(20) if method.due(t)] == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    _, _, method = begin(period=2)
    assert [t for t in range(20) if method.due(t)] == [7, 15]
    assert not method.replaces_step


@pytest.mark.parametrize("wrap", [lambda base: base, lambda base: S2SAM(base, rho=2.0)])
def test_drops_the_smallest_and_grows_anywhere_else(wrap):
    model, optimizer, method = begin(wrap)
    choose = method.choose
    dropped_ever, grown_ever = [], []

    def watched(t):
        masks = method.masks.state_dict()
        sizes = {name: method.weight(name).detach().abs() for name in masks}
        displaced = {name: p.detach().abs() for name, p in method.masks.weights.items()}
        new = choose(t)
        for name, old in masks.items():
            w = sizes[name]
            drop = int(0.3 * int(old.sum()))
            order = sorted(old.flatten().nonzero().flatten().tolist(), key=lambda i: w.view(-1)[i])
            smallest = torch.zeros(w.numel(), dtype=torch.bool)
            smallest[order[:drop]] = True
            kept = old & ~smallest.view_as(old)
            assert new[name][kept].all()
            assert int(new[name].sum()) == int(old.sum())
            dropped_ever.append(drop)
            grown_ever.append(int((new[name] & ~old).sum()))
            assert isinstance(optimizer, S2SAM) != torch.equal(w, displaced[name])
        return new

    method.choose = watched
    train(model, optimizer, images(20))
    assert method.updates == 4
    # Growth is uniform over what is not kept, the just dropped included.
    assert 0 < sum(grown_ever) < sum(dropped_ever)


def test_growth_does_not_look_at_the_gradient():
    chosen = []
    for scale in (1.0, -7.0):
        _, _, method = begin()
        for p in method.masks.weights.values():
            p.grad = scale * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)) ** 3
        chosen.append(method.choose(3))
    assert all(torch.equal(m, chosen[1][n]) for n, m in chosen[0].items())
    _, _, other = begin(seed=1)
    assert any(not torch.equal(m, other.choose(3)[n]) for n, m in chosen[0].items())


@pytest.mark.parametrize("options", [{"zeta": 0.0}, {"zeta": 1.5}, {"period": 0.0}])
def test_bad_options(options):
    with pytest.raises(UserError, match="SET needs zeta"):
        begin(**options)
