"""What is special about the rivals and controls of S2-SAM: where each of them looks."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from optimizer_cases import SAMPLES, make, momentum, run, samples
from toys import clones, convnet, equal, flat, images, mlp, perturbation, weights

from paper_repro.errors import UserError
from paper_repro.optim import FSAM, MSAM, OPTIMIZERS, S2SAM, SAM, AsyncSAM, Closure, RandomSAM
from paper_repro.sparse.masks import Masks

F64 = torch.float64


def points(optimizer, model, steps, **options):
    """The weights at every backward pass of each step, and the gradients found there."""
    x, y = samples(F64)
    seen = []
    for t in range(steps):
        here = []
        index = torch.arange(8 * (t % 3), 8 * (t % 3) + 8)

        class Watched(Closure):
            def __call__(self, subset=None, here=here):
                at = flat(clones(model))
                loss = super().__call__(subset)
                here.append((at, flat([p.grad for p in model.parameters()]).clone()))
                return loss

        optimizer.step(Watched(model, x[index], y[index], optimizer, index=index, samples=SAMPLES))
        seen.append(here)
    return seen


def test_asyncsam_looks_along_the_last_gradient_at_w_and_s2sam_along_that_at_u():
    model = mlp(dtype=F64)
    seen = points(AsyncSAM(momentum(model.parameters()), rho=0.3), model, 6)
    assert [len(here) for here in seen] == [1, 2, 2, 2, 2, 2]
    for before, ((w, _), (u, _)) in pairwise(seen):
        ascent = before[0][1]
        torch.testing.assert_close(u - w, 0.3 * ascent / ascent.norm(), rtol=1e-9, atol=1e-12)
    model = mlp(dtype=F64)
    optimizer = S2SAM(momentum(model.parameters()), rho=0.3)
    seen = points(optimizer, model, 3)
    last = seen[-1][0][1]
    torch.testing.assert_close(perturbation(model, optimizer), 0.3 * last / last.norm())


def test_fsam_takes_the_moving_average_out_of_the_direction():
    model = mlp(dtype=F64)
    optimizer = FSAM(momentum(model.parameters()), rho=0.2, sigma=0.5, lam=0.7)
    average = None
    for (w, g), (u, _) in points(optimizer, model, 6):
        d = g if average is None else g - 0.5 * average
        average = g if average is None else 0.7 * average + 0.3 * g
        torch.testing.assert_close(u - w, 0.2 * d / d.norm(), rtol=1e-9, atol=1e-12)
    held = flat([optimizer.state[p]["average"] for p in model.parameters()])
    torch.testing.assert_close(held, average)


def test_fsam_that_takes_nothing_out_is_sam():
    one, two = mlp(dtype=F64), mlp(dtype=F64)
    run(one, FSAM(momentum(one.parameters()), sigma=0.0), 9)
    run(two, SAM(momentum(two.parameters())), 9)
    torch.testing.assert_close(flat(clones(one)), flat(clones(two)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("options", [{"lam": 1.0}, {"lam": -0.1}, {"sigma": -1.0}])
def test_bad_options_of_fsam(options):
    with pytest.raises(UserError, match="F-SAM needs sigma >= 0 and lam in"):
        FSAM(momentum(mlp().parameters()), **options)


@given(seed=st.integers(0, 99), rho=st.floats(1e-3, 10.0))
def test_a_random_direction_has_length_rho_and_is_drawn_anew(seed, rho):
    model = mlp(seed, F64)
    optimizer = RandomSAM(momentum(model.parameters()), rho=rho, seed=seed)
    directions = []
    for _ in range(3):
        run(model, optimizer, 1)
        epsilon = perturbation(model, optimizer)
        assert float(epsilon.norm()) == pytest.approx(rho, rel=1e-9)
        directions.append(epsilon / rho)
    assert abs(float(directions[0] @ directions[1])) < 0.7
    g = flat([p.grad for p in model.parameters()])
    assert abs(float(directions[2] @ g / g.norm())) < 0.7


def test_a_random_direction_is_a_function_of_the_seed_alone():
    found = []
    for seed in (0, 0, 1):
        model = mlp(dtype=F64)
        optimizer = RandomSAM(momentum(model.parameters(), lr=0.0), seed=seed)
        run(model, optimizer, 2)
        found.append(perturbation(model, optimizer))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert not torch.allclose(found[0], found[2])


def test_a_random_direction_is_gaussian_over_the_active_weights():
    torch.manual_seed(0)
    model = torch.nn.Linear(200, 100).double()
    optimizer = RandomSAM(momentum(model.parameters()), rho=1.0)
    on = torch.rand(100, 200) < 0.3
    Masks(model, optimizer, {"weight": on})
    F.mse_loss(model(torch.randn(5, 200, dtype=F64)), torch.randn(5, 100, dtype=F64)).backward()
    optimizer.step()
    w, bias = weights(model, optimizer)
    epsilon = model.weight.detach() - w
    assert not epsilon[~on].any() and bool(epsilon[on].all())
    assert bool((model.bias.detach() - bias).all())
    n = int(on.sum()) + 100
    scaled = epsilon[on] * n**0.5  # a direction of length 1 has entries of variance 1/n
    assert float(scaled.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(scaled.var()) == pytest.approx(1.0, abs=0.05)
    assert float((scaled**4).mean()) == pytest.approx(3.0, abs=0.3)


def test_a_weight_that_is_zero_for_a_moment_is_perturbed_if_it_has_a_gradient():
    model = mlp(dtype=F64)
    optimizer = RandomSAM(momentum(model.parameters(), lr=0.0))
    with torch.no_grad():
        model[0].bias.zero_()
    run(model, optimizer, 1)
    assert bool(model[0].bias.all())


def test_a_random_direction_does_not_depend_on_the_layout_in_memory():
    found = []
    for form in (torch.contiguous_format, torch.channels_last):
        model = convnet(3).double().to(memory_format=form)
        optimizer = RandomSAM(momentum(model.parameters()))
        for x, y in images(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x.double()), y).backward()
            optimizer.step()
        found.append(flat(clones(model)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)


def test_a_negative_radius_is_the_same_length_the_other_way():
    there, back = mlp(dtype=F64), mlp(dtype=F64)
    up, down = (S2SAM(momentum(m.parameters()), rho=rho) for m, rho in ((there, 0.4), (back, -0.4)))
    run(there, up, 1)
    run(back, down, 1)
    assert equal(weights(there, up), weights(back, down))
    torch.testing.assert_close(perturbation(there, up), -perturbation(back, down))
    run(there, up, 5)
    run(back, down, 5)
    assert not torch.allclose(flat(weights(there, up)), flat(weights(back, down)))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_negative_radius_at_any_size_of_the_gradient(size):
    model = torch.nn.Linear(40, 10, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=-0.05)
    model.weight.grad = torch.full((10, 40), size)
    optimizer.step()
    assert float(model.weight.detach().norm()) == pytest.approx(0.05, rel=1e-6)
    assert bool((model.weight < 0).all())
    model.weight.grad = torch.full((10, 40), 1e-45)  # no direction to speak of
    optimizer.step()
    assert not model.weight.any()


def test_only_s2sam_takes_a_negative_radius():
    for name in set(OPTIMIZERS) - {"sgd", "saf", "s2sam"}:
        with pytest.raises(UserError, match=r"rho must be a finite number >= 0, not -0\.05"):
            make(name, momentum(mlp().parameters()), rho=-0.05)
    with pytest.raises(UserError, match="rho must be a finite number, not nan"):
        S2SAM(momentum(mlp().parameters()), rho=float("nan"))
    optimizer = S2SAM(momentum(mlp().parameters()))
    optimizer.add_param_group({"params": mlp(1).parameters(), "rho": -0.1})
    with pytest.raises(UserError, match="rho must be a finite number >= 0"):
        SAM(optimizer.base)


def test_msams_length_is_over_all_parameters_together():
    """As the authors' code has it: one Euclidean norm over all momentum buffers."""
    model = mlp(dtype=F64)
    optimizer = MSAM(momentum(model.parameters()))
    run(model, optimizer, 4)
    velocity = flat([optimizer.state[p]["momentum_buffer"] for p in model.parameters()])
    moved = flat(clones(model)) - flat(weights(model, optimizer))
    torch.testing.assert_close(moved, -3.0 * velocity / velocity.norm())
