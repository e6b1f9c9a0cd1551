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
from tables.inference.rules import FAILS, HOLDS, STATED
from tables.inference.scale import says_none
from tables.verdicts.measured import SAME, TWICE, cost, theory
from tables.verdicts.part import Part, Whole, with_looks
from tables.verdicts.parts import CONTROLS, PARTS, WHOLES

__all__ = ["OTHERS", "claims", "judge_all", "rule_in_words", "whole_in_words"]

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
        each = "Δ" if part.rule.scale.sought == "gain" else part.rule.scale.sought
        several = f"every {each} above 0 (on average: their mean)"
        return f"{several}; not if their mean or some {each} is below"
    return f"{part.what} above {part.rule.bound:g}"


def whole_in_words(whole: Whole) -> str:
    """When a claim of several parts is taken to hold."""
    return " and ".join(whole.parts) + " hold"


def judge_all(profile: Profile, records: Records) -> dict[str, Finding]:
    """The finding on each part and control, by label, before the controls bear on them."""
    size = with_looks(profile)
    return {part.label: part.judge(size, records) for part in (*CONTROLS, *PARTS)}


def _beds(part: Part, profile: Profile) -> set[tuple[str, str, float]]:
    """Data, network and wrong labels of a part's runs."""
    cells = [c for d in part.deltas(profile).values() for c in (d.treatment, d.baseline)]
    return {(run.dataset, run.model, run.label_noise) for cell in cells for run in cell.runs}


def _elsewhere(part: Part, profile: Profile) -> bool:
    """Whether some runs of a part are on a bed of which its control says nothing."""
    control = next(c for c in CONTROLS if c.label == part.control)
    return not _beds(part, profile) <= _beds(control, profile)


def controlled(finding: Finding, *controls: Finding, elsewhere: bool = False) -> Finding:
    """A finding on S2-SAM in the light of the positive controls of what it is about.

    What a bed says of S2-SAM counts only where SAM itself gains. Verdicts of one that does not
    show that say so; so do those of one where it is still open, and those of runs with other data
    or networks than the controls' (``elsewhere``), whatever these show.
    """
    said = [control.verdict for control in controls]
    if finding.verdict == NOT_MEASURED:
        return finding
    if elsewhere:
        return replace(finding, verdict=f"{finding.verdict} (no control on this bed)")
    if all(verdict == HOLDS for verdict in said):
        return finding
    if any(verdict == FAILS or says_none(verdict) for verdict in said):
        doubt = "this bed does not show SAM's gain either"
    else:
        doubt = "whether this bed shows SAM's gain is open"
    return replace(finding, verdict=f"{finding.verdict} ({doubt})")


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
            if part.control is None:
                return own
            return controlled(own, found[part.control], elsewhere=_elsewhere(part, profile))

        return part.label, part.text, rule_in_words(part), find

    def together(whole: Whole) -> tuple[str, str, str, Callable[[Records], Finding]]:
        own = [part for part in PARTS if part.label in whole.parts and part.control]

        def find(records: Records) -> Finding:
            found = parts(records)
            return controlled(
                whole.judge(found),
                *(found[label] for label in dict.fromkeys(str(part.control) for part in own)),
                elsewhere=any(_elsewhere(part, profile) for part in own),
            )

        return whole.label, whole.text, whole_in_words(whole), find

    def other(find: Callable[[], Finding]) -> Callable[[Records], Finding]:
        return lambda records: find()

    def words(find: Callable[[Records], Finding]) -> tuple[Words, Words]:
        def verdict(records: Records) -> str:
            return find(records).verdict if profile.evidence else "no evidence"

        return Words(verdict), Words(lambda records: find(records).evidence)

    rows = [row(part) for part in PARTS] + [together(whole) for whole in WHOLES]
    rows += [(label, text, rule, other(find)) for label, text, rule, find in OTHERS]
    rows.sort(key=_order)
    return Table(
        name="claims",
        title="The paper's claims",
        about="each claim on the data and with the networks of its own table",
        headers=("no.", "claim", "taken to hold if", "verdict", "found"),
        rows=tuple(
            Row((label, text, rule), words(find))
            for label, text, rule, find in [*map(row, CONTROLS), *rows]
        ),
        notes=(
            "Δ: accuracy with S2-SAM minus accuracy with SGD after the last epoch. C, R and W are "
            "no claims of the paper: positive controls, robustness beyond clean accuracy, and "
            "whose the gain is. Where SAM does not beat SGD (Adam in translation), what is found "
            "of S2-SAM says so, and so it does on data or with networks that have no control.",
            f"Looks: records are judged when every cell has n = {', '.join(map(str, LOOKS))} "
            "seeds, and between two looks the earlier verdict stands. Intervals are repeated "
            "95 % intervals: they hold at all looks at once. Each kind of wrong statement has an "
            f"error of at most {STATED:.0%} over all looks, in each row by itself; twice that for "
            f"{FAILS!r} where any one of several cells or parts can say so (simulated: "
            "claims-study.md).",
            "Every cell and arm has a spread of its own (Welch, Satterthwaite): none is borrowed. "
            "Units: pairs of a seed where their correlation is shown by the records, seeds where "
            "cells share them, else runs.",
            "No gain (fall, rise) of so much: the interval lies below it, and not above 0. The "
            f"margins: {_margins()}. Power is of the latest look.",
            "5a and 5b are about 100 ln Ra (log points; for small changes, per cent), since Ra "
            "scatters in proportion to itself; the unit is the trained network of a seed, whatever "
            "the number of directions. All networks share these, so how much the pairs of "
            "directions differ is added to the error. What lies apart from 0 one by one, of the "
            "pairs of directions in 5 and of the types of corruption in 8, is by Holm "
            "at the look's share of an error of its own.",
            "10 holds where all of its parts do, each at its own level, and does not hold where "
            "one does not: with at most the sum of their errors.",
            "The claims are about the paper's setting (profile `paper`); what another profile says "
            "of them is about its own.",
            "Times are of the committed results of `make bench`, whatever the profile.",
        ),
    )


def _margins() -> str:
    """Every scale's margin with the rows that have it."""
    rows: dict[str, list[str]] = {}
    for part in (*CONTROLS, *PARTS):
        if part.rule.bound == 0:
            scale = part.rule.scale
            rows.setdefault(f"{scale.margin:g} {scale.unit}", []).append(part.label)
    usual = max(rows, key=lambda said: len(rows[said]))
    special = (f"{said} in {', '.join(rows[said])}" for said in rows if said != usual)
    return "; ".join([*special, f"{usual} elsewhere"])


def _order(row: tuple[str, str, str, object]) -> tuple[int, str]:
    """Claims by number and letter, then the questions."""
    digits = "".join(c for c in row[0] if c.isdigit())
    return (int(digits) if digits else 99, row[0])
