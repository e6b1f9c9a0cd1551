"""What a table's runs train on, in a line."""

from __future__ import annotations

from collections.abc import Iterable

from paper_repro.config import RunConfig
from paper_repro.experiment.profiles import Profile
from tables.base import Table
from tables.compare import DATASET_LABELS, MODEL_LABELS

__all__ = ["about"]


def about(table: Table, profile: Profile) -> str:
    """The table's own line; else the profile's, if all runs train what it speaks of; else theirs.

    A profile speaks of its network on CIFAR-10 (:attr:`Profile.about`).
    """
    if table.about:
        return table.about
    runs = list(table.runs())
    usual = {(profile.datasets.get("cifar10"), profile.models.get("resnet32x2", "resnet32x2"))}
    if {(c.dataset, c.model) for c in runs} <= usual:
        return profile.about
    by_data: dict[str, list[RunConfig]] = {}
    for config in runs:
        by_data.setdefault(config.dataset, []).append(config)
    return "; ".join(_line(*item) for item in by_data.items())


def _line(dataset: str, runs: list[RunConfig]) -> str:
    """``CIFAR-10, 2,000 images, 40 % of their labels wrong, 100 epochs: ResNet-20``."""
    parts = [DATASET_LABELS.get(dataset, dataset)]
    sizes = {c.train_size for c in runs}
    if sizes != {None}:
        parts.append(_or("all" if n is None else f"{n:,}" for n in _ordered(sizes)) + " images")
    noise = {c.label_noise for c in runs}
    if noise != {0.0}:
        shares = _or(f"{100 * share:g}" for share in sorted(noise))
        parts.append(f"{shares} % of their labels wrong")
    parts.append(_or(str(n) for n in sorted({c.epochs for c in runs})) + " epochs")
    models = dict.fromkeys(MODEL_LABELS.get(c.model, c.model) for c in runs)
    return f"{', '.join(parts)}: {', '.join(models)}"


def _ordered(sizes: Iterable[int | None]) -> list[int | None]:
    """The smallest first, all (None) last."""
    return sorted(sizes, key=lambda n: (n is None, n or 0))


def _or(words: Iterable[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
