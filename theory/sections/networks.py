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
        row += ["-"] * 7
    else:
        n = network.noise
        signal = _root(n["signal"])
        row += [f"{n['norm']:.2f}", f"{n['noise_share']:.3f}", f"{signal:.3f}"]
        row += [f"{_root(n[x]):.4f}" for x in ("sam", "s2sam")]
        row += [f"{n[x]:+.3f}" for x in ("sam_along", "s2sam_along")]
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


def _drift(networks: Sequence[Network]) -> str:
    made = [n.noise for n in networks if n.noise is not None]
    if not made:
        return ""
    larger = sum(noise["sam"] > noise["s2sam"] for noise in made)
    return f"""- **Drift.** SAM's perturbation, along the minibatch's own gradient, adds
  the larger mean to the gradient in {larger} of {len(made)} networks: to first order rho times the
  gradient of E|g|, the penalty on the gradients' noise that section 2 of "What no paper has"
  says S2-SAM loses. (Squares of drifts are estimated without bias and may come out
  below 0; they are shown as 0 then.)
"""


def _stability(networks: Sequence[Network]) -> str:
    limits = [found for n in networks if (found := _limits(n)) is not None]
    if not limits:
        return ""
    below = sum(ours < sgd for _, sgd, ours in limits)
    return f"""- **Stability.** With rho / |g| in the place of rho, S2-SAM's largest stable step at
  beta = {_BETA:g} is below SGD's in {below} of {len(limits)} networks (0: rho h / |g| is above
  1, and no step is stable). That is the quadratic picture of section 1, which normalisation bounds.
"""


def _law(networks: Sequence[Network], table: Table) -> str:
    signs = [x for n in networks for x in n.late if x.law is not None]
    if not signs:
        return "How u spreads while a network trains on has not been measured yet.\n"
    same = sum((x.spread > 0) == (x.law > 0) for x in signs if x.law is not None)
    headers = [
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
    ]
    return f"""The smoothing law while a copy of the weights trains on by S2-SAM at a constant
step (masks as they are, decay, batch norm by the minibatch; the first steps are discarded).
Normalised and with momentum it reads, with G = E|g|^2 and M = E|m|^2 of the buffer m,

    Var u - Var w = rho^2 - rho eta (G - beta (1 + beta) M) / E|g|

(exact without normalisation, with rho |g| for rho: proofs.md). Momentum adds to the spread:

{table(headers, _late(networks))}

(± the standard deviation over the continuations.) The sign is the law's in {same} of {len(signs)}.
"""


def networks_section(networks: Sequence[Network], table: Table) -> str:
    """The section; without measures it says how to make them."""
    if not networks:
        return f"""{HEADING}

No trained network has been measured. `python -m paper_repro measure WHAT --runs-of ...`, with WHAT
one of curvature, gradient_noise and late_training, measures runs; this section reads what it
leaves.
"""
    beds = "; ".join(dict.fromkeys(n.bed for n in networks))
    most = max(Counter(n.label for n in networks).values())
    seeds = "n = 1" if most == 1 else f"n = 1 to {most}"
    radii = sorted({n.rho for n in networks if n.noise is not None})
    radius = f" = {', '.join(f'{x:g}' for x in radii)}" if radii else ""
    headers = [
        "trained by",
        "norm(g)",
        "noise share",
        "norm(mean g)",
        "SAM's drift",
        "S2-SAM's drift",
        "SAM's, along g",
        "S2-SAM's, along g",
        "h, active",
        "h, all",
        "rho h / norm(g)",
        "stable eta, SGD",
        "stable eta, S2-SAM",
        "n minibatches",
    ]
    return f"""{HEADING}

Trained networks: {len(networks)} ({beds}; {seeds} of each kind; records and measures under
results/). At the final weights, on augmented minibatches of 64 with batch norm by their statistics,
over the active weights; h is the largest Hessian eigenvalue (power iteration, which approaches it
from below); a drift is the length of what the perturbation, of length rho{radius}, adds to the mean
gradient, and *along g* its mean component along the minibatch's own gradient; all in [loss/weight]:

{table(headers, [_row(n) for n in networks])}

{_drift(networks)}{_stability(networks)}
{_law(networks, table)}
![Trained networks](figures/networks.png)
"""
