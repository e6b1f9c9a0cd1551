"""What every sharpness-aware wrapper shares: the base optimizer's groups and state, and norms."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError

try:
    from torch.distributed.tensor import DTensor
except ImportError:  # a torch built without distributed
    _DTENSOR: tuple[type, ...] = ()
else:
    _DTENSOR = (DTensor,)

#: Packages whose optimizers only forward to the one that they hold.
_WRAPPERS = frozenset({"accelerate", "lightning", "pytorch_lightning", "lightning_fabric"})

__all__ = [
    "GradientMasks",
    "Perturbing",
    "copy_all",
    "evaluating",
    "exact",
    "global_norm",
    "moved",
    "radius_over_norm",
    "unwrapped",
]


class GradientMasks(Protocol):
    """As much of the masks that a model trains under as an optimizer may need to know.

    ``masks[name]`` is the boolean mask of the weight ``masks.weights[name]``. While ``open`` is
    true, gradients pass unmasked; ``optimizer`` is whose state of dropped weights is zeroed. While
    ``held`` is false, nothing puts the masks on weights that an optimizer's step has moved.
    """

    optimizer: Optimizer | None
    held: bool

    @property
    def weights(self) -> Mapping[str, Tensor]: ...

    @property
    def open(self) -> bool: ...

    @open.setter
    def open(self, value: bool) -> None: ...

    def __getitem__(self, name: str) -> Tensor: ...

    def __iter__(self) -> Iterator[str]: ...


class Perturbing(Optimizer):
    """A ``torch.optim.Optimizer`` that evaluates gradients away from the weights it updates.

    The wrapper and its base optimizer share one ``param_groups`` list and one ``state``, so
    schedulers, clipping, ``GradScaler``, ``state_dict`` and ``add_param_group`` act on both. The
    wrapper's own settings (``rho``, ...) live in the groups beside ``lr`` and may differ from
    group to group or be scheduled like it.

    Args:
        base: the optimizer that takes the step, e.g. ``torch.optim.SGD(...)``.
        settings: per-group defaults of the wrapper, such as ``rho``.

    Raises:
        UserError: ``base`` is not an optimizer, already wrapped, in need of a closure of its own
            (LBFGS) or maximizing, has complex parameters or a sparse method attached, or ``rho`` is
            negative.
    """

    #: Gradients of a full batch that one step evaluates; the training record multiplies by it.
    gradients_per_step: float = 1.0

    #: Forward passes without a backward pass that one step adds, in full batches; each costs a
    #: third of a gradient.
    extra_forwards: float = 0.0

    #: Buffers of the parameters' size that the wrapper holds while gradients are computed, when
    #: memory is at its peak, beside the base optimizer's own state and the gradients. Within the
    #: step it may for a moment hold another one, as the base optimizer does.
    extra_buffers: float = 1.0

    #: Whether a step treats one tensor of all parameters as it treats them apart: then it also
    #: works on the flat vector of ``paper_repro.engine``.
    blind_to_tensors: bool = True

    def __init__(self, base: Optimizer, **settings: Any) -> None:
        if not isinstance(base, Optimizer):
            raise UserError(
                f"{type(self).__name__} wraps a torch.optim.Optimizer, not {type(base).__name__}; "
                "write for example S2SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)"
            )
        if isinstance(base, Perturbing):
            raise UserError(f"{type(base).__name__} is already a sharpness-aware wrapper")
        if isinstance(base, torch.optim.LBFGS):
            raise UserError(
                f"{type(self).__name__} cannot wrap LBFGS, which evaluates a closure itself"
            )
        if "_optimizer_sparse_method" in base.__dict__:
            raise UserError(
                f"a sparse method is attached to the {type(base).__name__}: make the "
                f"{type(self).__name__} first and attach the method to that"
            )
        self._settings = settings
        self._check(settings)
        for group in base.param_groups:
            self._check(group)
        super().__init__(base.param_groups, {**base.defaults, **settings})
        self.base = base
        self.param_groups = base.param_groups
        self.state = base.state
        # So that nobody attaches to the inner one by mistake. No reference: the wrapper has it.
        base._optimizer_wrapped_by = type(self).__name__  # type: ignore[attr-defined]

    #: Whether ρ may be negative.
    signed_rho: ClassVar[bool] = False

    def _check(self, group: dict[str, Any]) -> None:
        rho = group.get("rho", 0.0)
        finite = isinstance(rho, int | float) and math.isfinite(rho)
        if not finite or (rho < 0.0 and not self.signed_rho):
            wanted = "a finite number" if self.signed_rho else "a finite number >= 0"
            raise UserError(f"rho must be {wanted}, not {rho}")
        if group.get("maximize"):  # uphill would then be where the objective is better
            raise UserError(
                "sharpness-aware optimizers minimize: negate the loss instead of maximize=True"
            )
        parameters = [p for p in group.get("params", ()) if isinstance(p, Tensor)]
        if any(p.is_complex() for p in parameters):
            raise UserError(
                f"{type(self).__name__} has no rule for complex parameters: hold their real and "
                "imaginary parts as real ones (torch.view_as_real)"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to wrapper and base alike; it may carry its own ``rho``."""
        if "base" not in self.__dict__:  # Optimizer.__init__ adopting the base's groups
            super().add_param_group(param_group)
            return
        if not isinstance(param_group.get("params", ()), Tensor | list | tuple):  # an iterator
            param_group = {**param_group, "params": list(param_group["params"])}
        self._check(param_group)
        self.base.add_param_group({**self._settings, **param_group})

    def __getstate__(self) -> dict[str, Any]:
        # Optimizer's own keeps only groups and state; a copied wrapper needs its base and
        # settings too. Hooks, and a step that a scheduler or sparse method wrapped, stay behind.
        return {
            name: value
            for name, value in self.__dict__.items()
            if name != "step" and not name.startswith("_optimizer_")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Also the last act of load_state_dict, which brings fresh groups and state: share them.
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self._settings.items():
                group.setdefault(name, value)
        self.base.__setstate__({"state": self.state, "param_groups": self.param_groups})

    def cost(self) -> tuple[float, float]:
        """Gradients, and forward passes without one, of the steps taken as the groups are now.

        Where ρ is 0 in all of them the step is the base optimizer's.
        """
        if any(group.get("rho", 1.0) for group in self.param_groups):
            return self.gradients_per_step, self.extra_forwards
        return 1.0, 0.0

    def extra_state(self) -> dict[str, Any]:
        """State that is no parameter's (counters, generators), for the checkpoint."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take what :meth:`extra_state` gave."""

    def state_dict(self) -> dict[str, Any]:
        """The shared groups and state, and the wrapper's :meth:`extra_state` if it has any.

        With what a base optimizer that has a ``state_dict`` of its own keeps there beside them.
        """
        state = super().state_dict()
        if type(self.base).state_dict is not Optimizer.state_dict:
            state.update(self.base.state_dict())
        extra = self.extra_state()
        return {**state, **({"extra": extra} if extra else {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        if type(self.base).load_state_dict is not Optimizer.load_state_dict:
            # It knows more of its state, such as which may not be cast to the parameters' type.
            own = {name: value for name, value in state_dict.items() if name != "extra"}
            self.base.load_state_dict(own)
            self.param_groups, self.state = self.base.param_groups, self.base.state
        if "extra" in state_dict:
            self.load_extra_state(state_dict["extra"])

    def adopt(self, masks: GradientMasks) -> None:
        """Learn of the masks that the model trains under; most wrappers need not know."""

    def eval(self) -> None:
        """Put the parameters at the weights w (they are there already, unless overridden).

        A base optimizer with such a mode of its own, as schedule-free ones have, is switched too:
        then the parameters hold the weights that it evaluates.
        """
        self._base_mode("eval")

    def train(self) -> None:
        """Put the parameters where the next gradient is taken."""
        self._base_mode("train")

    @property
    def _base_has_modes(self) -> bool:
        return all(callable(getattr(self.base, mode, None)) for mode in ("train", "eval"))

    def _base_mode(self, mode: str) -> None:
        if self._base_has_modes:
            getattr(self.base, mode)()

    def abandon(self) -> None:
        """Give up a step that is half taken, because a topology update takes its place."""

    def exact(self, parameter: Tensor) -> Tensor:
        """The weights w of a parameter, wherever the parameter itself stands now."""
        return parameter

    @contextlib.contextmanager
    def unperturbed(self) -> Iterator[None]:
        """Inside, parameters hold w and may be edited; afterwards they are perturbed as before."""
        yield

    def _run(self, closure: Callable[[], Any]) -> Any:
        moved()
        with torch.enable_grad():
            return closure()

    def _live(self) -> list[Tensor]:
        """The parameters that have a gradient now, over all groups."""
        live = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if any(p.grad.is_sparse for p in live):  # type: ignore[union-attr]
            raise UserError(f"{type(self).__name__} does not support sparse gradient tensors")
        return live


def moved() -> None:
    """Tell autocast that parameters were moved in place.

    An autocast region around more than one forward pass casts each weight once and keeps the cast:
    the passes after a move would else see the weights before it.
    """
    torch.clear_autocast_cache()


def unwrapped(optimizer: Any) -> Any:
    """The optimizer inside what accelerate, Lightning and the like put around it.

    Those forward to the real one, which they hold as ``optimizer``.
    """
    while any(c.__module__.partition(".")[0] in _WRAPPERS for c in type(optimizer).__mro__):
        inner = getattr(optimizer, "optimizer", None)
        if not isinstance(inner, Optimizer):
            break
        optimizer = inner
    return optimizer


def exact(optimizer: Optimizer | None, parameter: Tensor) -> Tensor:
    """The weights w of ``parameter`` under any optimizer, wherever the parameter stands."""
    inner = unwrapped(optimizer)
    return inner.exact(parameter) if isinstance(inner, Perturbing) else parameter


@contextlib.contextmanager
def evaluating(optimizer: Any) -> Iterator[None]:
    """Inside, the parameters are the weights to evaluate, average or save; then as before.

    Under S2SAM those are w; under a schedule-free optimizer its averages; under SGD there is
    nothing to do. accelerate's and Lightning's wrappers are seen through.
    """
    inner = unwrapped(optimizer)
    modes = all(callable(getattr(inner, mode, None)) for mode in ("train", "eval"))
    training = modes and all(group.get("train_mode", True) for group in inner.param_groups)
    if not training:
        yield
        return
    inner.eval()
    try:
        yield
    finally:
        inner.train()


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """``target.copy_(source)`` for all, in one operation where there is one for them."""
    if any(isinstance(t, _DTENSOR) for t in (*targets, *sources)):  # FSDP2's have none
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
    elif targets:
        torch._foreach_copy_(list(targets), list(sources))


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm over all tensors together: 0-dim float64, on the first one's device, no sync.

    Accumulated in float64, so that no float32 gradient over- or underflows when squared.
    """
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    device = tensors[0].device
    wide = torch.float32 if device.type == "mps" else torch.float64
    norms = torch._foreach_norm(list(tensors), 2, dtype=wide)
    return torch.linalg.vector_norm(torch.stack([n.to(device) for n in norms]))


def radius_over_norm(rho: float, norm: Tensor, dtype: torch.dtype) -> Tensor:
    """ρ/‖g‖ as a 0-dim tensor, and 0 where there is no direction to speak of.

    That is at ‖g‖ = 0, at a non-finite ‖g‖, and where the quotient overflows ``dtype`` (for
    float32: ‖g‖ below 1e-40, all of whose entries are subnormal).
    """
    scale = rho / norm
    usable = torch.isfinite(norm) & (scale.abs() <= torch.finfo(dtype).max)
    scale = torch.where(usable, scale, torch.zeros_like(scale))
    # In the parameters' own type, which the fused foreach kernels insist on, unless that is a
    # 16-bit one, whose rounding of the factor would show in the radius.
    return scale.to(dtype) if torch.finfo(dtype).bits >= 32 else scale
