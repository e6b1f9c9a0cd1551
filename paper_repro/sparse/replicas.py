"""Masks that are the same on every replica of a data-parallel training."""

from __future__ import annotations

import contextlib
import contextvars
import warnings
from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["agreed", "alone", "checksum", "of_the_first", "settled", "shared_generator"]

_ODD = 0x1E3779B97F4A7C15
_alone: contextvars.ContextVar[bool] = contextvars.ContextVar("alone", default=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, masks are this process's own business, whatever ``torch.distributed`` runs.

    Needed where only some processes make masks, or where each trains a network of its own: else
    making and moving them waits for the other processes of the default group.
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def settled() -> bool:
    """Whether it is known which processes train together: not before a process group is there."""
    return _alone.get() or (dist.is_available() and dist.is_initialized())


def checksum(masks: Mapping[str, Tensor]) -> Tensor:
    """Two int64 numbers: one of the layers' names and shapes, one of the masks. Exact, no order."""
    shape = sum(
        (i + 1) * (sum(name.encode()) + 31 * mask.numel())
        for i, (name, mask) in enumerate(masks.items())
    )
    total = torch.zeros((), dtype=torch.int64)
    start = 1
    for mask in masks.values():
        # Each place's number is scrambled (splitmix64), so that moves within a layer do not cancel;
        # it wraps around, which does no harm.
        place = torch.arange(start, start + mask.numel(), device=mask.device) * _ODD
        place = (place ^ (place >> 30)) * 0x3F58476D1CE4E5B9
        place = (place ^ (place >> 27)) * 0x14D049BB133111EB
        total += ((place ^ (place >> 31)) * mask.flatten()).sum().cpu()
        start += mask.numel()
    return torch.stack([torch.tensor(shape % 2**62, dtype=torch.int64), total])


def agreed(masks: dict[str, Tensor], what: str = "the masks") -> dict[str, Tensor]:
    """``masks``, or those of rank 0 where the replicas' differ, with a warning that they did.

    Without ``torch.distributed``, with one process, :func:`alone`, or where the processes mask
    other layers and so are no replicas, they are returned as they are.
    """
    if not _together() or not masks:
        return masks
    device = _device(next(iter(masks.values())))
    own = checksum(masks).to(device)
    sums = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(sums, own)
    if any(s[0] != own[0] for s in sums) or all(torch.equal(s, own) for s in sums):
        return masks
    warnings.warn(
        f"{what} differed between the replicas (another seed, scoring batch or gradient): all go "
        "on with those of rank 0",
        stacklevel=3,
    )
    flat = torch.cat([m.flatten() for m in masks.values()]).to(device, torch.uint8)
    dist.broadcast(flat, 0)
    parts = flat.split([m.numel() for m in masks.values()])
    return {
        name: part.to(mask.device).bool().view(mask.shape)
        for (name, mask), part in zip(masks.items(), parts, strict=True)
    }


def shared_generator(generator: torch.Generator) -> None:
    """Set the replicas' generators to rank 0's state, so that what they draw is the same."""
    if not _together():
        return
    state = generator.get_state()
    sent = state.to(_device(state))
    dist.broadcast(sent, 0)
    generator.set_state(sent.cpu())


def of_the_first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as rank 0 has them; alone, as they are."""
    if not _together():
        return dict(tensors)
    found = {}
    for name, tensor in tensors.items():
        sent = tensor.to(_device(tensor), copy=True).contiguous()
        dist.broadcast(sent, 0)
        found[name] = sent.to(tensor.device)
    return found


def _together() -> bool:
    return (
        not _alone.get()
        and dist.is_available()
        and dist.is_initialized()
        and dist.get_world_size() > 1
    )


def _device(tensor: Tensor) -> torch.device:
    """Where the default group can send such a tensor from."""
    if "nccl" in dist.get_backend() and tensor.device.type != "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return tensor.device
