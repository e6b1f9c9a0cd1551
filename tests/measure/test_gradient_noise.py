"""Noise and drift: estimates are unbiased, and SAM's drift is the gradient of rho E|g|."""

import pytest
import torch
from subjects import subject

from paper_repro.errors import UserError
from paper_repro.measure import gradient_noise as module
from paper_repro.measure.gradient_noise import gradient_noise, mean_square


class Quadratics:
    """Gradients H_i w + b_i, both random: the batch is (H_i, b_i)."""

    def __init__(self, trained, size, seed):
        self.weights = torch.tensor([0.3, -0.2], dtype=torch.float64)
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self):
        z = torch.randn(3, generator=self.generator, dtype=torch.float64)
        return torch.diag(torch.stack([2 + z[0].tanh(), torch.ones(()).double()])), z[1:]

    def gradient(self, at, batch):
        return batch[0] @ at + batch[1]

    class training:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False


def test_squares_of_means_are_unbiased():
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([0.3, 0.0])
    rows = torch.randn(3000, 6, 2, generator=generator) + mean
    found = [mean_square(r) for r in rows]
    neighbours = rows[:, 1:] + rows[:, :-1]  # mean 0.6, each shares a row with the next
    assert sum(found) / len(found) == pytest.approx(0.09, abs=0.03)
    shared = [module._even_and_odd(r) for r in neighbours]
    assert sum(shared) / len(shared) == pytest.approx(0.36, abs=0.12)
    biased = [mean_square(r) for r in neighbours]
    assert sum(biased) / len(biased) > 0.6


def test_drifts_on_random_quadratics_are_those_of_the_theory(monkeypatch):
    monkeypatch.setattr(module, "Minibatches", Quadratics)
    rho = 1e-3
    found = gradient_noise(subject(), rho=rho, batches=1500)
    batches = Quadratics(None, 0, 99)
    w, pairs = batches.weights, [batches.draw() for _ in range(5000)]
    gradients = [batches.gradient(w, b) for b in pairs]
    units = [g / g.norm() for g in gradients]
    sam = rho * torch.stack([b[0] @ u for b, u in zip(pairs, units, strict=True)]).mean(0)
    mean_h = torch.stack([b[0] for b in pairs]).mean(0)
    ours = rho * mean_h @ torch.stack(units).mean(0)
    assert found["sam"] == pytest.approx(float(sam @ sam), rel=0.25)
    assert found["s2sam"] == pytest.approx(float(ours @ ours), rel=0.25)
    assert found["norm"] == pytest.approx(
        float(torch.stack(gradients).norm(dim=1).mean()), rel=0.05
    )
    assert 0.5 < found["noise_share"] < 1
    # H_i is positive: along its own gradient SAM's drift is rho g^T H g / |g|^2 > rho.
    assert found["sam_along"] > rho
    assert abs(found["s2sam_along"]) < found["sam_along"] / 2


def test_of_s2sams_drifts_neighbours_are_not_multiplied(monkeypatch):
    """They share a minibatch: g_j of one drift is the next one's direction."""
    seen = {}
    for name in ("mean_square", "_even_and_odd"):
        kept = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda rows, f=kept, n=name: seen.setdefault(n, []).append(rows) or f(rows),
        )
    found = gradient_noise(subject(), batch=8, batches=6)
    (ours,), (plain, theirs) = seen["_even_and_odd"], seen["mean_square"]
    rows = ours.double()
    products = [float(rows[i] @ rows[j]) for i in range(6) for j in range(6) if abs(i - j) > 1]
    assert found["s2sam"] == pytest.approx(sum(products) / len(products))
    assert found["s2sam"] != pytest.approx(mean_square(ours))
    assert found["sam"] == pytest.approx(mean_square(theirs))
    assert found["signal"] == pytest.approx(mean_square(plain))


def test_on_a_network_every_number_is_finite_and_batches_are_counted():
    found = gradient_noise(subject(), batch=8, batches=5)
    assert found["batches"] == 5
    assert found["square"] >= found["norm"] ** 2 > 0


@pytest.mark.parametrize(
    "options, said",
    [({"rho": 0.0}, "rho above 0, not 0.0"), ({"batches": 3}, "at least 4 minibatches, not 3")],
)
def test_bad_input(options, said):
    with pytest.raises(UserError, match=said):
        gradient_noise(subject(), **options)
