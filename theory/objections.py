"""Everything that can speak against a proof: its algebra, its premises in runs, its statements."""

__all__ = ["objections"]

from collections.abc import Iterator

from theory.probes import probe
from theory.proofs.steps import (
    Proof,
)
from theory.worlds import WORLDS, refuted, worlds_of
from theory.worlds.heavy import disagreements

_RUNS = (
    "smooth",
    "pl",
    "momentum",
    "schedules",
    "practical",
    "family",
)  # proofs whose statements are about a run


def objections(proof: Proof) -> Iterator[str]:
    """Everything that speaks against a proof and the statements that it proves, cheapest first."""
    for statement in proof.proves:
        if not proof.reaches(statement):
            yield f"{statement.name}: the proof ends elsewhere"
    yield from (f"misquoted: {premise.why}" for premise in proof.misquoted())
    if proof.name in WORLDS:
        yield from (f"false in a run: {name}" for name in refuted(proof, worlds_of(proof)))
    if proof.name in _RUNS:
        for statement in proof.proves:
            broken = sum(cell.verdict != "holds" for cell in probe(statement))
            if broken:
                yield f"{statement.name}: violated in {broken} probes"
    if proof.name == "heavy":
        wrong = disagreements(proof.proves[0], 2000)
        if wrong:
            yield f"stable or not otherwise than stated at {wrong} points"
    yield from (f"not verified: {step.text}" for step in proof.failures())
