"""The project's seven expectations about the theory, each confirmed or refuted by a number."""

__all__ = ["Finding", "findings", "limits"]

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy

from theory import printed
from theory.results import Results
from theory.symbols import F0, B, L, T, eta, lam, n, rho

PRACTICAL_DECAY = 5e-4


@dataclass(frozen=True)
class Finding:
    """One expectation. ``verdict`` is "confirmed", "confirmed in part", "refuted" or "measured"."""

    item: str
    claim: str
    verdict: str
    evidence: str


def _verdict(core: bool, rest: bool = True) -> str:
    if not core:
        return "refuted"
    return "confirmed" if rest else "confirmed in part"


def limits() -> dict[str, sympy.Expr]:
    """Limits of the printed right sides as n grows, by sympy.

    ``generalization``: the last term at fixed rho. ``literal``: the printed optimization bound at
    eta = 1/sqrt n, T = n. ``shrinking``: the last term times sqrt n at rho = 1/sqrt n.
    """
    last = (6 * (B + (n - 1) * rho) + 1) / n
    at = {eta: 1 / sympy.sqrt(n), T: n}
    return {
        "generalization": sympy.limit(last, n, sympy.oo),
        "literal": sympy.limit(
            printed.APPENDIX_OPTIMIZATION.right.subs(at).subs(lam, 2 * L).subs({B: 1, L: 1, F0: 1}),
            n,
            sympy.oo,
        ),
        "shrinking": sympy.limit(last.subs(rho, 1 / sympy.sqrt(n)) * sympy.sqrt(n), n, sympy.oo),
    }


def _lemma(r: Results) -> Finding:
    example = r.lemma_example
    numbers = (round(example["left"], 4), round(example["printed"], 4), example["corrected"])
    matches = numbers[:2] == (0.0086, 0.0028) and round(numbers[2], 4) == 0.0118
    examples = {found.name: found for found in r.counterexamples}
    smallest, beyond = examples["Lemma 1 without L"], examples["Lemma 1 beyond eta lambda = 1"]
    right, wrong = r.outcomes["lemma1_equal"], r.outcomes["lemma1_equal_printed"]
    core = smallest.refutes and wrong.verdict == "violated" and right.verdict == "holds"
    return Finding(
        "1",
        "Lemma 1 lacks a factor L, and its = is <=",
        _verdict(core, matches),
        f"left {example['left']:.4f}, printed {example['printed']:.4f}, with the factor "
        f"{example['corrected']:.4f} (exact arithmetic). Smallest counterexample: "
        f"{smallest.described()}, left {smallest.left} > printed {smallest.right}. Printed: "
        f"violated "
        f"in {wrong.count('violated')} of {len(wrong.cells)} cells (largest ratio "
        f"{wrong.worst.ratio:.3g}); corrected: holds in {right.count('holds')} "
        f"of {len(right.cells)} (largest ratio {right.worst.ratio:.6f}; n = {right.runs} pairs). "
        f"Not foreseen: the part on different samples lacks a condition, eta lambda <= 1. Beyond "
        f"it the right side is too small: {beyond.described()}, losses B u and -B u, left "
        f"{beyond.left} > printed {beyond.right}.",
    )


def _false(r: Results) -> Finding:
    e = r.optimization_example
    examples = {found.name: found for found in r.counterexamples}
    literal = examples["optimization bound, literally"]
    over_T = examples["optimization bound, 1/T put back"]
    core = e["left"] > e["over_T"] and over_T.refutes and literal.refutes
    matches = abs(e["left"] - 99.95) < 0.01 and abs(e["over_T"] - 4.125) < 1e-3
    itself = e["left"] > e["literal"]
    return Finding(
        "2",
        "The printed optimization bound is false as printed",
        _verdict(core and matches, itself),
        f"Example: left {e['left']:.4f}, right with 1/T put back {e['over_T']:.4f}, corrected "
        f"{e['corrected']:.4f} (n = 1 deterministic run, {e['steps']:.0f} steps). "
        f"**Disagreement:** "
        f"4.125 is not the printed right side; without the 1/T it is {e['literal']:.1f}, so the "
        f"example refutes the repaired reading only. The literal bound needs another example: "
        f"{literal.described()}: left {float(literal.left):.3f} > {float(literal.right):.3f} "
        f"(exact arithmetic). So both readings are false.",
    )


def _heavy(r: Results) -> float:
    """The momentum theorem's largest ratio where there is momentum."""
    worst = r.outcomes["momentum"].worst_where(beta=0.0)
    return worst.ratio if worst else float("nan")


def _floors(r: Results) -> str:
    """The share of L^2 rho^2 that deterministic quadratics attain."""
    return "; ".join(
        f"({', '.join(f'{x:g}' for x in spectrum)}), {a:g}: {squared.mean():.2g}"
        for spectrum, a, _, squared in r.orbits
        if len(spectrum) > 1
    )


def _holds(r: Results) -> Finding:
    e = r.optimization_example
    ratio = e["left"] / e["corrected"]
    names = (
        "smooth",
        "pl",
        "weight_decay",
        "pl_decay",
        "momentum",
        "scheduled_radius",
        "scheduled",
    )
    outcomes = [r.outcomes[name] for name in names]
    sound = sum(not count for count in r.failures.values())
    proved = sound == len(r.failures)
    violated = sum(o.count("violated") for o in outcomes)
    undecided = sum(o.count("inconclusive") for o in outcomes)
    cells = sum(len(o.cells) for o in outcomes)
    tightest = max(o.worst.ratio for o in outcomes)
    slopes = ", ".join(
        f"{x.problem} {x.tail.mean:.3f} [{x.tail.low:.3f}, {x.tail.high:.3f}]"
        for x in r.rates
        if x.shrinking
    )
    rate = all(x.tail.mean < -0.4 for x in r.rates if x.shrinking)
    return Finding(
        "3",
        "The corrected bound holds and is nearly attained; rate 1/sqrt(T); PL",
        _verdict(proved and not violated, rate and abs(ratio - 0.9993) < 1e-3),
        f"{sound} of {len(r.failures)} proofs verified. {violated} of {cells} cells violated, "
        f"{undecided} undecided, largest ratio {tightest:.4f}. Example 2: ratio {ratio:.5f}. "
        f"Log-log slope "
        f"with "
        f"eta, rho ~ 1/sqrt(T) (95% bootstrap, n = {r.rates[0].tail.n} runs per T): {slopes}. "
        f"Also proved: weight decay (for F_lambda), both schedules, and heavy-ball momentum for "
        f"steps far below practice (see Proofs; largest ratio with beta > 0: {_heavy(r):.4f}). How "
        f"much of the floor L^2 rho^2 is attained depends on the spectrum, with eigenvalues and "
        f"eta L: {_floors(r)} of it (mean over starts, the second half of a deterministic run).",
    )


def _view(r: Results) -> Finding:
    deviation, steps = r.equivalences["change of variables"]
    line, _ = r.equivalences["distance on the line"]
    example = abs(r.optimization_example["w"]) / r.optimization_example["rho"]
    plane = {a: float(d.mean()) for s, a, d, _ in r.orbits if s == (1.0, 1.0)}
    general = all(abs(value - 1) < 0.05 for value in plane.values())
    circle = max(abs(value / np.sqrt(a) - 1) for a, value in plane.items())
    uphill = [x for x in r.regimes if x.increase["s2sam"].high < 0]
    numbers = ", ".join(f"{v:.4f} at eta L = {a:g}" for a, v in plane.items())
    runs = len(r.orbits[0][2])
    reaches = ", ".join(f"{x.reach.mean:.2f}" for x in uphill)
    below = (
        f"In {len(uphill)} of {len(r.regimes)} measured regimes the loss at u is *lower* than at w "
        f"(99% interval; rho / (eta |g|) = {reaches}): where "
        f"that is below 1, u only takes back part of the last step."
        if uphill
        else "In no measured regime is the loss at u lower than at w."
    )
    return Finding(
        "4",
        "Change of variables; w one descent step below u; distance rho",
        _verdict(deviation < 1e-12 and abs(example - 1) < 1e-9 and line < 1e-9, general),
        f"Largest relative deviation {deviation:.1e} over {steps} steps (4 runs). Example 2: final "
        f"|w|/rho = {example:.9f}. **Disagreement:** the distance rho belongs to one dimension. "
        f"On an isotropic quadratic in the plane S2-SAM circles the minimiser at rho sqrt(eta L) "
        f"(proved to be an orbit; mean |w|/rho {numbers}, n = {runs} random starts each, at most "
        f"{circle:.0e} from the formula). And the step from u to w is along the stale gradient, so "
        f"it need not descend. {below}",
    )


def _vanishing(r: Results) -> Finding:
    found = limits()
    core = sympy.simplify(found["generalization"] - 6 * rho) == 0
    trivial = [g for g in r.gaps if g.decay_over_L == 2]
    largest = max(g.n for g in trivial)
    shown = [g for g in trivial if g.n == largest]
    (error,) = [g for g in shown if g.rho == 0]
    ours = ", ".join(f"{g.error:.1%} at rho = {g.rho:.3g}" for g in shown if g.rho > 0)
    ratio = error.decay / PRACTICAL_DECAY
    literal = "infinity" if found["literal"] == sympy.oo else str(found["literal"])
    return Finding(
        "5",
        "The generalization term does not vanish; lambda = 2L is far from practice",
        _verdict(bool(core), ratio > 100 and found["shrinking"] == 6),
        f"Limit of the last term: {found['generalization']} (sympy); with rho = 1/sqrt(n) it is "
        f"{found['shrinking']}/sqrt(n). The printed optimization bound itself tends to "
        f"{literal} under eta = 1/sqrt(n), T = n (missing 1/T). On digits scaled to unit "
        f"length 2L = {error.decay:g}, {ratio:.0f} times the usual {PRACTICAL_DECAY:g}; trained "
        f"with it, S2-SAM misclassifies {ours}, and SGD (rho = 0) {error.error:.1%} (n = "
        f"{error.gap.n} training sets of {error.n} each). Any L-smooth F becomes L-strongly convex "
        f"with condition number at most 3.",
    )


def _distance(r: Results) -> Finding:
    ratio, pairs = r.equivalences["Dunkl-Williams"]
    gradient, compared = r.equivalences["gradient error against SAM"]
    proved = r.failures["geometry"] == 0
    return Finding(
        "6",
        "Dunkl-Williams bounds the perturbation's and the gradient's error",
        _verdict(proved and ratio <= 1 + 1e-12 and gradient <= 1 + 1e-12),
        f"Proof {'verified' if proved else 'FAILED'} (a sum of squares). Largest ratio "
        f"{ratio:.12f} over {pairs} pairs. Gradient error over its bound, along runs: at "
        f"most {gradient:.3f} ({compared} comparisons).",
    )


def _regime(r: Results) -> Finding:
    rows = "; ".join(
        f"batch {x.batch}, eta {x.eta:.2g}: cosine {x.cosine.mean:.3f}, rho/(eta|g|) "
        f"{x.reach.mean:.2g}, increase {x.increase['s2sam'].mean:.1f} "
        f"(SAM {x.increase['sam'].mean:.1f}, noise {x.increase['noise'].mean:.1f})"
        for x in r.regimes
    )
    return Finding(
        "7",
        "In the noise-dominated regime S2-SAM smooths along the noise's covariance",
        "measured",
        f"Loss increase relative to a random direction of the same length, n = "
        f"{r.regimes[0].cosine.n} runs: {rows}. The picture needs rho > eta |g| besides noise: "
        f"only "
        f"then does u lie beyond the previous weights. These are logistic regressions; a network's "
        f"regime is for the training runs to tell.",
    )


def findings(results: Results) -> list[Finding]:
    """All seven, in order."""
    parts: list[Callable[[Results], Finding]] = [
        _lemma,
        _false,
        _holds,
        _view,
        _vanishing,
        _distance,
        _regime,
    ]
    return [part(results) for part in parts]
