"""Do the engines train alike? The same runs by each, on real CIFAR-10, as whole records.

    python -m benchmarks.agreement

What the engine is is no part of a run's config, so each has a folder of records of its own under
``results/engines``. A run that has its record there is not trained again.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.provenance import environment
from paper_repro.experiment.runs import Workplace, execute
from paper_repro.files import write_json
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS

__all__ = ["ENGINES", "compared", "main", "runs"]

ENGINES = ("dense", "sparse", "sparse-bf16")
ROOT = Path(__file__).resolve().parent.parent


def runs(seeds: Sequence[int]) -> list[RunConfig]:
    """MEST(EM) at 90 % with S2-SAM: ResNet-20 on 5,000 images, tested on the other 55,000."""
    return [
        RunConfig(
            profile="engines",
            dataset="cifar10",
            model="resnet20",
            method=METHODS.spec("mest", sparsity=0.9),
            optimizer=OPTIMIZERS.spec("s2sam", rho=0.05),
            seed=seed,
            epochs=15,
            init="released",
            train_size=5_000,
            test_on="wide",
            evaluate_every=15,
        )
        for seed in seeds
    ]


def compared(accuracies: dict[str, list[float]]) -> dict[str, Any]:
    """Mean, standard deviation and 95 % interval of each engine, and differences to ``dense``."""
    from scipy import stats

    def interval(values: list[float], std: float, freedom: int, scale: float) -> dict[str, float]:
        mean = math.fsum(values) / len(values)
        half = float(stats.t.ppf(0.975, freedom)) * std * scale
        return {"mean": mean, "low": mean - half, "high": mean + half}

    n = min(len(v) for v in accuracies.values())
    if n < 2:
        return {"n": n, "accuracy": accuracies}
    spread = {
        name: math.sqrt(math.fsum((x - math.fsum(v) / n) ** 2 for x in v) / (n - 1))
        for name, v in accuracies.items()
    }
    pooled = math.sqrt(math.fsum(s * s for s in spread.values()) / len(spread))
    freedom = len(spread) * (n - 1)
    own = {name: interval(v, pooled, freedom, 1 / math.sqrt(n)) for name, v in accuracies.items()}
    difference = {}
    for name in accuracies:
        if name != "dense":
            d = own[name]["mean"] - own["dense"]["mean"]
            half = float(stats.t.ppf(0.975, freedom)) * pooled * math.sqrt(2 / n)
            difference[name] = {"mean": d, "low": d - half, "high": d + half}
    return {
        "n": n,
        "accuracy": accuracies,
        "pooled_std": pooled,
        "interval": own,
        "minus dense": difference,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, print and write the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="of each engine")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="checkpoints")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "engines")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("agreement.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    accuracies: dict[str, list[float]] = {name: [] for name in ENGINES}
    try:
        for config in runs(range(options.seeds)):
            for engine in ENGINES:
                place = Workplace(
                    runs=options.runs / engine, results=options.results / engine, engine=engine
                )
                record = execute(config, place)
                accuracies[engine].append(float(record.body["accuracy"]["last"]))
                print(f"{engine}, seed {config.seed}: {accuracies[engine][-1]:.2f} %", flush=True)
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    found = {"environment": environment(torch.device("cpu")), **compared(accuracies)}
    write_json(options.out, found)
    for name, d in found.get("minus dense", {}).items():
        print(f"{name} - dense: {d['mean']:+.2f} [{d['low']:+.2f}, {d['high']:+.2f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
