"""ρ held at 0 until late in the training, for every optimizer that has one."""

import pytest
import torch
from optimizer_cases import CASES, closures, make, momentum, run, strength
from toys import clones, equal, mlp, same_state, snapshot, through_disk

from paper_repro.errors import UserError
from paper_repro.optim import S2SAM, SAF, SAM, LatePhase

perturbing = pytest.mark.parametrize("case", [c for c in CASES if strength(c) == "rho"])
START, STEPS = 7, 12


def passes(model, optimizer, late, steps=STEPS):
    """Gradients taken in each step of a user's own loop."""
    taken, counts = [], []
    model.register_forward_hook(lambda _m, _x, z: taken.append(z.requires_grad))
    for closure in closures(model, optimizer, steps):
        taken.clear()
        optimizer.step(closure)
        late.step()
        counts.append(sum(taken))
    return counts


@perturbing
def test_first_it_is_the_base_optimizer_and_then_it_is_not(case):
    plain, wrapped = mlp(), mlp()
    alone = momentum(plain.parameters())
    optimizer = make(case, momentum(wrapped.parameters()))
    radii = [group["rho"] for group in optimizer.param_groups]
    late = LatePhase(optimizer, START)
    pairs = zip(closures(plain, alone, 24), closures(wrapped, optimizer, 24), strict=True)
    for t, (one, other) in enumerate(pairs):
        early = t < START
        assert [g["rho"] for g in optimizer.param_groups] == ([0.0] if early else radii)
        alone.step(one)
        optimizer.step(other)
        late.step()
        if early:
            assert equal(plain.parameters(), wrapped.parameters())
    getattr(optimizer, "eval", lambda: None)()
    assert not equal(plain.parameters(), wrapped.parameters())


def test_the_second_gradient_is_left_out_until_then():
    model = mlp()
    optimizer = SAM(momentum(model.parameters()))
    assert passes(model, optimizer, LatePhase(optimizer, START)) == [1] * START + [2] * 5
    model = mlp()
    optimizer = S2SAM(momentum(model.parameters()))
    assert passes(model, optimizer, LatePhase(optimizer, START)) == [1] * STEPS


def test_the_cost_of_a_step_follows():
    optimizer = SAM(momentum(mlp().parameters()))
    late = LatePhase(optimizer, 1)
    assert optimizer.cost() == (1.0, 0.0)
    late.step()
    assert optimizer.cost() == (2.0, 0.0)


@perturbing
@pytest.mark.parametrize("stopped", [3, 9])
def test_a_checkpoint_goes_on_alike(case, stopped):
    def begin():
        model = mlp()
        optimizer = make(case, momentum(model.parameters()))
        return model, optimizer, LatePhase(optimizer, START)

    def go(model, optimizer, late, seed, steps):
        for closure in closures(model, optimizer, steps, seed):
            optimizer.step(closure)
            late.step()

    model, optimizer, late = begin()
    go(model, optimizer, late, 0, stopped)
    saved = through_disk([x.state_dict() for x in (model, optimizer, late)])
    again = begin()
    for x, state in zip(again, saved, strict=True):
        x.load_state_dict(state)
    go(model, optimizer, late, 1, STEPS)
    go(*again, 1, STEPS)
    assert same_state(snapshot(model, optimizer), snapshot(*again[:2]))
    # Made after loading, when the groups' ρ is 0, it knows what ρ will be all the same.
    fresh = make(case, momentum(mlp().parameters()))
    fresh.load_state_dict(saved[1])
    later = LatePhase(fresh, 0)
    assert [g["rho"] for g in fresh.param_groups] == [g["rho"] for g in optimizer.param_groups]
    assert later.steps == 0


def test_groups_keep_their_own_radius_and_one_may_come_later():
    body, head = mlp(), mlp(1)
    optimizer = S2SAM(
        torch.optim.SGD([{"params": body[0].parameters(), "rho": 0.2}], lr=0.1), rho=0.1
    )
    late = LatePhase(optimizer, 2)
    optimizer.add_param_group({"params": head.parameters()})
    late.step()
    assert [g["rho"] for g in optimizer.param_groups] == [0.0, 0.0]
    late.step()
    assert [g["rho"] for g in optimizer.param_groups] == [0.2, 0.1]


def test_it_says_whether_rho_changed():
    optimizer = S2SAM(momentum(mlp().parameters()))
    late = LatePhase(optimizer, 2)
    assert [late.at(t) for t in (0, 1, 2, 3, 1)] == [False, False, True, False, True]


def test_from_the_start_it_changes_nothing():
    one, two = mlp(), mlp()
    first, second = (S2SAM(momentum(m.parameters())) for m in (one, two))
    late = LatePhase(second, 0)
    run(one, first, 6)
    for closure in closures(two, second, 6):
        second.step(closure)
        late.step()
    assert equal(clones(one), clones(two))


def test_bad_input():
    for optimizer in (momentum(mlp().parameters()), SAF(momentum(mlp().parameters()))):
        with pytest.raises(UserError, match="has no rho that could be held back"):
            LatePhase(optimizer, 1)
    with pytest.raises(UserError, match="starts at a step >= 0, not -1"):
        LatePhase(S2SAM(momentum(mlp().parameters())), -1)
