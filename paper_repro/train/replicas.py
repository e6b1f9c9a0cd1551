"""A network that ranks train in step: averaged gradients, batch norm over the global batch."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.sparse import Masks
from paper_repro.train.task import Task

__all__ = [
    "OWN_SAMPLES",
    "check_divisible",
    "check_model",
    "join_batch_norm",
    "replicate",
    "replicated",
]

#: Optimizers whose steps look at single samples: with a share of them on each rank, what a step
#: does (ESAM, ZO-SAM) or remembers (SAF) would differ from rank to rank.
OWN_SAMPLES = frozenset({"esam", "saf", "zosam"})


class _Sum(torch.autograd.Function):
    """The sum over ranks, and of the gradients alike; to be differentiated again, too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # type: ignore[override]
        summed: Tensor = _Sum.apply(gradients[0].contiguous())
        return summed


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch norm by the statistics of the global batch, so that a run is one run on any ranks.

    Mean and variance each take one exchange of a number a channel, forward and backward; the
    variance is that of centred values. Sums are float64: where a channel is constant, as sparse
    networks have them, its values must be exactly their mean, or rounding is all that is left and
    normalised to the size of a signal. ``torch.nn.SyncBatchNorm`` does the same on GPUs
    alone, and as a class that structured methods do not take for a batch norm of images.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        x = input if input.dtype == torch.float64 else input.float()
        # Equal shares: each rank has the same number of values.
        n = x.numel() // x.shape[1] * dist.get_world_size()
        mean = (_Sum.apply(x.sum((0, 2, 3), dtype=torch.float64)) / n).to(x.dtype)
        centred = x - mean[:, None, None]
        squares = centred.square().sum((0, 2, 3), dtype=torch.float64)
        variance = (_Sum.apply(squares) / n).to(x.dtype)
        if self.track_running_stats and self.running_mean is not None:
            self._track(mean.detach(), variance.detach() * (n / max(n - 1, 1)))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        y = centred * scale[:, None, None]
        y = y + self.bias[:, None, None] if self.affine else y
        return y.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        if self.momentum is None:  # a cumulative mean
            self.running_mean.lerp_(mean, 1.0 / self.num_batches_tracked)
            self.running_var.lerp_(unbiased, 1.0 / self.num_batches_tracked)
        else:
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)


def check_divisible(config: RunConfig, task: Task) -> None:
    """Refuse a run that its task's ranks cannot train together.

    Raises:
        UserError: for its data set, its batch size or its optimizer.
    """
    world = task.ranks.world
    if world == 1:
        return
    if not task.divisible:
        raise UserError(
            f"{world} ranks cannot train {config.dataset} together: its batches cannot be divided"
        )
    if config.batch_size % world:
        raise UserError(f"batch_size {config.batch_size} cannot be divided among {world} ranks")
    if config.optimizer.name in OWN_SAMPLES:
        raise UserError(
            f"{world} ranks cannot train with {config.optimizer.name} together: its steps look at "
            "single samples"
        )


def check_model(model: nn.Module, world: int) -> None:
    """Refuse a network that draws random numbers as it runs.

    On ranks seeded alike every share of a batch would be dealt the same ones, on others' seeds
    other ones than one process deals: in either case it is another run.

    Raises:
        UserError: it has dropout or stochastic depth.
    """
    for name, module in model.named_modules():
        # By its name: networks without it do without torchvision.
        deep = type(module).__name__ == "StochasticDepth"
        draws = deep or isinstance(module, nn.modules.dropout._DropoutNd)
        if world > 1 and draws and module.p:
            raise UserError(
                f"{world} ranks cannot train this network together: its {name} "
                f"({type(module).__name__}) draws random numbers, which one process deals to a "
                "whole batch"
            )


def join_batch_norm(model: nn.Module) -> None:
    """Let every batch norm of ``model`` normalise over the batches of all ranks, in place.

    Names, parameters and buffers stay what they are.

    Raises:
        UserError: a batch norm of another kind than images'.
    """
    for name, module in model.named_modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"{name} is a {type(module).__name__}, which several ranks cannot train together"
            )


def replicate(model: nn.Module, device: torch.device) -> nn.Module:
    """What computes a rank's outputs, such that a backward pass leaves the ranks' mean gradient.

    A weight's own hooks run first, so that masked gradients are exchanged; a gate that is open
    lets the dense ones through, and what a topology update reads is the global batch's.
    """
    ids = [device] if device.type == "cuda" else None
    # Buffers are equal already: batch norm's statistics are of all ranks. Torch 2.13 renamed the
    # option.
    known = inspect.signature(DistributedDataParallel).parameters
    still: Any = next(n for n in ("forward_sync_buffers", "broadcast_buffers") if n in known)
    return DistributedDataParallel(model, device_ids=ids, **dict[str, Any]({still: False}))


def replicated(model: nn.Module, optimizer: Optimizer, masks: Masks) -> dict[str, Tensor]:
    """All that must be equal on every rank, by name: the network, optimizer state, masks."""
    named = dict(model.state_dict())
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                named[f"{name}'s {key}"] = value
    return {**named, **{f"the mask of {name}": m for name, m in masks.state_dict().items()}}
