"""The page's parts that are no tables: claims, what was tested, cost, environments, words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_repro.errors import UserError
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record, Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Words
from tables.compare import data_label, model_label
from tables.inference.rules import AVERAGE, FAILS, HOLDS, UNDECIDED
from tables.render.trained import usual
from tables.verdicts.parts import CONTROLS, PARTS, WHOLES

__all__ = ["Claim", "Cost", "claims", "costs", "environments", "facts", "tally", "words"]

_CHECKOUT = Path(__file__).resolve().parents[2]
_WORDS = Path(__file__).parent / "templates" / "easy-and-hard.txt"
_HOUR = 3600

#: By how a verdict begins: its kind, for colour, and a sign that says the same without colour.
_KINDS = {
    AVERAGE: ("partly", "✓"),
    HOLDS: ("good", "✓"),
    FAILS: ("bad", "✗"),
    **{part.rule.scale.none: ("bad", "≈") for part in (*CONTROLS, *PARTS)},
    UNDECIDED: ("open", "?"),
}
#: Where the claims stand that no difference of runs judges.
_ELSEWHERE = {"4": "cost", "10": "rebuttal-translation"}


@dataclass(frozen=True)
class Claim:
    """A row of the claims.

    Attributes:
        label, text, rule, evidence: as the table of claims has them.
        verdict: in words, and ``doubt``: what the positive control takes from it.
        kind, sign: of the verdict, for colour and without colour.
        anchor: of the page's part that has its numbers.
        of_paper: whether the paper makes it.
    """

    label: str
    text: str
    rule: str
    verdict: str
    doubt: str
    evidence: str
    kind: str
    sign: str
    anchor: str
    of_paper: bool


def claims(profile: Profile, records: Records) -> list[Claim]:
    """The paper's claims, then the control and the questions, each with its verdict here."""
    anchors = {part.label: part.table for part in (*CONTROLS, *PARTS)} | _ELSEWHERE
    found = []
    for row in TABLES.build(Spec("claims"), profile=profile).rows:
        label, text, rule = row.labels
        said, evidence = (e.say(records) for e in row.entries if isinstance(e, Words))
        kind, sign = next((k for v, k in _KINDS.items() if said.startswith(v)), ("none", "–"))
        anchor = anchors.get(label, "theory")
        of_paper = label[0].isdigit()
        verdict, _, doubt = said.rstrip(")").partition(" (")
        found.append(
            Claim(label, text, rule, verdict, doubt, evidence, kind, sign, anchor, of_paper)
        )
    return sorted(found, key=lambda claim: not claim.of_paper)


def tally(found: Sequence[Claim]) -> list[tuple[str, str, int]]:
    """How many parts of the paper's claims have which verdict: (kind, verdict, count)."""
    wholes = {whole.label for whole in WHOLES}  # whose parts have rows of their own
    counted = Counter((c.kind, c.verdict) for c in found if c.of_paper and c.label not in wholes)
    return [(kind, verdict, n) for (kind, verdict), n in counted.most_common()]


def facts(profile: Profile, used: Sequence[Record]) -> dict[str, str]:
    """What was tested and at what size."""
    counts = Counter(record.status for record in used)
    states = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    seeds = sorted({record.config.seed for record in used})
    config = profile.config("cifar10", "resnet32x2", profile.method("dense"), _sgd(profile), 0)
    size = "" if config.train_size is None else f" ({config.train_size:,} training images)"
    said = {
        "Profile": f"{profile.name}: {usual(profile)}",
        "CIFAR-10 is": data_label(profile, "cifar10") + size,
        "ResNet-32 is": model_label(profile, "resnet32x2"),
        "Training": f"{config.epochs} epochs, batches of {config.batch_size}, learning rate "
        f"{config.lr:g}, weight decay {config.weight_decay:g}, ρ = {profile.rho('cifar10'):g}, "
        f"{config.precision}",
        "Runs": f"{len(used)} with a record ({states})" if used else "none yet",
        "Seeds": ", ".join(map(str, seeds)) or "–",
    }
    times = sorted(r.body["finished_at"] for r in used if r.body.get("finished_at"))
    if times:
        said["Finished"] = f"{times[0][:10]} to {times[-1][:10]}"
    hours = sum(r.body.get("speed", {}).get("seconds") or 0.0 for r in used) / _HOUR
    if hours:
        said["Training time"] = f"{hours:.1f} hours in all runs together, parents not counted"
    return said


def _sgd(profile: Profile) -> Spec:
    return profile.optimizer("sgd")


@dataclass(frozen=True)
class Cost:
    """A whole training step on one device and arithmetic, over SGD's; medians with quartiles."""

    device: str
    arithmetic: str
    network: str
    ratios: tuple[str, str]
    copies: tuple[str, str]
    n: str
    source: str


def costs() -> list[Cost]:
    """What the committed benchmarks measured, whatever the profile.

    Raises:
        UserError: a file is no result of the benchmarks.
    """
    found = []
    for path in sorted((_CHECKOUT / "benchmarks").glob("results-*.json")):
        try:
            measured = json.loads(path.read_text(encoding="utf-8"))
            for part in (name for name in measured if name.startswith("step ")):
                step = measured[part]
                both = [step["step_ratio"][key] for key in ("s2sam/sgd", "sam/sgd")]
                extra = step.get("extra_buffers", {})
                found.append(
                    Cost(
                        measured["environment"]["device"],
                        part.removeprefix("step "),
                        step["model"],
                        (_quartiles(both[0]), _quartiles(both[1])),
                        (_copies(extra, "s2sam"), _copies(extra, "sam")),
                        str(both[0]["n"]),
                        f"benchmarks/{path.name}",
                    )
                )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no result of the benchmarks: {error!r}") from error
    return found


def _quartiles(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"


def _copies(extra: dict[str, Any], name: str) -> str:
    state = extra.get(name, {}).get("state")
    return "–" if state is None else f"{state:.2f}"


#: Of a record's environment: key, and how its column is named.
_ENVIRONMENT = {
    "device": "device",
    "torch": "torch",
    "python": "Python",
    "engine": "engine",
    "arithmetic": "arithmetic",
    "threads": "threads",
    "commit": "commit",
}


def environments(used: Sequence[Record]) -> tuple[list[str], list[tuple[list[str], int]]]:
    """Headers, and each environment that runs had with how many had it, the most frequent first."""

    def said(record: Record) -> tuple[str, ...]:
        there = record.body.get("environment", {})
        cells = [str(there.get(key) if there.get(key) is not None else "–") for key in _ENVIRONMENT]
        cells[-1] = cells[-1][:12] + (" + uncommitted changes" if there.get("dirty") else "")
        return tuple(cells)

    counted = Counter(map(said, used)).most_common()
    return list(_ENVIRONMENT.values()), [(list(cells), n) for cells, n in counted]


def words() -> list[tuple[str, list[str]]]:
    """Headings with their points, of the text that is kept beside the templates.

    A line that begins with ``# `` is a heading, one with ``- `` begins a point, others go on.
    """
    parts: list[tuple[str, list[str]]] = []
    for line in _WORDS.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            parts.append((line[2:].strip(), []))
        elif line.startswith("- "):
            parts[-1][1].append(line[2:].strip())
        elif line.strip():
            parts[-1][1][-1] += " " + line.strip()
    return parts
