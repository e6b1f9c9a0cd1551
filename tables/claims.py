"""The paper's claims, each with a verdict computed from records, measurements and proofs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paper_repro.errors import UserError
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Delta, Row, Table, Words, last_accuracy
from tables.stats import by_seed
from tables.verdicts import FAILS, HOLDS, NOT_MEASURED, UNDECIDED, Finding, above, everywhere, trend

__all__ = ["CLAIMS", "Claim", "claims"]

_CHECKOUT = Path(__file__).resolve().parents[1]
#: Accuracy (points) that S2-SAM may lose to SAM for the loss to be called marginal.
MARGIN = 0.5
#: Time of a step over SGD's up to which S2-SAM's is called the same, and from which SAM's is
#: called twice as much.
SAME, TWICE = 1.05, 1.95

Judge = Callable[[Profile, Records], Finding]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes:
        text: the claim.
        rule: when it is taken to hold or not.
        judge: decides.
    """

    text: str
    rule: str
    judge: Judge


def deltas(profile: Profile, table: str) -> dict[str, Delta]:
    """Every difference that a table shows, by its row and column."""
    built: Table = TABLES.build(Spec(table), profile=profile)
    return {
        f"{row.labels[0]}, {header}": entry
        for row in built.rows
        for header, entry in zip(built.headers[len(row.labels) :], row.entries, strict=True)
        if isinstance(entry, Delta) and entry.treatment.runs
    }


def gain_everywhere(table: str) -> Judge:
    """Δ > 0 in every cell of a table."""
    return lambda profile, records: everywhere(deltas(profile, table), records, last_accuracy)


def gain_grows(table: str, column: str | None = None) -> Judge:
    """Δ grows from row to row of a table whose first labels are percentages."""

    def judge(profile: Profile, records: Records) -> Finding:
        points = {
            float(name.split("%")[0]) / 10: delta
            for name, delta in deltas(profile, table).items()
            if column is None or name.endswith(column)
        }
        what = "slope of Δ per 10 percentage points"
        return trend(points, records, last_accuracy, what)

    return judge


def near_sam(profile: Profile, records: Records) -> Finding:
    """S2-SAM minus SAM in the ablation of optimizers."""
    built: Table = TABLES.build(Spec("ablation-sam"), profile=profile)
    cells = {row.labels[0]: row.entries[0] for row in built.rows}
    difference = Delta(cells["S2-SAM"], cells["SAM"])  # type: ignore[arg-type]
    values = list(by_seed(difference, records, last_accuracy).values())
    return above(values, -MARGIN, "S2-SAM minus SAM")


def dense(profile: Profile, records: Records) -> Finding:
    """The dense row of the sweep: one network of the paper's six."""
    delta = deltas(profile, "ablation-sweep")["0%, accuracy"]
    found = above(list(by_seed(delta, records, last_accuracy).values()), 0.0, "Δ of ResNet-32")
    return Finding(UNDECIDED, found.evidence) if found.verdict == HOLDS else found


def cost(profile: Profile, records: Records) -> Finding:
    """Whole training steps, as the benchmark has them on each kind of device."""
    found, enough = [], []
    for path in sorted((_CHECKOUT / "benchmarks").glob("results-*.json")):
        try:
            measured = json.loads(path.read_text(encoding="utf-8"))
            device = measured["environment"]["device"]
            for part in (name for name in measured if name.startswith("step ")):
                ratios = measured[part]["step_ratio"]
                shown = ", ".join(
                    f"{label} {r['median']:.3f} ({r['low']:.3f} to {r['high']:.3f}, n = {r['n']})"
                    for label, r in (
                        ("S2-SAM/SGD", ratios["s2sam/sgd"]),
                        ("SAM/SGD", ratios["sam/sgd"]),
                    )
                )
                found.append(f"{device}, {part.removeprefix('step ')}: {shown}")
                enough.append(
                    ratios["s2sam/sgd"]["median"] <= SAME and ratios["sam/sgd"]["median"] >= TWICE
                )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no result of the benchmarks: {error!r}") from error
    if not found:
        return Finding(NOT_MEASURED, "no committed results of the benchmarks")
    return Finding(HOLDS if all(enough) else FAILS, "; ".join(found))


def theory(profile: Profile, records: Records) -> Finding:
    """The verdicts of the committed theory report on the printed statements."""
    path = _CHECKOUT / "theory" / "report.md"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    verdicts = {row[0]: row[1] for row in rows if row[1] in ("holds", "violated", "inconclusive")}
    wanted = {
        "Lemma 1": "lemma1_equal_printed",
        "Theorem 1": "theorem1_printed",
        "its appendix form": "theorem1_appendix_printed",
    }
    missing = [name for name in wanted.values() if name not in verdicts]
    if missing:
        raise UserError(f"{path} has no verdict on {missing[0]}; make it anew with `make theory`")
    said = {label: verdicts[name] for label, name in wanted.items()}
    evidence = "as printed: " + ", ".join(f"{label} {verdict}" for label, verdict in said.items())
    corrected = [verdict for name, verdict in verdicts.items() if "printed" not in name]
    held = f"{corrected.count('holds')} of {len(corrected)}"
    evidence += f"; corrected statements that hold: {held} (theory/report.md)"
    if "violated" in said.values():
        return Finding(FAILS, evidence)
    return Finding(HOLDS if set(said.values()) == {"holds"} else UNDECIDED, evidence)


def nothing_yet(profile: Profile, records: Records) -> Finding:
    """For what the project has no experiment of yet."""
    return Finding(NOT_MEASURED, "no experiment here yet")


_EVERY = "every cell's 95 % interval above 0; not if one's (Bonferroni) lies below 0"
_ABSENT = "–"
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "S2-SAM improves every sparse method at every sparsity (Table 1)",
        _EVERY,
        gain_everywhere("table1"),
    ),
    Claim(
        "The gain grows with sparsity (R6)",
        "slope of Δ over sparsity above 0",
        gain_grows("ablation-sweep"),
    ),
    Claim(
        "S2-SAM loses only marginally against SAM (Table 4, R2)",
        f"S2-SAM minus SAM above -{MARGIN:g} points (MEST(EM), 90 %)",
        near_sam,
    ),
    Claim(
        "S2-SAM costs nothing, SAM twice as much (Table 4)",
        f"median time of a step over SGD's at most {SAME:g} for S2-SAM and at least {TWICE:g} for "
        "SAM, on every device measured",
        cost,
    ),
    Claim("Ra rises with sparsity, S2-SAM lowers it (Figures 1, 3)", _ABSENT, nothing_yet),
    Claim(
        "S2-SAM helps more when LT prunes more per round (R4)",
        "slope of Δ over the pruning ratio above 0, at 90 % exactly",
        gain_grows("ablation-ratio", "trimmed to exactly 90%"),
    ),
    Claim("S2-SAM improves LRR (R3)", _EVERY, gain_everywhere("ablation-lrr")),
    Claim("S2-SAM improves robustness to corruptions (Table 5)", _ABSENT, nothing_yet),
    Claim(
        "S2-SAM improves dense training, more for smaller networks (Table 6)",
        "not if Δ of dense ResNet-32 lies below 0; the other networks are not measured",
        dense,
    ),
    Claim(
        "It carries over to translation and structured sparsity (R5, Table 3)",
        _ABSENT,
        nothing_yet,
    ),
    Claim(
        "Lemma 1 and Theorem 1",
        "every printed statement holds in every cell checked, and no exact counterexample "
        "refutes it",
        theory,
    ),
)


@TABLES.register("claims")
def claims(profile: Profile) -> Table:
    """The paper's claims at one size; verdicts only where its records are evidence."""

    def verdict(claim: Claim) -> Words:
        return Words(
            lambda records: (
                claim.judge(profile, records).verdict if profile.evidence else "no evidence"
            )
        )

    def evidence(claim: Claim) -> Words:
        return Words(lambda records: claim.judge(profile, records).evidence)

    return Table(
        name="claims",
        title="The paper's claims",
        headers=("no.", "claim", "taken to hold if", "verdict", "found"),
        rows=tuple(
            Row((str(i), claim.text, claim.rule), (verdict(claim), evidence(claim)))
            for i, claim in enumerate(CLAIMS, 1)
        ),
        notes=(
            "Δ: accuracy with S2-SAM minus accuracy with SGD after the last epoch, paired by seed. "
            "Intervals are t-intervals over seeds; fewer than three seeds decide nothing.",
            "The claims are about the paper's setting (profile `paper`); what another profile says "
            "of them is about its own.",
            "Times are of the committed results of `make bench`, whatever the profile.",
        ),
    )
