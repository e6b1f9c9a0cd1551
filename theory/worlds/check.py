"""Whether a proof's premises and steps are true in given worlds."""

__all__ = ["World", "join", "refuted", "unseen"]

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import sympy

from theory.proofs.steps import Cited, Identity, Inequality, Premise, Proof
from theory.statements import evaluate

World = Mapping[str, np.ndarray]
"""Values by the names of symbols, all of one shape (worlds,); nan where a symbol has none."""

_ROUNDING = 1e-9  # relative to the largest term


def join(settings: Iterable[Mapping[str, float]]) -> World:
    """One world a setting, stacked; a name that a setting lacks is nan there."""
    rows = list(settings)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name in names}


def _scaled(expr: sympy.Expr, world: World) -> np.ndarray:
    """The value over the largest of its terms (at least 1e-6); nan where a symbol is unknown."""
    shape = next(iter(world.values())).shape
    terms = [
        np.broadcast_to(evaluate(term, world), shape)
        for term in sympy.Add.make_args(sympy.sympify(expr))
    ]
    size = np.maximum(np.max([np.abs(term) for term in terms], axis=0), 1e-6)
    return np.sum(terms, axis=0) / size


def _claims(step: Identity | Inequality) -> Iterator[tuple[str, sympy.Expr, bool]]:
    """Name, expression and whether it must vanish; else it must be non-negative."""
    if isinstance(step, Identity):
        yield f"identity: {step.text}", step.left - step.right, True
        return
    yield f"step: {step.text}", step.bigger - step.smaller, False
    for term in step.certificate:
        for factor in term:
            if isinstance(factor, Premise):
                yield f"premise: {factor.why}", factor.expr, False


def _every(proof: Proof, world: World) -> Iterator[tuple[str, np.ndarray]]:
    """Name and violation (above 0: false there) of everything that the proof claims."""
    some = next(iter(world.values()))
    for step in proof.steps:
        if isinstance(step, Cited):
            continue
        fits = np.ones(some.shape, dtype=bool)
        for name, value in step.when.items():
            fits &= world[name] == value
        for name, expr, vanishes in _claims(step):
            if any(not symbol.is_commutative for symbol in sympy.sympify(expr).free_symbols):
                continue  # an identity of operators: sympy decides it, numbers cannot
            if any(symbol.name not in world for symbol in sympy.sympify(expr).free_symbols):
                yield name, np.full(some.shape, np.nan)
                continue
            with np.errstate(all="ignore"):
                sides = _scaled(expr, world)
            wrong = (np.abs(sides) if vanishes else -sides) - _ROUNDING
            yield name, np.where(fits, wrong, np.nan)
        yield from _quotes(step, world, fits)


def _quotes(
    step: Identity | Inequality, world: World, fits: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Whether the statements that a step quotes admit the worlds that the step is about."""
    certificate = step.certificate if isinstance(step, Inequality) else ()
    quotes = {
        statement: factor.why
        for term in certificate
        for factor in term
        if isinstance(factor, Premise) and factor.quote
        for statement in factor.quote.statements
    }
    for statement, why in quotes.items():
        outside = np.full(fits.shape, np.nan)
        for index in np.flatnonzero(fits):
            numbers = {name: values[index] for name, values in world.items()}
            outside[index] = 0.0 if statement.admits(**numbers) else 1.0
        yield f"assumptions of {statement.name}, quoted: {why}", outside


def refuted(proof: Proof, world: World) -> list[str]:
    """What the proof claims and some world contradicts; each once."""
    return list(
        dict.fromkeys(name for name, wrong in _every(proof, world) if np.nanmax([0, *wrong]) > 0)
    )


def unseen(proof: Proof, world: World) -> list[str]:
    """What no world decides, for want of a symbol's value."""
    names: Sequence[str] = [name for name, wrong in _every(proof, world) if np.isnan(wrong).all()]
    return list(dict.fromkeys(names))
