"""Report section on trained networks: what the results predict of them, and what was measured."""

__all__ = ["HEADING", "networks_section"]

from collections import Counter
from collections.abc import Callable, Sequence
from math import sqrt

from theory.networks import Network
from theory.stability import predicted

Table = Callable[[Sequence[str], Sequence[Sequence[object]]], str]
HEADING = "## From theory to networks"
_BETA = 0.9


def _root(square: float) -> float:
    """Of an unbiased estimate of a square, which may come out below 0."""
    return sqrt(max(square, 0.0))


def _limits(network: Network) -> tuple[float, float, float] | None:
    """rho h / |g|, and the largest stable eta of SGD and of S2-SAM at beta = 0.9."""
    if network.curvature is None or network.noise is None:
        return None
    h = network.curvature[0]
    r = network.rho * h / network.noise["norm"]
    ours = predicted("s2sam", False, r, _BETA) / h if r < 1 else 0.0
    return r, predicted("sgd", False, 0.0, _BETA) / h, ours


def _row(network: Network) -> list[str]:
    row = [network.label]
    if network.noise is None:
        row += ["-"] * 4
    else:
        n = network.noise
        signal = _root(n["signal"])
        row += [f"{n['norm']:.2f}", f"{n['noise_share']:.2f}"]
        row += [f"{_root(n[x]) / signal:.2f}" if signal else "-" for x in ("sam", "s2sam")]
    if network.curvature is None:
        row += ["-", "-"]
    else:
        row += [f"{h:.3g}" for h in network.curvature]
    limits = _limits(network)
    row += ["-"] * 3 if limits is None else [f"{x:.3g}" for x in limits]
    return [*row, str(int(network.noise["batches"])) if network.noise else "-"]


def _late(networks: Sequence[Network]) -> list[list[str]]:
    return [
        [
            network.label,
            f"{x.eta:g}",
            f"{x.beta:g}",
            f"{x.length:.2f}",
            f"{x.reach:.3g}",
            f"{x.buffer / x.square:.2f}" if x.square else "-",
            f"{x.variance_w:.3g}",
            f"{x.spread / x.rho**2:+.2f} ± {x.spread_std / x.rho**2:.2f}",
            "-" if x.law is None else f"{x.law / x.rho**2:+.2f}",
            str(x.repeats),
        ]
        for network in networks
        for x in network.late
    ]


def networks_section(networks: Sequence[Network], table: Table) -> str:
    """The section; without measures it says how to make them."""
    if not networks:
        return f"""{HEADING}

No trained network has been measured. `python -m paper_repro measure WHAT --runs-of ...`, with WHAT
one of curvature, gradient_noise and late_training, measures runs; this section reads what it
leaves.
"""
    made = [n for n in networks if n.noise is not None]
    signs = [x for n in networks for x in n.late if x.law is not None]
    same = sum((x.spread > 0) == (x.law > 0) for x in signs if x.law is not None)
    limits = [found for n in networks if (found := _limits(n)) is not None]
    below = sum(ours < sgd for _, sgd, ours in limits)
    larger = sum(n.noise["sam"] > n.noise["s2sam"] for n in made if n.noise is not None)
    beds = "; ".join(dict.fromkeys(n.bed for n in networks))
    most = max(Counter(n.label for n in networks).values())
    seeds = "n = 1" if most == 1 else f"n = 1 to {most}"
    drift_rows = table(
        [
            "trained by",
            "norm(g)",
            "noise share",
            "SAM's drift / mean g",
            "S2-SAM's drift / mean g",
            "h, active",
            "h, all",
            "rho h / norm(g)",
            "stable eta, SGD",
            "stable eta, S2-SAM",
            "n minibatches",
        ],
        [_row(n) for n in networks],
    )
    return f"""{HEADING}

{len(networks)} trained networks ({beds}; {seeds} of each optimizer's; records and measures
under results/). At the final weights, on
augmented minibatches of 64 with batch norm by their statistics, over the active weights, at
rho = {networks[0].rho or 0.05:g}; h is the largest Hessian eigenvalue (power iteration, which
approaches it from below), the drifts are what the perturbation adds to the mean gradient:

{drift_rows}

- **Drift.** SAM's perturbation along the minibatch's own gradient adds the larger mean in {larger}
  of {len(made)} networks: to first order rho times the gradient of E|g|, the penalty that section 2
  of "What no paper has" says S2-SAM loses. (Squared drifts are estimated without bias and may come
  out below 0; they are shown as 0 then.)
- **Stability.** With rho / |g| in the place of rho, S2-SAM's largest stable step at beta = 0.9 is
  below SGD's in {below} of {len(limits)} networks: the quadratic picture of section 1, which
  normalisation bounds; 0.00 where rho h / |g| is above 1 and no step is stable.

The smoothing law while a copy of the weights trains on by S2-SAM at a constant step (masks as they
are, decay 5e-4, the first steps discarded). Normalised and with momentum it reads, G = E|g|^2 and
M = E|m|^2 of the buffer m (proofs.md has it exact without normalisation),

    Var u - Var w = rho^2 - rho eta (G - beta (1 + beta) M) / E|g|,

so momentum adds to the spread, and the sign can turn only where M is small, or beta:

{
        table(
            [
                "trained by",
                "eta",
                "beta",
                "norm(g)",
                "rho / (eta norm(g))",
                "M / G",
                "Var w",
                "(Var u - Var w) / rho^2",
                "law",
                "n runs",
            ],
            _late(networks),
        )
    }

(± the standard deviation over the continuations.) The sign is the law's in {same} of {len(signs)}.

![Trained networks](figures/networks.png)
"""
