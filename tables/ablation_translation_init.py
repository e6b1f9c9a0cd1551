"""A Transformer's initial weights: does it learn to translate at all?"""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from paper_repro.optim import OPTIMIZERS
from tables import TABLES
from tables.base import Delta, Reading, Row, Table
from tables.compare import Experiment, cell
from tables.rebuttal_translation import (
    RHO_ADAM,
    last_chrf,
    method,
    notes,
    trained,
    unaveraged_bleu,
)

__all__ = ["ablation_translation_init"]


@TABLES.register("ablation-translation-init")
def ablation_translation_init(profile: Profile) -> Table:
    """Adam and S2-SAM around it, dense and at 80 %, from Xavier's weights and depth-scaled ones."""
    optimizers = {
        "Adam": OPTIMIZERS.spec("sgd"),
        "S2-SAM": OPTIMIZERS.spec("s2sam", rho=RHO_ADAM),
    }
    rows: list[Row] = []
    for sparsity in (0.0, 0.8) if "wmt14" in profile.datasets else ():
        experiment = Experiment(method(profile, sparsity), "wmt14", "transformer_base")
        for name, spec in optimizers.items():
            xavier = cell(profile, experiment, spec, init="xavier")
            scaled = cell(profile, experiment, spec, init="depth-scaled")
            label = f"{sparsity:.0%}" if sparsity else "dense"
            rows.append(Row((label, name), (xavier, scaled, Delta(scaled, xavier))))
    return Table(
        name="ablation-translation-init",
        title="Ablation. A Transformer's initial weights, SacreBLEU on the test set after the last "
        "epoch",
        headers=("sparsity", "optimizer", "Xavier", "depth-scaled", "Δ to Xavier"),
        rows=tuple(rows),
        notes=(
            *notes(profile),
            "Depth-scaled: queries, keys and values drawn as one matrix (as `torch.nn."
            "MultiheadAttention` does), and the l-th layer's weights shorter by the root of l "
            f"(Zhang, Titov and Sennrich 2019). ρ = {RHO_ADAM:g} in S2-SAM.",
        ),
        alternatives=(
            Reading("Last weights, not averaged", unaveraged_bleu),
            Reading("chrF instead of BLEU", last_chrf),
        ),
        baseline="Xavier",
        about=trained(profile),
    )
