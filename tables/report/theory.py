"""The paper's statements and the corrected ones, as formulas beside their verdicts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tables.verdicts.measured import theory_rows

__all__ = ["Judged", "judged", "mathml"]

#: What is shown of a statement that came after the committed report.
_ABSENT = ["not in the committed report", "-", "–", "–", "–", "–", "–"]
_FORMULA = re.compile(r"\$([^$]+)\$")


@dataclass(frozen=True)
class Judged:
    """A statement and what its checks found.

    Attributes:
        name, title, where: the statement's.
        formula: as MathML.
        assumptions: texts with formulas as MathML.
        verdict: holds, violated or inconclusive, or that there is none yet.
        refuted: by what, or "-".
        ratio: the largest one of left to right side over all comparisons.
        cells: how many comparisons hold, are violated and are inconclusive.
        n: independent runs behind them.
    """

    name: str
    title: str
    where: str
    formula: str
    assumptions: tuple[str, ...]
    verdict: str
    refuted: str
    cells: str
    ratio: str
    n: str


def mathml(latex: str, block: bool = False) -> str:
    """A formula as MathML, which browsers show and read aloud by themselves."""
    from latex2mathml.converter import convert

    return str(convert(latex, display="block" if block else "inline"))


def _with_formulas(said: str) -> str:
    """Text with ``$...$`` in it as HTML."""
    from markupsafe import escape

    parts = _FORMULA.split(said)  # text, formula, text, ...
    return "".join(mathml(part) if i % 2 else str(escape(part)) for i, part in enumerate(parts))


def judged() -> dict[str, list[Judged]]:
    """As printed, corrected, and beyond the paper: those of the committed report.

    Raises:
        UserError: a statement of the paper, or one that corrects it, has no verdict there.
    """
    from theory.beyond import BEYOND
    from theory.corrected import CORRECTED
    from theory.printed import PRINTED

    groups = {
        "As the paper prints them": PRINTED,
        "Corrected, and proved": CORRECTED,
        "Beyond the paper, proved alike": BEYOND,
    }
    rows = theory_rows([s.name for s in (*PRINTED, *CORRECTED)])
    found: dict[str, list[Judged]] = {}
    for heading, statements in groups.items():
        for s in statements:
            verdict, refuted, holds, violated, unsure, ratio, n = rows.get(s.name, _ABSENT)
            found.setdefault(heading, []).append(
                Judged(
                    s.name,
                    s.title,
                    s.where,
                    mathml(s.latex(), block=True),
                    tuple(_with_formulas(a.shown()) for a in s.assumptions),
                    verdict,
                    refuted,
                    f"{holds} / {violated} / {unsure}",
                    ratio,
                    n,
                )
            )
    return found
