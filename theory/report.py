"""The report: statements, verdicts, numbers and figures as one Markdown page."""

__all__ = ["failed", "refresh", "render", "summary", "write"]

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from theory import printed
from theory.beyond import BEYOND
from theory.checks import Estimate
from theory.corrected import CORRECTED
from theory.figures import draw_all
from theory.findings import findings
from theory.networks import Network, load
from theory.networks_figure import draw_networks
from theory.printed import PRINTED
from theory.proofs import PROOFS
from theory.proofs.render import render as render_proofs
from theory.results import Results
from theory.sections import (
    beyond_section,
    generalization_section,
    networks_section,
    proofs_section,
    regime_section,
    stability_section,
    stationary_section,
)
from theory.sections.networks import HEADING

_OLD = {statement.name for statement in printed.PRINTED}


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def failed(results: Results) -> list[str]:
    """What should hold and does not.

    Corrected statements violated, proofs with a false step or premise, properties that a test
    problem lacks, mutants that no check objects to.
    """
    broken = [
        name
        for name, found in results.outcomes.items()
        if name not in _OLD and found.verdict == "violated"
    ]
    broken += [name for name, count in results.failures.items() if count]
    broken += [name for name, found in results.objections.items() if found and name not in broken]
    broken += [
        f"{problem} is not {name}"
        for problem, ratios in results.properties.items()
        for name, ratio in ratios.items()
        if ratio > 1 + 1e-9
    ]
    return broken + [f"unnoticed: {v.name}" for v in results.mutation if not v.objection]


def _refuted_by(name: str, results: Results) -> str:
    """What refutes a statement: its own cells, or exact counterexamples."""
    count = results.outcomes[name].count("violated")
    reasons = [f"{count} cells"] if count else []
    names = [c.name for c in results.counterexamples if c.refutes and c.statement.name == name]
    return "; ".join([*reasons, *names]) or "-"


def summary(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table that the command prints."""
    refuted = {c.statement.name for c in results.counterexamples if c.refutes}
    rows = []
    for name, found in results.outcomes.items():
        counts = [str(found.count(kind)) for kind in ("holds", "violated", "inconclusive")]
        final = "violated" if name in refuted else found.verdict
        reason = _refuted_by(name, results)
        rows.append([name, final, reason, *counts, f"{found.worst.ratio:.4f}", str(found.runs)])
    headers = [
        "statement",
        "verdict",
        "refuted by",
        "holds",
        "violated",
        "inconclusive",
        "largest ratio",
        "n runs",
    ]
    return headers, rows


def _different(results: Results) -> str:
    """Where the printed Lemma 1 on different samples holds, and where it does not."""
    name = printed.LEMMA1_DIFFERENT.name
    found = results.outcomes[name]
    largest = max(cell.setting["eta"] * cell.setting["lambda"] for cell in found.cells)
    (example,) = [c for c in results.counterexamples if c.statement.name == name]
    return (
        f"`{name}` is the corrected `lemma1_different` without its condition eta lambda <= 1, and "
        f'with "=" for "<=". Where eta lambda <= 1 it is right as an inequality (proved; '
        f"{found.count('holds')} of {len(found.cells)} cells hold, eta lambda up to "
        f"{largest:.2g}). Beyond, the losses B u and -B u break it at every delta > 0, by "
        f"2 (eta lambda - 1) delta: at {example.described()} the left side is {example.left} and "
        f"the printed right side {example.right}. So as printed, with no condition on the step, "
        f"it is violated."
    )


def _statements() -> str:
    return "\n".join(
        f"**`{s.name}`: {s.title}** ({s.where}). Assumes "
        f"{'; '.join(a.shown() for a in s.assumptions)}.\n\n"
        f"$$\n{s.latex()}\n$$\n"
        for s in (*PRINTED, *CORRECTED, *BEYOND)
    )


def _worst(results: Results) -> str:
    rows = []
    for name, found in results.outcomes.items():
        cell = found.worst
        rows.append(
            [
                f"`{name}`",
                f"{cell.ratio:.4f}",
                interval(cell.left, 4),
                f"{cell.right:.4g}",
                str(cell.left.n),
                cell.described(),
            ]
        )
    return table(["statement", "ratio", "left side [interval]", "right", "n", "setting"], rows)


def _counterexamples(results: Results) -> str:
    rows = [
        [
            c.name,
            f"`{c.statement.name}`",
            c.described(),
            f"{float(c.left):.4g}",
            f"{float(c.right):.4g}",
            str(c.tried),
            c.note,
        ]
        for c in results.counterexamples
    ]
    return table(["name", "refutes", "setting", "left", "right", "candidates", "note"], rows)


def _equivalences(results: Results) -> str:
    kinds = {
        "change of variables": "largest relative deviation",
        "masked and restricted": "largest deviation",
        "paper_repro.optim.S2SAM": "largest deviation from the plain iteration, w and u",
        "Dunkl-Williams": "largest ratio to the bound (1 is attained)",
        "gradient error against SAM": "largest ratio to the bound",
        "distance on the line": r"deviation of the final distance from $\rho$, relative",
    }
    rows = [
        [name, kinds[name], f"{value:.3g}", str(count)]
        for name, (value, count) in results.equivalences.items()
    ]
    return table(["equivalence", "number", "value", "n steps, pairs or comparisons"], rows)


def _rates(results: Results) -> str:
    rows = [
        [
            rate.problem,
            "1/sqrt(T)" if rate.shrinking else "fixed",
            interval(rate.tail, 3),
            f"{rate.bound_tail:.3f}",
            f"{rate.horizons[len(rate.horizons) // 2]} to {rate.horizons[-1]}",
            str(rate.tail.n),
        ]
        for rate in results.rates
    ]
    headers = ["problem", "rho", "slope, left side [95%]", "slope, bound", "T", "n runs per T"]
    return table(headers, rows)


def interval(value: Estimate, digits: int = 3) -> str:
    """``mean [low, high]``, or the mean alone for a deterministic run."""
    if value.low == value.high:
        return f"{value.mean:.{digits}g}"
    return f"{value.mean:.{digits}g} [{value.low:.{digits}g}, {value.high:.{digits}g}]"


def _findings(results: Results) -> str:
    parts = []
    for finding in findings(results):
        parts.append(
            f"### Item {finding.item}: {finding.verdict}\n\n*{finding.claim}.* {finding.evidence}\n"
        )
    return "\n".join(parts)


def render(results: Results, networks: Sequence[Network]) -> str:
    """The page. Every number in it comes from ``results``, or was measured of ``networks``."""
    options = results.options
    size = "fast (a small grid)" if options.fast else "full"
    headers, rows = summary(results)
    cells = sum(len(found.cells) for found in results.outcomes.values())
    return f"""# The paper's theory, checked by machine

Generated by `python -m theory`: {size} run, seed {options.seed}. Statements, step-by-step proofs
([proofs.md](proofs.md)), a grid of {cells} comparisons, counterexamples, and measurements of what
the theorems leave open. Brackets are 99% intervals unless said otherwise; n is the number of
independent runs behind a number. Units: losses in [loss], weights in [weight]; `h` and `L` in
[loss/weight^2], `eta` in [weight^2/loss], `rho` in [weight], `sigma` and `B` in [loss/weight].

## What was expected, and what was found

Seven findings were worked out by hand before anything was run. Each item restates one of them and
says what the machine found; where it found something else, that is a disagreement.

{_findings(results)}
## Verdicts

{table(headers, rows)}

A cell is one setting of problem, density, step, radius, noise, decay, momentum and T. It *holds* if
the whole confidence interval of the left side lies below the right side, is *violated* if it lies
above, else *inconclusive*; intervals have coverage {results.confidence:.7f} each, so that all of
them together hold with 99% (Bonferroni). {results.retried} settings with an inconclusive cell
were run again afresh with 16, then 128 times the runs (logistic regression: 8 times) and judged by
the new runs. Each comparison counts once: a run without momentum and decay, which three descent
bounds admit, counts for the simplest, so `momentum` is judged by runs with momentum; the tighter
`smooth_family` (at theta = 1/2) and `smooth_best` are held against the same runs again, and against
runs at steps that only they admit; and n counts
a run once however many horizons it is compared at. One violated cell refutes a statement; so does
an exact counterexample, named in the table and given below: that alone is how the literal
`optimization_printed`, `lemma1_different_printed` and both `theorem1_*` fall. `lemma1_*` cells show
the worst of n pairs. `stability*`, `excess` and `theorem1_*` come from the last section and have
intervals of 99% each, outside the joint coverage.

{_different(results)}

![Ratios of every cell](figures/ratios.png)

### The tightest cell, or the worst, of each statement

{_worst(results)}

sigma is exact for the quadratics and the robust regression (noise uniform on a sphere, over the
active coordinates). For logistic regression it is measured: the largest over t of the mean
conditional variance of the minibatch gradient at u_t, computed exactly from all examples; the
proofs use the noise only through that quantity. B is global where the problem has one; for the
quadratics it is the largest gradient met, the smallest value any valid B could have.

## Statements

{_statements()}

{proofs_section(results, table, interval)}
## Counterexamples

Found by exhaustive search in order of size (sum of numerators and denominators less one), in
rational arithmetic, larger by at least 5%. `candidates` is how many were tried, this one included.
Loss: L (u - a)^2 / 2 where the run goes, linear beyond, so that B is a global Lipschitz constant;
Lemma 1 on different samples takes two linear losses.
The last two read every F of Theorem 1 as F_lambda = F + lambda |w|^2 / 2, mu = lambda included, and
its risk as the population's.
A strongly convex F on the whole space cannot also be B-Lipschitz; where Theorem 1 assumes both,
the domain is the interval that the run stays in.

{_counterexamples(results)}

## Rates

{_rates(results)}

![Rates](figures/rates.png)

The floor L^2 rho^2 is visible on the scalar quadratic without noise; elsewhere a fixed rho costs
less than the bound allows, for the reason given in the next section.

## Equivalences

{_equivalences(results)}

{beyond_section(results, table, interval)}
{networks_section(networks, table)}
{stability_section(results, table)}
{stationary_section(results, table, interval)}
{regime_section(results, table, interval)}
{generalization_section(results, table, interval)}"""


def refresh(out: Path) -> Path:
    """Write the section on trained networks anew into the report in ``out``, and its figure.

    Raises:
        ValueError: there is no report with such a section.
    """
    path = out / "report.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, heading, rest = text.partition(f"\n{HEADING}\n")
    if not heading:
        raise ValueError(f"{path} is no report with a section on trained networks")
    _, next_one, after = rest.partition("\n## ")
    networks = load()
    if networks:
        draw_networks(networks, out / "figures" / "networks.png")
    section = networks_section(networks, table)
    path.write_text(f"{before}\n{section}{next_one}{after}", encoding="utf-8")
    return path


def write(results: Results, out: Path) -> Path:
    """Write ``report.md``, ``proofs.md`` and ``figures/*.png`` into ``out``."""
    networks = load()
    draw_all(results, out / "figures")
    if networks:
        draw_networks(networks, out / "figures" / "networks.png")
    (out / "proofs.md").write_text(render_proofs(PROOFS), encoding="utf-8")
    path = out / "report.md"
    path.write_text(render(results, networks), encoding="utf-8")
    return path
