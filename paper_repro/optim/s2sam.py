"""S2-SAM: sharpness-aware minimization that costs one gradient a step (the paper's Eq. 3)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.base import Perturbing, copy_all, global_norm, moved, radius_over_norm
from paper_repro.optim.plain import PlainSGD

__all__ = ["S2SAM", "reference"]


@OPTIMIZERS.register("s2sam")
class S2SAM(Perturbing):
    r"""Single-step SAM: each gradient is taken at the weights moved along the previous gradient.

    .. math::
        u_t = w_{t-1} + \rho\, g_{t-1} / \lVert g_{t-1} \rVert, \qquad
        g_t = \nabla L(u_t), \qquad
        w_t = \mathrm{base}(w_{t-1}, g_t)

    (Eq. 3 of the paper.) The norm is over all parameters together; the first step has no
    perturbation; weight decay and momentum are the base optimizer's and act on w.

    Between steps the parameters hold u and ``state[p]["twin"]`` holds w exactly, so the training
    loop is that of the base optimizer::

        optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)
        loss.backward(); optimizer.step(); optimizer.zero_grad()
        optimizer.eval(); evaluate(model); optimizer.train()

    Call :meth:`eval` before evaluating or exporting the model and :meth:`train` afterwards.

    A parameter without a gradient keeps its value and is not perturbed. The perturbation does not
    depend on the gradient's scale, hence neither on loss scaling nor on clipping by norm. A step
    that ``GradScaler`` skips leaves everything as it is.

    **Under bfloat16 autocast ε does not arrive as it should**: after 200 steps on CIFAR-10 at
    ρ = 0.05, dense or 90 % sparse, the forward pass sees it at 25 to 28 % of ResNet-20's active
    weights (n = 2 seeds) and 6 to 7 % of the paper's ResNet-32's (n = 1), with a cosine of 0.62 to
    0.71 to ε and 1.4 to 1.6 times its length (benchmarks/README.md). Train in float32 or TF32, or
    look at :func:`paper_repro.measure.effective_perturbation.effective_perturbation`.

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ of the perturbation, in the units of a weight. At 0 the wrapper is the base
            optimizer, bit for bit, and keeps no extra buffer. A negative one is a control and no
            sharpness-aware minimization: the perturbation then goes |ρ| down the previous
            gradient, the sign that MSAM has.
    """

    signed_rho = True

    def __init__(self, base: Optimizer, rho: float = 0.05) -> None:
        super().__init__(base, rho=rho, train_mode=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step from the gradients at u; return the closure's loss, if one is given.

        Raises:
            UserError: called between :meth:`eval` and :meth:`train`, where the parameters hold w.
        """
        if not all(group["train_mode"] for group in self.param_groups):
            raise UserError(
                "S2SAM.step() after eval(): the gradients were not taken at the "
                "perturbed weights; call optimizer.train() before training on"
            )
        loss = None if closure is None else self._run(closure)
        # Taken before the base's step, which may write over the gradients: SGD with Nesterov
        # momentum and no weight decay does.
        epsilon = self._epsilon()
        parameters, weights = self._perturbed()
        copy_all(parameters, weights)
        self.base.step()
        self._perturb(epsilon)
        return loss

    def _perturbed(self) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters that stand away from w, and their twins."""
        pairs = [
            (p, self.state[p]["twin"])
            for group in self.param_groups
            for p in group["params"]
            if p in self.state and "twin" in self.state[p]
        ]
        return [p for p, _ in pairs], [twin for _, twin in pairs]

    def _epsilon(self) -> list[tuple[list[Tensor], list[Tensor]]]:
        """The parameters to move and ε = ρ g/‖g‖ of each, group by group."""
        norm = global_norm([p.grad for p in self._live()])  # type: ignore[misc]
        epsilon = []
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None] if group["rho"] else []
            if moving:
                scale = radius_over_norm(group["rho"], norm, moving[0].dtype)
                steps = torch._foreach_mul([p.grad for p in moving], scale)
                epsilon.append((moving, list(steps)))
        return epsilon

    def _perturb(self, epsilon: list[tuple[list[Tensor], list[Tensor]]]) -> None:
        """Keep w in the twins and move the parameters to w + ε; those without ε lose their twin."""
        perturbed = {p for moving, _ in epsilon for p in moving}
        for group in self.param_groups:
            for p in group["params"]:
                if p not in perturbed and p in self.state:
                    self.state[p].pop("twin", None)
        for moving, steps in epsilon:
            for p in moving:
                # Made only after the base's first step: Adam takes any earlier state for its own.
                if "twin" not in self.state[p]:
                    self.state[p]["twin"] = torch.empty_like(p)
            copy_all([self.state[p]["twin"] for p in moving], moving)
            torch._foreach_add_(moving, steps)
        moved()

    @torch.no_grad()
    def _swap(self, groups: list[dict[str, Any]]) -> None:
        """Exchange u and w of these groups."""
        for group in groups:
            for p in group["params"]:
                twin = self.state[p].get("twin") if p in self.state else None
                if twin is not None:
                    held = p.clone()
                    p.copy_(twin)
                    twin.copy_(held)
        moved()

    def eval(self) -> None:
        """Put the parameters at w, exactly; u is kept. Twice is as good as once.

        Under a schedule-free base they are put where that one evaluates, beyond its w.
        """
        groups = [group for group in self.param_groups if group["train_mode"]]
        self._swap(groups)
        if self._base_has_modes:  # it goes by the same flag, which it is to find as it left it
            self._base_mode("eval")
        for group in groups:
            group["train_mode"] = False

    def train(self) -> None:
        """Put the parameters back at u, exactly."""
        groups = [group for group in self.param_groups if not group["train_mode"]]
        if self._base_has_modes:
            self._base_mode("train")
        for group in groups:
            group["train_mode"] = True
        self._swap(groups)

    def exact(self, parameter: Tensor) -> Tensor:
        """The weights w of ``parameter``: the tensor itself or its twin, not a copy."""
        state = self.state.get(parameter, {})
        training = all(group["train_mode"] for group in self.param_groups)
        return state["twin"] if training and "twin" in state else parameter

    @contextlib.contextmanager
    def unperturbed(self) -> Iterator[None]:
        """Parameters at w, to be edited; on leaving, u = w + ε with the ε of before.

        Entries of w that were not edited get their u back bit for bit.
        """
        was_training = all(group["train_mode"] for group in self.param_groups)
        self.eval()
        parameters, twins = self._perturbed()
        before = [p.detach().clone() for p in parameters]
        try:
            yield
        finally:
            with torch.no_grad():
                for p, u, old in zip(parameters, twins, before, strict=True):
                    u.copy_(torch.where(p == old, u, p + (u - old)))
            if was_training:
                self.train()


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
) -> Iterator[list[Tensor]]:
    """Eq. 3 around SGD, written for reading: yields w_1, w_2, ... for ever.

    ``gradient`` maps a list of weights to the list of gradients there.
    """
    w = [x.clone() for x in weights]
    sgd = PlainSGD(lr, momentum, weight_decay)
    previous = [torch.zeros_like(x) for x in w]
    while True:
        norm = sum(float((g * g).sum()) for g in previous) ** 0.5
        u = [x + rho * g / norm if norm > 0 else x for x, g in zip(w, previous, strict=True)]
        g_t = gradient(u)
        w = sgd.step(w, g_t)
        previous = g_t
        yield [x.clone() for x in w]


S2SAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
