"""What a table's runs train on and are tested on, in a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from paper_repro.config import RunConfig
from paper_repro.experiment.profiles import Profile
from paper_repro.optim import OPTIMIZERS
from tables.base import Cell, Table
from tables.compare import DATASET_LABELS, MODEL_LABELS

__all__ = ["about", "usual"]

#: Images to train on and to test on, of the data sets of which the rest is tested on too.
_IMAGES = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "digits": (1_437, 360)}
_WHICH = "the test images and the training images left out"


def about(table: Table, profile: Profile) -> str:
    """The table's own line; else the profile's, if all runs train what it speaks of; else theirs.

    A profile speaks of its network on CIFAR-10 (:attr:`Profile.about`). What accuracies are of is
    added where it is not the test images alone.
    """
    if table.about:
        return table.about
    runs, tested = list(table.runs()), set(_tested(table))
    expected = {(profile.datasets.get("cifar10"), profile.models.get("resnet32x2", "resnet32x2"))}
    if {(c.dataset, c.model) for c in runs} <= expected:
        return _with(profile.about, [c for c in runs if c in tested])
    by_data: dict[str, list[RunConfig]] = {}
    for config in runs:
        by_data.setdefault(config.dataset, []).append(config)
    return "; ".join(_line(data, own, tested) for data, own in by_data.items())


def usual(profile: Profile) -> str:
    """The profile's line, with what its accuracies on CIFAR-10 are of."""
    sgd = OPTIMIZERS.spec("sgd")
    return _with(
        profile.about, [profile.config("cifar10", "resnet32x2", profile.method("dense"), sgd, 0)]
    )


def _with(line: str, tested: list[RunConfig]) -> str:
    images = _images(tested)
    return f"{line}; tested on {images}" if images else line


def _tested(table: Table) -> Iterator[RunConfig]:
    """The runs that an accuracy is read of: what measures are of the table's notes say."""
    for row in table.rows:
        for entry in row.entries:
            if isinstance(entry, Cell) and entry.measurement is None:
                yield from entry.runs


def _images(tested: list[RunConfig]) -> str:
    """``58,000 images (...)``; empty where all are tested on the test images alone."""
    if not any(_wide(config) for config in tested):
        return ""
    known = {_count(config) for config in tested}
    counts = [n for n in known if n is not None]
    if len(counts) < len(known):
        return _WHICH
    return f"{_or(f'{n:,}' for n in sorted(counts))} images ({_WHICH})"


def _wide(config: RunConfig) -> bool:
    return config.test_on == "wide" and config.train_size is not None


def _count(config: RunConfig) -> int | None:
    """How many images a run is tested on."""
    if config.dataset not in _IMAGES:
        return None
    train, test = _IMAGES[config.dataset]
    return test + max(0, train - (config.train_size or train)) * _wide(config)


def _line(dataset: str, runs: list[RunConfig], tested: set[RunConfig]) -> str:
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
    images = _images([c for c in runs if c in tested])
    if images:
        parts.append(f"tested on {images}")
    models = dict.fromkeys(MODEL_LABELS.get(c.model, c.model) for c in runs)
    return f"{', '.join(parts)}: {', '.join(models)}"


def _ordered(sizes: Iterable[int | None]) -> list[int | None]:
    """The smallest first, all (None) last."""
    return sorted(sizes, key=lambda n: (n is None, n or 0))


def _or(words: Iterable[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
