"""What was measured of trained networks, read from the committed measures of their runs."""

__all__ = ["MEASURES", "Late", "Network", "load"]

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.experiment import measures, records
from paper_repro.experiment.measures import Measured

MEASURES = ("curvature", "gradient_noise", "late_training")
_RESULTS = Path(__file__).parent.parent / "results"
_NAMES = {"sgd": "SGD", "sam": "SAM", "s2sam": "S2-SAM"}


@dataclass(frozen=True)
class Late:
    """A network that trained on at a constant step: see ``paper_repro.measure.late_training``."""

    rule: str
    eta: float
    beta: float
    rho: float
    steps: int
    spread: float
    spread_std: float
    law: float | None
    variance_w: float
    length: float
    square: float
    buffer: float
    reach: float
    repeats: int


@dataclass(frozen=True)
class Network:
    """One trained network; a part that was not measured is None or empty.

    ``curvature``: largest Hessian eigenvalue over the active and over all weights. ``noise``: the
    values of ``paper_repro.measure.gradient_noise``; ``rho``: their radius.
    """

    fingerprint: str
    profile: str
    config: RunConfig
    curvature: tuple[float, float] | None = None
    noise: dict[str, float] | None = None
    rho: float = 0.0
    late: list[Late] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The optimizer that trained it, and on how many images."""
        name, options = self.config.optimizer.name, dict(self.config.optimizer.options)
        radius = f" {options['rho']:g}" if "rho" in options else ""
        size = self.config.train_size
        return f"{_NAMES.get(name, name)}{radius}" + (f", {size} images" if size else "")

    @property
    def bed(self) -> str:
        """Network, data and sparse method."""
        c = self.config
        sparsity = dict(c.method.options).get("sparsity")
        share = "" if sparsity is None else f" at {sparsity:.0%}"
        return f"{c.model} on {c.dataset}, {c.method.name}{share}"


def load(folder: Path | None = None) -> list[Network]:
    """Every network with one of ``MEASURES`` under the folder, in the order of their labels.

    Args:
        folder: of the records; the repository's by default.

    Raises:
        UserError: a measure is damaged, or there is no record of its run.
    """
    found: dict[Path, list[Measured]] = defaultdict(list)
    for path in sorted((folder or _RESULTS).glob("*/measures/*.json")):
        if path.name.split(".")[1].rpartition("-")[0] in MEASURES:
            one = measures.read(path)
            found[path.parent.parent / f"{one.fingerprint}.json"].append(one)
    networks = [_network(path, made) for path, made in found.items()]
    return sorted(networks, key=lambda n: (n.label, n.fingerprint))


def _network(record: Path, made: list[Measured]) -> Network:
    config = records.read(record).config
    curvature, noise, rho, late = None, None, 0.0, []
    for one in made:
        options: dict[str, Any] = dict(one.spec.options)
        if one.spec.name == "curvature":
            curvature = (float(one.values["active"]), float(one.values["all"]))
        elif one.spec.name == "gradient_noise":
            noise, rho = {k: float(v) for k, v in one.values.items()}, float(options["rho"])
        else:
            numbers = {name: options[name] for name in ("rule", "rho", "steps")}
            late.append(Late(eta=options["lr"], beta=options["momentum"], **numbers, **one.values))
    late.sort(key=lambda x: (x.rule, x.beta, x.eta))
    return Network(config.fingerprint, config.profile, config, curvature, noise, rho, late)
