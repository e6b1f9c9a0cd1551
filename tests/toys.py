"""Small networks, batches and loops that the tests of optimizers, masks and methods share."""

import copy
import io

import torch
import torch.nn.functional as F
from torch import nn

from paper_repro.optim import S2SAM, SAM, exact

BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2
    ),
    # Adds the momentum to the gradients themselves, as by default on CUDA.
    "nesterov foreach": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, foreach=True
    ),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=1e-1),
}
WRAPPERS = {
    "s2sam": S2SAM,
    "sam": SAM,
    "asam": lambda base, rho=0.5: SAM(base, rho, adaptive=True),
}


def mlp(seed=0, dtype=torch.float32):
    """6 -> 8 -> 3 with tanh."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def convnet(seed=0, momentum=0.1):
    """Two convolutions with batch norm and a classifier for 1x6x6 images of 3 classes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8, momentum=momentum),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def batches(n, seed=0, dtype=torch.float32, shape=(6,)):
    """``n`` batches of 8 labelled inputs."""
    g = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(8, *shape, generator=g, dtype=torch.float64).to(dtype),
            torch.randint(3, (8,), generator=g),
        )
        for _ in range(n)
    ]


def images(n, seed=0):
    """``n`` batches for :func:`convnet`."""
    return batches(n, seed, shape=(1, 6, 6))


def backward(model, batch):
    """The batch's loss, its gradients accumulated."""
    loss = F.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    return loss


def advance(model, optimizer, batch, set_to_none=True):
    """One step of any optimizer, by a closure."""

    def closure():
        optimizer.zero_grad(set_to_none=set_to_none)
        return backward(model, batch)

    return optimizer.step(closure)


def train(model, optimizer, data, **options):
    for batch in data:
        advance(model, optimizer, batch, **options)


def clones(model):
    return [p.detach().clone() for p in model.parameters()]


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


def equal(one, other):
    """Bit for bit, over two lists of tensors."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def same_state(one, other):
    """Whether two nested states of dicts, lists, tensors and numbers are bit-identical."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_state(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_state, one, other))
    return one == other


def through_disk(state):
    """What ``torch.load`` makes of what ``torch.save`` wrote."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def snapshot(model, optimizer):
    """Deep copies of a model's and an optimizer's state."""
    return copy.deepcopy((model.state_dict(), optimizer.state_dict()))


def weights(model, optimizer):
    """Copies of w, wherever the parameters stand."""
    return [exact(optimizer, p).detach().clone() for p in model.parameters()]


def perturbation(model, optimizer):
    """u - w, flat."""
    return flat(clones(model)) - flat(weights(model, optimizer))


def gradients(model):
    return flat([p.grad for p in model.parameters()])


def shared(optimizer):
    """Whether a wrapper and its base hold one list of groups and one state."""
    return (
        optimizer.param_groups is optimizer.base.param_groups
        and optimizer.state is optimizer.base.state
    )
