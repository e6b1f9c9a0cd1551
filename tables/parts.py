"""What of the paper's claims is measured by runs: which differences, in which table, which rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.ablation_weight_decay import comparisons
from tables.base import Cell, Delta, Table, last_accuracy
from tables.compare import data_label
from tables.inference.looks import LOOKS
from tables.inference.reading import (
    NOT_MEASURED,
    Build,
    Finding,
    Term,
    interaction,
    judge,
    mean,
    rise,
)
from tables.inference.rules import Rule

_GAIN = Rule()

__all__ = ["CONTROL", "NEAR", "PARTS", "Part", "with_looks"]

#: Accuracy (points) that S2-SAM may lose to SAM for the loss to be called marginal.
NEAR = 0.5


@dataclass(frozen=True)
class Part:
    """A question that runs can answer, and the rule by which they do.

    Attributes:
        label: as its row is named: the claim's number and a letter, or a letter and a number.
        text: the claim.
        table: whose runs it needs.
        deltas: its differences at a profile, by name; none where the profile has none of it.
        build: their weights.
        rule: what is asked.
        what: the effect's name in the evidence.
        of_s2sam: whether it is about S2-SAM, so that the positive control bears on it.
    """

    label: str
    text: str
    table: str
    deltas: Callable[[Profile], Mapping[str, Delta]]
    build: Build = mean
    rule: Rule = _GAIN
    what: str = "mean Δ"
    of_s2sam: bool = True

    def judge(self, profile: Profile, records: Records) -> Finding:
        """What the records of a profile say, of as many of its seeds as there are."""
        deltas = self.deltas(profile)
        if not deltas:
            return Finding(NOT_MEASURED, f"the {profile.name} profile has none of it")
        table = _table(self.table, profile)
        cells = [e for row in table.rows for e in row.entries if isinstance(e, Cell)]
        return judge(self.build, deltas, records, last_accuracy, self.rule, self.what, cells)


def with_looks(profile: Profile) -> Profile:
    """The profile with as many seeds as the last look takes: its own first, then the next ones."""
    more = count(max(profile.seeds) + 1)
    missing = max(0, LOOKS[-1] - len(profile.seeds))
    return replace(profile, seeds=(*profile.seeds, *(next(more) for _ in range(missing))))


_built: tuple[Profile, dict[str, Table]] | None = None


def _table(name: str, profile: Profile) -> Table:
    """A table, built once for all parts that are judged of one profile object."""
    global _built
    if _built is None or _built[0] is not profile:
        _built = profile, {}
    if name not in _built[1]:
        _built[1][name] = TABLES.build(Spec(name), profile=profile)
    return _built[1][name]


def _shown(profile: Profile, table: str) -> Iterator[tuple[str, str, Delta]]:
    """Every difference of a table with its row's first label and its column."""
    built = _table(table, profile)
    for row in built.rows:
        for header, entry in zip(built.headers[len(row.labels) :], row.entries, strict=True):
            if isinstance(entry, Delta) and entry.treatment.runs:
                yield row.labels[0], header, entry


def _table1(dataset: str, lottery: bool) -> Callable[[Profile], Mapping[str, Delta]]:
    """Table 1's Δ on one of the paper's data sets: LT's, or all others'."""

    def deltas(profile: Profile) -> Mapping[str, Delta]:
        return {
            f"{row}, {column}": delta
            for row, column, delta in _shown(profile, "table1")
            if column.rsplit(" ", 1)[0] == data_label(profile, dataset) and (row == "LT") == lottery
        }

    return deltas


def _rows(table: str, column: str) -> Callable[[Profile], Mapping[str, Delta]]:
    """One column's Δ, by the first label of the row."""
    return lambda profile: {r: d for r, c, d in _shown(profile, table) if c == column}


def _optimizers(
    table: str, treatment: str, baseline: str, rows: tuple[str, ...] = ()
) -> Callable[[Profile], Mapping[str, Delta]]:
    """One optimizer minus another in a table of rows (label, optimizer), accuracies first."""

    def deltas(profile: Profile) -> Mapping[str, Delta]:
        cells = {row.labels: row.entries[0] for row in _table(table, profile).rows}
        found = {}
        for label in dict.fromkeys(label for label, _ in cells):
            ours, theirs = cells[label, treatment], cells[label, baseline]
            assert isinstance(ours, Cell) and isinstance(theirs, Cell)
            if ours.runs and theirs.runs and (not rows or label in rows):
                found[label] = Delta(ours, theirs)
        return found

    return deltas


def _percent(name: str) -> float:
    """The percentage in a name like "MEST(EM), CIFAR-10 90%", "98%" or "20% a round"."""
    words = [word for word in name.split() if word.endswith("%")]
    return float(words[0].rstrip("%"))


def _rising(deltas: Mapping[str, Delta]) -> Mapping[str, Term]:
    return rise(deltas, _percent)


def _decay(sparsity: float, kind: str) -> Callable[[Profile], Mapping[str, Delta]]:
    return lambda profile: comparisons(profile, sparsity)[kind]


_EVERYWHERE = Rule(everywhere=True)

CONTROL = Part(
    "C",
    "positive control: SAM improves on SGD here (dense and MEST(EM) at 90 %)",
    "control",
    _optimizers("control", "SAM", "SGD"),
    what="mean of SAM minus SGD",
    of_s2sam=False,
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
        _rows("ablation-sweep", "accuracy"),
        build=_rising,
        what="rise of Δ from 0 to 98 %",
    ),
    Part(
        "2b",
        "the gain grows with sparsity, 90 to 98 %: CIFAR-10 without LT (Table 1)",
        "table1",
        _table1("cifar10", lottery=False),
        build=_rising,
        what="rise of Δ from 90 to 98 %",
    ),
    Part(
        "3a",
        "S2-SAM loses only marginally against SAM: GraSP, RigL, MEST(EM) at 90 % (Table 4)",
        "table4",
        _optimizers("table4", "S2-SAM", "SAM"),
        rule=Rule(bound=-NEAR),
        what="mean of S2-SAM minus SAM",
    ),
    Part(
        "3b",
        "the same: dense (R2)",
        "control",
        _optimizers("control", "S2-SAM", "SAM", rows=("0%",)),
        rule=Rule(bound=-NEAR),
        what="S2-SAM minus SAM",
    ),
    Part(
        "6",
        "S2-SAM helps more when LT prunes more per round, at exactly 90 % (R4)",
        "ablation-ratio",
        _rows("ablation-ratio", "trimmed to exactly 90%"),
        build=_rising,
        what="rise of Δ from 20 to 40 % a round",
    ),
    Part(
        "7",
        "S2-SAM improves LRR (R3)",
        "ablation-lrr",
        _rows("ablation-lrr", "accuracy"),
        rule=_EVERYWHERE,
    ),
    Part(
        "9",
        "S2-SAM improves dense training: ResNet-32 (Table 6); its other networks are not measured",
        "control",
        _optimizers("control", "S2-SAM", "SGD", rows=("0%",)),
        what="Δ",
    ),
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
