"""Report section on proofs: what verifies them, what they leave out, what would be noticed."""

__all__ = ["proofs_section"]

from collections.abc import Callable, Sequence

from theory.checks import Estimate
from theory.corrected import MOMENTUM
from theory.proofs import PROOFS
from theory.proofs.steps import Proof
from theory.results import Results
from theory.worlds import WORLDS, worlds_of

Table = Callable[[Sequence[str], Sequence[Sequence[object]]], str]
Interval = Callable[[Estimate], str]


def _proofs(results: Results, table: Table) -> str:
    rows = [
        [
            proof.title,
            ", ".join(f"`{s.name}`" for s in proof.proves) or "-",
            f"{len(proof.checkable) - results.failures[proof.name]} of {len(proof.checkable)}",
            str(len(proof.cited)),
            _tried(proof),
            str(len(results.objections[proof.name])),
        ]
        for proof in PROOFS
    ]
    headers = [
        "proof",
        "proves",
        "steps verified",
        "steps not machine-verified",
        "runs that premises and steps are held against",
        "objections",
    ]
    return table(headers, rows)


def _tried(proof: Proof) -> str:
    """In how many worlds the proof's premises are held against numbers."""
    if proof.name not in WORLDS:
        return "-"
    return str(len(next(iter(worlds_of(proof).values()))))


def _properties(results: Results, table: Table) -> str:
    rows = [
        [problem, name, f"{ratio:.4f}"]
        for problem, ratios in results.properties.items()
        for name, ratio in ratios.items()
    ]
    return table(["problem", "assumed to be (bounded by)", "largest ratio met"], rows)


def _mutants(results: Results, table: Table) -> str:
    kinds = list(dict.fromkeys(v.kind for v in results.mutation))
    rows = []
    for kind in kinds:
        mine = [v for v in results.mutation if v.kind == kind]
        missed = ", ".join(v.name for v in mine if not v.objection)
        caught = sum(bool(v.objection) for v in mine)
        rows.append([kind, f"{caught} of {len(mine)}", missed or "-"])
    return table(["mutated", "caught", "unnoticed"], rows)


def _momentum_limit(beta: float) -> float:
    """The largest eta (L + lambda) of the momentum theorem."""
    return MOMENTUM.largest_step(L=1.0, beta=beta, **{"lambda": 0.0})


def _reshuffled(results: Results, table: Table, interval: Interval) -> str:
    rows = [
        [
            "reshuffled epochs" if r.shuffled else "with replacement",
            interval(r.ratio),
            interval(r.ratio_example),
            str(r.steps),
            str(r.ratio.n),
        ]
        for r in results.reshuffled
    ]
    headers = ["examples drawn", "ratio, L of F", "ratio, L of one example", "T", "n runs"]
    return table(headers, rows)


def proofs_section(results: Results, table: Table, interval: Interval) -> str:
    """Proofs, premises, assumptions, mutants, and what the momentum theorem leaves out."""
    return f"""## Proofs

{_proofs(results, table)}

Written out, with what verifies each step, in [proofs.md](proofs.md). A certificate shows that a
step follows from its premises, not that those are true. So every premise and every step is also
held against runs in which each symbol has its actual value, at the edge of what the statement
assumes; expectations are over all paths of a two-point noise, so they are exact. The descent
bounds are probed there too, left side against right.

**What the momentum theorem leaves out.** At beta = 0.9 it asks for eta (L + lambda) <=
{_momentum_limit(0.9):.5f}, against 1 without momentum: the experiments' eta = 0.1 meets it only
where L + lambda <= {_momentum_limit(0.9) / 0.1:.4f}. Networks trained at that step are far sharper
(SGD is stable up to eta h = {2 * 1.9:g} at beta = 0.9, and training drifts towards that edge), so
the theorem says nothing about the optimizer at the step sizes of the experiments.

What is assumed of the test problems, tried at 600 points each (1: attained; above 1: broken; for
*unbiased* in units of six standard errors):

{_properties(results, table)}

**Would a mistake be noticed?** Mutants are statements and proofs with one thing wrong: a constant
at half its value in every formula, a step condition twice as wide, another left side, half of a
term. {sum(bool(v.objection) for v in results.mutation)} of {len(results.mutation)} are caught.

{_mutants(results, table)}

**Reshuffled epochs.** The descent bounds assume examples drawn with replacement. Without, the last
example of an epoch follows from the past, and S2-SAM's perturbation, which points along the example
before, is on its side or against it. Two quadratics whose mean is 1-smooth (theory/reshuffle.py),
left side over right side of `smooth`, 99% interval:

{_reshuffled(results, table, interval)}

So drawn with reshuffling the bound is false, with L the constant of F. With L that of the
least smooth example it is not violated here; no proof covers it.
"""
