"""Report section on what no paper has: momentum, the smoothing law, practical steps."""

__all__ = ["beyond_section"]

from collections.abc import Callable, Sequence

import sympy

from theory.checks import Estimate
from theory.proofs.heavy import CROSSING
from theory.results import Results
from theory.sections.family import family_part
from theory.sections.guarantees import extremal_part, gap_part, masks_part, practical_part
from theory.symbols import beta, r

Table = Callable[[Sequence[str], Sequence[Sequence[object]]], str]
Interval = Callable[[Estimate], str]


def _crossing(momentum: str) -> float:
    """rho h at which S2-SAM's largest stable step falls below SGD's."""
    polynomial = sympy.numer(CROSSING).subs(beta, sympy.Rational(momentum))
    return float(min(x for x in sympy.Poly(polynomial, r).nroots() if x.is_real and x > 0))


def _rounded(size: float) -> float:
    return size if size > 1e-9 else 0.0


def _momentum(results: Results, table: Table) -> str:
    rows = [
        [
            t.rule,
            f"{t.rho_h:g}",
            f"{t.measured:.3f}",
            f"{t.predicted:.4f}",
            f"{t.resolution:g}",
            "yes" if t.agrees else "NO",
        ]
        for t in results.heavy_thresholds
    ]
    ratios, sizes = results.wander
    far = [
        [f"{ratio:g}", *(f"{_rounded(sizes[x][i]):.2g}" for x in ("sgd", "sam", "s2sam"))]
        for i, ratio in enumerate(ratios)
    ]
    points = results.outcomes["momentum_stable"]
    return f"""### 1. With momentum S2-SAM is less stable than SGD, not more

Without normalisation, u = w + rho g, on h w^2 / 2 with momentum beta the radius acts as a second
momentum: the characteristic polynomial is (z - 1)(z - beta)(z - rho h) + eta h z^2, symmetric in
beta and rho h. Two momenta, 0.9 and rho h, are too much together: S2-SAM is stable if and only if
rho h < 1 and

    eta h < 2 (1 + beta) (1 + rho h)  and
    eta h < (1 - beta) (1 - rho h) (1 - beta rho h) / (beta rho h)

(proofs.md; {points.count("holds")} of {len(points.cells)} random settings within these limits have
all roots inside the unit circle, and none of the {results.heavy_outside} outside has). SGD's limit
is 2 (1 + beta). At beta = 0.9 S2-SAM's is below SGD's once rho h > {_crossing("9/10"):.4f}; at
beta = 0.5 once rho h > {_crossing("1/2"):.3f}. Found by bisection at beta = 0.9 (n = 1,
deterministic):

{table(["rule", "rho h", "measured", "formula", "resolution", "agree"], rows)}

**For training:** put rho / |g| for rho, and h the sharpest curvature. The gain in stability that
S2-SAM shows without momentum is of no use to anyone who trains with 0.9: there, a network at the
edge of SGD's stability, eta h = 3.8, is beyond S2-SAM's as soon as rho h / |g| >
{_crossing("9/10"):.3f}. It must leave for flatter regions, or the normalisation catches it: the
perturbation keeps its length rho however large g grows, so w wanders but does not diverge
(measured up to eta h = 2). How far, normalised, beta = 0.9, in units of rho (largest |w| late in
the run, worst of 40 starts within 2 rho):

{table(["eta h", "SGD", "SAM", "S2-SAM"], far)}

SAM's smaller numbers depend on the start: at eta h = 0.1 it settles on one of several cycles.
"""


def _smoothing(results: Results, table: Table, interval: Interval) -> str:
    spread = [
        [
            "rho g / norm(g)" if s.normalize else "rho g",
            f"{s.reach:.3g}",
            interval(s.measured),
            f"{s.law:.3g}",
            str(s.measured.n),
        ]
        for s in results.spreads
    ]
    drift = [
        [
            "rho g / norm(g)" if d.normalize else "rho g",
            d.rule,
            interval(d.mean_w),
            interval(d.mean_u),
            f"{d.distance:.2g}",
            str(d.mean_w.n),
        ]
        for d in results.drifts
    ]
    by = {(d.normalize, d.rule): d for d in results.drifts}
    plain, sam = by[False, "s2sam"], by[False, "sam"]
    ours, theirs = by[True, "s2sam"], by[True, "sam"]
    return f"""### 2. The smoothing law: what S2-SAM smooths, and the penalty that it loses

For **any** loss, without momentum, decay and normalisation, any run obeys, along any direction,

    sum_t (u_t u_t^T - w_t w_t^T)
        = rho (rho - eta) sum_t g_{{t-1}} g_{{t-1}}^T + (rho / eta) (w_0 w_0^T - w_T w_T^T),

so where w is stationary E u = E w, E grad F(u) = 0 and E u u^T - E w w^T = rho (rho - eta) E g g^T.
It is an identity of two lines (proofs.md), with no assumption on F. Three readings:

- S2-SAM descends on the loss smoothed by the spread of u, and u is spread *more* than w only where
  rho > eta (normalised: rho > eta |g|). Where rho < eta the gradients are taken *closer* to the
  centre than SGD's: a larger learning rate turns the perturbation from smoothing into averaging.
- The spread is along E g g^T, the gradients' own second moment: for small batches, the noise.
- SAM with one batch descends, on random quadratics, to the minimum of
  F + (rho / 2) E |grad f_i|^2, exactly: the same example gives both its gradients, so it is charged
  for the *noise* of the gradient too. S2-SAM's perturbation comes from another example: its mean is
  the minimum of F, exactly, at every rho. **The penalty on the noise of the gradients, to which
  part of SAM's effect is credited, is gone.** That is the sharpest contrast with the claim that the
  old gradient can stand in for the new one.

Measured on six random quadratics in three dimensions, one example a step, eta = 0.1: where the mean
lies on the line from argmin F (0) to the minimum of the penalised loss (1), 99% intervals:

{
        table(
            [
                "perturbation",
                "rule",
                "mean of w",
                "mean of u",
                "distance of 0 and 1 / spread of w",
                "n runs",
            ],
            drift,
        )
    }

Not normalised, S2-SAM's w lies at {plain.mean_w.mean:.2f} and SAM's at {sam.mean_w.mean:.2f}, as
proved. **Normalised, as in the paper, the picture changes:** E u = argmin F still, but
E w = argmin F - rho E(g / |g|), and where gradients are skewed that is not argmin F: S2-SAM's w is
at {ours.mean_w.mean:.2f} (SAM's at {
        theirs.mean_w.mean:.2f}). So a normalised S2-SAM has a drift of its
own, by normalisation and not by SAM's penalty; with lengths of g that vary little, as in many
dimensions, E(g / |g|) is about E g / |g| = 0 and the drift goes.

The sign of the law, on a noisy quadratic with 50 eigenvalues, eta = 0.2: E|u|^2 - E|w|^2,

{
        table(
            [
                "perturbation",
                "rho / eta, or rho / (eta E norm(g))",
                "measured",
                "law",
                "n runs",
            ],
            spread,
        )
    }

(normalised: rho^2 - rho eta E|g|, exact but for a covariance that the law leaves out; hence the
small difference). **For training:** log rho / (eta |g|): above 1, S2-SAM smooths; below 1,
it averages.
"""


def beyond_section(results: Results, table: Table, interval: Interval) -> str:
    """The results, in order."""
    parts = [
        _momentum(results, table),
        _smoothing(results, table, interval),
        gap_part(results, table, interval),
        practical_part(results),
        extremal_part(results, table),
        masks_part(results),
        family_part(results, table),
    ]
    return "\n".join(["## What no paper has\n", *parts])
