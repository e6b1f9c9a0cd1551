"""Step-by-step proofs of the corrected statements, decided by machine where a machine can."""

__all__ = ["PROOFS"]

from theory.proofs.clipped import CLIPPED_PROOF
from theory.proofs.constants import CONSTANTS_PROOF
from theory.proofs.coupling import EXCESS_PROOF, LEMMA1_PROOF, STABILITY_PROOF
from theory.proofs.descent import PL_PROOF, SMOOTH_PROOF
from theory.proofs.extremal import EXTREMAL_PROOF
from theory.proofs.family import FAMILY_PROOF
from theory.proofs.geometry import GEOMETRY_PROOF, ORBIT_PROOF
from theory.proofs.heavy import HEAVY_PROOF
from theory.proofs.masks import MASKS_PROOF
from theory.proofs.momentum import MOMENTUM_PROOF
from theory.proofs.practical import PRACTICAL_PROOF
from theory.proofs.scalar import SCALAR_PROOF, STATIONARY_PROOF
from theory.proofs.schedules import SCHEDULE_PROOF
from theory.proofs.smoothing import SMOOTHING_PROOF

PROOFS = (
    SMOOTH_PROOF,
    PL_PROOF,
    MOMENTUM_PROOF,
    SCHEDULE_PROOF,
    LEMMA1_PROOF,
    STABILITY_PROOF,
    EXCESS_PROOF,
    GEOMETRY_PROOF,
    ORBIT_PROOF,
    SCALAR_PROOF,
    STATIONARY_PROOF,
    CONSTANTS_PROOF,
    HEAVY_PROOF,
    SMOOTHING_PROOF,
    PRACTICAL_PROOF,
    CLIPPED_PROOF,
    EXTREMAL_PROOF,
    MASKS_PROOF,
    FAMILY_PROOF,
)
