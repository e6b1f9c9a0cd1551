"""Counterexamples to the printed statements: smallest ones, by exhaustive search, exactly computed.

All are scalar and deterministic, in rational arithmetic, so a violation is a fact and not an
estimate. The loss is L (u - a)^2 / 2 as far out as the run reaches and linear beyond (Huber): it is
L-smooth on the whole line, and B-Lipschitz there with B = L * (largest |u - a| of the run). Lemma 1
on different samples takes two linear losses.
"""

__all__ = [
    "Counterexample",
    "Line",
    "example_lemma1",
    "example_optimization",
    "run_line",
    "search_all",
]

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction as Q

from theory import corrected, printed
from theory.one_example import one_example
from theory.search import Counterexample, by_size, smallest
from theory.statements import Statement


@dataclass(frozen=True)
class Line:
    """A deterministic run of S2-SAM (SGD at rho = 0) on L (w - a)^2 / 2."""

    gradients: list[Q]
    losses: list[Q]
    steepest: Q
    last: Q


def run_line(L: Q, a: Q, start: Q, eta: Q, rho: Q, lam: Q, steps: int) -> Line:
    """Squared gradients and losses at w_0, ..., w_{steps-1}, and the largest gradient met."""
    w, sign = start, 0
    gradients, losses, steepest = [], [], 0 * L
    for _ in range(steps):
        gradients.append((L * (w - a)) ** 2)
        losses.append(L * (w - a) ** 2 / 2)
        g = L * (w + sign * rho - a)
        steepest = max(steepest, abs(g), abs(L * (w - a)))
        w = w - eta * (g + lam * w)
        sign = (g > 0) - (g < 0)
    return Line(gradients, losses, steepest, w)


def _lemma_sides(L: Q, rho: Q, eta: Q, lam: Q, w: Q, w2: Q) -> Q:
    moved = [(1 - eta * lam) * x - eta * L * (x + s * rho) for x, s in ((w, 1), (w2, -1))]
    return abs(moved[0] - moved[1])


def _lemma1() -> Counterexample:
    def sides(**point: Q) -> tuple[Q, Q]:
        L, rho, eta, delta = (point[name] for name in ("L", "rho", "eta", "delta"))
        left = _lemma_sides(L, rho, eta, point["lambda"], delta / 2, -delta / 2)
        right = printed.LEMMA1_EQUAL.exact(**point)
        return left, right

    space = [
        point
        for point in by_size(
            L=[Q(1), Q(2), Q(3)],
            rho=[Q(1, 2), Q(1)],
            eta=[Q(1, 4), Q(1, 3), Q(1, 2), Q(1)],
            delta=[Q(0), Q(1), Q(2)],
            **{"lambda": [Q(0), Q(1), Q(2)]},
        )
        if point["eta"] * point["lambda"] <= 1 and point["eta"] * point["L"] <= 1
    ]
    setting, left, right, tried = smallest(space, sides)
    note = "equal samples, opposite perturbations; false for every L > 1 as delta -> 0"
    return Counterexample(
        "Lemma 1 without L", printed.LEMMA1_EQUAL, setting, left, right, tried, note
    )


def _lemma1_different() -> Counterexample:
    """B u at w = delta / 2 and -B u at w' = -delta / 2: L-smooth for every L, and B-Lipschitz.

    |w_{t+1} - w'_{t+1}| = |(1 - eta lambda) delta - 2 eta B|. Where eta lambda > 1 that is
    (eta lambda - 1) delta + 2 eta B, more than the printed (1 - eta lambda) delta + 2 eta B by
    2 (eta lambda - 1) delta. The search does not restrict eta lambda.
    """

    def sides(**point: Q) -> tuple[Q, Q]:
        eta, lam, w = point["eta"], point["lambda"], point["delta"] / 2
        moved = [x - eta * (slope + lam * x) for x, slope in ((w, point["B"]), (-w, -point["B"]))]
        return abs(moved[0] - moved[1]), printed.LEMMA1_DIFFERENT.exact(**point)

    space = by_size(
        eta=[Q(1, 2), Q(1), Q(2)],
        delta=[Q(0), Q(1), Q(2)],
        B=[Q(1, 2), Q(1)],
        **{"lambda": [Q(0), Q(1), Q(2), Q(3)]},
    )
    note = "losses B u and -B u; false by 2 (eta lambda - 1) delta wherever eta lambda > 1"
    found = smallest(space, sides)
    return Counterexample("Lemma 1 beyond eta lambda = 1", printed.LEMMA1_DIFFERENT, *found, note)


def _optimization(
    name: str, statement: Statement, note: str, space: list[dict[str, Q]]
) -> Counterexample:
    def sides(**point: Q) -> tuple[Q, Q]:
        T = int(point["T"])
        run = run_line(
            point["L"], point["a"], point["w0"], point["eta"], point["rho"], point["lambda"], T
        )
        right = statement.exact(
            F_0=run.losses[0],
            B=run.steepest,
            **{k: point[k] for k in ("L", "eta", "rho", "lambda", "T")},
        )
        return sum(run.gradients, Q(0)) / T, right

    return Counterexample(name, statement, *smallest(space, sides), note)


def _admissible(points: Iterable[dict[str, Q]]) -> Iterator[dict[str, Q]]:
    for point in points:
        if point["eta"] * (point["L"] + point["lambda"]) <= 1:
            yield point


def _excess(
    name: str, statement: Statement, note: str, rhos: list[Q], bias: Q, sizes: list[Q], Ts: list[Q]
) -> Counterexample:
    def sides(**point: Q) -> tuple[Q, Q]:
        L, T = point["L"], int(point["T"])
        lam = 2 * L
        run = run_line(L, bias, point["w0"], point["eta"], point["rho"], lam, T)
        numbers = {
            "F_0": run.losses[0],
            "B": run.steepest,
            "sigma": Q(0),
            "mu": L,
            "lambda": lam,
            **{k: point[k] for k in ("L", "eta", "rho", "T", "n")},
        }
        return sum(run.losses, Q(0)) / T, statement.exact(**numbers)

    space = by_size(
        L=[Q(1)],
        w0=[Q(0), Q(1, 2), Q(1)],
        eta=[Q(1, 8), Q(1, 4), Q(1, 3)],
        rho=rhos,
        T=Ts,
        n=sizes,
    )
    return Counterexample(name, statement, *smallest(space, sides), note)


def search_all() -> list[Counterexample]:
    """Search every space and return the smallest counterexample of each."""
    zero = [Q(0)]
    unperturbed = {"rho": zero, "lambda": [Q(2)], "a": [Q(1)], "w0": zero, "L": [Q(1)]}
    perturbed = {"lambda": zero, "a": zero, "rho": [Q(1), Q(2), Q(3), Q(4)]}
    steps = [Q(2**i) for i in range(9)]
    literal = by_size(
        L=[Q(1), Q(2), Q(3)],
        w0=[Q(1, 16), Q(1, 8), Q(1, 4), Q(1, 2)],
        eta=[Q(1, 16), Q(1, 8), Q(1, 4), Q(1, 2)],
        T=steps[:7],
        **perturbed,
    )
    over_T = by_size(
        L=[Q(1), Q(2), Q(3)],
        w0=[Q(1, 4), Q(1, 2), Q(1)],
        eta=[Q(1, 16), Q(1, 8), Q(1, 4), Q(1, 2)],
        T=steps,
        **perturbed,
    )
    biased = by_size(eta=[Q(1, 64), Q(1, 32), Q(1, 16), Q(1, 8)], T=steps, **unperturbed)
    return [
        _lemma1(),
        _lemma1_different(),
        _optimization(
            "optimization bound, literally",
            printed.APPENDIX_OPTIMIZATION,
            "no decay; rho stands where L^2 rho^2 belongs, and the missing 1/T does not save it",
            list(_admissible(literal)),
        ),
        _optimization(
            "optimization bound, 1/T put back",
            printed.APPENDIX_OPTIMIZATION_OVER_T,
            "no decay; rho stands where L^2 rho^2 belongs",
            list(_admissible(over_T)),
        ),
        _optimization(
            "optimization bound with decay",
            printed.APPENDIX_OPTIMIZATION_OVER_T,
            "rho = 0, lambda = 2L: decay pulls towards 0, where grad F does not vanish",
            list(_admissible(biased)),
        ),
        _excess(
            "Theorem 1, main text",
            printed.THEOREM1,
            "SGD, lambda = 2L, all examples equal (no generalization gap), minimiser a = 1",
            zero,
            Q(1),
            [Q(2**i) for i in range(3, 10)],
            [Q(2**i) for i in range(3, 9)],
        ),
        _excess(
            "Theorem 1, appendix form",
            printed.APPENDIX_EXCESS,
            "rho = 0, lambda = 2L, all examples equal, minimiser a = 8",
            zero,
            Q(8),
            [Q(2**i) for i in range(3, 10)],
            [Q(2**i) for i in range(3, 9)],
        ),
        one_example(
            "Theorem 1 for F_lambda, main text",
            printed.THEOREM1,
            "one example z of the population {-z, z}, every F read as F_lambda, mu = lambda = 2L: "
            "the gap of order B^2 / L is not of order B",
            [Q(i) for i in range(4, 33, 4)],
            [Q(1, 2), Q(1, 3), Q(1, 4), Q(1, 8)],
        ),
        one_example(
            "Theorem 1 for F_lambda, appendix form",
            printed.APPENDIX_EXCESS,
            "the same at rho = 0; eta B^2 is small only if eta L is",
            [Q(i) for i in range(4, 97, 4)],
            [Q(1, 4), Q(1, 8), Q(1, 16), Q(1, 32)],
        ),
    ]


def example_lemma1() -> dict[str, float]:
    """The project's example: L = 10, rho = 0.05, eta = 0.01, lambda = 20, w = +-0.001."""
    numbers = {"L": 10, "rho": 0.05, "eta": 0.01, "lambda": 20, "delta": 0.002}
    left = _lemma_sides(Q(10), Q("0.05"), Q("0.01"), Q(20), Q("0.001"), Q("-0.001"))
    return {
        "left": float(left),
        "printed": float(printed.LEMMA1_EQUAL.value(**numbers)),
        "corrected": float(corrected.LEMMA1.value(**numbers)),
    }


def example_optimization(steps: int = 400_000) -> dict[str, float]:
    """The project's example: L = 100, rho = 0.1, eta = 1e-4, w_0 = rho, B = 2 L rho."""
    run = run_line(100.0, 0.0, 0.1, 1e-4, 0.1, 0.0, steps)  # type: ignore[arg-type]
    numbers = {"L": 100, "rho": 0.1, "eta": 1e-4, "lambda": 0, "T": steps, "F_0": 0.5, "B": 20}
    return {
        "steps": steps,
        "left": float(sum(run.gradients)) / steps,
        "literal": float(printed.APPENDIX_OPTIMIZATION.value(**numbers)),
        "over_T": float(printed.APPENDIX_OPTIMIZATION_OVER_T.value(**numbers)),
        "corrected": float(corrected.SMOOTH.value(**{**numbers, "F_*": 0, "sigma": 0})),
        "steepest": float(run.steepest),
        "w": float(run.last),
        "rho": 0.1,
    }
