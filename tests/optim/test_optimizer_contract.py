"""What every optimizer owes its users: what it computes and where it leaves weights."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from optimizer_cases import (
    BUFFERS,
    CASES,
    COST,
    SAMPLES,
    STEPS,
    at_w,
    closures,
    every,
    make,
    momentum,
    run,
    samples,
    stand,
    strength,
    wrappers,
)
from torch import nn
from toys import BASES, clones, convnet, equal, flat, mlp, same_state, snapshot

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS, Closure, exact


class Rosenbrock(nn.Module):
    """Residuals (1 - a, 10 (b - a²)), the same for every sample."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([-1.2]))
        self.b = nn.Parameter(torch.tensor([1.0]))

    def forward(self, x):
        return torch.cat([1 - self.a, 10 * (self.b - self.a**2)]).expand(len(x), 2)


def squares(outputs, target, reduction):
    each = (outputs - target).square().sum(1)
    return each.mean() if reduction == "mean" else each


@every
@pytest.mark.parametrize("problem", ["quadratic", "rosenbrock"])
def test_progress(case, problem):
    torch.manual_seed(0)
    index = torch.arange(16)
    x = torch.randn(16, 4)
    if problem == "quadratic":
        model, y, lr, goal = nn.Linear(4, 2), x @ torch.randn(4, 2), 0.05, 0.02
    else:
        model, y, lr, goal = Rosenbrock(), torch.zeros(16, 2), 2e-4, 0.2
    options = {"rho": 0.05} if strength(case) == "rho" else {}
    if case == "released":  # its g^3 grows without bound where gradients are longer than 1
        options["adaptive"] = False
    optimizer = make(case, momentum(model.parameters(), lr=lr, weight_decay=0.0), **options)
    first = float(squares(model(x), y, "mean").detach())
    for _ in range(200):
        optimizer.step(Closure(model, x, y, optimizer, loss_fn=squares, index=index, samples=16))
    stand(optimizer, "eval")
    assert float(squares(model(x), y, "mean").detach()) < goal * first


@wrappers
@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_at_strength_0_it_is_the_base_optimizer(case, base):
    plain, wrapped = mlp(), mlp()
    alone = base(plain.parameters())
    optimizer = make(case, base(wrapped.parameters()), **{strength(case): 0.0})
    pairs = zip(closures(plain, alone, 10), closures(wrapped, optimizer, 10), strict=True)
    for one, other in pairs:
        assert torch.equal(alone.step(one), optimizer.step(other))
        assert equal(plain.parameters(), wrapped.parameters())
    for p, q in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert same_state(alone.state.get(p, {}), optimizer.state.get(q, {}))


@wrappers
def test_above_strength_0_it_is_not(case):
    plain, wrapped = mlp(), mlp()
    run(plain, momentum(plain.parameters()), 24)
    optimizer = make(case, momentum(wrapped.parameters()))
    run(wrapped, optimizer, 24)
    difference = flat(at_w(wrapped, optimizer)) - flat(clones(plain))
    assert float(difference.abs().max()) > 1e-5


def expected(case, model, steps, lr, **options):
    """What the case's reference yields on the full batch."""
    name, own = CASES[case]
    reference = OPTIMIZERS[name].reference
    known = inspect.signature(reference).parameters
    twin = copy.deepcopy(model)
    x, y = samples(torch.float64)
    everything = torch.arange(SAMPLES)

    def at(weights):
        for p, w in zip(twin.parameters(), weights, strict=True):
            p.data.copy_(w)

    def outputs(weights, positions):
        at(weights)
        return twin(x[positions])

    def losses(weights):
        return F.cross_entropy(outputs(weights, everything), y, reduction="none").detach()

    def gradient(weights, positions=everything, term=None):
        z = outputs(weights, positions)
        loss = F.cross_entropy(z, y[positions])
        loss = loss if term is None else loss + term(z)
        return list(torch.autograd.grad(loss, twin.parameters()))

    given = {
        **dict(OPTIMIZERS.spec(name, **own).options),
        "total_steps": STEPS,
        "gradient": gradient,
        "losses": losses,
        "loss": lambda weights: float(losses(weights).mean()),
        "outputs": outputs,
        "batches": lambda _t: list(range(SAMPLES)),
        "lr": lr,
        **options,
    }
    start = [p.detach().clone() for p in model.parameters()]
    slow = reference(start, **{k: v for k, v in given.items() if k in known})
    return [next(slow) for _ in range(steps)]


@wrappers
def test_beside_the_reference(case):
    model = mlp(dtype=torch.float64)
    options = {"momentum": 0.9, "weight_decay": 1e-2}
    x, y = samples(torch.float64)
    everything = torch.arange(SAMPLES)
    slow = expected(case, model, 40, 0.02, **options)
    optimizer = make(case, torch.optim.SGD(model.parameters(), lr=0.02, **options))
    for step in slow:
        optimizer.step(Closure(model, x, y, optimizer, index=everything, samples=SAMPLES))
        for w, right in zip(at_w(model, optimizer), step, strict=True):
            torch.testing.assert_close(w, right, rtol=0, atol=1e-12)


@every
def test_evaluating_changes_nothing(case):
    model = mlp()
    twin = copy.deepcopy(model)
    optimizer, never = (make(case, momentum(m.parameters())) for m in (model, twin))
    for seed in range(8):
        run(model, optimizer, 1, seed)
        run(twin, never, 1, seed)
        u, w = clones(model), at_w(model, optimizer)
        stand(optimizer, "eval")
        assert equal(w, model.parameters())
        stand(optimizer, "eval")
        assert equal(w, model.parameters())
        stand(optimizer, "train")
        stand(optimizer, "train")
        assert equal(u, model.parameters())
        assert equal(model.parameters(), twin.parameters())


@wrappers
def test_weights_may_be_edited_inside_unperturbed(case):
    model = mlp()
    optimizer = make(case, momentum(model.parameters()))
    run(model, optimizer, 5)
    before, w = clones(model), at_w(model, optimizer)
    weight = model[0].weight
    with optimizer.unperturbed(), torch.no_grad():
        assert equal(w, model.parameters())
        weight[0] += 1.0
    torch.testing.assert_close(exact(optimizer, weight)[0], w[0][0] + 1.0)
    torch.testing.assert_close(weight[0], before[0][0] + 1.0)
    assert torch.equal(weight[1:], before[0][1:])
    assert equal(list(model.parameters())[1:], before[1:])


@wrappers
def test_a_group_added_mid_run_takes_part(case):
    body, head = mlp(), nn.Linear(3, 3)
    model = nn.Sequential(body, head)
    optimizer = make(case, momentum(body.parameters()))
    run(model, optimizer, 4)
    still = clones(head)
    optimizer.add_param_group({"params": head.parameters(), "lr": 0.05})
    assert optimizer.param_groups is optimizer.base.param_groups
    run(model, optimizer, 30, seed=1)
    assert optimizer.param_groups[1]["momentum"] == 0.9
    assert not any(torch.equal(p, q) for p, q in zip(still, head.parameters(), strict=True))
    assert flat(clones(model)).isfinite().all()


@every
def test_batch_norm_moves_once_a_step(case):
    model = convnet()
    optimizer = make(case, momentum(model.parameters()), model=model)
    g = torch.Generator().manual_seed(0)
    index = torch.arange(8)
    for _ in range(11):
        x, y = torch.randn(8, 1, 6, 6, generator=g), torch.randint(3, (8,), generator=g)
        optimizer.step(Closure(model, x, y, optimizer, index=index, samples=8))
    assert int(model[1].num_batches_tracked) == 11
    assert model[1].track_running_stats


@every
def test_a_step_draws_nothing_from_the_global_generator(case):
    model = mlp()
    optimizer = make(case, momentum(model.parameters()))
    steps = list(closures(model, optimizer, 12))
    before = torch.get_rng_state()
    for closure in steps:
        optimizer.step(closure)
    assert torch.equal(before, torch.get_rng_state())


@every
def test_zero_gradients_give_no_nan(case):
    model = mlp()
    optimizer = make(case, momentum(model.parameters(), weight_decay=0.0))
    before = clones(model)
    x, y = samples()
    index = torch.arange(SAMPLES)

    def flat_loss(outputs, target, reduction):
        return (outputs.mean() if reduction == "mean" else outputs.mean(1)) * 0.0

    for _ in range(12):
        optimizer.step(
            Closure(model, x, y, optimizer, loss_fn=flat_loss, index=index, samples=SAMPLES)
        )
    assert all(p.isfinite().all() for p in model.parameters())
    if CASES[case][0] != "saf":  # whose own term still moves the weights
        assert equal(before, at_w(model, optimizer))
        assert case == "randomsam" or equal(before, model.parameters())  # its direction is no g


@every
def test_without_a_closure_it_steps_or_says_why_not(case):
    model = mlp()
    optimizer = make(case, momentum(model.parameters()))
    x, y = samples()
    F.cross_entropy(model(x), y).backward()
    before = clones(model)
    try:
        optimizer.step()
    except UserError as error:
        assert "losure" in str(error)
        assert equal(before, model.parameters())
        return
    # One that steps without: a step that GradScaler skips leaves everything as it is.
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for bad in (False, True, False):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        if bad:
            model[0].weight.grad[0, 0] = float("inf")
        held = snapshot(model, optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert same_state(held, snapshot(model, optimizer)) is bad
    assert float(scaler.get_scale()) == 4.0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_tables_cover_the_registry(name):
    assert name in BUFFERS and name in COST
    assert name == "sgd" or strength(name) in OPTIMIZERS.defaults(name)
