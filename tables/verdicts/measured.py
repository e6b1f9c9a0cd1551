"""Claims whose verdicts are measurements of another kind: the benchmarks' and the theory's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from paper_repro.errors import UserError
from tables.inference.reading import NOT_MEASURED, Finding
from tables.inference.rules import FAILS, HOLDS, UNDECIDED

__all__ = ["SAME", "TWICE", "cost", "theory", "theory_rows"]

_CHECKOUT = Path(__file__).resolve().parents[2]
#: Time of a step over SGD's up to which S2-SAM's is called the same, and from which SAM's is
#: called twice as much.
SAME, TWICE = 1.05, 1.95


def cost() -> Finding:
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


#: The paper's statements as printed, and what the report calls them.
PRINTED = {
    "Lemma 1": "lemma1_equal_printed",
    "its form for different samples": "lemma1_different_printed",
    "Theorem 1": "theorem1_printed",
    "its appendix form": "theorem1_appendix_printed",
    "the optimization bound": "optimization_printed",
    "that with 1/T put back": "optimization_printed_over_T",
}


def theory_rows(wanted: Sequence[str]) -> dict[str, list[str]]:
    """The committed theory report's verdicts: by statement, the cells of its row.

    Verdict, what refutes it, comparisons that hold, are violated and inconclusive, the largest
    ratio, and n.

    Raises:
        UserError: one of those wanted has none.
    """
    path = _CHECKOUT / "theory" / "report.md"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    verdicts = {r[0]: r[1:] for r in rows if r[1] in ("holds", "violated", "inconclusive")}
    missing = [name for name in wanted if name not in verdicts]
    if missing:
        raise UserError(f"{path} has no verdict on {missing[0]}; make it anew with `make theory`")
    return verdicts


def theory() -> Finding:
    """The verdicts of the committed theory report on the printed statements."""
    verdicts = {name: row[0] for name, row in theory_rows(list(PRINTED.values())).items()}
    said = {label: verdicts[name] for label, name in PRINTED.items()}
    evidence = "as printed: " + ", ".join(f"{label} {verdict}" for label, verdict in said.items())
    corrected = {name: verdict for name, verdict in verdicts.items() if "printed" not in name}
    others = [f"{name} {verdict}" for name, verdict in corrected.items() if verdict != "holds"]
    held = f"{len(corrected) - len(others)} of {len(corrected)}"
    evidence += f"; corrected statements that hold: {held}"
    evidence += f" ({', '.join(others)})" if others else ""
    evidence += " (theory/report.md)"
    if "violated" in said.values():
        return Finding(FAILS, evidence)
    return Finding(HOLDS if set(said.values()) == {"holds"} else UNDECIDED, evidence)
