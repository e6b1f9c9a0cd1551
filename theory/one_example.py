"""Theorem 1 with every F read as F_lambda: one training example, and the population it is of.

All is rational, as in ``theory.counterexamples``.
"""

__all__ = ["OneExample", "example_theorem1", "one_example"]

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction as Q

from theory import corrected, printed
from theory.search import Counterexample, by_size, smallest
from theory.statements import Statement


@dataclass(frozen=True)
class OneExample:
    """Gradient descent with decay from 0 on one training example, seen by the population.

    The population is the examples z and -z, each half of it, with the loss L (w - z)^2 / 2 (Huber
    beyond what the run reaches); lambda = 2L. Everything is about F_lambda: the start of the
    training objective, the mean excess of the population's over the steps, the Lipschitz constant B
    of both examples' losses along the run. Twice L is a PL constant on the whole line.
    """

    start: Q
    excess: Q
    steepest: Q

    @staticmethod
    def run(curvature: Q, z: Q, share: Q, steps: int) -> "OneExample":
        """``curvature``: L z^2, a loss; ``share``: eta L, at most 1/2.

        In closed form, w_t = (1 - q^t) z L / (L + lambda) with q = 1 - 3 eta L; by symmetry z
        stands for -z too.
        """
        q, center = 1 - 3 * share, z / 3
        mean = 1 - 2 * (1 - q**steps) / (steps * (1 - q))
        mean += (1 - q ** (2 * steps)) / (steps * (1 - q**2))
        furthest = center * max(1 - q ** (steps - 1), 1 - q if steps > 1 else Q(0))
        L = curvature / z**2
        return OneExample(curvature / 2, 3 * L / 2 * center**2 * mean, L * (z + furthest))


def _numbers(run: OneExample, curvature: Q, z: Q, share: Q, steps: int) -> dict[str, Q]:
    """Every constant that the statements need; F_* is that of the training objective."""
    L = curvature / z**2
    numbers = {"F_0": run.start, "F_*": curvature / 3, "B": run.steepest, "sigma": Q(0)}
    numbers |= {"rho": Q(0), "n": Q(1), "T": Q(steps), "eta": share / L, "L": L}
    return {**numbers, "lambda": 2 * L, "mu": 2 * L}


def one_example(
    name: str, statement: Statement, note: str, curvatures: Iterable[Q], shares: Iterable[Q]
) -> Counterexample:
    """The smallest setting that refutes the statement, by search."""

    def sides(**point: Q) -> tuple[Q, Q]:
        setting = (point["L z^2"], point["z"], point["eta L"], int(point["T"]))
        run = OneExample.run(*setting)
        return run.excess, statement.exact(**_numbers(run, *setting))

    space = by_size(
        z=[Q(10), Q(100), Q(1000)],
        T=[Q(2**i) for i in range(2, 11)],
        **{"L z^2": list(curvatures), "eta L": list(shares)},
    )
    return Counterexample(name, statement, *smallest(space, sides), note)


def example_theorem1() -> dict[str, tuple[Q, ...]]:
    """The project's examples at z = 1000: the excess, the printed bound at mu = 3L, which holds
    where the loss is quadratic, and at mu = 2L, which holds everywhere, and the corrected bound.
    """
    found = {}
    for statement, setting in (
        (printed.THEOREM1, (Q(24), Q(1000), Q(1, 4), 200)),
        (printed.APPENDIX_EXCESS, (Q(60), Q(1000), Q(1, 50), 1000)),
    ):
        run = OneExample.run(*setting)
        numbers = _numbers(run, *setting)
        bounds = [statement.exact(**{**numbers, "mu": k * numbers["L"]}) for k in (3, 2)]
        found[statement.name] = (run.excess, *bounds, corrected.EXCESS.exact(**numbers))
    return found
