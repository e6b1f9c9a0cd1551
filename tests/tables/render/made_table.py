"""A made-up table whose runs have records, lost ones among them."""

from workplaces import tiny

from tables.base import Cell, Delta, MeanDelta, Reading, Row, Table, best_accuracy

__all__ = ["BASE", "DELTA", "LOST", "OURS", "TABLE", "body_of", "cell"]


def cell(n, published=None, **changes):
    return Cell(tuple(tiny(seed=seed, **changes) for seed in range(n)), published)


BASE = cell(2, 92.56, weight_decay=0.0)
OURS = cell(2, 93.43)
LOST = cell(1, batch_size=10)
DELTA = Delta(OURS, BASE, 0.87)
TABLE = Table(
    name="made-up",
    title="Made up & 100% wrong_ρ. Accuracy (%)",
    headers=("method", "optimizer", "digits 90%", "digits 98%"),
    rows=(
        Row(("MEST(EM&S)", "SGD"), (BASE, LOST)),
        Row(("MEST(EM&S)", "S2-SAM"), (OURS, Cell())),
        Row(("MEST(EM&S)", "Δ"), (DELTA, Delta(LOST, Cell()))),
        Row(("all", "mean Δ"), (MeanDelta((DELTA,), 0.77), MeanDelta(()))),
    ),
    notes=("A note: 20 % of it, and 3 < 4.",),
    alternatives=(Reading("Best epoch", best_accuracy),),
)


def body_of(tex):
    """The rows between \\toprule and \\bottomrule."""
    lines = tex.split("\\toprule\n")[1].split("\\bottomrule")[0].splitlines()
    return [line for line in lines if not line.startswith(("\\midrule", "\\add", "\\cmid"))]
