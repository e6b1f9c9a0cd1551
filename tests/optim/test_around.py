"""Optimizers around the optimizer (accelerate, Lightning) and schedule-free ones inside it."""

import copy

import pytest
import torch
from toys import backward, batches, clones, equal, mlp, through_disk, weights

from paper_repro.errors import UserError
from paper_repro.optim import MSAM, S2SAM, SAM, evaluating, exact, unwrapped
from paper_repro.sparse import RigL


class Accelerated(torch.optim.Optimizer):
    """As accelerate's: holds the real one and forwards to it."""

    def __init__(self, optimizer, scaler=None):
        self.optimizer = optimizer
        self.scaler = scaler

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def state(self):
        return self.optimizer.state

    def step(self, closure=None):
        self.optimizer.step(closure)

    def state_dict(self):
        return self.optimizer.state_dict()


Accelerated.__module__ = "accelerate.optimizer"


class ScheduleFree(torch.optim.SGD):
    """Schedule-free SGD in its bare essentials, with the flag that the real one goes by."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            group["train_mode"] = False

    @torch.no_grad()
    def _move(self, weight, train):
        for group in self.param_groups:
            if group["train_mode"] is not train:
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.lerp_(self.state[p]["z"], weight)
                group["train_mode"] = train

    def eval(self):
        self._move(1 - 1 / 0.9, False)

    def train(self):
        self._move(0.1, True)

    @torch.no_grad()
    def step(self, closure=None):
        assert all(group["train_mode"] for group in self.param_groups)
        for group in self.param_groups:
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                p.lerp_(z, 0.2).add_(p.grad, alpha=-group["lr"] * 0.8)
                z.sub_(p.grad, alpha=group["lr"])


def base(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def steps(model, optimizer, data):
    for batch in data:
        optimizer.zero_grad()
        backward(model, batch)
        optimizer.step()


@pytest.mark.parametrize("wrap", [S2SAM, MSAM])
def test_a_method_attached_to_what_is_around_the_optimizer_is_attached_to_it(wrap):
    runs = []
    for around in (False, True):
        model = mlp()
        inner = wrap(base(model), rho=0.5)
        optimizer = Accelerated(inner) if around else inner
        method = RigL(model, optimizer, sparsity=0.6, total_steps=30, delta_t=3)
        assert method.optimizer is inner
        steps(model, inner, batches(11))
        assert method.steps == 11
        runs.append((clones(model), weights(model, optimizer), list(method.masks.counts())))
        assert not equal(runs[-1][0], runs[-1][1])
    assert equal(runs[0][0], runs[1][0])
    assert equal(runs[0][1], runs[1][1])


def test_exact_and_evaluating_see_through():
    model = mlp()
    inner = S2SAM(base(model), rho=0.5)
    optimizer = Accelerated(Accelerated(inner))
    steps(model, inner, batches(3))
    assert unwrapped(optimizer) is inner
    w = weights(model, inner)
    assert equal(w, [exact(optimizer, p) for p in model.parameters()])
    with evaluating(optimizer):
        assert equal(w, model.parameters())
    assert unwrapped(None) is None
    assert unwrapped(inner) is inner


def test_under_accelerates_scaler_a_method_comes_first():
    model = mlp()
    optimizer = Accelerated(base(model), scaler=object())
    with pytest.raises(UserError, match=r"before accelerator\.prepare"):
        RigL(model, optimizer, sparsity=0.6, total_steps=30)


def test_a_schedule_free_base_is_switched_with_s2sam():
    model, other = mlp(), mlp()
    optimizer, plain = S2SAM(ScheduleFree(model.parameters()), rho=0.0), None
    plain = ScheduleFree(other.parameters())
    with pytest.raises(UserError, match=r"optimizer\.train\(\)"):
        steps(model, optimizer, batches(1))
    optimizer.train()
    plain.train()
    steps(model, optimizer, batches(5))
    steps(other, plain, batches(5))
    assert equal(model.parameters(), other.parameters())
    optimizer.eval()
    plain.eval()
    assert equal(model.parameters(), other.parameters())
    optimizer.eval()  # twice is as good as once
    assert equal(model.parameters(), other.parameters())
    optimizer.train()
    plain.train()
    assert equal(model.parameters(), other.parameters())


def test_a_schedule_free_base_is_switched_with_sam():
    def ascend_and_step(data):
        for batch in data:
            optimizer.zero_grad()
            backward(model, batch)
            optimizer.first_step(zero_grad=True)
            backward(model, batch)
            optimizer.second_step()

    model, other = mlp(), mlp()
    optimizer = SAM(ScheduleFree(model.parameters()), rho=0.0)
    plain = ScheduleFree(other.parameters())
    optimizer.train()
    plain.train()
    ascend_and_step(batches(5))
    steps(other, plain, batches(5))
    at_y = clones(model)
    optimizer.eval()
    plain.eval()
    assert equal(model.parameters(), other.parameters())
    assert not equal(model.parameters(), at_y)
    optimizer.train()
    plain.train()
    assert equal(model.parameters(), other.parameters())
    ascend_and_step(batches(2))
    steps(other, plain, batches(2))
    assert equal(model.parameters(), other.parameters())


def test_a_perturbed_schedule_free_training_evaluates_its_average_and_goes_on():
    def run(evaluate):
        model = mlp()
        optimizer = S2SAM(ScheduleFree(model.parameters()), rho=0.3)
        optimizer.train()
        for batch in batches(8):
            steps(model, optimizer, [batch])
            if evaluate:
                u, y = clones(model), weights(model, optimizer)
                with evaluating(optimizer):
                    for p, at_y in zip(model.parameters(), y, strict=True):
                        z = optimizer.state[p]["z"]
                        torch.testing.assert_close(p.detach(), at_y.lerp(z, 1 - 1 / 0.9))
                assert equal(u, model.parameters())
        return model, optimizer

    one, two = run(False)[0], run(True)[0]
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_msam_refuses_a_base_without_a_momentum_that_it_knows():
    with pytest.raises(UserError, match="schedule-free"):
        MSAM(ScheduleFree(mlp().parameters()))


def test_a_wrapper_remembers_whom_it_wraps_through_copies():
    optimizer = copy.deepcopy(S2SAM(base(mlp())))
    state = through_disk(optimizer.state_dict())
    assert set(state) == {"state", "param_groups"}
