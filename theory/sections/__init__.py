"""The report's longer sections."""

__all__ = [
    "beyond_section",
    "generalization_section",
    "networks_section",
    "proofs_section",
    "regime_section",
    "stability_section",
    "stationary_section",
]

from theory.sections.beyond import beyond_section
from theory.sections.dynamics import regime_section, stability_section, stationary_section
from theory.sections.generalization import generalization_section
from theory.sections.networks import networks_section
from theory.sections.proofs import proofs_section
