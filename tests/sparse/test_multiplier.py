"""Longer trainings: a multiplier scales every boundary and leaves fingerprints alone at 1."""

import pytest
import torch
from toys import convnet

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.profiles import PROFILES
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS

SGD = OPTIMIZERS.spec("sgd")


def run(profile="smoke", name="rigl", **options):
    size = PROFILES[profile]
    method = size.method(name, sparsity=0.9)
    return size.config("cifar10", "resnet32x2", method, SGD, 0, **options)


@pytest.mark.parametrize("profile", PROFILES)
def test_at_1_a_run_is_the_one_it_always_was(profile):
    size = PROFILES[profile]
    plain = RunConfig(
        profile=size.runs_as or profile,
        dataset=size.datasets["cifar10"],
        model=size.models.get("resnet32x2", "resnet32x2"),
        method=size.method("rigl", sparsity=0.9),
        optimizer=SGD,
        seed=0,
        mask_stream="own",  # of ERK
        **size.settings,
    )
    assert run(profile).fingerprint == plain.fingerprint
    assert run(profile, multiplier=1.0).fingerprint == plain.fingerprint
    assert run(profile, multiplier=1).to_dict() == plain.to_dict()
    assert run(profile, multiplier=5).fingerprint != plain.fingerprint


@pytest.mark.parametrize(("multiplier", "epochs"), [(5, 800), (1.7, 272), (0.5, 80), (0.005, 1)])
def test_it_multiplies_the_epochs(multiplier, epochs):
    assert run("paper", multiplier=multiplier).epochs == epochs
    want = {**run("paper").to_dict(), "epochs": epochs}
    assert run("paper", multiplier=multiplier).to_dict() == want  # and nothing else


def test_epochs_that_are_given_are_multiplied_too():
    assert run(epochs=10, multiplier=1.7).epochs == 17


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf")])
def test_bad_multipliers(bad):
    with pytest.raises(UserError, match="multiplier must be a number above 0"):
        run(multiplier=bad)


def built(name, multiplier):
    model = convnet()
    return METHODS.build(
        METHODS.spec(name, sparsity=0.9),
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        total_steps=round(16_000 * multiplier),
        steps_per_epoch=100,
        seed=0,
    )


@pytest.mark.parametrize("multiplier", [1.7, 5])
@pytest.mark.parametrize(
    ("name", "scaled", "fixed"),
    [
        ("rigl", ("end",), ("delta_t",)),
        ("set", ("end",), ("delta_t",)),
        ("mest", ("stops", "period"), ()),
        ("mest-ems", ("stops", "period", "last"), ()),
        ("dsr", ("end", "period"), ()),
        ("granet", ("prunings",), ("delta_t",)),
        ("rigl-itop", ("end", "total_steps"), ("delta_t",)),
        ("set-itop", ("end", "total_steps"), ("delta_t",)),
    ],
)
def test_every_boundary_scales(name, scaled, fixed, multiplier):
    one, many = built(name, 1), built(name, multiplier)
    for boundary in scaled:
        a, b = getattr(one, boundary), getattr(many, boundary)
        pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
        for x, y in pairs:
            # Rounded down where it counts updates or whole steps.
            assert y == pytest.approx(multiplier * x, abs=1)
    for interval in fixed:
        assert getattr(one, interval) == getattr(many, interval)


@pytest.mark.parametrize("name", ["rigl", "mest", "mest-ems", "dsr"])
def test_the_last_change_of_a_longer_training_comes_as_late_in_it(name):
    last = [
        max(t for t in range(steps) if method.due(t)) / steps
        for method, steps in ((built(name, 1), 16_000), (built(name, 1.7), 27_200))
    ]
    assert last[1] == pytest.approx(last[0], abs=0.05)
