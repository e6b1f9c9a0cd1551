"""The figure on trained networks: the smoothing law, and the drifts."""

__all__ = ["draw_networks"]

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from theory.networks import Network


def draw_networks(networks: Sequence[Network], path: Path) -> None:
    """Measured spread of u against the law's, and the two drifts network by network."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    late = [(n, x) for n in networks for x in n.late if x.law is not None]
    for momentum in sorted({x.beta for _, x in late}):
        mine = [x for _, x in late if x.beta == momentum]
        left.errorbar(
            [float(x.law or 0.0) / x.rho**2 for x in mine],
            [x.spread / x.rho**2 for x in mine],
            [x.spread_std / x.rho**2 for x in mine],
            fmt="o",
            ms=5,
            capsize=3,
            label=rf"$\beta={momentum:g}$",
        )
    ends = [x.law / x.rho**2 for _, x in late if x.law is not None] or [0.0, 1.0]
    span = np.array([min(0.0, *ends), max(1.0, *ends)])
    left.plot(span, span, color="black", lw=0.8, label="the law")
    left.axhline(0, color="gray", lw=0.8, ls=":")
    left.set_xscale("symlog", linthresh=1)
    left.set_yscale("symlog", linthresh=1)
    left.set_xlabel(r"law: $1-\eta(G-\beta(1+\beta)M)/(\rho\,E\|g\|)$")
    left.set_ylabel(r"measured $(\mathrm{Var}\,u-\mathrm{Var}\,w)/\rho^2$")
    left.set_title("Spread of u while training on (error bars: std over runs)")
    if not late:
        left.text(0.5, 0.2, "not measured yet", ha="center")
    left.legend()
    made = [(n.label, n.noise) for n in networks if n.noise is not None]
    for shift, name, label, colour in (
        (-0.2, "sam", "SAM's", "#d95f02"),
        (0.2, "s2sam", "S2-SAM's", "#1b6ca8"),
    ):
        # Over one minibatch's gradient: the mean's square is an estimate that may be below 0.
        lengths = [np.sqrt(max(noise[name], 0)) / noise["norm"] for _, noise in made]
        right.bar(np.arange(len(made)) + shift, lengths, 0.38, color=colour, label=label)
    right.set_xticks(range(len(made)), [label.replace(", ", ",\n") for label, _ in made])
    right.set_ylabel("drift / mean length of a gradient")
    right.set_title("What a perturbation adds to the mean gradient")
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
