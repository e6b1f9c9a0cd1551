"""How much of a perturbation survives the rounding of a low-precision forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import exact
from paper_repro.sparse import prunable

__all__ = ["ROUNDINGS", "EffectivePerturbation", "Share", "effective_perturbation"]


class _Masks(Protocol):
    def __contains__(self, name: str, /) -> bool: ...
    def __getitem__(self, name: str, /) -> Tensor: ...


_NOTHING = (0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Share:
    """What arrives of a perturbation ε over some weights. All is 0 where ε is 0.

    Of weights or an ε that are not finite, cosine and ratio are NaN.

    Attributes:
        active: weights looked at.
        changed: fraction of them whose value in the forward pass ε changes at all.
        cosine: of ε and the ε that arrives.
        ratio: length of the ε that arrives over the length of ε.
    """

    active: int
    changed: float
    cosine: float
    ratio: float


@dataclass(frozen=True)
class EffectivePerturbation:
    """:func:`effective_perturbation`'s result.

    Attributes:
        overall: over all weights together.
        layers: by the weight's name.
    """

    overall: Share
    layers: Mapping[str, Share]


def effective_perturbation(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    epsilon: Mapping[str, Tensor] | None = None,
    masks: _Masks | None = None,
    precision: str = "bf16",
) -> EffectivePerturbation:
    r"""Compare a perturbation ε with what the forward pass's arithmetic leaves of it.

    A forward pass in low precision does not compute with w + ε but with its rounding, so the ε
    that arrives is

    .. math:: \hat\varepsilon = r(w + \varepsilon) - r(w)

    and where ε is below the spacing of r's numbers around w it is mostly 0, or a whole spacing.
    r rounds each weight of a convolution or linear layer (what autocast and TF32 round; batch norm
    computes in float32): ``bf16`` to bfloat16, 8 significant bits, to nearest and ties to even, as
    autocast's cast does; ``tf32`` to 11 significant bits, to nearest and ties away from zero, as
    CUDA's ``cvt.rna.tf32`` does; ``float32`` not at all. Rounding of inputs and of sums is not
    looked at.

    Args:
        model: whose weights are perturbed.
        optimizer: if its parameters stand perturbed (S2SAM, MSAM: between ``train()`` and
            ``eval()``), ε is what they stand off the exact weights w.
        epsilon: else ε by parameter name; then w is where the parameters stand, or the
            optimizer's exact weights.
        masks: boolean masks by name, such as :class:`paper_repro.sparse.Masks`: only what they
            keep is counted. A weight without one counts wholly.
        precision: one of ``ROUNDINGS``.

    Raises:
        UserError: an unknown precision, or neither an optimizer nor ε.
    """
    if precision not in ROUNDINGS:
        raise UserError(f"unknown precision {precision!r}; known are {', '.join(ROUNDINGS)}")
    if optimizer is None and epsilon is None:
        raise UserError("an effective perturbation needs an optimizer or an epsilon to look at")
    rounded = ROUNDINGS[precision]
    sums = {}
    for name, p in prunable(model).items():
        w = exact(optimizer, p).detach()
        u = p.detach() if epsilon is None else w + epsilon[name].to(w) if name in epsilon else w
        wanted = u.double() - w.double()
        arriving = rounded(u).double() - rounded(w).double()
        if masks is not None and name in masks:
            kept = masks[name].to(device=w.device, dtype=torch.bool)
            wanted, arriving = wanted[kept], arriving[kept]
        sums[name] = (
            float(wanted.numel()),
            float((arriving != 0).sum()),
            float((wanted * arriving).sum()),
            float(wanted.square().sum()),
            float(arriving.square().sum()),
        )
    layers = {name: _share(*found) for name, found in sums.items()}
    total = (sum(column) for column in zip(_NOTHING, *sums.values(), strict=True))
    total = (sum(column) for column in zip(_NOTHING, *sums.values(), strict=True))
    return EffectivePerturbation(_share(*total), layers)


def _share(active: float, changed: float, dot: float, wanted: float, arriving: float) -> Share:
    lengths = wanted**0.5 * arriving**0.5
    return Share(
        active=int(active),
        changed=changed / active if active else 0.0,
        cosine=0.0 if lengths == 0 else dot / lengths,
        ratio=0.0 if wanted == 0 else (arriving / wanted) ** 0.5,
    )


def _bf16(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).float()


def _tf32(x: Tensor) -> Tensor:
    # float32 has 13 more bits. Adding half of the last kept one carries into the exponent where it
    # must; infinities and NaN have no bits to round.
    x = x.float().contiguous()
    bits = (x.view(torch.int32) + 0x1000) & ~0x1FFF
    return torch.where(torch.isfinite(x), bits.view(torch.float32), x)


#: How a weight is rounded for the forward pass, by precision.
ROUNDINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "float32": lambda x: x,
    "tf32": _tf32,
    "bf16": _bf16,
}
