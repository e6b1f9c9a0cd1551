"""The comparison that most of the paper's tables make: SGD, S2-SAM, and the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paper_repro.experiment.profiles import RHO, Profile
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Spec
from tables.base import Cell, Delta, Row

__all__ = [
    "DATASET_LABELS",
    "MODEL_LABELS",
    "RHO",
    "Experiment",
    "capital",
    "cell",
    "compare",
    "contenders",
    "data_label",
    "model_label",
    "setting",
]

DATASET_LABELS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "digits": "digits",
    "imagenet": "ImageNet-1K",
    "multi30k": "Multi30k",
    "phrases": "generated phrases",
    "tinyimagenet20": "20 classes of Tiny-ImageNet",
    "wmt14": "WMT-14",
}
MODEL_LABELS = {
    "efficientnet_b0": "EfficientNet-B0",
    "efficientnet_b0_64": "EfficientNet-B0 for 64 px",
    "efficientnet_digits": "a tiny EfficientNet",
    "mobilenet_digits": "a tiny MobileNet",
    "mobilenetv2": "MobileNet-V2",
    "mobilenetv2_half": "MobileNet-V2 of half width",
    "resnet20": "ResNet-20",
    "resnet32x2": "ResNet-32",
    "resnet34": "ResNet-34",
    "resnet34_64_quarter": "ResNet-34 of quarter width for 64 px",
    "resnet34_digits": "a tiny ResNet of basic blocks",
    "resnet50": "ResNet-50",
    "resnet50_64_quarter": "ResNet-50 of quarter width for 64 px",
    "resnet50_digits": "a tiny ResNet of bottlenecks",
    "resnet_digits": "a tiny ResNet",
    "transformer_base": "the base Transformer",
    "transformer_tiny": "a tiny Transformer",
    "transformer_toy": "a toy Transformer",
    "vgg19": "VGG-19",
    "vgg19_quarter": "VGG-19 of quarter width",
    "vgg_digits": "a tiny VGG",
}


def data_label(profile: Profile, dataset: str) -> str:
    """What the paper's ``dataset`` is at this size, in words; another for each of its data sets."""
    own = profile.datasets.get(dataset, dataset)
    label = DATASET_LABELS[own]
    first = next((d for d, other in profile.datasets.items() if other == own), dataset)
    return label if first == dataset else f"{label} (for {DATASET_LABELS[dataset]})"


def model_label(profile: Profile, model: str) -> str:
    """What the paper's network ``model`` is at this size, in words."""
    return MODEL_LABELS[profile.models.get(model, model)]


def capital(label: str) -> str:
    """A label at the beginning of a sentence."""
    return label[:1].upper() + label[1:]


def setting(profile: Profile, dataset: str, model: str) -> str:
    """How dense training of a network is set up at this size; empty without the data set."""
    if dataset not in profile.datasets:
        return ""
    config = profile.config(dataset, model, profile.method("dense"), OPTIMIZERS.spec("sgd"), 0)
    return (
        f"{model_label(profile, model)} on {data_label(profile, dataset)}: {config.epochs} epochs, "
        f"batches of {config.batch_size}, learning rate {config.lr:g}, weight decay "
        f"{config.weight_decay:g}, label smoothing {config.label_smoothing:g}, "
        f"ρ = {profile.rho(dataset):g}."
    )


@dataclass(frozen=True)
class Experiment:
    """One column's experiment in a row: what is trained, whichever the optimizer.

    Attributes:
        method: with all options; None where the project does not have it.
        dataset: the paper's name of it.
        model: the paper's network.
        published: the paper's (SGD, S2-SAM).
        multiplier: of the training's length.
    """

    method: Spec | None
    dataset: str = "cifar10"
    model: str = "resnet32x2"
    published: tuple[float, float] | None = None
    multiplier: float = 1.0


def cell(
    profile: Profile,
    experiment: Experiment,
    optimizer: Spec,
    published: float | None = None,
    **settings: Any,
) -> Cell:
    """The runs of an experiment with one optimizer, one a seed of the profile.

    None where the project does not have the method, or the profile nothing for the data set.
    """
    if experiment.method is None or experiment.dataset not in profile.datasets:
        return Cell(published=published)
    runs = (
        profile.config(
            experiment.dataset,
            experiment.model,
            experiment.method,
            optimizer,
            seed,
            experiment.multiplier,
            **settings,
        )
        for seed in profile.seeds
    )
    return Cell(tuple(runs), published)


def contenders(profile: Profile, dataset: str = "cifar10") -> dict[str, Spec]:
    """SGD, SAM and S2-SAM, the latter two at the profile's radius on the paper's ``dataset``."""
    rho = profile.rho(dataset)
    return {
        "SGD": OPTIMIZERS.spec("sgd"),
        "SAM": OPTIMIZERS.spec("sam", rho=rho),
        "S2-SAM": OPTIMIZERS.spec("s2sam", rho=rho),
    }


def compare(profile: Profile, label: str, experiments: Sequence[Experiment]) -> tuple[Row, ...]:
    """Three rows: SGD, S2-SAM and Δ, one entry an experiment."""
    sgd = OPTIMIZERS.spec("sgd")
    base, ours, deltas = [], [], []
    for e in experiments:
        s2sam = OPTIMIZERS.spec("s2sam", rho=profile.rho(e.dataset))
        theirs, our, gain = None, None, None
        if e.published is not None:
            theirs, our = e.published
            gain = round(our - theirs, 2)
        base.append(cell(profile, e, sgd, theirs))
        ours.append(cell(profile, e, s2sam, our))
        deltas.append(Delta(ours[-1], base[-1], gain))
    return (
        Row((label, "SGD"), tuple(base)),
        Row((label, "S2-SAM"), tuple(ours)),
        Row((label, "Δ"), tuple(deltas)),
    )
