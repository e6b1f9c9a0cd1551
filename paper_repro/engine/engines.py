"""Put the engine in a module's place: whether it can, whether it pays, and doing it."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from paper_repro.engine.build import library
from paper_repro.engine.lower import Uncovered, check_image, lower
from paper_repro.engine.masks import PackedMasks
from paper_repro.engine.net import SparseNet
from paper_repro.engine.watch import check_tensors
from paper_repro.errors import UserError
from paper_repro.measure.flops import inference_flops, layer_macs
from paper_repro.optim import Perturbing, unwrapped
from paper_repro.sparse import SparseMethod
from paper_repro.sparse.masks import _ELEMENTWISE

__all__ = ["ENGINES", "attach", "choose", "obstacle", "worth"]

#: ``auto`` takes ``sparse`` where it can and pays. ``sparse-bf16`` stores activations in bfloat16.
ENGINES = ("auto", "dense", "sparse", "sparse-bf16")

#: FLOPs of the sparse network relative to the dense one at which a step takes as long as
#: PyTorch's: above about half for the paper's networks on one core.
_PAYS_BELOW = 0.4
#: Multiply-accumulates of a dense image below which PyTorch's own overhead is what a step costs.
_PAYS_ABOVE = 5e6


def obstacle(
    model: nn.Module, optimizer: Optimizer, method: SparseMethod, image: tuple[int, int, int]
) -> str | None:
    """Why the engine cannot train this on such images; None if it can."""
    device = next(model.parameters()).device
    if device.type != "cpu":
        return f"it computes on the CPU, not on {device.type}"
    try:
        check_image(lower(model), *image[1:])
    except Uncovered as reason:
        return str(reason)
    floating = {n: b for n, b in model.named_buffers() if b.is_floating_point()}
    try:
        check_tensors({**dict(model.named_parameters()), **floating})
    except UserError as error:
        return str(error)
    inner = unwrapped(optimizer)
    base = inner.base if isinstance(inner, Perturbing) else inner
    # It would see one vector of all weights, not each layer's matrix.
    if type(base) not in _ELEMENTWISE:
        return f"{type(base).__name__} is not known to treat each weight by itself"
    if isinstance(optimizer, Perturbing) and not optimizer.blind_to_tensors:
        return f"{type(optimizer).__name__} treats each parameter tensor in a way of its own"
    if not method.masks_only:
        return f"{type(method).__name__} writes to more than its masks"
    if len(optimizer.param_groups) != 1:
        return "the optimizer has more than one parameter group"
    trained = {id(p) for p in optimizer.param_groups[0]["params"] if p.requires_grad}
    if trained != {id(p) for p in model.parameters()}:
        return "the optimizer does not train all of the network's parameters"
    if optimizer.state:
        return "the optimizer has state already"
    try:
        library()
    except UserError as error:
        return str(error)
    return None


def worth(model: nn.Module, method: SparseMethod, image: tuple[int, int, int]) -> str | None:
    """Why the engine would not be faster than PyTorch; None if it would."""
    macs = layer_macs(model, image)
    dense = inference_flops(macs, {})
    share = inference_flops(macs, method.masks.densities()) / dense
    if share > _PAYS_BELOW:
        return f"the network computes {share:.0%} of what it does when dense"
    if dense / 2 < _PAYS_ABOVE:
        return "the network is so small that PyTorch is as fast"
    return None


def choose(
    asked: str,
    model: nn.Module,
    optimizer: Optimizer,
    method: SparseMethod,
    image: tuple[int, int, int] | None,
    reason: str | None = None,
) -> tuple[str, str | None]:
    """Which engine trains a run, and why ``auto`` became ``dense`` if it did.

    Args:
        asked: one of :data:`ENGINES`.
        model: see :func:`obstacle`.
        optimizer: likewise.
        method: likewise.
        image: channels, height and width; None where the samples are no images.
        reason: why it can only be ``dense``, if that is known already.

    Raises:
        UserError: an unknown engine, or a sparse one that cannot train this.
    """
    if asked not in ENGINES:
        raise UserError(f"unknown engine {asked!r}; known are {', '.join(ENGINES)}")
    if asked == "dense":
        return "dense", None
    if reason is None and image is not None:
        reason = obstacle(model, optimizer, method, image)
        if reason is None and asked == "auto":
            reason = worth(model, method, image)
    if asked == "auto":
        return ("sparse", None) if reason is None else ("dense", reason)
    if reason is not None:
        raise UserError(f"the sparse engine cannot train this run: {reason}")
    return asked, None


def attach(
    model: nn.Module,
    optimizer: Optimizer,
    method: SparseMethod,
    image: tuple[int, int, int],
    batch: int,
    storage: str = "float32",
) -> SparseNet:
    """The network that trains in the model's place.

    From here on ``optimizer`` trains the net's flat parameter and ``method`` moves its masks; the
    model's own parameters are what :meth:`SparseNet.write_back` leaves there.

    Args:
        model: covered by the engine, see :func:`obstacle`.
        optimizer: of all of its parameters in one group, without state.
        method: attached to both.
        image: channels, height and width.
        batch: images of a step.
        storage: of activations.

    Raises:
        UserError: there is an obstacle.
    """
    reason = obstacle(model, optimizer, method, image)
    if reason is not None:
        raise UserError(f"the sparse engine cannot train this: {reason}")
    net = SparseNet(model, method.masks.state_dict(), storage, batch, image)
    optimizer.param_groups[0]["params"] = [net.flat]
    for p in model.parameters():
        p.grad = None
    open_now = method.masks.open
    method.masks = PackedMasks(net, optimizer, method.masks)
    method.masks.open = open_now
    with torch.no_grad():
        net.write_back()
    return net
