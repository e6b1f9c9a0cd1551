"""What of the paper's claims is measured by runs: which differences, in which table, which rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from paper_repro.experiment.profiles import Profile
from tables.ablation_weight_decay import comparisons
from tables.base import Delta
from tables.compare import data_label
from tables.inference.reading import Build, interaction, mean, rise
from tables.inference.rules import Rule
from tables.verdicts.part import Part, Whole, column, optimizers, shown, with_looks
from tables.verdicts.parts_beyond import CORRUPTION, SURFACES, TASKS, TRANSLATION_CONTROL

__all__ = ["CONTROL", "CONTROLS", "NEAR", "PARTS", "WHOLES", "Part", "with_looks"]

#: Accuracy (points) that S2-SAM may lose to SAM for the loss to be called marginal.
NEAR = 0.5


def _table1(dataset: str, lottery: bool) -> Callable[[Profile], Mapping[str, Delta]]:
    """Table 1's Δ on one of the paper's data sets: LT's, or all others'."""

    def deltas(profile: Profile) -> Mapping[str, Delta]:
        return {
            f"{row}, {column}": delta
            for row, column, delta in shown(profile, "table1")
            if column.rsplit(" ", 1)[0] == data_label(profile, dataset) and (row == "LT") == lottery
        }

    return deltas


def _percent(name: str) -> float:
    """The percentage in a name like "MEST(EM), CIFAR-10 90%", "98%" or "20% a round"."""
    words = [word for word in name.split() if word.endswith("%")]
    return float(words[0].rstrip("%"))


def _rising(low: float, high: float) -> Build:
    """The rise between two percentages, whichever differences are left."""
    return lambda deltas: rise(deltas, _percent, high - low)


def _decay(sparsity: float, kind: str) -> Callable[[Profile], Mapping[str, Delta]]:
    return lambda profile: comparisons(profile, sparsity)[kind]


_EVERYWHERE = Rule(everywhere=True)

CONTROL = Part(
    "C",
    "positive control: SAM improves on SGD here (dense and MEST(EM) at 90 %)",
    "control",
    optimizers("control", "SAM", "SGD"),
    what="mean of SAM minus SGD",
    control=None,
)

#: What must be seen of SAM before what is found of S2-SAM counts.
CONTROLS = (CONTROL, TRANSLATION_CONTROL)

#: Claims with several parts that are judged as one too.
WHOLES = (
    Whole(
        "10",
        "It carries over to translation and structured sparsity (R5, Table 3)",
        tuple(part.label for part in TASKS),
    ),
)

PARTS: tuple[Part, ...] = (
    Part(
        "1a",
        "S2-SAM improves every sparse method at every sparsity: CIFAR-10 without LT (Table 1)",
        "table1",
        _table1("cifar10", lottery=False),
        rule=_EVERYWHERE,
    ),
    Part("1b", "the same: LT on CIFAR-10", "table1", _table1("cifar10", True), rule=_EVERYWHERE),
    Part(
        "1c",
        "the same: CIFAR-100 without LT",
        "table1",
        _table1("cifar100", lottery=False),
        rule=_EVERYWHERE,
    ),
    Part("1d", "the same: LT on CIFAR-100", "table1", _table1("cifar100", True), rule=_EVERYWHERE),
    Part(
        "2a",
        "the gain grows with sparsity, 0 to 98 % (R6)",
        "ablation-sweep",
        column("ablation-sweep", "accuracy"),
        build=_rising(0, 98),
        what="rise of Δ from 0 to 98 %",
    ),
    Part(
        "2b",
        "the gain grows with sparsity, 90 to 98 %: CIFAR-10 without LT (Table 1)",
        "table1",
        _table1("cifar10", lottery=False),
        build=_rising(90, 98),
        what="rise of Δ from 90 to 98 %",
    ),
    Part(
        "3a",
        "S2-SAM loses only marginally against SAM: GraSP, RigL, MEST(EM) at 90 % (Table 4)",
        "table4",
        optimizers("table4", "S2-SAM", "SAM"),
        rule=Rule(bound=-NEAR),
        what="mean of S2-SAM minus SAM",
    ),
    Part(
        "3b",
        "the same: dense (R2)",
        "control",
        optimizers("control", "S2-SAM", "SAM", rows=("0%",)),
        rule=Rule(bound=-NEAR),
        what="S2-SAM minus SAM",
    ),
    *SURFACES,
    Part(
        "6",
        "S2-SAM helps more when LT prunes more per round, at exactly 90 % (R4)",
        "ablation-ratio",
        column("ablation-ratio", "trimmed to exactly 90%"),
        build=_rising(20, 40),
        what="rise of Δ from 20 to 40 % a round",
    ),
    Part(
        "7",
        "S2-SAM improves LRR (R3)",
        "ablation-lrr",
        column("ablation-lrr", "accuracy"),
        rule=_EVERYWHERE,
    ),
    *CORRUPTION,
    Part(
        "9",
        "S2-SAM improves dense training: ResNet-32 (Table 6); its other networks are not measured",
        "control",
        optimizers("control", "S2-SAM", "SGD", rows=("0%",)),
        what="Δ",
    ),
    *TASKS,
    *(
        Part(label, text, "ablation-weight-decay", _decay(s, kind), build=build, what=what)
        for s, letters in ((0.98, "abc"), (0.95, "def"))
        for label, text, kind, build, what in (
            (
                f"W{letters[0]}",
                f"as released, MEST(EM) at {s:.0%} gains: S2-SAM with weight decay 5e-4 against "
                "SGD with 1e-4",
                "released",
                mean,
                "Δ as released",
            ),
            (
                f"W{letters[1]}",
                f"at equal weight decay, MEST(EM) at {s:.0%} gains (mean of 1e-4 and 5e-4)",
                "fair",
                mean,
                "mean Δ",
            ),
            (
                f"W{letters[2]}",
                f"S2-SAM gains more with weight decay 5e-4 than with 1e-4, MEST(EM) at {s:.0%}",
                "fair",
                interaction,
                "interaction",
            ),
        )
    ),
)
