"""What a reader must know of a profile before any of its numbers."""

from __future__ import annotations

from paper_repro.config import RunConfig
from paper_repro.experiment.profiles import Profile
from tables.compare import DATASET_LABELS

__all__ = ["NO_EVIDENCE", "cautions"]

NO_EVIDENCE = "Not evidence: this size only shows that the pipeline works."


def cautions(profile: Profile) -> tuple[str, ...]:
    """Why the profile's numbers are not what the paper's would be, a sentence each, worst first.

    It is no evidence, some of its training labels are wrong, or its arithmetic rounds S2-SAM's
    perturbation away. Nothing for a profile of which none of that is true.
    """
    found = [] if profile.evidence else [NO_EVIDENCE]
    noisy: dict[float, list[str]] = {}
    coarse = []
    for dataset, own in profile.datasets.items():
        settings = profile.per_dataset.get(dataset, profile.settings)
        noise = settings.get("label_noise", RunConfig.label_noise)
        if noise:
            noisy.setdefault(noise, []).append(DATASET_LABELS[own])
        if settings.get("precision", RunConfig.precision) == "bf16":
            coarse.append(DATASET_LABELS[own])
    found += [
        f"Trained on wrong labels: {noise:.0%} of the training labels of {' and '.join(data)} are "
        "another class's. The paper trains on right ones; test labels are right here too."
        for noise, data in sorted(noisy.items(), reverse=True)
    ]
    if coarse:
        found.append(
            f"Trained in bfloat16 ({', '.join(coarse)}), in which S2-SAM's perturbation arrives "
            "distorted: no clean test of it."
        )
    return tuple(found)
