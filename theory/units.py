"""Whether a formula is homogeneous: a sum of a weight and a squared gradient cannot be a bound."""

__all__ = ["dimensions", "unit_of"]

import re

import numpy as np
import sympy

from theory.statements import evaluate
from theory.symbols import CONSTANTS

_BASES = ("loss", "weight")


def dimensions(name: str) -> tuple[int, int]:
    """Powers of loss and weight of a constant, read off its description in ``CONSTANTS``.

    Raises:
        ValueError: there is no such constant, or its description names no unit.
    """
    described = {symbol.name: text for symbol, text in CONSTANTS.items()}
    if name not in described:
        raise ValueError(f"{name} is not a constant of the theory")
    found = re.search(r"\[([^\]]*)\]", described[name])
    if not found:
        raise ValueError(f"the description of {name} names no unit")
    powers = dict.fromkeys(_BASES, 0)
    for sign, part in zip((1, -1), found.group(1).split("/"), strict=False):
        base, _, power = part.strip().partition("^")
        if base in powers:
            powers[base] += sign * int(power or 1)
    return powers["loss"], powers["weight"]


def unit_of(expr: sympy.Expr, points: int = 20, seed: int = 0) -> tuple[int, int] | None:
    """Powers of loss and weight of a formula; None if no powers fit, as for 6 B + 1.

    Every constant is measured in other units of loss and of weight, at random values, and the
    formula's value must change by one power of each.
    """
    rng = np.random.default_rng(seed)
    names = sorted(symbol.name for symbol in expr.free_symbols)
    values = {name: rng.uniform(0.1, 0.9, points) for name in names}
    for count in {"T", "n", "k"} & set(names):
        values[count] = rng.integers(2, 50, points).astype(float)
    with np.errstate(invalid="ignore"):  # a root of something negative says nothing of units
        base = evaluate(expr, values)
    found = []
    for index in range(len(_BASES)):
        scaled = {name: x * 2.0 ** dimensions(name)[index] for name, x in values.items()}
        with np.errstate(invalid="ignore"):
            powers = np.atleast_1d(np.log2(np.abs(evaluate(expr, scaled) / base)))
        powers = powers[~np.isnan(powers)]
        if not len(powers) or np.ptp(powers) > 1e-9 or abs(powers[0] - round(powers[0])) > 1e-9:
            return None
        found.append(round(float(powers[0])))
    return found[0], found[1]
