"""What a failure, an autocast region or gradients zeroed in place must not change."""

import contextlib
import copy

import pytest
import torch
from optimizer_cases import CASES, closures, make, momentum
from toys import backward, batches, clones, equal, mlp, snapshot, train, weights

from paper_repro.errors import UserError
from paper_repro.optim import (
    FSAM,
    MSAM,
    S2SAM,
    SAM,
    SSAM,
    AsyncSAM,
    Closure,
    LatePhase,
    LookSAM,
    Released,
    evaluating,
    exact,
)
from paper_repro.sparse import Magnitude, RigL

#: The wrappers that run the closure more than once a step.
TWICE = [
    case
    for case in CASES
    if CASES[case][0] in {"sam", "asyncsam", "fsam", "esam", "looksam", "ssam", "zosam"}
]


class Failed(Exception):
    pass


class Failing(Closure):
    """Fails in the n-th pass of a step, whatever is asked for."""

    at = 0

    def _outputs(self, inputs):
        self.passes = getattr(self, "passes", 0) + 1
        if self.passes == self.at:
            raise Failed
        return super()._outputs(inputs)


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_a_pass_that_fails_moves_no_weight(case, at):
    model = mlp()
    optimizer = make(case, momentum(model.parameters()), model)
    *good, last = closures(model, optimizer, 4, kind=Failing)
    for closure in good:
        optimizer.step(closure)
    before = weights(model, optimizer)
    last.at = at
    for _ in range(2):  # a second failure would move them by ρ once more
        with contextlib.suppress(Failed):
            last.passes = 0
            optimizer.step(last)
            return  # it has fewer passes than that
        if case in TWICE:  # whose parameters are at w between steps
            assert equal(clones(model), before)
    with evaluating(optimizer):
        for p, w in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(p.detach(), w, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cls", [S2SAM, MSAM, SAM, AsyncSAM, FSAM, SSAM, Released])
def test_a_base_optimizer_that_fails_moves_no_weight(cls):
    model = mlp()
    base = momentum(model.parameters())
    optimizer = cls(base, rho=0.5)
    *good, last = closures(model, optimizer, 4)
    for closure in good:
        optimizer.step(closure)
    before = weights(model, optimizer)

    def fail(*_):
        raise Failed

    base.register_step_pre_hook(fail)
    for _ in range(2):
        with pytest.raises(Failed):
            optimizer.step(last)
    with evaluating(optimizer):
        for p, w in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(p.detach(), w, rtol=0, atol=1e-6)


def test_loading_a_state_forgets_the_half_step_before_it():
    model, other = mlp(), mlp()
    sides = [(m, SAM(momentum(m.parameters()), rho=0.5)) for m in (model, other)]
    (model, optimizer), (fresh_model, fresh) = sides
    batch = batches(1)[0]
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    backward(model, batch)
    optimizer.first_step(zero_grad=True)
    for network, wrapper in sides:
        network.load_state_dict(saved[0])
        wrapper.load_state_dict(saved[1])
    for network, wrapper in sides:

        def closure(network=network, wrapper=wrapper):
            wrapper.zero_grad()
            return backward(network, batch)

        wrapper.step(closure)
    assert equal(clones(model), clones(fresh_model))
    with pytest.raises(UserError, match="first_step"):
        fresh.second_step()


@pytest.mark.parametrize("case", TWICE)
def test_autocast_around_a_step_is_autocast_within_its_passes(case):
    found = []
    for outer in (False, True):
        model = mlp()
        optimizer = make(case, momentum(model.parameters()), model)

        def context():
            return torch.autocast("cpu", torch.bfloat16)

        for closure in closures(model, optimizer, 6):
            closure.context = contextlib.nullcontext if outer else context
            with context() if outer else contextlib.nullcontext():
                optimizer.step(closure)
        found.append(clones(model))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cls", [S2SAM, MSAM])
def test_an_autocast_region_sees_the_weights_of_evaluation(cls):
    model = mlp()
    optimizer = cls(momentum(model.parameters()), rho=2.0)
    batch = batches(1)[0]
    backward(model, batch)
    optimizer.step()
    with torch.autocast("cpu", torch.bfloat16):
        at_u = model(batch[0])
        with evaluating(optimizer):
            at_w = model(batch[0])
        again = model(batch[0])
    assert torch.equal(at_u, again) and not torch.equal(at_u, at_w)


@pytest.mark.parametrize("how", ["step", "second_step"])
def test_a_step_in_two_halves_is_a_step_to_whatever_is_attached(how):
    model = mlp()
    optimizer = SAM(momentum(model.parameters()), rho=0.05)
    method = RigL(model, optimizer, sparsity=0.5, total_steps=100, delta_t=5)
    counted = []
    optimizer.register_step_post_hook(lambda *_: counted.append(1))
    # Muon's own step moves pruned weights: the masks follow it.
    bare = torch.nn.Sequential(torch.nn.Linear(6, 8, bias=False), torch.nn.Linear(8, 3, bias=False))
    muon = SAM(torch.optim.Muon(bare.parameters(), lr=0.05), rho=0.05)
    held = Magnitude(bare, muon, sparsity=0.5)
    for batch in batches(12):
        for network, wrapper in ((model, optimizer), (bare, muon)):
            backward(network, batch)
            wrapper.first_step(zero_grad=True)
            backward(network, batch)
            getattr(wrapper, how)()
            wrapper.zero_grad()
    assert method.steps == 12
    assert len(counted) == 12 - method.updates  # an update takes a step's place
    for name, weight in held.masks.weights.items():
        assert not weight[~held.masks[name]].any()


# What becomes of the gradients is one of the options of the released code's optimizer.
@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] != "released"])
def test_gradients_zeroed_in_place_are_as_good_as_none(case):
    class InPlace(Closure):
        def __call__(self, subset=None):
            self.optimizer.zero_grad(set_to_none=False)
            kept = self.optimizer.zero_grad
            self.optimizer.zero_grad = lambda set_to_none=True: None
            try:
                return super().__call__(subset)
            finally:
                self.optimizer.zero_grad = kept

    found = []
    for kind in (Closure, InPlace):
        model = mlp()
        optimizer = make(case, momentum(model.parameters()), model)
        for closure in closures(model, optimizer, 6, kind=kind):
            optimizer.step(closure)
        found.append(weights(model, optimizer))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


class Counting(torch.optim.SGD):
    """Keeps something of its own, of a type that must not be cast, as 8-bit optimizers do."""

    def __init__(self, parameters, **options):
        super().__init__(parameters, **options)
        self.count = 0

    def step(self, closure=None):
        super().step(closure)
        self.count += 1
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["bytes"] = torch.full(p.shape, self.count, dtype=torch.uint8)

    def state_dict(self):
        return {**super().state_dict(), "count": self.count}

    def load_state_dict(self, state_dict):
        self.count = state_dict["count"]
        own = {key: value for key, value in state_dict.items() if key != "count"}
        super().load_state_dict(own)
        for group in self.param_groups:
            for p in group["params"]:
                if "bytes" in self.state[p]:
                    self.state[p]["bytes"] = self.state[p]["bytes"].to(torch.uint8)


@pytest.mark.parametrize("cls", [S2SAM, SAM, LookSAM])
def test_what_a_base_optimizer_saves_and_loads_by_itself_is_its_own(cls):
    sides = []
    for _ in range(2):
        model = mlp()
        sides.append((model, cls(Counting(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)))
    (model, optimizer), (resumed_model, resumed) = sides
    steps = list(closures(model, optimizer, 6))
    for closure in steps[:3]:
        optimizer.step(closure)
    resumed_model.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.base.count == 3
    assert resumed.param_groups is resumed.base.param_groups and resumed.state is resumed.base.state
    assert {state["bytes"].dtype for state in resumed.state.values()} == {torch.uint8}
    for closure in steps[3:]:
        optimizer.step(closure)
    for closure in list(closures(resumed_model, resumed, 6))[3:]:
        resumed.step(closure)
    assert equal(clones(model), clones(resumed_model))
    assert resumed.base.count == optimizer.base.count == 6


def test_such_a_base_optimizer_trains_under_masks_and_resumes():
    def make_one():
        model = mlp()
        optimizer = S2SAM(Counting(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)
        method = RigL(model, optimizer, sparsity=0.5, total_steps=40, delta_t=3, alpha=0.6)
        return model, optimizer, method

    data = batches(20)
    model, optimizer, method = make_one()
    train(model, optimizer, data[:8])
    saved = snapshot(model, optimizer)
    resumed_model, resumed, resumed_method = make_one()
    resumed_model.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    train(model, optimizer, data[8:])
    train(resumed_model, resumed, data[8:])
    assert equal(clones(model), clones(resumed_model))
    assert method.updates == resumed_method.updates > 2
    assert resumed.base.count == optimizer.base.count
    for name, weight in method.masks.weights.items():
        assert not exact(optimizer, weight)[~method.masks[name]].any()


@pytest.mark.parametrize(
    ("cls", "options"), [(SSAM, {}), (SSAM, {"total_steps": 400}), (LookSAM, {"k": 10})]
)
def test_a_late_phase_perturbs_from_its_first_step(cls, options):
    model = mlp()
    optimizer = cls(momentum(model.parameters()), rho=0.1, **options)
    late = LatePhase(optimizer, 3)
    moved = []
    for closure in closures(model, optimizer, 6):
        before = clones(model)
        lengths = []

        def at(closure=closure, before=before, lengths=lengths):
            lengths.append(
                sum(
                    float(((p.detach() - w) ** 2).sum())
                    for p, w in zip(model.parameters(), before, strict=True)
                )
            )
            return closure()

        optimizer.step(at)
        late.step()
        moved.append(max(lengths) ** 0.5)
    assert moved[:3] == [0, 0, 0]
    assert moved[3] > 0.01
    if cls is SSAM:
        assert min(moved[3:]) > 0.01
