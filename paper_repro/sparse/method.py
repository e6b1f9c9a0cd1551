"""What every sparse-training method shares: how it attaches, saves and resumes."""

from __future__ import annotations

import contextlib
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.generators import go_on
from paper_repro.registry import Spec
from paper_repro.sparse.distribution import groups_of, layer_counts
from paper_repro.sparse.layers import check_whole, prunable
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.plan import Plan, constant
from paper_repro.sparse.replicas import settled, shared_generator
from paper_repro.sparse.select import keep_random
from paper_repro.sparse.travel import Passenger, check_given, usable_optimizer

__all__ = ["BatchRequest", "SparseMethod", "seed_of_stream"]

#: Keeps a method's random numbers apart from those of ``torch.manual_seed`` with the same seed, of
#: which initial weights are made: `rand` and `normal_` or `uniform_` use one stream alike, so that
#: "random" masks would follow the weights' sizes and signs. Below 2^32, all that a seed has.
_APART = 0x9E3779B9


def seed_of_stream(stream: int) -> int:
    """The seed with which a method draws the numbers of ``torch.manual_seed(stream)``.

    For runs recorded before the two were kept apart (``RunConfig.mask_stream``), and for nothing
    else.
    """
    return stream ^ _APART


@dataclass(frozen=True)
class BatchRequest:
    """The training samples that a method scores weights on before training.

    ``per_class`` asks for ``size`` of every class; where there are no classes, for ``size``.
    """

    size: int
    per_class: bool = False


class SparseMethod(ABC):  # noqa: B024
    """A network trained under masks that this object owns.

    Subclasses choose the masks in ``__init__``; those that go on choosing derive from
    :class:`paper_repro.sparse.dynamic.DynamicMethod`. Constructor arguments are either options,
    which a run's config names and its fingerprint covers, or among ``paper_repro.sparse.RUNTIME``,
    which the loop supplies.

    Assigning ``masks`` attaches the method, so it comes after everything that can go wrong: a
    constructor that raises before leaves model and optimizer as they were. From then on the
    optimizer's ``state_dict`` holds the method's state, and loading one restores it.

    Raises:
        UserError: no optimizer where one is needed, one that cannot take a method or is another
            model's, a model that is sharded or masked already.
    """

    #: Whether masks are all that the method moves: then it also works where only active weights
    #: are stored (see ``paper_repro.engine``). Not one that writes to weights or batch norm.
    masks_only: ClassVar[bool] = True

    #: Whether every layer keeps, throughout a training, the number of active weights that the
    #: method's option ``distribution`` gives it: then its FLOPs are known beforehand.
    layerwise: ClassVar[bool] = False
    #: Whether it moves weights from layer to layer during training, so that none can keep a
    #: density of its own.
    moves_between_layers: ClassVar[bool] = False
    #: Whether the method can choose within groups of weights (the distributions ``n:m``).
    chooses_in_groups: ClassVar[bool] = False

    #: Whether it cannot do without an optimizer.
    needs_optimizer: ClassVar[bool] = False

    def __init__(self, model: nn.Module, optimizer: Optimizer | None, seed: int = 0) -> None:
        self._masks: Masks | None = None
        self._passenger: Passenger | None = None
        check_whole(model)
        inner = usable_optimizer(type(self).__name__, optimizer, self.needs_optimizer)
        self.model = model
        self.optimizer = inner
        device = next(model.parameters()).device
        self.generator = torch.Generator(device=device).manual_seed(seed ^ _APART)
        shared_generator(self.generator)
        self._drawn_alike = settled()

    @property
    def masks(self) -> Masks:
        """The masks that the network trains under."""
        if self._masks is None:
            raise AttributeError("the method has no masks yet")
        return self._masks

    @masks.setter
    def masks(self, masks: Masks) -> None:
        first, self._masks = self._masks is None, masks
        if first:
            try:
                check_given(type(self), self.model, masks)
                self._attach()
            except UserError:
                masks.withdraw()
                raise

    def _attach(self) -> None:
        if self.optimizer is not None:
            self._passenger = Passenger(self, self.optimizer)

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle attaches anew, to the optimizer that comes with it.
        return {
            **{name: value for name, value in self.__dict__.items() if name != "_passenger"},
            "generator": (self.generator.device, self.generator.get_state()),
            "attached": self._passenger is not None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        attached = state.pop("attached")
        device, random = state.pop("generator")
        self.__dict__.update(state)
        self.generator = torch.Generator(device=device)
        self.generator.set_state(random)
        self._passenger = None
        if attached:
            self._attach()

    #: Whether it removes whole channels, so that :func:`paper_repro.sparse.compact` makes the
    #: trained network smaller.
    structured: ClassVar[bool] = False

    @classmethod
    def batch_request(cls, spec: Spec) -> BatchRequest | None:
        """What the method needs as ``batch``, if anything."""
        return None

    @classmethod
    def parent_spec(cls, spec: Spec) -> Spec | None:
        """The method whose finished training this one starts from, if any (pruning rounds)."""
        return None

    @classmethod
    def nominal_sparsity(cls, spec: Spec) -> float:
        """The sparsity that a config asks for."""
        return float(spec["sparsity"])

    @classmethod
    def planned(
        cls, spec: Spec, model: nn.Module, total_steps: int, steps_per_epoch: int
    ) -> Plan | None:
        """How dense a training will be, if that is known beforehand; None if it is not.

        Args:
            spec: the method with its options.
            model: the network; only shapes are read, so it may be on torch's meta device.
            total_steps: optimizer steps of the whole training.
            steps_per_epoch: optimizer steps of one epoch.
        """
        if not cls.layerwise or spec["distribution"] == "global":
            return None
        dense = cls.dense_gradients(spec, total_steps)
        return constant(model, spec["sparsity"], spec["distribution"], total_steps, dense)

    @classmethod
    def dense_gradients(cls, spec: Spec, total_steps: int) -> int:
        """Steps of a whole training that take the gradient by the pruned weights too."""
        return 0

    def weight(self, name: str) -> Tensor:
        """The exact weights w of a masked layer, also while the model stands perturbed."""
        return self.masks.weight(name, self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Masks and random state: all that a resumed run needs."""
        return {"masks": self.masks.state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint of the same method on the same model."""
        self.masks.load_state_dict(state["masks"])
        go_on(self.generator, state["generator"])

    def missed(self, asked: float) -> float:
        """The sparsity reached minus the one asked for; 0 where only a layer's rounding differs.

        Reached is that of the masked layers or of all prunable ones, whichever comes closer: a
        distribution is of one or of the other. Rounding is up to one weight of each layer.
        """
        masked = sum(w.numel() for w in self.masks.weights.values())
        off = min((self.masks.sparsity(overall) - asked for overall in (False, True)), key=abs)
        return off if round(abs(off) * masked, 3) > len(self.masks) else 0.0

    def facts(self) -> dict[str, Any]:
        """What a record should say of this run beside its masks, e.g. topology updates made."""
        return {}

    def apart(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the optimizer's state dict is saved and loaded without this method's state.

        For a loop that keeps :meth:`state_dict` by itself.
        """
        return contextlib.nullcontext() if self._passenger is None else self._passenger.apart()

    def detach(self) -> None:
        """Let go of model and optimizer.

        The weights are as sparse as they were, and nothing holds them so: a step taken afterwards
        trains densely, and pruned weights move. Where training is over, use :meth:`finalize`.
        """
        self.masks.detach()
        if self._passenger is not None:
            self._passenger.remove()
            self._passenger = None

    @torch.no_grad()
    def finalize(self) -> nn.Module:
        """End the sparse training: bake the masks in, and return the model.

        The parameters hold the weights to evaluate, w, and exactly 0 wherever they are pruned,
        without hooks; the optimizer has let go, in its evaluation mode if it has one. A state dict
        of the model is what to ship.
        """
        if callable(mode := getattr(self.optimizer, "eval", None)):
            mode()
        self.masks.settle()
        for name, weight in self.masks.weights.items():
            weight.mul_(self.masks[name])
        self.detach()
        return self.model

    def sparse_layers(self, sparsity: float, distribution: str) -> dict[str, int]:
        """Weights to keep in each layer that is masked, those kept dense left out."""
        if groups_of(distribution) is not None and not self.chooses_in_groups:
            raise UserError(
                f"{type(self).__name__} chooses weights one by one, not within groups: the "
                f"distribution {distribution} works with Magnitude and Random"
            )
        weights = prunable(self.model)
        counts = layer_counts(self.model, sparsity, distribution)
        masked = {name: k for name, k in counts.items() if k < weights[name].numel()}
        if sparsity > 0 and not masked:
            raise UserError(
                f"no layer is left to be made {sparsity:.0%} sparse: the distribution "
                f"{distribution}, or choose_layers, keeps all of them dense; uniform-all would not"
            )
        return masked

    def random_masks(self, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Exactly ``counts[name]`` active positions in each layer, uniformly at random."""
        weights = prunable(self.model)
        return {
            name: keep_random(
                weights[name].shape,
                k,
                self.generator,
                torch.ones_like(weights[name], dtype=torch.bool),
            )
            for name, k in counts.items()
        }
