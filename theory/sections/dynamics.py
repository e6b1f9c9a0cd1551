"""Report sections on what S2-SAM does: stability, stationary behaviour, direction."""

__all__ = ["regime_section", "stability_section", "stationary_section"]

from collections.abc import Callable, Sequence

import numpy as np

from theory.checks import Estimate
from theory.results import Results

Table = Callable[[Sequence[str], Sequence[Sequence[object]]], str]
Interval = Callable[[Estimate], str]


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if np.isfinite(value) else "-"


def stability_section(results: Results, table: Table) -> str:
    """Deterministic quadratics: where w goes, and the largest stable step."""
    orbits = [
        [
            ", ".join(f"{x:g}" for x in spectrum),
            f"{ratio:g}",
            f"{distance.mean():.4f} ({distance.std(ddof=1):.4f})",
            f"{squared.mean():.4f}",
            str(len(distance)),
        ]
        for spectrum, ratio, distance, squared in results.orbits
    ]
    rows = [
        [
            t.rule,
            "rho g / norm(g)" if t.normalized else "rho g",
            "-" if t.normalized else f"{t.rho_h:g}",
            f"{t.measured:.3f}",
            f"{t.predicted:.4f}",
            f"{t.resolution:g}",
            "yes" if t.agrees else "NO",
        ]
        for t in results.thresholds
    ]
    agree = sum(t.agrees for t in results.thresholds)
    return f"""## Deterministic quadratics

In one dimension w settles at distance rho from the minimiser (proved, for eta L < 1), and
the floor L^2 rho^2 of the corrected bound is attained. That is special. On an isotropic quadratic
in the plane, u circles at radius rho and w at radius rho sqrt(eta L) (proved to be an orbit; that
it attracts is measured here), so the average squared gradient is eta L times the floor. With
eigenvalues far apart most of the floor is attained again, by the sharpest direction.

{
        table(
            [
                "eigenvalues",
                "eta L",
                "mean late distance of w / rho (std over starts)",
                "mean squared gradient / (L rho)^2",
                "n starts",
            ],
            orbits,
        )
    }

![Orbits](figures/orbits.png)

## Stability: the largest stable eta h

Scalar quadratic h w^2 / 2, **all of this section without momentum** of the
optimizer's own. Without normalisation, u = w + rho g, S2-SAM is heavy-ball with momentum rho h
(proved), so it tolerates *larger* steps than SGD, 2 (1 + rho h) against 2, while SAM tolerates
smaller ones, 2 / (1 + rho h); the price is rho h < 1, beyond which S2-SAM diverges at every step
size. Normalised, SGD and SAM diverge for eta h > 2 from every start but 0; S2-SAM stays
bounded up to (3 + sqrt 5) / 2 = 2.618 from |w_0| <= 2 rho (boundedness proved below the limit;
divergence above it measured). Found by bisection; {agree} of {len(rows)} agree within the
resolution. Normalised runs: n = 40 starts, stable if all stay bounded; otherwise n = 1,
deterministic and linear.

{
        table(
            ["rule", "perturbation", "rho h", "measured", "formula", "resolution", "agree"],
            rows,
        )
    }

![Stability](figures/stability.png)
"""


def stationary_section(results: Results, table: Table, interval: Interval) -> str:
    """Noisy quadratics."""
    linear = [
        [rule, f"{ratio:g}", f"{r:g}", interval(value), str(value.n)]
        for rule, ratio, r, value in results.linear
    ]
    rows = [
        [
            item.rule,
            f"{item.sigma:g}",
            interval(item.loss_w),
            _number(item.predicted_w),
            interval(item.loss_u),
            _number(item.predicted_u),
            interval(item.variance),
            f"{item.noise_share:.2f}",
            f"{item.sharpest:.2f}",
            str(item.loss_w.n),
        ]
        for item in results.stationary
    ]
    return f"""## Stationary distribution on a noisy quadratic

Without normalisation the stationary variance of w is exact (proofs.md, "Stationary variance"): for
small steps SAM has 1 + rho h times SGD's and S2-SAM 1 / (1 - rho h) times. Measured over exact:

{table(["rule", "eta h", "rho h", "measured / exact", "n runs"], linear)}

Normalised, 50 eigenvalues from 0.02 to 1, eta = 0.2, rho = {results.stationary[0].rho:g}.
Mean-field: the exact formula with rho / G in place of rho, G the stationary root mean square of the
gradient that the perturbation is made of (a heuristic, not proved; "-" where its linear recursion
is unstable, rho h_max / G >= 1). Losses are above the minimum.

{
        table(
            [
                "rule",
                "sigma",
                "loss of w",
                "mean-field",
                "loss of u",
                "mean-field",
                "total variance of w",
                "noise share of E g^2",
                "rho h_max / G",
                "n runs",
            ],
            rows,
        )
    }

![Stationary losses](figures/stationary.png)

{_reading(results)}
"""


def _reading(results: Results) -> str:
    by = {(item.rule, item.sigma): item for item in results.stationary}
    levels = sorted({item.sigma for item in results.stationary})
    parts = []
    for sigma in levels:
        ours, sam, sgd = (by[rule, sigma] for rule in ("s2sam", "sam", "sgd"))
        order = "above" if ours.loss_u.mean > ours.loss_w.mean else "below"
        parts.append(
            f"At sigma = {sigma:g}, S2-SAM's deployed loss is "
            f"{ours.loss_w.mean / sgd.loss_w.mean:.3f} "
            f"times SGD's (SAM: {sam.loss_w.mean / sgd.loss_w.mean:.3f}), and its loss at u "
            f"is {order} "
            f"its loss at w by a factor {ours.loss_u.mean / ours.loss_w.mean:.3f} "
            f"(n = {ours.loss_w.n})."
        )
    return " ".join(parts)


def regime_section(results: Results, table: Table, interval: Interval) -> str:
    """Which direction S2-SAM perturbs along."""
    rows = [
        [
            str(item.batch),
            f"{item.eta:.2g}",
            interval(item.noise_share),
            interval(item.reach),
            interval(item.cosine),
            interval(item.cosine_full),
            *(interval(item.increase[name]) for name in ("s2sam", "sam", "full", "noise")),
            str(item.cosine.n),
        ]
        for item in results.regimes
    ]
    headers = [
        "batch",
        "eta",
        "noise share",
        "rho / (eta norm(g))",
        "cosine with SAM's",
        "cosine with full gradient's",
        "increase: S2-SAM",
        "SAM",
        "full gradient",
        "noise",
        "n runs",
    ]
    return f"""## Which way S2-SAM perturbs

Logistic regression on 400 digits, rho = 0.5, second half of S2-SAM's runs. Increases are the mean
of F(w + rho d) - F(w) over the mean of that along a random direction (1) in the same runs; their
intervals are those of the ratio of two means (delta method, paired runs), so that the divisor's
scatter counts. Without momentum and decay, exactly,
u_t = w_{{t-1}} - (eta - rho / |g_{{t-1}}|) g_{{t-1}}: where rho < eta |g| the perturbation takes
back part of the last step and is no ascent at all.

{table(headers, rows)}

![Regime](figures/regime.png)
"""
