"""The paper's claims, each with a verdict computed from records, measurements and proofs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from tables import TABLES
from tables.base import Row, Table, Words
from tables.inference.looks import LOOKS
from tables.inference.reading import NOT_MEASURED, Finding
from tables.inference.rules import FAILS, HOLDS, MARGIN, NO_LARGER, STATED
from tables.measured import SAME, TWICE, cost, theory
from tables.parts import CONTROL, PARTS, Part, with_looks

__all__ = ["OTHERS", "claims", "judge_all", "rule_in_words"]

_ABSENT = "–"


def _unjudged(tables: str) -> Callable[[], Finding]:
    """What is measured by tables or figures, and judged by no rule yet."""
    finding = Finding(NOT_MEASURED, f"no rule judges it yet; the numbers are those of {tables}")
    return lambda: finding


#: Claims that no difference of runs judges: number, text, rule, and what finds the verdict.
OTHERS: tuple[tuple[str, str, str, Callable[[], Finding]], ...] = (
    (
        "4",
        "S2-SAM costs nothing, SAM twice as much (Table 4)",
        f"median time of a step over SGD's at most {SAME:g} for S2-SAM and at least {TWICE:g} for "
        "SAM, on every device measured",
        cost,
    ),
    (
        "5",
        "Ra rises with sparsity, S2-SAM lowers it (Figures 1, 3)",
        _ABSENT,
        _unjudged("`surfaces`"),
    ),
    (
        "8",
        "S2-SAM improves robustness to corruptions (Table 5)",
        _ABSENT,
        _unjudged("`table5`"),
    ),
    (
        "10",
        "It carries over to translation and structured sparsity (R5, Table 3)",
        _ABSENT,
        _unjudged("`rebuttal-translation` and `table3`"),
    ),
    (
        "11",
        "Lemma 1 and Theorem 1",
        "every printed statement holds in every cell checked, and no exact counterexample "
        "refutes it",
        theory,
    ),
)


def rule_in_words(part: Part) -> str:
    """When a part is taken to hold."""
    if part.rule.everywhere:
        return "every Δ above 0 (on average: their mean); not if their mean or some Δ is below"
    return f"{part.what} above {part.rule.bound:g}"


def judge_all(profile: Profile, records: Records) -> dict[str, Finding]:
    """The finding on each part and on the control, by label, before the control bears on it."""
    size = with_looks(profile)
    return {part.label: part.judge(size, records) for part in (CONTROL, *PARTS)}


def controlled(finding: Finding, control: Finding) -> Finding:
    """A finding on S2-SAM in the light of the positive control.

    What a bed says of S2-SAM counts only where SAM itself gains. Verdicts of one that does not
    show that say so; so do those of one where it is still open.
    """
    if finding.verdict == NOT_MEASURED or control.verdict == HOLDS:
        return finding
    if control.verdict in (FAILS, NO_LARGER):
        said = "this bed does not show SAM's gain either"
    else:
        said = "whether this bed shows SAM's gain is open"
    return replace(finding, verdict=f"{finding.verdict} ({said})")


@TABLES.register("claims")
def claims(profile: Profile) -> Table:
    """The paper's claims at one size; verdicts only where its records are evidence."""
    once: list[tuple[Records, dict[str, Finding]]] = []

    def parts(records: Records) -> dict[str, Finding]:
        if not (once and once[0][0] is records):  # a page asks for each finding several times
            once[:] = [(records, judge_all(profile, records))]
        return once[0][1]

    def row(part: Part) -> tuple[str, str, str, Callable[[Records], Finding]]:
        def find(records: Records) -> Finding:
            found = parts(records)
            own = found[part.label]
            return controlled(own, found[CONTROL.label]) if part.of_s2sam else own

        return part.label, part.text, rule_in_words(part), find

    def other(find: Callable[[], Finding]) -> Callable[[Records], Finding]:
        return lambda records: find()

    def words(find: Callable[[Records], Finding]) -> tuple[Words, Words]:
        def verdict(records: Records) -> str:
            return find(records).verdict if profile.evidence else "no evidence"

        return Words(verdict), Words(lambda records: find(records).evidence)

    rows = [row(part) for part in PARTS]
    rows += [(label, text, rule, other(find)) for label, text, rule, find in OTHERS]
    rows.sort(key=_order)
    return Table(
        name="claims",
        title="The paper's claims",
        headers=("no.", "claim", "taken to hold if", "verdict", "found"),
        rows=tuple(
            Row((label, text, rule), words(find))
            for label, text, rule, find in [row(CONTROL), *rows]
        ),
        notes=(
            "Δ: accuracy with S2-SAM minus accuracy with SGD after the last epoch. C and W are no "
            "claims of the paper: the positive control, and whose the gain is. Where SAM does not "
            "beat SGD, what is found of S2-SAM says so.",
            f"Looks: records are judged when every cell has n = {', '.join(map(str, LOOKS))} "
            "seeds, and between two looks the earlier verdict stands. Intervals are repeated "
            "95 % intervals: they hold at all looks at once. Each kind of wrong statement has an "
            f"error of at most {STATED:.0%} over all looks, in each row by itself (simulated: "
            "claims-study.md).",
            "One model for all cells of a claim: an effect for each, a spread that grows with the "
            "root of the error rate and is estimated from all of them. Units: pairs of a seed "
            "where their correlation is shown by the records, seeds where cells share them, else "
            "runs.",
            f"{NO_LARGER}: the interval lies below {MARGIN:g} points, and not above 0. Power is of "
            "the latest look.",
            "The claims are about the paper's setting (profile `paper`); what another profile says "
            "of them is about its own.",
            "Times are of the committed results of `make bench`, whatever the profile.",
        ),
    )


def _order(row: tuple[str, str, str, object]) -> tuple[int, str]:
    """Claims by number and letter, then the questions."""
    digits = "".join(c for c in row[0] if c.isdigit())
    return (int(digits) if digits else 99, row[0])
