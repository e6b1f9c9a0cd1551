"""What a method says beforehand of a training is what the training then does."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import convnet

from paper_repro.sparse import METHODS, DynamicMethod, layer_counts, prunable

PLANNED = [
    "dense",
    "granet",
    "magnitude",
    "mest",
    "mest-ems",
    "random",
    "rigl",
    "rigl-itop",
    "set",
    "set-itop",
]


def spec(name, sparsity, **options):
    known = METHODS.defaults(name)
    given_too = {"sparsity": sparsity, "delta_t": 4, "distribution": "erk", **options}
    return METHODS.spec(name, **{k: v for k, v in given_too.items() if k in known})


def lived(method_spec, steps, per_epoch):
    """Active weights of each masked layer in each step, and the steps with a dense gradient."""
    model = convnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = METHODS.build(
        method_spec,
        model=model,
        optimizer=optimizer,
        total_steps=steps,
        steps_per_epoch=per_epoch,
        seed=0,
    )
    counts, dense = [], 0
    for t in range(steps):
        counts.append(method.masks.counts())
        dense += isinstance(method, DynamicMethod) and method.replaces_step and method.due(t)
        optimizer.step()
    return counts, dense, method.masks.densities()


def planned(method_spec, steps, per_epoch, model=None):
    member = METHODS[method_spec.name]
    return member.planned(method_spec, model or convnet(), steps, per_epoch)


def test_which_methods_say_it():
    found = []
    for name in METHODS:
        known = METHODS.defaults(name)
        given_too = {"sparsity": 0.9, "round": 1, "distribution": "erk", "delta_t": 9}
        made = METHODS.spec(name, **{k: v for k, v in given_too.items() if k in known})
        if planned(made, 1000, 100) is not None:
            found.append(name)
    assert found == PLANNED
    assert planned(METHODS.spec("magnitude", sparsity=0.5), 9, 3) is None  # one global ranking


@pytest.mark.parametrize("name", [name for name in PLANNED if name != "granet"])
@given(
    sparsity=st.sampled_from([0.5, 0.9, 0.95]),
    steps=st.integers(8, 60),
    per_epoch=st.integers(1, 9),
    delta_t=st.integers(1, 9),
    distribution=st.sampled_from(["erk", "uniform", "uniform-rigl"]),
)
@settings(max_examples=12, deadline=None)
def test_the_plan_is_what_the_training_does(
    name, sparsity, steps, per_epoch, delta_t, distribution
):
    made = spec(name, sparsity, delta_t=delta_t, distribution=distribution)
    plan = planned(made, steps, per_epoch)
    counts, dense, final = lived(made, steps, per_epoch)
    sizes = {n: w.numel() for n, w in prunable(convnet()).items()}
    at = [stage.density for stage in plan.stages for _ in range(stage.steps)]
    assert len(at) == steps and not plan.estimated
    for held, own in zip(at, counts, strict=True):
        assert {n: round(d * sizes[n]) for n, d in held.items()} == {
            n: k for n, k in own.items() if k < sizes[n]
        }
    assert sum(stage.dense_gradients for stage in plan.stages) == dense
    assert plan.final == pytest.approx({n: d for n, d in final.items() if d < 1})


@given(steps=st.integers(20, 90), delta_t=st.integers(1, 8), stop=st.floats(0.4, 1.0))
@settings(max_examples=20, deadline=None)
def test_an_estimate_has_the_total_and_the_dense_gradients_right(steps, delta_t, stop):
    made = spec("granet", 0.9, delta_t=delta_t, stop=stop)
    plan = planned(made, steps, 5)
    counts, dense, _ = lived(made, steps, 5)
    assert plan.estimated and sum(stage.dense_gradients for stage in plan.stages) == dense
    sizes = {n: w.numel() for n, w in prunable(convnet()).items()}
    at = [stage.density for stage in plan.stages for _ in range(stage.steps)]
    assert len(at) == steps
    for held, own in zip(at, counts, strict=True):
        assert sum(held.get(n, 1.0) * sizes[n] for n in own) == pytest.approx(
            sum(own.values()), abs=1
        )


def test_the_soft_memory_bound_is_counted_where_it_is():
    """EM&S at 90 % holds 15 %, then 12.5 %, then 10 % of the weights."""
    made = METHODS.spec("mest-ems", sparsity=0.9)
    plan = planned(made, 1600, 10)
    name = "3.weight"
    n = prunable(convnet())[name].numel()
    shares = [round(stage.density[name], 3) for stage in plan.stages]
    assert shares == [round(round(d * n) / n, 3) for d in (0.15, 0.125, 0.1)]
    assert [stage.steps for stage in plan.stages] == [1000, 300, 300]


def test_a_longer_training_has_a_longer_plan():
    one, five = (planned(METHODS.spec("rigl", sparsity=0.9), n, 10) for n in (4000, 20_000))
    assert (one.stages[0].dense_gradients, five.stages[0].dense_gradients) == (29, 149)
    assert one.final == five.final


def test_a_plan_reads_shapes_only():
    with torch.device("meta"):
        model = convnet()
    made = METHODS.spec("rigl", sparsity=0.9)
    plan = planned(made, 1000, 10, model)
    counts = layer_counts(convnet(), 0.9, "erk")
    total = sum(w.numel() for w in prunable(model).values())
    active = sum(plan.final.get(n, 1.0) * w.numel() for n, w in prunable(model).items())
    assert active == pytest.approx(sum(counts.values())) and active < 0.11 * total
    assert not math.isnan(active)
