"""Accuracy under the 19 common corruptions at five severities (Table 5)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paper_repro.data.corrupted import GROUPS, SEVERITIES, TYPES, strengths
from paper_repro.data.corrupted.generate import corrupted
from paper_repro.data.corrupted.published import find
from paper_repro.errors import UserError
from paper_repro.measure import MEASURES
from paper_repro.measure.trained import Trained

__all__ = ["SOURCES", "corruptions"]

_AT_ONCE = 500  # images
SOURCES = ("generated", "published")


@MEASURES.register("corruptions")
def corruptions(
    trained: Trained,
    *,
    images: int | None = 1000,
    source: str = "generated",
    seed: int = 0,
) -> dict[str, Any]:
    """Test accuracy (%) of each corruption type and severity, and its means.

    Generated ones are made of the data set's own test images with the constants of the benchmark
    that has such images (:func:`paper_repro.data.corrupted.strengths`); they are the same for all
    networks. Their pixels are not those of the published files (the original's motion blur is
    ImageMagick's), which are read with ``source="published"`` where the user has them.

    Args:
        trained: the network.
        images: how many of the test images, the same ones for every network; None for all.
        source: ``generated`` or ``published``.
        seed: of the choice of images and of the generated corruptions.

    Returns:
        ``clean``: accuracy on the same images as they are; with ``published``, whose rows nothing
        matches with those of the copy at hand, on all of the test images. ``mean``: over all
        19 x 5; ``common``: over the benchmark's 15 types without the four for validation;
        ``groups``: mean by group; ``types``: five accuracies for each, by severity; ``images``: how
        many corrupted ones are scored, without those of a stream that cannot be decoded and are
        skipped; ``constants``: whose.

    Raises:
        UserError: a bad option, or a network that sees no images, or a missing published set, or
            no image that can be decoded.
    """
    if source not in SOURCES:
        raise UserError(f"source is {' or '.join(SOURCES)}, not {source!r}")
    if images is not None and images < 1:
        raise UserError(f"corruptions need at least 1 image, not {images}")
    if trained.normalise is None or trained.images is None:
        raise UserError("corruptions are for networks that see images")
    total = len(trained.data.test)
    n = total if images is None else min(images, total)
    # Not the first ones: test sets may be sorted by class.
    rows = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:n].sort().values
    clean, labels = trained.images(rows)
    if not len(labels):
        raise UserError(f"none of the {n} test images can be decoded")
    originals = clean.cpu().numpy()
    size = originals.shape[1]
    if source == "published":
        there = find(
            trained.data.name,
            trained.root,
            trained.data.classes,
            size,
            getattr(trained.data, "names", None),
        )

    def accuracies(name: str) -> list[float]:
        if source == "published":
            found = (there.read(name, s, rows.numpy()) for s in SEVERITIES)
            return [_accuracy(trained, torch.from_numpy(i), torch.from_numpy(t)) for i, t in found]
        made = corrupted(name, originals, seed, trained.cache and trained.cache / "corrupted")
        return [_accuracy(trained, torch.from_numpy(m), labels) for m in made]

    types = trained.parts.each(TYPES, accuracies, desc="corruptions")
    means = {name: math.fsum(values) / len(values) for name, values in types.items()}
    common = [means[name] for group, names in GROUPS.items() if group != "extra" for name in names]
    return {
        "clean": _accuracy(trained, clean, labels) if source == "generated" else _whole(trained),
        "mean": float(np.mean(list(means.values()))),
        "common": float(np.mean(common)),
        "groups": {g: float(np.mean([means[n] for n in names])) for g, names in GROUPS.items()},
        "types": types,
        "images": len(labels) if source == "generated" else n,
        "constants": strengths(size)[0],
    }


def _whole(trained: Trained) -> float:
    """On all test images, few at a time: they may not fit into memory."""
    assert trained.images is not None
    parts = torch.arange(len(trained.data.test)).split(_AT_ONCE)
    loaded = (trained.images(rows) for rows in parts)
    # Of a stream some may be skipped.
    scored = [(_accuracy(trained, i, right), len(right)) for i, right in loaded if len(right)]
    return math.fsum(a * n for a, n in scored) / sum(n for _, n in scored)


@torch.no_grad()
def _accuracy(trained: Trained, images: Tensor, labels: Tensor) -> float:
    assert trained.normalise is not None
    device = next(trained.model.parameters()).device
    hits = 0
    for some, right in zip(images.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True):
        logits = trained.model(trained.normalise(some.to(device)))
        hits += int((logits.argmax(1) == right.to(device)).sum())
    return 100.0 * hits / len(labels)
