"""Small runs that are trained by graphed and by plain steps."""

import torch

from paper_repro.config import RunConfig
from paper_repro.data import Dataset, Split
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS

CASES = [
    ("dense", {}, "sgd"),
    ("dense", {}, "s2sam"),
    ("mest", {"updates": 9}, "s2sam"),
    ("mest", {"updates": 9, "gradient_weight": 0.5}, "sam"),
    ("rigl", {"delta_t": 5}, "sgd"),
    ("rigl", {"delta_t": 5}, "s2sam"),
    ("rigl", {"delta_t": 5}, "sam"),
    ("set", {"period": 7}, "s2sam"),
    ("random", {}, "sam"),
]


def noise(n=64, size=8, channels=1, device="cpu"):
    g = torch.Generator().manual_seed(3)

    def split(n):
        pixels = torch.randint(256, (n, size, size, channels), generator=g, dtype=torch.uint8)
        return Split(pixels, torch.randint(10, (n,), generator=g)).to(torch.device(device))

    return Dataset("noise", split(n), split(20), 10, (0.5,), (0.25,), pad=1, flip=True)


def config(method="mest", optimizer="s2sam", precision="float32", **options):
    options.setdefault("sparsity", 0.8)
    return RunConfig(
        profile="smoke",
        dataset="digits",
        model="resnet_digits",
        method=METHODS.spec(method, **options) if method != "dense" else METHODS.spec("dense"),
        optimizer=OPTIMIZERS.spec(optimizer),
        seed=1,
        epochs=3,
        batch_size=8,
        precision=precision,
    )


def fuse(trainer):
    """Let a plain trainer's SGD compute as the graphed one's does."""
    for group in trainer.optimizer.param_groups:
        group.update(fused=True, foreach=False)
    return trainer


def result(trainer):
    """All that a run is: weights, buffers, masks, momentum, curve."""
    state = trainer.state_dict()
    del state["graphed"]  # how it was trained, which must not matter
    state["curve"] = [
        {k: v for k, v in line.items() if k not in ("seconds", "images_per_second")}
        for line in state["curve"]
    ]
    for group in state["optimizer"]["param_groups"]:
        group.pop("fused"), group.pop("foreach")
    return state


def run(trainer, epochs=None):
    for _ in range(trainer.config.epochs - trainer.epoch if epochs is None else epochs):
        trainer.run_epoch()
    return result(trainer)
