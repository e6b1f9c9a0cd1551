import pytest
import torch
import torch.nn.functional as F
from toys import BASES, batches, clones, equal, flat, mlp

from paper_repro.errors import UserError
from paper_repro.optim import ZOSAM, Closure
from paper_repro.optim.zosam import gaussian


def wrapped(model, **options):
    return ZOSAM(BASES["sgd"](model.parameters()), **options)


class Spying(Closure):
    """Remembers where the gradient is taken, and where losses are."""

    def __call__(self, subset=None):
        self.u = flat(clones(self.forward))
        return super().__call__(subset)

    def sample_losses(self, outputs=None):
        self.points.append(flat(clones(self.forward)))
        return super().sample_losses(outputs)


def step(model, optimizer, batch):
    closure = Spying(model, *batch, optimizer)
    closure.points = []
    w = flat(clones(model))
    g = flat(
        torch.autograd.grad(F.cross_entropy(model(batch[0]), batch[1]), list(model.parameters()))
    )
    optimizer.step(closure)
    return closure, w, g


def test_one_direction_is_turned_uphill_and_has_length_rho():
    model = mlp(dtype=torch.float64)
    optimizer = wrapped(model, rho=0.05, delta=1e-4)
    directions = []
    for batch in batches(20, dtype=torch.float64):
        closure, w, g = step(model, optimizer, batch)
        epsilon = closure.u - w
        above, below = closure.points
        torch.testing.assert_close(above - w, w - below, rtol=0, atol=1e-15)
        assert float(epsilon.norm()) == pytest.approx(0.05)
        assert float(epsilon @ g) > 0
        assert abs(float(F.cosine_similarity(epsilon, above - w, dim=0))) == pytest.approx(1.0)
        directions.append(above - w)
    scale = torch.stack(directions) / 1e-4
    assert 0.9 < float(scale.std()) < 1.1  # standard normal
    assert abs(float(F.cosine_similarity(directions[0], directions[1], dim=0))) < 0.5


def test_many_directions_estimate_the_gradient():
    model = mlp(dtype=torch.float64)
    optimizer = wrapped(model, directions=2000, delta=1e-4)
    closure, w, g = step(model, optimizer, batches(1, dtype=torch.float64)[0])
    assert float(F.cosine_similarity(closure.u - w, g, dim=0)) > 0.95
    assert len(closure.points) == 4000


def test_it_steps_from_w_with_the_gradient_at_u():
    model = mlp()
    optimizer = wrapped(model)
    closure, w, _ = step(model, optimizer, batches(1)[0])
    g_u = flat([p.grad for p in model.parameters()])
    # To rounding: processors that fuse the product and the sum round once.
    torch.testing.assert_close(flat(clones(model)), w - 0.1 * g_u, rtol=1e-6, atol=1e-7)
    assert not torch.equal(closure.u, w)


def test_zero_weights_stand_still():
    weights = [torch.tensor([1.0, 0.0, -2.0]), torch.zeros(4), torch.ones(2, 3)]
    noise = gaussian(weights, 7)
    assert noise[0][1] == 0 and not noise[1].any()
    assert noise[0][0] != 0 and noise[0][2] != 0 and noise[2].all()
    assert equal(noise, gaussian(weights, 7))
    assert not torch.equal(noise[2], gaussian(weights, 8)[2])


def test_only_groups_with_a_radius_move():
    model = mlp()
    optimizer = ZOSAM(
        torch.optim.SGD(
            [{"params": model[0].parameters()}, {"params": model[2].parameters(), "rho": 0.0}],
            lr=0.1,
        )
    )
    closure, w, _ = step(model, optimizer, batches(1)[0])
    assert torch.equal(closure.u[56:], w[56:])
    assert float((closure.u - w).norm()) == pytest.approx(0.05, rel=1e-4)
    assert all(torch.equal(point[56:], w[56:]) for point in closure.points)


def test_a_pass_that_fails_leaves_the_weights():
    model = mlp()
    optimizer = wrapped(model)
    before = clones(model)

    class Failing(Closure):
        def sample_losses(self, outputs=None):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        optimizer.step(Failing(model, *batches(1)[0], optimizer))
    assert equal(before, model.parameters())


@pytest.mark.parametrize("options", [{"delta": 0.0}, {"directions": 0}])
def test_bad_options(options):
    with pytest.raises(UserError, match="ZO-SAM needs delta > 0 and directions >= 1"):
        wrapped(mlp(), **options)
