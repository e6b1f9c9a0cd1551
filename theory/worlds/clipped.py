"""Two coupled runs with the perturbation that is continuous."""

__all__ = ["clipped_worlds"]

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from theory.statements import Statement
from theory.worlds.lines import LINES, Line, Path, edge, orders, path


def clipped_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """As ``stability_worlds``, with the perturbation that is continuous; 1/n bounds and steps."""
    for line, statement, n, shuffled, decay, rho, kappa, share in product(
        LINES,
        statements,
        (2, 3),
        (False, True),
        (0.1, 1.2, 3.0),
        (0.05, 0.4),
        (0.05, 0.5),
        (1.0, 0.4),
    ):
        gamma = rho * line.L / kappa
        numbers = {"L": line.L, "B": line.B, "lambda": decay * line.L, "rho": rho, "n": float(n)}
        numbers["gamma"] = gamma
        eta = share * edge(statement, **numbers)
        flags = {}
        for name, convex in (("any_run", False), ("convex_run", True)):
            fitting = [s for s in statements if ("convex" in s.properties) == convex]
            admitted = any(s.admits(**numbers, eta=eta) for s in fitting)
            flags[name] = float(admitted and (line.convex or not convex))
        if not any(flags.values()):
            continue
        first = np.array([-2.0, 2.0, 1.0])[:n]
        second = first.copy()
        second[0] = 2.0
        order = orders(n, 4, shuffled)
        ours, theirs = (
            path(line, chosen[order], eta, rho, numbers["lambda"], gamma)
            for chosen in (first, second)
        )
        for t in (1, 3):
            yield from _coupled_step(line, numbers, flags, eta, order, ours, theirs, t)


def _coupled_step(
    line: Line,
    numbers: dict[str, float],
    flags: dict[str, float],
    eta: float,
    order: np.ndarray,
    ours: Path,
    theirs: Path,
    t: int,
) -> Iterator[dict[str, float]]:
    """Step t: expectations in one world with each order's own distances, one world an order."""
    apart = [np.abs(ours.w[i] - theirs.w[i]) for i in (t, t + 1)]
    off = [np.abs(ours.shift[i] - theirs.shift[i]) for i in (t, t + 1)]
    differ = [
        abs((line.value(ours.w[t], np.array(z)) - line.value(theirs.w[t], np.array(z))).mean())
        for z in (-2.0, 2.0)
    ]
    means = {
        "Ed": float(apart[0].mean()),
        "Ed_{t+1}": float(apart[1].mean()),
        "Ee": float(off[0].mean()),
        "Ee_{t+1}": float(off[1].mean()),
        "K": float(max(differ)),
    }
    for row in range(len(order)):
        z = np.array(2.0)
        w, w2, shift = ours.w[t][row], theirs.w[t][row], ours.shift[t][row]
        d, h = w - w2, float(line.gradient(w + shift, z) - line.gradient(w2 + shift, z))
        yield {
            **numbers,
            **flags,
            **means,
            "eta": eta,
            "equal": float(order[row, t] != 0),
            "convex": flags["convex_run"],
            "delta": abs(d),
            r"\delta_{t+1}": float(apart[1][row]),
            "e": float(off[0][row]),
            "e_{t+1}": float(off[1][row]),
            "q": float(abs(ours.g[t][row] - theirs.g[t][row])),
            r"\|d\|^2": d * d,
            r"\|h\|^2": h * h,
            r"\langle d,h\rangle": d * h,
        }
