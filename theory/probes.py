"""Runs at the very edge of what a statement assumes, without a confidence interval.

The grid stays where its settings were put; a probe goes where the statement's own conditions let
it go: the largest step admitted, every decay and momentum admitted, deterministic runs long enough
that only the floor is left, and noisy ones over all paths of a two-point noise, so that means are
expectations. A condition that is too weak, or a left side that is another quantity, is violated
here.
"""

__all__ = ["probe"]

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
from sympy import Integer

from theory.checks import Cell
from theory.grid import Arm, Record, compare, simulate
from theory.problems import Problem, Quadratic
from theory.statements import UNREAD, Statement
from theory.worlds.tree import Tree

_DEPTH = 7
_LONG = (1, 10, 2000)
_THETAS = (0.3, 1.0)


def _lines() -> list[Problem]:
    return [
        Quadratic(np.eye(1), np.array([0.7]), name="line"),
        Quadratic(np.diag([1.0, 0.1]), np.array([0.7, -2.0]), name="plane"),
    ]


def _settings(statement: Statement) -> list[Arm]:
    """Every arm whose momentum and decay the statement may admit, at its largest step."""
    return [
        Arm(share, rho, 0.0, decay, beta, statement.schedule, limits=statement)
        for share, rho, decay, beta in product(
            (1.0, 0.5), (0.0, 1.0), (0.0, 0.5, 2.0), (0.0, 0.5, 0.9)
        )
    ]


def _admitted(statement: Statement, problem: Problem) -> list[Arm]:
    L = problem.smoothness
    found = []
    for arm in _settings(statement):
        numbers = {"L": L, "lambda": arm.decay * L, "beta": arm.momentum}
        known = {**dict.fromkeys(statement.constants, 1.0), **numbers, "eta": arm.step(L)}
        if statement.admits(**known):
            found.append(arm)
    return found


@cache
def _records(bare: Statement) -> list[tuple[Problem, Record]]:
    """The runs; they depend on the assumptions and the schedule only."""
    found: list[tuple[Problem, Record]] = []
    for line in _lines():
        arms = _admitted(bare, line)
        if not arms:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            long = list(simulate(line, arms, 1, _LONG, np.random.default_rng(0)))
        found += [(line, record) for record in long]
        for arm in arms:
            push = np.ones(line.dim) / np.sqrt(line.dim)
            tree = Tree(line, push, _DEPTH)
            rng = np.random.default_rng(0)
            found += [(tree, r) for r in simulate(tree, [arm], tree.paths, (1, _DEPTH), rng)]
    return found


def probe(statement: Statement) -> list[Cell]:
    """Exact comparisons at the edge; for the bounds that are about a run of S2-SAM.

    Raises:
        ValueError: no condition of the statement bounds the step.
    """
    if "theta" in statement.constants:
        return [cell for theta in _THETAS for cell in probe(statement.at(theta=theta))]
    bare = replace(statement, right=Integer(0), left=UNREAD, name="", title="", where="")
    compared = (compare(statement, problem, 1.0, r, None) for problem, r in _records(bare))
    return [cell for cell in compared if cell is not None]
