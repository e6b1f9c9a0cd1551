"""Wrong labels on purpose: where SAM's gain is largest, so where an experiment can see one."""

from __future__ import annotations

from dataclasses import replace

import torch

from paper_repro.data.base import Dataset, Split
from paper_repro.errors import UserError

__all__ = ["with_label_noise"]

#: The same labels are wrong in every run, so that runs of one data set can be compared.
_SEED = 20210401


def with_label_noise(data: Dataset, fraction: float) -> Dataset:
    """The same data with a fraction of its training labels wrong (Foret et al. 2021, section 3.3).

    Of N training images round(fraction N), drawn once for the data set, get each a label drawn
    uniformly from the other classes. Those with wrong labels at a small fraction have them at a
    larger one too. Test images and ``spare`` keep theirs.

    Args:
        data: with its training images chosen already.
        fraction: in [0, 1).

    Raises:
        UserError: a fraction that is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise UserError(f"label_noise must lie in [0, 1), not {fraction}")
    labels = data.train.labels.clone()
    generator = torch.Generator().manual_seed(_SEED)
    order = torch.randperm(len(labels), generator=generator)
    # Drawn for all of them, so that an image's wrong label does not depend on the fraction.
    shifts = torch.randint(1, data.classes, (len(labels),), generator=generator)
    wrong = order[: round(fraction * len(labels))].to(labels.device)
    labels[wrong] = (labels[wrong] + shifts.to(labels.device)[wrong]) % data.classes
    return replace(data, train=Split(data.train.images, labels))
