"""Report section on generalization: stability bounds, Theorem 1, PAC-Bayes."""

__all__ = ["generalization_section"]

from collections.abc import Callable, Sequence

import numpy as np

from theory.checks import Estimate
from theory.pac_bayes import RADII
from theory.results import Results

Table = Callable[[Sequence[str], Sequence[Sequence[object]]], str]
Interval = Callable[[Estimate], str]


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if np.isfinite(value) else "-"


def generalization_section(results: Results, table: Table, interval: Interval) -> str:
    """Stability bounds, Theorem 1, PAC-Bayes."""
    gaps = [
        [
            str(g.n),
            f"{g.rho:.3g}",
            f"{g.decay:g} = {g.decay_over_L:g} L",
            interval(g.gap),
            _number(g.printed),
            _number(g.corrected),
            _number(g.convex),
            _number(g.convex / g.gap.mean) if g.gap.low > 0 else "-",
            _number(g.convex / np.log(10)),
            f"{g.error:.1%}",
            str(g.gap.n),
        ]
        for g in results.gaps
    ]
    pairs = [
        [
            str(c.n),
            f"{c.rho:.3g}",
            f"{c.decay:g}",
            interval(c.distance),
            _number(c.corrected),
            _number(c.convex),
            str(c.distance.n),
        ]
        for c in results.coupled
    ]
    excess = [
        [
            str(e.n),
            str(e.T),
            f"{e.rho:.3g}",
            interval(e.regularized),
            _number(e.corrected),
            _number(e.printed),
            "yes" if e.regularized.low > e.printed else "no",
            interval(e.plain),
            str(e.plain.n),
        ]
        for e in results.excess
    ]
    certificates = [
        [
            f"{c.density:.0%}",
            str(c.k),
            str(c.n),
            f"{c.rho:.3g}",
            f"{c.train_error:.3f}",
            f"{c.worst_error:.3f}",
            f"{c.complexity:.3f}",
            f"{c.bound:.3f}",
            f"{c.with_mask:.3f}",
            f"{c.test_error:.3f}",
            f"{c.bound / c.test_error:.1f}",
            "yes" if c.vacuous else "no",
            f"{c.noisy_test_error - c.test_error:+.4f}",
        ]
        for c in results.pac_bayes
    ]
    outside = [g for g in results.gaps if g.decay_over_L != 2]
    exceeded = sum(g.gap.low > g.printed for g in outside)
    vacuous = sum(c.vacuous for c in results.pac_bayes)
    main, appendix = (
        [float(side) for side in results.theorem1_example[name]]
        for name in ("theorem1_printed", "theorem1_appendix_printed")
    )
    return f"""## Generalization

The population is the 1,797 digits (unit length: L = 1/2, B = sqrt 2 for one example, exact);
training sets are drawn from it with replacement, so population risks are computed exactly. The
constants that stability needs are one example's, not those of F. *convex / ln 10* above 1 means
vacuous: larger than the loss of guessing. *printed* is the last term of the appendix's Theorem 1,
which assumes lambda = 2L; its other rows are outside its assumptions.

{
        table(
            [
                "n examples",
                "rho",
                "lambda",
                "measured gap",
                "printed",
                "corrected",
                "corrected, convex",
                "convex / gap",
                "convex / ln 10",
                "population error",
                "n training sets",
            ],
            gaps,
        )
    }

In {exceeded} of the {len(outside)} rows outside its assumption the measured gap exceeds the printed
term (99% interval), so the term is no description of what is trained in practice.
At lambda = 2L nothing is learned, so the gap is small for a reason that has nothing to do with
sharpness; at a lambda that learns, the bound is vacuous once rho > 0: the stability argument pays
2 L rho / lambda for two perturbations that it must assume opposite. The distance itself, two runs
on training sets that differ in one example, same indices, mean over the second half of the run:

{
        table(
            [
                "n examples",
                "rho",
                "lambda",
                "mean distance of w",
                "corrected bound",
                "convex bound",
                "n pairs",
            ],
            pairs,
        )
    }

Examples are drawn with replacement. The stability bounds need less: that each step meets each
example with probability 1/n, which reshuffled epochs also do (proofs.md: the recursion is linear in
the distance, so its dependence on the order drops out).

Theorem 1 at lambda = 2L, R uniform. The corrected statement bounds the excess of F + lambda
|w|^2 / 2, and the printed one is held against the same, where mu = lambda is a PL constant. Read
so, it is not violated here, but it is false too: let the population be the two examples z = 1000
and -1000 and the training set one of them, with the loss L (w - z)^2 / 2 (Huber beyond the run's
range), lambda = 2L, gradient descent from 0. The training objective's minimum is at z / 3, the
population's at 0, so the excess tends to L z^2 / 6; the printed (6B + 1) / n stays near 1, because
6B + 1 is not homogeneous: in other units of the weights B is as small as one likes. At
L z^2 = 24, eta L = 1/4, T = 200 the excess is {main[0]:.3f} and the printed bound {main[1]:.3f};
for the appendix's form, at L z^2 = 60, eta L = 1/50, T = 1000 and rho = 0, {appendix[0]:.3f}
against {appendix[1]:.3f} (exact arithmetic, with mu = 3L, which holds where the loss is quadratic;
with mu = 2L, which holds on the whole line, the bounds are {main[2]:.3f} and {appendix[2]:.3f}).
The corrected ones are {main[3]:.1f} and {appendix[3]:.1f}. The smallest such examples by search are
above, as are those for F without the decay, on functions whose own mu, L and B are known. The plain
excess shows how far a decay of 2L leaves the risk from its minimum: the plain F has no known mu, so
no bound applies to it. It uses an upper bound on the smallest risk, so it is understated.

{
        table(
            [
                "n examples",
                "T",
                "rho",
                "regularised excess",
                "corrected bound",
                "printed bound",
                "printed violated",
                "plain excess",
                "n training sets",
            ],
            excess,
        )
    }

### PAC-Bayes (Foret et al. 2021, Theorem 2 of the appendix)

0-1 loss, delta = 0.05 split over {len(RADII)} radii from {RADII[0]:g} to {RADII[-1]:g} that were
fixed before any data (radii made of the trained weights would void the union bound), one run per
density; k counts active weights because the
random mask precedes the data. The worst error in the ball is bounded by margins (Cauchy-Schwarz),
not searched for. *with mask* also pays log C(640, k) for a mask chosen by the data. The theorem
assumes that Gaussian noise on the weights does not lower the population error; the last column
estimates that change on the test set (n = {
        results.pac_bayes[0].draws
    } draws; below 0 the assumption fails).
{vacuous} of {len(certificates)} bounds are vacuous (at least 1).

{
        table(
            [
                "density",
                "k",
                "n examples",
                "rho",
                "train error",
                "worst error",
                "complexity",
                "bound",
                "with mask",
                "test error",
                "bound / test error",
                "vacuous",
                "noisy - test error",
            ],
            certificates,
        )
    }

![Generalization](figures/generalization.png)
"""
