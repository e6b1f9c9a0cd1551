"""What one training run is: every decision in one frozen value with a stable fingerprint."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, get_type_hints

from paper_repro.data import DATASETS
from paper_repro.errors import UserError
from paper_repro.models import MODELS
from paper_repro.models.init import INITS
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Registry, Scalar, Spec, checked
from paper_repro.sparse import METHODS
from paper_repro.sparse.distribution import check_sparsity

__all__ = ["PRECISIONS", "RunConfig"]

PRECISIONS = ("float32", "tf32", "bf16")
TEST_ON = ("official", "wide")
MASK_STREAMS = ("own", "weights")
BASES = ("sgd", "adam")
#: Learning-rate schedules, see :mod:`paper_repro.train.schedule`.
SCHEDULES = ("cosine", "inverse-sqrt")
_LONGEST = 1_000_000
_REGISTRIES: dict[str, Registry] = {"method": METHODS, "optimizer": OPTIMIZERS}


@dataclass(frozen=True)
class RunConfig:
    """One training run. Two runs that differ in any field have different fingerprints.

    Where and how fast a run is executed (device, threads, compilation, folders) is not part of
    it; see :class:`paper_repro.experiment.runs.Workplace`.

    Attributes:
        profile: the experiment's size that this run belongs to.
        dataset: a registered data set.
        model: a registered model.
        method: the sparse method with all of its options.
        optimizer: the optimizer with all of its options; it wraps the base.
        seed: of initial weights, order and augmentation of the data, masks, and dropout.
        epochs: passes over the training images, or sentence pairs.
        batch_size: images a step; an epoch's incomplete last batch is left out. Of sentences:
            tokens a step (:class:`paper_repro.train.translation.Translation`).
        lr: highest learning rate, reached after the warm-up and decayed at every step,
        lr_min: down to this one.
        momentum: SGD's, or Adam's β1.
        weight_decay: the base's, λw added to the gradient; the same for every optimizer compared.
        label_smoothing: in [0, 1).
        precision: of convolutions and matrix products. ``float32``: full float32 everywhere.
            ``tf32``: TF32 where the device has it (NVIDIA GPUs from Ampere on), else float32; the
            record's environment says which. ``bf16``: bfloat16 autocast. Weights, optimizer and
            batch norm are float32 in each.
        augment: random crops and flips, as the data set has them.
        train_size: use only the first so many training images; None for all.
        init: how the weights are drawn at the start: ``fan_in`` (all from N(0, 2 / fan_in)) or
            ``released``, as in the networks of the authors' code
            (:mod:`paper_repro.models.init`).
        rho_start: fraction in [0, 1] of the training during which ρ is 0, before it is the
            optimizer's (:class:`paper_repro.optim.LatePhase`).
        evaluate_every: epochs from one evaluation to the next; the last epoch always has one.
        test_on: ``official``, the data set's test images, or ``wide``: those and the training
            images that ``train_size`` leaves out, which makes an accuracy's noise smaller.
        label_noise: fraction in [0, 1) of the training labels that are wrong, the same in every
            run (:mod:`paper_repro.data.noise`).
        base: what takes the steps: ``sgd``, or ``adam`` with β2 = 0.98 and ε = 1e-9, as Vaswani et
            al. (2017) train Transformers.
        schedule: of the learning rate, ``cosine`` or ``inverse-sqrt``
            (:mod:`paper_repro.train.schedule`).
        warmup: steps over which the learning rate first rises linearly.
        average: of how many last epochs the weights are averaged for the last evaluation and for
            what is saved (:class:`paper_repro.train.averaging.Average`); 1 is the last alone.
        mask_stream: of which numbers a sparse method draws its masks: its ``own``, or those that
            begin like the initial ``weights``', as all runs once did. Where the first layer is
            masked, random masks then follow the weights (:mod:`paper_repro.sparse.method`).
    """

    #: Fields that came after runs were recorded, and what those runs did: records that lack one
    #: are read with that value, and it takes no part in a fingerprint.
    FIELD_BEFORE: ClassVar[Mapping[str, Scalar]] = MappingProxyType(
        {
            "init": "fan_in",
            "rho_start": 0.0,
            "evaluate_every": 1,
            "test_on": "official",
            "label_noise": 0.0,
            "base": "sgd",
            "schedule": "cosine",
            "warmup": 0,
            "average": 1,
            "mask_stream": "weights",
        }
    )

    profile: str
    dataset: str
    model: str
    method: Spec
    optimizer: Spec
    seed: int
    epochs: int
    batch_size: int = 64
    lr: float = 0.1
    lr_min: float = 4e-8
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    precision: str = "float32"
    augment: bool = True
    train_size: int | None = None
    init: str = "fan_in"
    rho_start: float = 0.0
    evaluate_every: int = 1
    test_on: str = "official"
    label_noise: float = 0.0
    base: str = "sgd"
    schedule: str = "cosine"
    warmup: int = 0
    average: int = 1
    mask_stream: str = "weights"

    def __post_init__(self) -> None:
        for name, annotation in _types().items():
            value = getattr(self, name)
            if (new := checked(name, value, annotation)) is not value:
                object.__setattr__(self, name, new)
        for registry, member in ((DATASETS, self.dataset), (MODELS, self.model)):
            registry[member]
        for name in ("epochs", "batch_size", "evaluate_every", "average"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.epochs > _LONGEST:
            raise UserError(f"epochs must be at most {_LONGEST}, not {self.epochs:.6g}")
        for name in ("lr", "lr_min", "momentum", "weight_decay", "warmup"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must be at least 0 and below 2^32, not {self.seed}")
        if self.train_size is not None and self.train_size < 1:
            raise UserError(f"train_size must be at least 1, not {self.train_size}")
        for name in ("label_smoothing", "label_noise"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must lie in [0, 1), not {getattr(self, name)}")
        for name, known in (
            ("precision", PRECISIONS),
            ("init", INITS),
            ("base", BASES),
            ("schedule", SCHEDULES),
            ("mask_stream", MASK_STREAMS),
        ):
            if getattr(self, name) not in known:
                raise UserError(
                    f"unknown {name} {getattr(self, name)!r}; known are {', '.join(known)}"
                )
        if self.average > self.epochs:
            raise UserError(f"average is {self.average}, but the training has {self.epochs} epochs")
        if self.test_on not in TEST_ON:
            raise UserError(f"test_on is {' or '.join(TEST_ON)}, not {self.test_on!r}")
        if not 0 <= self.rho_start <= 1:
            raise UserError(f"rho_start must lie in [0, 1], not {self.rho_start}")
        if self.rho_start and "rho" not in dict(self.optimizer.options):
            raise UserError(f"{self.optimizer.name} has no rho that rho_start could hold back")
        check_sparsity(self.sparsity)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = {name: getattr(self, name) for name in _types()}
        return {k: v.to_dict() if isinstance(v, Spec) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunConfig:
        """The inverse of :meth:`to_dict`.

        Raises:
            UserError: it is not such a dictionary, or something in it is missing, unknown or out
                of range. Nothing is filled in but fields and options younger than the run
                (``FIELD_BEFORE``, :meth:`paper_repro.registry.Registry.before`): what has a
                default is in the dictionary too.
        """
        if not isinstance(plain, Mapping):
            raise UserError(f"a run's config is a dictionary, not {type(plain).__name__}")
        values = {**cls.FIELD_BEFORE, **plain}
        _same_names("a run's config", values.keys(), _types().keys())
        for name, registry in _REGISTRIES.items():
            given = values[name]
            if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
                raise UserError(f"the {name} of a run's config has no name")
            options = {option: value for option, value in given.items() if option != "name"}
            options = {**registry.before(given["name"]), **options}
            known = registry.defaults(given["name"]).keys()
            _same_names(f"{registry.kind} {given['name']!r}", options.keys(), known)
            values[name] = registry.spec(given["name"], **options)
        return cls(**values)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits that address the run: the start of its config's SHA-256.

        A field or an option that came later is left out where it asks for what all runs did
        before, so that their records stay theirs.
        """
        absent = object()
        plain = {k: v for k, v in self.to_dict().items() if v != self.FIELD_BEFORE.get(k, absent)}
        for name, registry in _REGISTRIES.items():
            before = registry.before(plain[name]["name"])
            plain[name] = {
                k: v for k, v in plain[name].items() if k not in before or v != before[k]
            }
        canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def sparsity(self) -> float:
        """The sparsity asked for."""
        return METHODS[self.method.name].nominal_sparsity(self.method)

    def parent(self) -> RunConfig | None:
        """The run whose trained weights this one starts from, if any (pruning rounds)."""
        spec = METHODS[self.method.name].parent_spec(self.method)
        if spec is None:
            return None
        return replace(self, method=spec)

    def __str__(self) -> str:
        return (
            f"{self.dataset} {self.model} {self.method.name} {self.sparsity:.1%} "
            f"{self.optimizer.name} seed {self.seed} ({self.profile})"
        )


@functools.cache
def _types() -> dict[str, Any]:
    hints = get_type_hints(RunConfig)
    return {f.name: hints[f.name] for f in fields(RunConfig)}  # the class's own attributes not


def _same_names(what: str, given: Set[str], known: Set[str]) -> None:
    if given == known:
        return
    for names, problem in ((known - given, "lacks"), (given - known, "has an unknown")):
        if names:
            raise UserError(f"{what} {problem} {', '.join(map(repr, sorted(names)))}")
