"""Late training: the steps are the optimizers', and the law is exact where it should be."""

import pytest
import torch
from subjects import subject

from paper_repro.errors import UserError
from paper_repro.measure.late_training import late_training, law, spread_of, steps_of
from paper_repro.measure.minibatches import Minibatches
from paper_repro.optim import S2SAM, SAM


class Noisy:
    """A quadratic with eigenvalues h and unit noise in the gradient."""

    def __init__(self, h, seed=0):
        self.h = torch.tensor(h, dtype=torch.float64)
        self.weights = torch.zeros_like(self.h)
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self):
        return torch.randn(self.h.shape, generator=self.generator, dtype=torch.float64)

    def gradient(self, at, batch):
        return self.h * at + batch


def _spread(h, steps=8000, **options):
    batches = Noisy(h)
    return spread_of(steps_of(batches, steps, weight_decay=0.0, **options), batches.weights)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rho, lr", [(0.02, 0.1), (0.05, 0.02)])
def test_without_normalisation_the_law_is_exact_with_momentum_too(rho, lr, momentum):
    found = _spread([1.0, 0.4], rule="s2sam", rho=rho, lr=lr, momentum=momentum, normalize=False)
    spread = found["variance_u"] - found["variance_w"]
    predicted = law(rho, lr, momentum, found["square"], found["buffer"], None)
    assert spread == pytest.approx(predicted, rel=0.05, abs=1e-4)
    if momentum == 0 and rho != lr:
        assert (spread > 0) == (rho > lr)


def test_momentum_turns_the_sign():
    """rho < eta: without momentum u is spread less than w, with 0.9 more."""
    still, heavy = (
        _spread([1.0, 0.4], rule="s2sam", rho=0.02, lr=0.1, momentum=m, normalize=False)
        for m in (0.0, 0.9)
    )
    assert still["variance_u"] < still["variance_w"]
    assert heavy["variance_u"] > heavy["variance_w"]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rho", [0.1, 3.0])
def test_normalised_it_is_near_in_many_dimensions(rho, momentum):
    found = _spread([1.0] * 50, 2000, rule="s2sam", rho=rho, lr=0.2, momentum=momentum)
    spread = found["variance_u"] - found["variance_w"]
    near = law(rho, 0.2, momentum, found["square"], found["buffer"], found["length"])
    assert spread == pytest.approx(near, rel=0.1, abs=0.01)
    if not momentum:
        assert (spread > 0) == (rho > 0.2 * found["length"])


@pytest.mark.parametrize("rule", ["sgd", "sam", "s2sam"])
def test_the_steps_are_those_of_the_packages_optimizers(rule):
    trained = subject(masks={})
    batches = Minibatches(trained, 8, 3)
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    with batches.training():
        moments = list(steps_of(batches, 4, rule=rule, rho=0.2, **options))
    other = Minibatches(trained, 8, 3)
    point = torch.nn.Parameter(other.weights.clone())
    base = torch.optim.SGD([point], **options)
    optimizer = {"sgd": base, "sam": SAM(base, rho=0.2), "s2sam": S2SAM(base, rho=0.2)}[rule]
    with other.training():
        for moment in moments:
            images = other.draw()

            def closure(images=images):
                point.grad = other.gradient(point.detach(), images)
                return other.loss(point.detach(), images)

            held = point.detach().clone()
            if rule == "sam":
                optimizer.step(closure)
                assert torch.allclose(moment.w, held, atol=1e-6)
            else:
                assert torch.allclose(moment.u, held, atol=1e-6)
                closure()
                optimizer.step()


def test_sums_far_from_the_origin_lose_nothing():
    batches = Noisy([1.0, 0.4])
    options = {"rule": "s2sam", "rho": 0.05, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    moments = list(steps_of(batches, 500, **options))
    found = spread_of(moments, batches.weights)
    w = torch.stack([m.w for m in moments])
    u = torch.stack([m.u for m in moments])
    assert found["variance_w"] == pytest.approx(float(w.var(0, correction=0).sum()), rel=1e-9)
    assert found["variance_u"] == pytest.approx(float(u.var(0, correction=0).sum()), rel=1e-9)
    with pytest.raises(ValueError, match="no steps"):
        spread_of([], batches.weights)


def test_sgd_has_no_spread_and_other_rules_no_law():
    found = late_training(subject(), rule="sgd", steps=4, discard=0, batch=8, repeats=2)
    assert found["spread"] == 0 and found["law"] is None
    ours = late_training(subject(), steps=4, discard=0, batch=8, repeats=2)
    assert ours["law"] is not None and ours["reach"] == pytest.approx(5 / ours["length"])


@pytest.mark.parametrize(
    "options, said",
    [
        ({"rule": "adam"}, "unknown rule 'adam'; known are sgd, sam, s2sam"),
        ({"lr": 0.0}, "lr above 0"),
        ({"momentum": 1.0}, r"momentum in \[0, 1\)"),
        ({"repeats": 1}, "2 repeats"),
        ({"discard": -1}, "no negative count"),
    ],
)
def test_bad_input(options, said):
    with pytest.raises(UserError, match=said):
        late_training(subject(), **options)


@pytest.mark.parametrize("normalize", [True, False])
def test_where_it_diverges_nothing_is_known(normalize):
    trained = subject()
    if normalize:  # only steps of ρ g grow so fast
        with torch.no_grad():
            next(trained.model.parameters()).fill_(float("inf"))
    found = late_training(
        trained, lr=1e6, rho=1.0, normalize=normalize, steps=40, discard=0, batch=8, repeats=2
    )
    unknown = ("spread", "spread_std", "law", "variance_w", "length", "square", "buffer")
    assert [found[name] for name in unknown] == [None] * 7
    assert found["reach"] == (None if normalize else pytest.approx(1e-6))
    assert found["repeats"] == 2


def test_one_continuation_that_diverges_leaves_no_mean(monkeypatch):
    def spread_of(moments, origin, count=[]):  # noqa: B006 - counts its calls
        count.append(1)
        nan = float("nan")
        names = ("variance_w", "variance_u", "length", "square", "buffer")
        return dict.fromkeys(names, nan if len(count) == 2 else 1.0)

    monkeypatch.setattr("paper_repro.measure.late_training.spread_of", spread_of)
    found = late_training(subject(), steps=2, discard=0, batch=8, repeats=3)
    assert found["spread"] is None and found["variance_w"] is None and found["law"] is None
