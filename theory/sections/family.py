"""Report part on the tighter smooth bound."""

__all__ = ["family_part"]

from collections.abc import Callable, Sequence

from theory.beyond import BEST_THETA, SMOOTH_BEST
from theory.corrected import WEIGHT_DECAY
from theory.results import Results
from theory.statements import evaluate

Table = Callable[[Sequence[str], Sequence[Sequence[object]]], str]
_STEPS = (0.01, 0.1, 0.5, 1.0, 1.5, 1.9)
_SHARES = (0.0, 1.0, 100.0)


def _numbers(step: float, spent: float) -> dict[str, float]:
    """L = rho = 1, so that L^2 rho^2 = 1; all of ``spent`` is noise."""
    numbers = {"L": 1.0, "rho": 1.0, "lambda": 0.0, "eta": step, "T": 1.0}
    return {**numbers, "F_0": 0.0, "F_*": 0.0, "sigma": (spent / step) ** 0.5}


def _cell(step: float, spent: float) -> str:
    numbers = _numbers(step, spent)
    best, theta = float(SMOOTH_BEST.value(**numbers)), float(evaluate(BEST_THETA, numbers))
    if not WEIGHT_DECAY.admits(**numbers, beta=0.0):
        return f"{theta:.2f}, {best:.3g}, -"
    return f"{theta:.2f}, {best:.3g}, {best / float(WEIGHT_DECAY.value(**numbers)):.2f}"


def family_part(results: Results, table: Table) -> str:
    """The family, its best member, and what theta means."""
    rows = [[f"{step:g}", *(_cell(step, spent) for spent in _SHARES)] for step in _STEPS]
    headers = ["eta (L + lambda)", *(f"A = {spent:g} L^2 rho^2" for spent in _SHARES)]
    best, family = (results.outcomes[name] for name in ("smooth_best", "smooth_family"))
    return f"""### 7. The smallest smooth bound: what a perturbation costs where gradients are large

Write a = eta (L + lambda) and A = 2 (F_0 - F_*) / (eta T) + a sigma^2, what SGD pays. For every
theta in (0, 1] (`smooth_family`)

    mean |grad F_lambda(w_t)|^2
        <= (A + L^2 rho^2 (|1 - a| / theta + a)) / (2 - a - |1 - a| theta).

theta = 1 is `weight_decay`, and `smooth` without decay; rho = 0, theta to 0 is SGD's classical
A / (2 - a), which `smooth` misses by a factor 2 at small steps. The best theta is
L rho / X, always at most 1, and the bound is then X^2 (`smooth_best`):

    X = (|1 - a| L rho + sqrt(L^2 rho^2 + (2 - a) A)) / (2 - a)          for every a < 2.

So it holds up to twice the step that `smooth` admits, as SGD's does. Without noise X tends to
(1 + |1 - a|) L rho / (2 - a), and that is L times what *some* perturbation of length rho does on
L w^2 / 2 (`extremal`): at every step up to 2 / L, the floor of this bound is the floor. At rho = 0
noise attains it likewise (a quadratic at rest). {best.count("holds")} of {len(best.cells)} and
{family.count("holds")} of {len(family.cells)} cells hold (`smooth_family` at theta = 1/2), with
largest ratios {best.worst.ratio:.4f} and {family.worst.ratio:.4f}. Best theta, X^2 / (L^2 rho^2),
and X^2 over `weight_decay`'s right side (-: not admitted):

{table(headers, rows)}

**For training:** theta = L rho / X is the part of a typical gradient that the perturbation can
fake. While gradients are large against L rho, theta is near 0 and the perturbation costs about
2 |1 - a| L rho X / (2 - a), in proportion to rho; only where gradients come down to L rho does the
full L^2 rho^2 bind (theta = 1), and there no optimizer that sees gradients at distance rho can
promise more. Beyond eta (L + lambda) = 1 the floor itself grows as a^2 / (2 - a)^2.
"""
