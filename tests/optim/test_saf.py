import pytest
import torch
import torch.nn.functional as F
from toys import BASES, clones, equal, mlp

from paper_repro.errors import UserError
from paper_repro.optim import SAF, Closure

N = 12
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3


def wrapped(model, **options):
    return SAF(BASES["sgd"](model.parameters()), **options)


def step(model, optimizer, index, shift=0.0):
    index = torch.as_tensor(index)
    closure = Closure(model, X[index] + shift, Y[index], optimizer, index=index, samples=N)
    return closure, optimizer.step(closure)


def divergence(earlier, now, tau):
    p, q = (earlier / tau).softmax(1), (now / tau).softmax(1)
    return (p * (p / q).log()).sum(1)


def test_the_term_compares_with_the_outputs_of_delay_visits_ago():
    model = mlp()
    optimizer = wrapped(model, lam=0.5, tau=2.0, delay=2, start=0)
    seen = []
    for t in range(6):
        with torch.no_grad():
            now = model(X)
        plain = F.cross_entropy(now, Y)
        closure, loss = step(model, optimizer, torch.arange(N))
        torch.testing.assert_close(closure.loss, plain)  # recorded without the term
        term = 0.5 * 4.0 * divergence(seen[t - 2], now, 2.0).mean() if t >= 2 else 0.0
        torch.testing.assert_close(loss.detach(), plain + term)
        assert t < 2 or float(loss) > float(plain) + 1e-7
        seen.append(now)


@pytest.mark.parametrize(("start", "first"), [(0, 3), (2, 3), (5, 5)])
def test_when_the_term_begins(start, first):
    model = mlp()
    optimizer = wrapped(model, delay=3, start=start)
    terms = []
    for _ in range(7):
        closure, loss = step(model, optimizer, torch.arange(N))
        terms.append(float(loss) - float(closure.loss) > 1e-7)
    assert terms == [t >= first for t in range(7)]


def test_by_default_the_term_begins_where_the_authors_does():
    """Their epochs count from 0, and the term acts in those with epoch > kl_start_epoch = 5."""
    model = mlp()
    optimizer = wrapped(model)
    terms = []
    for _ in range(9):
        closure, loss = step(model, optimizer, torch.arange(N))
        terms.append(float(loss) - float(closure.loss) > 1e-7)
    assert terms == [epoch > 5 for epoch in range(9)]


def test_each_sample_counts_its_own_visits():
    model = mlp()
    optimizer = wrapped(model, delay=1, start=0)
    step(model, optimizer, [3, 5])
    assert optimizer.visits.tolist() == [int(i in (3, 5)) for i in range(N)]
    with torch.no_grad():
        now = model(X)
    past = optimizer.past[:, 0].clone()
    closure, loss = step(model, optimizer, [5, 7])  # of which only 5 was seen before
    term = 0.3 * 25 * divergence(past[5:6], now[5:6], 5.0).sum() / 2
    torch.testing.assert_close(loss.detach() - closure.loss, term, rtol=1e-2, atol=1e-7)
    assert optimizer.visits[[3, 5, 7]].tolist() == [1, 2, 1]


def test_earlier_outputs_are_constants():
    model = mlp(dtype=torch.float64)
    optimizer = wrapped(model, delay=1, start=0)
    x, index = X.double(), torch.arange(N)

    def once():
        optimizer.step(Closure(model, x, Y, optimizer, index=index, samples=N))

    once()
    earlier = optimizer.past[:, 0].clone()
    outputs = model(x)
    loss = F.cross_entropy(outputs, Y) + 0.3 * 25 * divergence(earlier, outputs, 5.0).mean()
    right = torch.autograd.grad(loss, list(model.parameters()))
    once()
    for p, g in zip(model.parameters(), right, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=0, atol=1e-12)
    assert not optimizer.past.requires_grad


def test_the_checkpoint_holds_copies_of_the_outputs():
    model = mlp()
    optimizer = wrapped(model)
    assert optimizer.state_dict()["extra"] == {"past": None, "visits": None}
    step(model, optimizer, torch.arange(N))
    saved = optimizer.state_dict()
    other = wrapped(mlp())
    other.load_state_dict(saved)
    assert torch.equal(other.past, optimizer.past)
    before = other.past.clone()
    step(model, optimizer, torch.arange(N), shift=1.0)
    assert torch.equal(other.past, before)


def test_a_term_is_not_left_behind_by_a_pass_that_fails():
    model = mlp()
    optimizer = wrapped(model)
    index = torch.arange(N)

    def broken(outputs, target, reduction):
        raise RuntimeError("no")

    closure = Closure(model, X, Y, optimizer, index=index, samples=N, loss_fn=broken)
    before = clones(model)
    with pytest.raises(RuntimeError, match="no"):
        optimizer.step(closure)
    assert closure.terms == []
    assert equal(before, model.parameters())


def test_samples_must_be_numbered():
    model = mlp()
    optimizer = wrapped(model)
    with pytest.raises(UserError, match="index within the training set"):
        optimizer.step(Closure(model, X, Y, optimizer))
    with pytest.raises(UserError, match=r"SAF\.step needs"):
        optimizer.step()


@pytest.mark.parametrize("options", [{"lam": -1.0}, {"tau": 0.0}, {"delay": 0}, {"start": -1}])
def test_bad_options(options):
    with pytest.raises(UserError, match="SAF needs lam >= 0, tau > 0, delay >= 1 and start >= 0"):
        wrapped(mlp(), **options)
