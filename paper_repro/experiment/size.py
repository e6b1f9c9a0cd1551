"""What the size of an experiment is: what stands in for the paper's data, networks and length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Scalar, Spec
from paper_repro.sparse import METHODS

__all__ = ["RHO", "Profile", "frozen"]

#: The paper's radius on CIFAR.
RHO = 0.05


def frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """A mapping that nobody can change."""
    return MappingProxyType(dict(mapping))


#: Under the uniform ones the first layer is dense, which shifts random masks against the initial
#: weights of the same numbers, so that neither follows the other (tested); ``global`` masks
#: are not random. What was recorded so stays what it is; the rest draws from numbers of its own.
_SHIFTED = ("uniform", "uniform-rigl", "global")


def _mask_stream(method: Spec) -> str:
    distribution = dict(method.options).get("distribution", "global")
    return "weights" if distribution in _SHIFTED else "own"


@dataclass(frozen=True)
class Profile:
    """How the paper's experiments are sized.

    Attributes:
        name: of the profile.
        about: one line for people.
        evidence: whether its results say anything about the paper.
        datasets: what stands in for each of the paper's data sets; the others are left out.
        models: what stands in for the paper's networks; the others stand for themselves.
        seeds: the runs of a cell.
        settings: fields of :class:`RunConfig` that differ from its defaults.
        per_dataset: the same for those of the paper's data sets that have settings of their own,
            in place of ``settings``.
        per_model: what differs from either for one of the paper's networks.
        rhos: S2-SAM's and SAM's radius ρ by the paper's data set, where it is not 0.05.
        methods: options of sparse methods that depend on the length of a training.
        optimizers: options of optimizers that depend on the network's size.
        prune_ratio: fraction pruned in a round of LT where an experiment does not say.
        threads: of the processor that a run alone on the machine should use; None for all.
        runs_as: the profile that its runs bear in their configs and records, where that is not
            its own name: of records made before it was renamed.
    """

    name: str
    about: str
    evidence: bool
    datasets: Mapping[str, str]
    models: Mapping[str, str]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    per_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: frozen({}))
    per_model: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: frozen({}))
    rhos: Mapping[str, float] = field(default_factory=lambda: frozen({}))
    methods: Mapping[str, Mapping[str, Scalar]] = field(default_factory=lambda: frozen({}))
    optimizers: Mapping[str, Mapping[str, Scalar]] = field(default_factory=lambda: frozen({}))
    prune_ratio: float = 0.2
    threads: int | None = None
    runs_as: str | None = None

    def rank(self, config: RunConfig) -> int:
        """Orders runs by their seeds: a sweep cut short then has whole comparisons of the first."""
        return self.seeds.index(config.seed) if config.seed in self.seeds else len(self.seeds)

    def method(self, name: str, **options: Scalar) -> Spec:
        """A sparse method at this size; ``options`` win over the profile's."""
        return METHODS.spec(name, **{**self.methods.get(name, {}), **options})

    def optimizer(self, name: str, **options: Scalar) -> Spec:
        """An optimizer at this size; ``options`` win over the profile's."""
        return OPTIMIZERS.spec(name, **{**self.optimizers.get(name, {}), **options})

    def rho(self, dataset: str) -> float:
        """The radius ρ of S2-SAM and SAM on the paper's ``dataset`` at this size."""
        return self.rhos.get(dataset, RHO)

    def config(
        self,
        dataset: str,
        model: str,
        method: Spec,
        optimizer: Spec,
        seed: int,
        multiplier: float = 1.0,
        **settings: Any,
    ) -> RunConfig:
        """The run that stands for the paper's ``dataset`` and ``model`` at this size.

        ``multiplier`` lengthens the training (RigL 5x, SET 5x, MEST 1.7x): it multiplies the
        epochs, and with them everything that is a fraction of the training, namely the
        learning-rate schedule, RigL's T_end, MEST's stages and period and DSR's. What is given in
        steps or epochs stays: RigL's ΔT and SET's one epoch, as published. A training of fewer
        epochs than the profile averages averages all of them.

        Raises:
            UserError: a multiplier that is not a positive number, or a data set that nothing
                stands for at this size.
        """
        if dataset not in self.datasets:
            raise UserError(
                f"the {self.name} profile has nothing that stands for {dataset!r}; "
                f"it has {', '.join(self.datasets)}"
            )
        if not (math.isfinite(multiplier) and multiplier > 0):
            raise UserError(f"a training's multiplier must be a number above 0, not {multiplier}")
        usual = self.per_dataset.get(dataset, self.settings)
        streams = {"mask_stream": _mask_stream(method)}
        chosen = {**streams, **usual, **self.per_model.get(model, {}), **settings}
        if multiplier != 1:
            epochs = chosen["epochs"] * multiplier
            if not 0.5 <= epochs <= 1e6:
                raise UserError(f"a multiplier of {multiplier:g} makes {epochs:.3g} epochs")
            chosen["epochs"] = max(1, round(epochs))
        if "average" in usual and "average" not in settings:  # no more epochs than there are
            chosen["average"] = max(1, min(chosen["average"], chosen["epochs"]))
        return RunConfig(
            profile=self.runs_as or self.name,
            dataset=self.datasets[dataset],
            model=self.models.get(model, model),
            method=method,
            optimizer=optimizer,
            seed=seed,
            **chosen,
        )
