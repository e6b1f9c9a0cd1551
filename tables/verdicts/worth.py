"""What runs would decide: the claims that are open, as questions to plan a campaign by."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import sqrt

from paper_repro.experiment.plan import Question
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from tables.inference.looks import LOOKS
from tables.inference.reading import NOT_MEASURED, Finding
from tables.inference.rules import MARGIN, UNDECIDED, power
from tables.verdicts.part import Part, with_looks
from tables.verdicts.parts import CONTROL, CONTROLS, PARTS

__all__ = ["BED", "PRIOR", "questions"]

#: What is known of an effect before the first run, in points: that it is about as large as the
#: gains that the paper's authors publish as text. On another scale than accuracy's, so many
#: margins: 2.5.
PRIOR = 0.5
#: How much more than any other question the positive control is worth: most others hang on it.
BED = 3.0
#: Spread of a run over the root of its error (points) where no record says otherwise: test-set
#: noise of sqrt(error / 2n) with 10,000 images; and the error assumed then.
_SPREAD, _ERROR = 0.07, 10.0


def questions(
    profile: Profile, records: Records, tables: Collection[str] | None = None
) -> list[Question]:
    """The undecided claims of a profile, with the runs that they need up to the last look.

    A profile that is no evidence has no looks: its own seeds are all that its questions want.

    Args:
        profile: at whose size.
        records: what there is.
        tables: only questions about these tables' runs; None for all.
    """
    size = with_looks(profile) if profile.evidence else profile
    found = []
    for part in (*CONTROLS, *PARTS):
        if tables is not None and part.table not in tables:
            continue
        deltas = part.deltas(size)
        finding = _finding(part, size, records) if profile.evidence else Finding(UNDECIDED, "")
        if not deltas or finding.verdict not in (UNDECIDED, NOT_MEASURED):
            continue
        arms = [cell.runs for d in deltas.values() for cell in (d.treatment, d.baseline)]
        seeds = tuple(zip(*arms, strict=True))
        weights = [term.weight for term in part.build(deltas).values()]
        found.append(
            Question(
                name=f"{part.label}: {part.text}",
                table=part.table,
                seeds=seeds,
                looks=LOOKS if profile.evidence else (len(seeds),),
                error=_error(part, finding, weights),
                importance=BED if part is CONTROL else 1.0,
                expects=_expects(part, finding, weights) if profile.evidence else lambda n: "",
            )
        )
    return found


def _finding(part: Part, size: Profile, records: Records) -> Finding:
    try:
        return part.judge(size, records)
    except ImportError:  # a machine that only trains has no scipy, and then nothing is decided
        return Finding(UNDECIDED, "")


def _precision(
    part: Part, finding: Finding, weights: list[float], n: int
) -> tuple[float, float, str]:
    """Standard error of a look at n seeds, its degrees of freedom, and whose spread it is."""
    if finding.precision is not None and finding.look is not None:
        then = finding.precision.with_seeds(n, LOOKS[finding.look])
        return then.se, then.df, "the records'"
    se = _SPREAD * sqrt(_ERROR * 2 / n * sum(w * w for w in weights)) / _accuracy(part)
    return se, 2 * len(weights) * (n - 1), "an assumed"


def _accuracy(part: Part) -> float:
    """Points of accuracy that stand for one unit of the part's scale: as many margins."""
    return MARGIN / part.rule.scale.margin


def _error(part: Part, finding: Finding, weights: list[float]) -> Callable[[int], float]:
    """1 / sqrt(1 / PRIOR² + 1 / se(n)²), and PRIOR for n = 0; of all scales in one unit."""

    def error(n: int) -> float:
        if n == 0:
            return PRIOR
        se = _precision(part, finding, weights, n)[0] * _accuracy(part)
        return 1 / sqrt(1 / PRIOR**2 + 1 / se**2)

    return error


def _expects(part: Part, finding: Finding, weights: list[float]) -> Callable[[int], str]:
    """The power of a look, with the records' spread where there is one."""
    target, unit = part.rule.target, part.rule.scale.unit

    def expects(n: int) -> str:
        se, df, source = _precision(part, finding, weights, n)
        says = f"standard error {se:.2f} {unit}"
        try:
            share = power(target, se, df, LOOKS.index(n), len(weights))
            says += f", power {share:.0%} for {target:g} {unit} above {part.rule.bound:g}"
        except ImportError:  # no scipy
            pass
        return f"{says}, with {source} spread"

    return expects
