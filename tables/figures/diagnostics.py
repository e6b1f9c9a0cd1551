"""What runs with ``--diagnostics`` measured of themselves: mask churn, cosines, loss rises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from tables.figures import FIGURES
from tables.figures.curves import Runs, by_method, name_of, stacked
from tables.figures.style import described

__all__ = ["draw"]

#: What a line of a curve is asked for, and how its axis is named.
_PANELS = {
    "diagnostics.churn": "mask churn\n(active weights replaced)",
    "diagnostics.cosine": "cosine of S2-SAM's\nto SAM's direction",
    "diagnostics.rise_s2sam": "loss rise along\nS2-SAM's (nats)",
    "diagnostics.rise_sam": "loss rise along\nSAM's (nats)",
}


@FIGURES.register("diagnostics")
def draw(profile: Profile, records: Records) -> Iterator[tuple[str, Any]]:
    """One figure for each method with such a run where the curves are, of those runs alone."""
    where, methods = by_method(profile, records)
    for method, runs in methods.items():
        looked: Runs = {
            optimizer: [r for r in each if any("diagnostics" in x for x in r.body["curve"])]
            for optimizer, each in runs.items()
        }
        if any(looked.values()):
            title = f"{method} at {where}: diagnostics"
            n = ", ".join(f"{o} {len(each)}" for o, each in looked.items() if each)
            words = f"By epoch, {title}: mask churn, cosine of S2-SAM's to SAM's direction, and "
            words += f"the loss's rise along each. Runs: {n}."
            drawn = stacked(title, looked, _PANELS)
            yield f"diagnostics-{name_of(method)}", described(drawn, words)
