"""Every registered optimizer as a case for the contract tests, and the loops that they share.

A new optimizer is held to all of the contract (``test_optimizer_*.py``) with its default options;
the tables here say how one differs.
"""

import functools

import pytest
import torch

from paper_repro.optim import OPTIMIZERS, Closure, Perturbing, exact

#: Cases beside the defaults: a registered name and options.
CASES = {name: (name, {}) for name in OPTIMIZERS} | {
    "asam": ("sam", {"adaptive": True, "rho": 0.5}),
    "esam, whole batch": ("esam", {"gamma": 1.0}),
    "s2sam, negative": ("s2sam", {"rho": -0.05}),
    "ssam, fisher": ("ssam", {"variant": "fisher"}),
    "zosam, two directions": ("zosam", {"directions": 2}),
    "released, all off": (
        "released",
        {
            "adaptive": False,
            "dense_perturbation": False,
            "mask_after_step": False,
            "frozen_bias": False,
            "stale_perturbation": False,
            "after_step": "keep",
        },
    ),
}
#: The option that at 0 leaves the base optimizer alone, where it is not rho.
STRENGTH = {"sgd": None, "saf": "lam"}
#: Buffers of the parameters' size by name, where the table of SAM variants says so.
BUFFERS = {
    "sgd": 0,
    "sam": 1,
    "s2sam": 1,
    "esam": 1,
    "looksam": 2,
    "saf": 0,
    "ssam": 2,
    "msam": 0,
    "zosam": 1,
    "asyncsam": 2,
    "fsam": 2,
    "randomsam": 1,
    "released": 3,
}
#: Gradients and forward passes without one a step, from the same table.
COST = {
    "sgd": (1, 0),
    "sam": (2, 0),
    "asam": (2, 0),
    "s2sam": (1, 0),
    "s2sam, negative": (1, 0),
    "asyncsam": (2, 0),
    "fsam": (2, 0),
    "randomsam": (1, 0),
    "esam": (1.5, 1),
    "esam, whole batch": (2, 0),
    "looksam": (1.1, 0),
    "saf": (1, 0),
    "ssam": (2, 0),
    "ssam, fisher": (2, 0),
    "msam": (1, 0),
    "zosam": (1, 2),
    "zosam, two directions": (1, 4),
    "released": (1, 0),
    "released, all off": (1, 0),
}
#: Put masks on after the step on purpose, as the released code does.
MASKS_LATE = {"released"}
STEPS = 12
SAMPLES = 24

every = pytest.mark.parametrize("case", CASES)
wrappers = pytest.mark.parametrize("case", [case for case in CASES if case != "sgd"])


def make(case, base, model=None, **options):
    name, own = CASES[case]
    spec = OPTIMIZERS.spec(name, **{**own, **options})
    return OPTIMIZERS.build(spec, base=base, model=model, total_steps=STEPS)


def strength(case):
    name = CASES[case][0]
    return STRENGTH.get(name, "rho")


def momentum(parameters, **options):
    return torch.optim.SGD(
        parameters, **{"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2, **options}
    )


@functools.cache
def samples(dtype=torch.float32):
    g = torch.Generator().manual_seed(5)
    x = torch.randn(SAMPLES, 6, generator=g, dtype=torch.float64)
    return x.to(dtype), torch.randint(3, (SAMPLES,), generator=g)


def closures(model, optimizer, steps, seed=0, size=8, kind=Closure):
    """``steps`` batches of 8 of the 24 samples, in epochs of three."""
    x, y = samples(next(model.parameters()).dtype)
    g = torch.Generator().manual_seed(seed)
    epochs = [torch.randperm(SAMPLES, generator=g) for _ in range(-(-steps * size // SAMPLES))]
    for index in torch.cat(epochs).split(size)[:steps]:
        yield kind(model, x[index], y[index], optimizer, index=index, samples=SAMPLES)


def run(model, optimizer, steps, seed=0):
    for closure in closures(model, optimizer, steps, seed):
        optimizer.step(closure)


def stand(optimizer, where):
    if isinstance(optimizer, Perturbing):
        getattr(optimizer, where)()


def at_w(model, optimizer):
    return [exact(optimizer, p).detach().clone() for p in model.parameters()]
