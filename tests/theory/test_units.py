"""Units: what is proved is homogeneous, what is printed mostly is not."""

import pytest
import sympy

from theory.beyond import BEYOND
from theory.corrected import CORRECTED
from theory.printed import PRINTED
from theory.symbols import CONSTANTS, B, L, eta, rho
from theory.units import dimensions, unit_of

LEFT = {  # powers of loss and weight
    "squared gradient": (2, -2),
    "loss": (1, 0),
    "distance": (0, 1),
    "number": (0, 0),
}
KIND = {
    **dict.fromkeys(
        ("smooth", "weight_decay", "momentum", "scheduled", "scheduled_radius",
         "momentum_practical", "dynamic_masks", "smooth_family", "smooth_best"),
        "squared gradient",
    ),
    **dict.fromkeys(
        ("pl", "pl_decay", "stability", "stability_convex", "stability_clipped",
         "stability_clipped_convex", "excess"),
        "loss",
    ),
    **dict.fromkeys(
        ("lemma1_equal", "lemma1_equal_convex", "lemma1_different", "extremal"), "distance"
    ),
    "momentum_stable": "number",
}  # fmt: skip


@pytest.mark.parametrize("statement", (*CORRECTED, *BEYOND), ids=lambda s: s.name)
def test_what_is_proved_has_the_unit_of_its_left_side(statement):
    assert unit_of(statement.right) == LEFT[KIND[statement.name]]


def test_what_is_printed_is_not_homogeneous_but_for_one():
    homogeneous = [s.name for s in PRINTED if unit_of(s.right) is not None]
    assert homogeneous == ["lemma1_different_printed"]
    assert unit_of(6 * B + 1) is None


def test_units_of_constants_and_products():
    assert dimensions("L") == (1, -2)
    assert dimensions("eta") == (-1, 2)
    assert unit_of(eta * L) == (0, 0)
    assert unit_of(L * rho + B) == (1, -1)
    assert unit_of(rho + L * rho) is None
    assert all(len(dimensions(symbol.name)) == 2 for symbol in CONSTANTS)


def test_unknown_constants_are_named():
    with pytest.raises(ValueError, match="zeta is not a constant of the theory"):
        unit_of(sympy.Symbol("zeta") + 1)
