"""S2-SAM against SAM and its rivals: accuracy, and what it costs."""

from __future__ import annotations

from dataclasses import replace

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record
from tables import TABLES
from tables.base import BEST_EPOCH, Cell, Delta, Row, Table
from tables.compare import RHO, Experiment, cell
from tables.published import R6_MEST_EM

__all__ = ["LABELS", "ablation_sam"]

SPARSITY = 0.9
#: Where late-phase rows begin to perturb, a tenth of the training before its end.
LATE = 0.9
#: The rows, and how each optimizer is named here.
LABELS: dict[str, tuple[str, dict[str, float | bool]]] = {
    "SGD": ("sgd", {}),
    "S2-SAM": ("s2sam", {}),
    "SAM": ("sam", {}),
    "ASAM": ("sam", {"rho": 0.5, "adaptive": True}),
    "ESAM": ("esam", {}),
    "LookSAM": ("looksam", {}),
    "SAF": ("saf", {}),
    "SSAM": ("ssam", {}),
    "MSAM": ("msam", {}),
    "ZO-SAM": ("zosam", {}),
    "AsyncSAM": ("asyncsam", {}),
    "F-SAM": ("fsam", {}),
    "S2-SAM, ρ < 0": ("s2sam", {}),
    "random direction": ("randomsam", {}),
    "S2-SAM, late phase": ("s2sam", {}),
    "SAM, late phase": ("sam", {}),
}
#: Of these ρ is the profile's, times this: S2-SAM, SAM and what differs from them in the direction.
_RADII = {
    "S2-SAM": 1,
    "SAM": 1,
    "AsyncSAM": 1,
    "F-SAM": 1,
    "S2-SAM, ρ < 0": -1,
    "random direction": 1,
    "S2-SAM, late phase": 1,
    "SAM, late phase": 1,
}


def gradients(record: Record) -> float | None:
    """Gradients of a full batch that a step takes, a forward pass alone counted as a third."""
    if record.status != "finished":
        return None
    speed = record.body["speed"]
    if speed.get("gradients_per_step") is None:
        return None
    return float(speed["gradients_per_step"]) + (speed.get("forwards_per_step") or 0.0) / 3


def speed(record: Record) -> float | None:
    """Training images a second, evaluation left out."""
    return record.body["speed"].get("images_per_second") if record.status == "finished" else None


def memory(record: Record) -> float | None:
    """Peak memory in MiB: the device's, or on a CPU the whole process's."""
    if record.status != "finished":
        return None
    body = record.body.get("memory") or {}
    peak = body.get("device_peak_bytes") or body.get("process_peak_bytes")
    return None if peak is None else peak / 2**20


@TABLES.register("ablation-sam")
def ablation_sam(profile: Profile) -> Table:
    """Every optimizer with MEST(EM) at 90 %."""
    experiment = Experiment(profile.method("mest", sparsity=SPARSITY))
    theirs, ours = R6_MEST_EM[SPARSITY]
    published = {"SGD": theirs, "S2-SAM": ours}
    base = cell(profile, experiment, profile.optimizer("sgd"))
    rows = []
    rho = profile.rho("cifar10")
    for label, (name, options) in LABELS.items():
        radius = {"rho": _RADII[label] * rho} if label in _RADII else {}
        late = {"rho_start": LATE} if label.endswith("late phase") else {}
        own = cell(profile, experiment, profile.optimizer(name, **options, **radius), **late)
        rows.append(
            Row(
                (label,),
                (
                    Cell(own.runs, published.get(label)),
                    Delta(Cell(), Cell()) if name == "sgd" else Delta(own, base),
                    Cell(own.runs, value=gradients),
                    Cell(own.runs, value=speed, digits=0),
                    Cell(own.runs, value=memory, digits=0),
                ),
            )
        )
    return Table(
        name="ablation-sam",
        title="Ablation. Sharpness-aware optimizers with MEST(EM) at 90 %",
        headers=(
            "optimizer",
            "accuracy % (last epoch)",
            "Δ to SGD",
            "gradients/step",
            "images/s",
            "peak MiB",
        ),
        rows=tuple(rows),
        notes=(
            "Each optimizer at its authors' default radius (the docstrings say which), S2-SAM and "
            f"SAM at {rho:g} (the paper's is {RHO:g}), ASAM at 0.5. AsyncSAM and F-SAM differ from "
            "SAM in the direction alone, so they have its radius.",
            "Late phase: ρ = 0 for the first nine tenths of the training. S2-SAM with ρ < 0 moves "
            "down the old gradient instead of up; the random direction has S2-SAM's length.",
            "Gradients/step is the mean over the run and counts a forward pass without a backward "
            "pass as a third.",
            "Images/s and memory are of training processes that shared the machine with others; "
            "on a CPU memory is the process's peak, the data set and PyTorch included, over all "
            "runs that the process had trained. `make bench` measures both properly.",
        ),
        alternatives=(
            replace(BEST_EPOCH, renamed={"accuracy % (last epoch)": "accuracy % (best epoch)"}),
        ),
    )
