"""A statement of the theory: one inequality with named constants, printable and computable.

Its assumptions and its left side are executable as well as its right side, so that a check uses
what the statement says and not a second wording of it: ``Statement.admits`` decides a setting,
``Statement.largest_step`` is the step size at the edge of what is admitted, ``Left.measure`` reads
the left side off a run, and ``theory.assumptions`` tests what is assumed of a problem.
"""

__all__ = ["UNREAD", "Assumption", "Left", "Statement", "evaluate", "lookup"]

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import numpy as np
import sympy
from scipy.special import digamma

from theory.symbols import CONSTANTS, eta


def _harmonic(number: np.ndarray) -> np.ndarray:
    return digamma(number + 1) + np.euler_gamma


def _sorted(expr: sympy.Expr) -> list[sympy.Symbol]:
    return sorted(expr.free_symbols, key=lambda symbol: symbol.name)


@cache
def _compiled(right: sympy.Expr) -> Callable[..., Any]:
    symbols = _sorted(right)
    # sympy prints harmonic(T) as a sum without parentheses: a factor binds to one term only.
    right = right.replace(sympy.harmonic, sympy.Function("harmonic_number"))
    modules = [{"harmonic_number": _harmonic}, "numpy", "scipy"]
    return sympy.lambdify(symbols, right, modules=modules)


def _number(expr: sympy.Expr, numbers: Mapping[str, Any]) -> float:
    """``expr`` in numbers; a division by 0 gives infinity (no decay, no bound from it)."""
    values = [np.float64(numbers[symbol.name]) for symbol in _sorted(expr)]
    with np.errstate(divide="ignore"):
        return float(_compiled(expr)(*values))


def evaluate(expr: sympy.Expr, numbers: Mapping[str, Any]) -> np.ndarray:
    """``expr`` in numbers, broadcast; ``numbers`` names every symbol in it."""
    values = [np.asarray(numbers[symbol.name], dtype=float) for symbol in _sorted(expr)]
    return np.asarray(_compiled(expr)(*values), dtype=float)


_EDGE = 1e-9  # relative: a step size computed as the edge itself counts as admitted
_INSIDE = 0.95  # of an edge that is itself excluded: a bound may be infinite there


@dataclass(frozen=True)
class Assumption:
    """Something that a statement needs.

    Args:
        text: in LaTeX-flavoured Markdown; by default the condition itself.
        condition: a sympy relation between the constants, or true where it is not about those.
        properties: what is assumed of the problem, by the names of ``theory.assumptions``.
    """

    text: str = ""
    condition: Any = sympy.true
    properties: tuple[str, ...] = ()

    def shown(self) -> str:
        """What reports print: the text, or else the condition that is decided."""
        return self.text or f"${sympy.latex(self.condition)}$"

    @property
    def bounds_step(self) -> bool:
        """Whether the condition is an upper limit of eta."""
        relation = isinstance(self.condition, sympy.Le | sympy.StrictLessThan)
        return relation and self.condition.lhs == eta

    def holds(self, **numbers: Any) -> bool:
        """Whether the condition is met, up to a relative 1e-9; False if a constant is unknown."""
        if self.condition in (sympy.true, sympy.false):
            return bool(self.condition)
        names = {symbol.name for symbol in self.condition.free_symbols}
        if names - set(numbers):
            return False
        low, high = (_number(side, numbers) for side in (self.condition.lhs, self.condition.rhs))
        slack = _EDGE * max(abs(low), abs(high))
        if isinstance(self.condition, sympy.Eq):
            return abs(low - high) <= slack
        if isinstance(self.condition, sympy.Le):
            return low <= high + slack
        if isinstance(self.condition, sympy.StrictGreaterThan):
            return low > high + slack
        if isinstance(self.condition, sympy.StrictLessThan):
            return low < high - slack
        raise ValueError(f"cannot decide the condition {self.condition}")


@dataclass(frozen=True)
class Left:
    """A left side: how it is printed, and how it is read off a run.

    ``measure`` takes what the module that runs it hands over (``theory.grid.Record`` for the
    optimization bounds) and returns one number a run.
    """

    latex: str
    measure: Callable[[Any], np.ndarray]


def _unread(run: Any) -> np.ndarray:
    raise ValueError("this left side is a placeholder")


UNREAD = Left("", _unread)
"""Stands where a left side plays no role: runs depend on a statement's assumptions only."""


@dataclass(frozen=True)
class Statement:
    """One inequality ``left <= right``.

    Args:
        name: identifier, unique among all statements.
        title: one line for people.
        where: where it is printed, or which statement it corrects.
        assumptions: what it needs.
        left: the left side.
        right: the right side, a sympy expression in the constants of ``theory.symbols``.
        schedule: of step and radius; "radius": rho_t = sqrt(c / t); "both": also
            eta_t = eta / sqrt(t + 1).
    """

    name: str
    title: str
    where: str
    assumptions: tuple[Assumption, ...]
    left: Left
    right: sympy.Expr
    schedule: Literal["constant", "radius", "both"] = "constant"

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants on the right side, sorted."""
        return tuple(sorted(symbol.name for symbol in self.right.free_symbols))

    @property
    def properties(self) -> tuple[str, ...]:
        """What is assumed of the problem, by the names of ``theory.assumptions``."""
        return tuple(dict.fromkeys(p for a in self.assumptions for p in a.properties))

    def admits(self, **numbers: Any) -> bool:
        """Whether the conditions on the constants are met; False if one that is needed is missing.

        Args:
            **numbers: one value for each constant that is known.
        """
        if any(name not in numbers for name in self.constants):
            return False
        return all(assumption.holds(**numbers) for assumption in self.assumptions)

    def largest_step(self, **numbers: float) -> float:
        """The largest step size that the conditions admit; 95% of it where the edge is excluded.

        Raises:
            ValueError: no condition bounds eta, or a constant that one needs is missing.
        """
        limits = [a.condition for a in self.assumptions if a.bounds_step]
        missing = {x.name for limit in limits for x in limit.rhs.free_symbols} - set(numbers)
        if not limits or missing:
            names = ", ".join(sorted(missing))
            reason = f"no value given for {names}" if limits else "nothing bounds eta"
            raise ValueError(f"{self.name}: no largest step, {reason}")
        return min(
            _number(limit.rhs, numbers) * (1 if isinstance(limit, sympy.Le) else _INSIDE)
            for limit in limits
        )

    def at(self, **numbers: float) -> "Statement":
        """The statement with some constants fixed, under the same name."""
        values = {x: sympy.sympify(numbers[x.name]) for x in CONSTANTS if x.name in numbers}
        fixed = tuple(replace(a, condition=a.condition.subs(values)) for a in self.assumptions)
        return replace(self, assumptions=fixed, right=self.right.subs(values))

    def value(self, **numbers: Any) -> np.ndarray:
        """The right side in numbers; every argument is broadcast.

        Args:
            **numbers: one entry for each name in ``constants``; extra ones are allowed if they
                are constants of ``theory.symbols``, so that one dictionary serves all statements.

        Raises:
            ValueError: a constant is missing, or a name is no constant.
        """
        self._check(numbers)
        arguments = [np.asarray(numbers[name], dtype=float) for name in self.constants]
        return np.asarray(_compiled(self.right)(*arguments), dtype=float)

    def exact(self, **numbers: Fraction | int) -> Fraction:
        """The right side in rational arithmetic.

        Raises:
            ValueError: as for ``value``, or the right side is not rational.
        """
        self._check(numbers)
        rational = {
            symbol: sympy.Rational(numbers[symbol.name]) for symbol in self.right.free_symbols
        }
        right = self.right.xreplace(rational)  # many times faster than subs, and enough
        if not right.is_Rational:
            raise ValueError(f"{self.name}: the right side {right} is not rational")
        return Fraction(int(right.p), int(right.q))

    def _check(self, numbers: Mapping[str, Any]) -> None:
        known = {symbol.name for symbol in CONSTANTS}
        unknown = sorted(set(numbers) - known)
        if unknown:
            raise ValueError(f"{self.name}: {', '.join(unknown)} is not a constant of the theory")
        missing = [name for name in self.constants if name not in numbers]
        if missing:
            raise ValueError(f"{self.name}: no value given for {', '.join(missing)}")

    def latex(self) -> str:
        """The inequality in LaTeX."""
        return f"{self.left.latex} \\le {sympy.latex(self.right, order='rev-lex')}"


def lookup(statements: Iterable[Statement], name: str) -> Statement:
    """The statement called ``name``.

    Raises:
        ValueError: there is none.
    """
    by_name = {statement.name: statement for statement in statements}
    if name not in by_name:
        raise ValueError(f"unknown statement {name!r}; known: {', '.join(sorted(by_name))}")
    return by_name[name]
