"""MSAM: perturb along the momentum, at one gradient a step and no memory (Becker et al. 2024)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.base import Perturbing, global_norm, moved, radius_over_norm

__all__ = ["MSAM", "reference"]

# Where PyTorch's optimizers keep their momentum: SGD and RMSprop, then Adam and its kin.
_MOMENTUM = ("momentum_buffer", "exp_avg")


@OPTIMIZERS.register("msam")
class MSAM(Perturbing):
    r"""Momentum-SAM: each gradient is taken at the weights moved against the momentum v.

    .. math::
        u_t = w_{t-1} - \rho\, v_{t-1} / \lVert v_{t-1} \rVert, \qquad
        v_t = \mu v_{t-1} + \nabla L(u_t) + \lambda w_{t-1}, \qquad
        w_t = w_{t-1} - \eta v_t

    (Becker, Altrock, Risse, "Momentum-SAM: Sharpness Aware Minimization without Computational
    Overhead", 2024, arXiv 2401.12033, algorithm 1.) v points uphill, so the minus sign moves the
    parameters on along the last update, as Nesterov's momentum does, only farther. The norm is
    over all parameters together; the first step has no perturbation.

    Between steps the parameters hold u, and w is recomputed as u + ρ v/‖v‖ from the momentum that
    the base optimizer keeps anyway: no buffer beside its own. The price is that w is recovered to
    rounding, one unit in the last place of u or ε a step, not exactly as S2SAM does. What is 0
    in w and v, such as a pruned weight, stays exactly 0, and :meth:`eval` followed by
    :meth:`train` restores u bit for bit (while evaluating, u is held in a buffer).

    The loop is that of the base optimizer, with :meth:`eval` before evaluating the model and
    :meth:`train` afterwards. A step that ``GradScaler`` skips leaves everything as it is.

    Two differences to the authors' code: weight decay acts on w, not on u, and any base optimizer
    with momentum will do; under Adam v is its first moment, not rescaled by the second.

    Do not use it under bfloat16 autocast unawares: an ε below bfloat16's resolution arrives
    distorted (see :class:`paper_repro.optim.S2SAM` for numbers measured with its ε).

    Args:
        base: the optimizer that takes the step, with momentum: SGD's, or Adam's β₁.
        rho: radius ρ >= 0 of the perturbation. The authors divide by the same norm and use 3 on
            CIFAR-100 (WRN-16-4, ResNet-50) and 0.3 in their configuration for ImageNet's
            ResNet-50. At 0 the wrapper is the base optimizer, bit for bit.

    Raises:
        UserError: a group has ρ > 0 and no momentum to move along.
    """

    extra_buffers = 0.0

    def __init__(self, base: Optimizer, rho: float = 3.0) -> None:
        super().__init__(base, rho=rho, train_mode=True, ascent=None)
        self._held: dict[Tensor, Tensor] = {}
        if self._base_has_modes:
            raise UserError(
                "MSAM perturbs along the momentum, which a schedule-free optimizer does not keep"
            )
        for group in self.param_groups:
            _check_momentum(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._held = {}
        for group in self.param_groups:
            if isinstance(group["ascent"], Tensor) and group["params"]:
                group["ascent"] = group["ascent"].to(group["params"][0].device)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to wrapper and base alike; it may carry its own ``rho``."""
        if "base" in self.__dict__:
            _check_momentum({**self.base.defaults, **self._settings, **param_group})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step from the gradients at u; return the closure's loss, if one is given.

        Raises:
            UserError: called between :meth:`eval` and :meth:`train`, where the parameters hold w.
        """
        if not self._training:
            raise UserError(
                "MSAM.step() after eval(): the gradients were not taken at the "
                "perturbed weights; call optimizer.train() before training on"
            )
        loss = None if closure is None else self._run(closure)
        for parameters, epsilon in self._perturbations():
            torch._foreach_sub_(parameters, epsilon)
        for group in self.param_groups:  # at w now, also if the base fails
            group["ascent"] = None
        self.base.step()
        moving = [self._moving(group) for group in self.param_groups]
        norm = global_norm([v for _, velocity in moving for v in velocity])
        for group, (parameters, _) in zip(self.param_groups, moving, strict=True):
            usable = bool(group["rho"]) and bool(parameters)
            group["ascent"] = (
                radius_over_norm(group["rho"], norm, parameters[0].dtype) if usable else None
            )
        for parameters, epsilon in self._perturbations():
            torch._foreach_add_(parameters, epsilon)
        moved()
        return loss

    @property
    def _training(self) -> bool:
        return all(group["train_mode"] for group in self.param_groups)

    def _moving(self, group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters of a group that have a momentum, and their momenta."""
        pairs = []
        for p in group["params"]:
            state = self.state.get(p, {})
            v = next((state[key] for key in _MOMENTUM if state.get(key) is not None), None)
            if v is not None:
                pairs.append((p, v))
        return [p for p, _ in pairs], [v for _, v in pairs]

    def _perturbations(self) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Parameters and the ε = -ρ v/‖v‖ of the last step, group by group.

        The same two roundings, of ρ/‖v‖ times v and of the sum, put ε on and take it off.
        """
        for group in self.param_groups:
            parameters, velocity = self._moving(group) if group["ascent"] is not None else ([], [])
            if parameters:
                yield parameters, list(torch._foreach_mul(velocity, -group["ascent"]))

    @torch.no_grad()
    def eval(self) -> None:
        """Put the parameters at w, to rounding; u is held. Twice is as good as once."""
        if not self._training:
            return
        for parameters, epsilon in self._perturbations():
            self._held.update({p: p.clone() for p in parameters})
            torch._foreach_sub_(parameters, epsilon)
        moved()
        for group in self.param_groups:
            group["train_mode"] = False

    @torch.no_grad()
    def train(self) -> None:
        """Put the parameters back at u: exactly where w and v are as :meth:`eval` left them."""
        if self._training:
            return
        for parameters, epsilon in self._perturbations():
            for p, e in zip(parameters, epsilon, strict=True):
                u = self._held.get(p)
                p.copy_(p + e if u is None else torch.where(u - e == p, u, p + e))
        moved()
        self._held = {}
        for group in self.param_groups:
            group["train_mode"] = True

    @torch.no_grad()
    def exact(self, parameter: Tensor) -> Tensor:
        """The weights w of ``parameter``, as :meth:`eval` would set them."""
        if self._training:
            for parameters, epsilon in self._perturbations():
                for p, e in zip(parameters, epsilon, strict=True):
                    if p is parameter:
                        return p - e
        return parameter

    @contextlib.contextmanager
    def unperturbed(self) -> Iterator[None]:
        """Parameters at w, to be edited; on leaving, u = w + ε with the ε of before.

        Entries that were not edited get their u back bit for bit; where the momentum was edited
        too (a dropped weight's becomes 0), ε follows it.
        """
        was_training = self._training
        self.eval()
        try:
            yield
        finally:
            if was_training:
                self.train()


def _check_momentum(group: dict[str, Any]) -> None:
    momentum = group.get("momentum") or group.get("betas", (0.0,))[0]
    if group.get("rho") and not momentum:
        raise UserError(
            "MSAM perturbs along the momentum, and the base optimizer has none; "
            "give it one, for example torch.optim.SGD(parameters, lr=0.1, momentum=0.9)"
        )


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    rho: float = 3.0,
) -> Iterator[list[Tensor]]:
    """MSAM around SGD, written for reading: yields w_1, w_2, ... for ever."""
    w = [x.clone() for x in weights]
    velocity = [torch.zeros_like(x) for x in w]
    while True:
        norm = sum(float((v * v).sum()) for v in velocity) ** 0.5
        u = [x - rho * v / norm if norm > 0 else x for x, v in zip(w, velocity, strict=True)]
        decayed = [g + weight_decay * x for g, x in zip(gradient(u), w, strict=True)]
        velocity = [momentum * v + d for v, d in zip(velocity, decayed, strict=True)]
        w = [x - lr * v for x, v in zip(w, velocity, strict=True)]
        yield [x.clone() for x in w]


MSAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
