"""Report parts on guarantees that no paper has: gap, momentum, the worst case, changing masks."""

__all__ = ["extremal_part", "gap_part", "masks_part", "practical_part"]

from collections.abc import Callable, Sequence

import numpy as np

from theory.beyond import MOMENTUM_PRACTICAL
from theory.checks import Estimate
from theory.corrected import MOMENTUM
from theory.results import Results

Table = Callable[[Sequence[str], Sequence[Sequence[object]]], str]
Interval = Callable[[Estimate], str]


def gap_part(results: Results, table: Table, interval: Interval) -> str:
    """The gap with a continuous perturbation."""
    rows = [
        [
            str(g.n),
            f"{g.numbers['lambda']:g}",
            interval(g.gap),
            f"{g.bound:.3g}",
            f"{g.unclipped:.3g}",
            f"{g.error:.1%}",
            str(g.gap.n),
        ]
        for g in results.clipped
    ]
    first = results.clipped[0].numbers
    headers = [
        "n examples",
        "lambda",
        "measured gap",
        "bound, continuous",
        "bound, g / norm(g)",
        "population error",
        "n training sets",
    ]
    return f"""### 3. A perturbation that is continuous generalises at rate 1/n, at constant rho

The paper's generalization term tends to 6 rho and not to 0, and so does every bound of this kind
for g / |g|: that turns round where g passes 0, so two runs that differ in one example must be
assumed perturbed in opposite directions for ever. With rho g / max(|g|, gamma) and
kappa = rho L / gamma < 1 two runs stay together, and the gap is at most

    B (2 B + 2 L rho / (1 - kappa)) / (n (lambda - L kappa / (1 - kappa)))     convex
    B (2 B + 2 L rho / (1 - kappa)) / (n (lambda - L / (1 - kappa)))           any loss

(`stability_clipped_convex`, `stability_clipped`; lambda above what is subtracted). Each step need
only meet each example with probability 1/n: reshuffled epochs are covered. Logistic regression on
digits, rho = {first["rho"]:g}, gamma = {first["gamma"]:g}:

{table(headers, rows)}

**For training:** normalise by max(|g|, gamma) and not by |g| + 1e-12. It costs nothing, changes
nothing while |g| > gamma, and takes the perturbation away where there is no gradient to follow. The
bound still wants a decay far above the usual 5e-4: it says that the rate can be had, not that its
constant is small.
"""


def practical_part(results: Results) -> str:
    """Momentum at practical steps."""
    beta = 0.9
    numbers = {"L": 1.0, "lambda": 0.0, "beta": beta}
    wide = MOMENTUM_PRACTICAL.largest_step(**numbers)
    narrow = MOMENTUM.largest_step(**numbers)
    worst = results.outcomes["momentum_practical"].worst_where(beta=0.0)
    ratio = worst.ratio if worst else float("nan")
    cells = results.outcomes["momentum_practical"]
    return f"""### 4. Momentum at practical steps

With Lam = L + lambda and eta Lam <= 1 - beta (`momentum_practical`),

    mean |grad F_lambda(w_t)|^2 <= 2 (F_0 - F_*) / (eta T) + L^2 rho^2 (1 + beta) / (1 - beta)
        + sigma^2 Lam eta / (1 - beta)^2
        + 2 sigma^2 Lam^2 eta^2 beta / ((1 - beta)^4 (1 + beta)).

At beta = 0 it is `weight_decay`. At beta = 0.9 it admits eta Lam <= {wide:.3g},
{wide / narrow:.0f} times the step of `momentum`, whose leading term 2 (1 - beta) (F_0 - F_*) /
(eta T) is *impossible* for eta L > (1 - beta)^2 (1 + beta) / (1 + beta^2) =
{0.01 * 1.9 / 1.81:.4f}; the leading term here is possible up to eta L = 1 - beta^2 =
{1 - beta**2:.2f} and no further (both exact, on the quadratic: the sum of squares in closed form),
so the condition is at most 1 + beta from the best. {cells.count("holds")} of {len(cells.cells)}
cells hold, the largest ratio is {ratio:.3f}. The proof strips the noise from the buffer,
m = p + s, and follows w - alpha beta s, which descends in the energy
F_lambda + (eta / 2) (beta (1 + beta) / 2) |p|^2.

**Disagreement:** a bound with 4 (F_0 - F_*) / (eta T), L^2 rho^2 (2 + 8 / (1 - beta)) and
sigma^2 (2 Lam eta / (1 - beta)^2 + 8 Lam^2 eta^2 beta^2 / ((1 - beta)^4 (1 + beta))) was expected,
for eta Lam <= (1 - beta) / 2. This one has half of each part or less (of the last for beta >= 1/2;
below beta = 1/4 that part is larger here), at steps twice as large.

**For training:** the perturbation costs L^2 rho^2 (1 + beta) / (1 - beta),
{(1 + beta) / (1 - beta):.0f} times what it costs without momentum: at 0.9, rho should be about
{np.sqrt((1 + beta) / (1 - beta)):.1f} times smaller for the same guarantee.
"""


def extremal_part(results: Results, table: Table) -> str:
    """The worst perturbation, and the basin beyond a = 2."""
    rows = [
        [f"{a:g}", f"{measured:.4f}", f"{formula:.4f}"] for a, measured, formula in results.basins
    ]
    ratios, sizes = results.wander
    far = [
        [f"{ratio:g}", f"{worst:.3g}", f"{sizes['s2sam'][i]:.3g}", f"{sizes['sam'][i]:.2g}"]
        for i, (ratio, worst) in enumerate(zip(ratios, results.impulses, strict=True))
    ]
    cells = results.outcomes["extremal"]
    return f"""### 5. S2-SAM is the worst perturbation there is below eta h = 1

On h w^2 / 2, without momentum, *any* perturbation of length at most rho leaves
limsup |w| <= rho a / (1 - |1 - a|), rho times the l1 norm of the impulse response (`extremal`,
{cells.count("holds")} of {len(cells.cells)} cells hold, the largest ratio is
{cells.worst.ratio:.4f}). For a = eta h < 1 that is rho, and normalised S2-SAM attains it; for
1 < a < 2 it is a rho / (2 - a), and SAM attains it. So at small steps no perturbation, chosen by an
adversary who knows everything, keeps w further from the minimum than S2-SAM does: SAM's floor there
is smaller by a / (2 - a).

Beyond a = 2, where SGD diverges, normalised S2-SAM is bounded up to a = (3 + sqrt 5) / 2 if and
only if |w_0| <= rho a / ((a - 1)(a - 2)). By bisection, in units of rho (n = 1, deterministic):

{table(["eta h", "largest bounded start, measured", "formula"], rows)}

With momentum 0.9 (largest |w| / rho late, from section 1, against the worst that is possible):

{table(["eta h", "any perturbation, at most", "S2-SAM", "SAM"], far)}

**For training:** rho is a floor on how close the sharpest coordinates come to their minimum, and
with S2-SAM all of it is felt. A schedule of rho to 0 removes it, as `scheduled_radius` says.
"""


def masks_part(results: Results) -> str:
    """Masks that change."""
    cells = results.outcomes["dynamic_masks"]
    return f"""### 6. Dynamic masks: what a change of the mask costs

The paper is about sparse training and its theorems have no mask. With masks that change
(`dynamic_masks`), J the sum of the jumps of the loss at the changes, L and sigma those of the
active coordinates:

    mean |M_t grad F(w_t)|^2 <= 2 (F_0 - F_* + J) / (eta T) + L^2 rho^2 + eta L sigma^2.

{cells.count("holds")} of {len(cells.cells)} exact comparisons hold (pruning the smallest weight and
growing one, at every step, every third or never; largest ratio {cells.worst.ratio:.3f}).

**For training:** what counts is not how often masks change but how much loss each change costs,
against eta T: log the loss before and after an update. A growth step costs nothing by itself
(grown weights start at 0); pruning costs, and pruning by magnitude costs little only where the loss
is flat along the weight. Between two changes, everything said of S2-SAM on a fixed mask holds.
"""
