"""The radius ρ of S2-SAM around Adam, chosen on validation pairs."""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record
from paper_repro.optim import OPTIMIZERS
from tables import TABLES
from tables.base import Cell, Delta, Reading, Row, Table
from tables.compare import Experiment, cell
from tables.rebuttal_translation import RHO_ADAM, RHO_SOURCE, notes, trained

__all__ = ["RHOS", "ablation_translation_rho", "validation_bleu", "validation_loss"]

RHOS = (0.01, 0.02, 0.05, 0.1, 0.2)


def validation_bleu(record: Record) -> float | None:
    """Validation BLEU after the last epoch."""
    return record.body["curve"][-1]["validation_bleu"] if record.status == "finished" else None


def validation_loss(record: Record) -> float | None:
    """Validation loss (nats a token) after the last epoch."""
    return record.body["curve"][-1]["validation_loss"] if record.status == "finished" else None


@TABLES.register("ablation-translation-rho")
def ablation_translation_rho(profile: Profile) -> Table:
    """Dense training with S2-SAM around Adam at each ρ, against Adam (ρ = 0)."""
    rows: list[Row] = []
    if "wmt14" in profile.datasets:
        experiment = Experiment(profile.method("dense"), "wmt14", "transformer_base")
        base = cell(profile, experiment, OPTIMIZERS.spec("sgd"))
        rows.append(Row(("0 (Adam)",), (base, Delta(Cell(), Cell()))))
        for rho in RHOS:
            own = cell(profile, experiment, OPTIMIZERS.spec("s2sam", rho=rho))
            rows.append(Row((f"{rho:g}",), (own, Delta(own, base))))
    return Table(
        name="ablation-translation-rho",
        title="Ablation. S2-SAM's radius around Adam, translation, SacreBLEU on validation pairs",
        headers=("ρ", "validation BLEU", "Δ to Adam"),
        rows=tuple(rows),
        notes=(
            *notes(profile),
            "The paper gives no ρ for translation. The rule is to take the one with the best "
            "validation BLEU; no test pair takes part in the choice. `rebuttal-translation` uses "
            f"ρ = {RHO_ADAM:g}: {RHO_SOURCE}.",
        ),
        value=validation_bleu,
        alternatives=(
            Reading(
                "Validation loss (nats a token) instead: less is better",
                validation_loss,
                {"validation BLEU": "validation loss"},
                digits=4,
            ),
        ),
        baseline="Adam",
        about=trained(profile),
    )
