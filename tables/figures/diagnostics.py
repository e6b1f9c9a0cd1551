"""What runs with ``--diagnostics`` measured of themselves: mask churn, cosines, loss rises."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import Any

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record, Records
from tables.figures import FIGURES
from tables.figures.curves import Runs, by_method, name_of, stacked
from tables.figures.style import described

__all__ = ["draw"]

#: Characters that fit under a panel.
_WIDE = 60
#: What a line of a curve is asked for, and how its axis is named.
_PANELS = {
    "diagnostics.churn": "mask churn\n(active weights replaced)",
    "diagnostics.cosine": "cosine of S2-SAM's\nto SAM's direction",
}
#: What depends on ρ, the way along that direction.
_RISES = {
    "diagnostics.rise_s2sam": "loss rise along\nS2-SAM's (nats, ρ = {rho:g})",
    "diagnostics.rise_sam": "loss rise along\nSAM's (nats, ρ = {rho:g})",
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
            yield f"diagnostics-{name_of(method)}", _figure(f"{method} at {where}", looked)


def _figure(what: str, runs: Runs) -> Any:
    """The loss's rises only where they are along the same way: of one ρ."""
    title = f"{what}: diagnostics"
    n = ", ".join(f"{o} {len(each)}" for o, each in runs.items() if each)
    words = f"By epoch, {title}: mask churn, and cosine of S2-SAM's to SAM's direction"
    rhos = {o: found for o, each in runs.items() if (found := _rhos(each))}
    every = set().union(*rhos.values())
    if len(every) <= 1:
        rises = {key: label.format(rho=rho) for rho in every for key, label in _RISES.items()}
        words += "".join(f", and the loss's rise along each at ρ = {rho:g}" for rho in every)
        return described(stacked(title, runs, {**_PANELS, **rises}), f"{words}. Runs: {n}.")
    ways = ", ".join(f"{o} {' and '.join(f'{x:g}' for x in sorted(s))}" for o, s in rhos.items())
    why = f"Loss rises are not drawn together: they are at different ρ ({ways})."
    drawn = stacked(title, runs, _PANELS)
    drawn.axes[-1].set_xlabel("epoch\n" + "\n".join(wrap(why, _WIDE)), fontsize=8)
    return described(drawn, f"{words}. {why} Runs: {n}.")


def _rhos(runs: list[Record]) -> set[float]:
    """Every ρ that loss rises were measured at."""
    found = (line.get("diagnostics", {}).get("rho") for r in runs for line in r.body["curve"])
    return {rho for rho in found if rho is not None}
