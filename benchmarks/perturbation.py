"""How much of S2-SAM's perturbation reaches the forward pass in float32, tf32 and bfloat16.

    python -m benchmarks.perturbation

Trains in float32 on CIFAR-10 for a few hundred steps, dense and with MEST(EM) at 90 %, and then
rounds w and w + ε as each precision would. Everything is written to perturbation.json:
overall and for each layer, one entry a training, with the code and the machine it is of. Trainings
that are there already are kept and not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.setup import Stepper, config
from paper_repro import data as datasets
from paper_repro.config import PRECISIONS
from paper_repro.data import Dataset
from paper_repro.errors import UserError
from paper_repro.experiment.provenance import environment
from paper_repro.files import write_json
from paper_repro.measure.effective_perturbation import effective_perturbation
from paper_repro.sparse import METHODS
from paper_repro.train import Trainer

__all__ = ["main", "measure"]

MODELS = ("resnet20", "resnet32x2")
SPARSITIES = (0.0, 0.9)
RHO = 0.05


def measure(
    data: Dataset, model: str, sparsity: float, seed: int, steps: int, batch_size: int = 64
) -> dict[str, Any]:
    """One training with S2-SAM at ρ = 0.05, and what arrives of its ε after ``steps`` steps."""
    started = time.strftime("%Y-%m-%d %H:%M")
    method = METHODS.spec("mest", sparsity=sparsity) if sparsity else METHODS.spec("dense")
    run = config("s2sam", model, batch_size, method=method, seed=seed)
    trainer = Trainer(run, data, engine="dense")
    step = Stepper(trainer)
    for _ in range(steps):
        step()
    masks = trainer.method.masks
    shares = {
        name: effective_perturbation(trainer.model, trainer.optimizer, masks=masks, precision=name)
        for name in PRECISIONS
    }
    return {
        **_key(data, model, sparsity, seed, steps, batch_size),
        "environment": environment(trainer.device),
        "started": started,
        "rho": trainer.optimizer.param_groups[0]["rho"],
        "precisions": {
            name: {
                "overall": asdict(share.overall),
                "layers": {layer: asdict(s) for layer, s in share.layers.items()},
            }
            for name, share in shares.items()
        },
    }


def _key(
    data: Dataset, model: str, sparsity: float, seed: int, steps: int, batch_size: int
) -> dict[str, Any]:
    """What tells one training from another."""
    return {
        "dataset": data.name,
        "model": model,
        "sparsity": sparsity,
        "seed": seed,
        "steps": steps,
        "batch_size": batch_size,
    }


def _known(path: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["trainings"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no such results: {error}") from error
    return found


def table(trainings: Sequence[dict[str, Any]]) -> str:
    """Means over seeds, with the lowest and highest, one line a network and precision."""
    lines = ["network, sparsity, precision: changed, cosine, length ratio"]
    for model, sparsity in dict.fromkeys((t["model"], t["sparsity"]) for t in trainings):
        own = [t for t in trainings if (t["model"], t["sparsity"]) == (model, sparsity)]
        for name in own[0]["precisions"]:
            found = [t["precisions"][name]["overall"] for t in own]
            cells = (_range(f[key] for f in found) for key in ("changed", "cosine", "ratio"))
            lines.append(f"{model}, {sparsity:.0%}, {name}: {', '.join(cells)}; n = {len(own)}")
    return "\n".join(lines)


def _range(values: Iterable[float]) -> str:
    seen = list(values)
    return f"{statistics.mean(seen):.3f} ({min(seen):.3f} to {max(seen):.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print and write; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perturbation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, help="data folder (default: PAPER_REPRO_DATA)")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--threads", type=int, help="processor threads (default: all)")
    # Not `results-<device>.json`, which are step times that `make claims` reads.
    default = Path(__file__).parent / "perturbation.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        data = datasets.load(options.dataset, root=options.data, device=options.device)
        trainings = _known(options.out)
        for model in options.models:
            for seed in options.seeds:
                for sparsity in SPARSITIES:
                    which = (model, sparsity, seed, options.steps, options.batch)
                    key = _key(data, *which)
                    if any({**t, **key} == t for t in _known(options.out)):
                        continue
                    found = measure(data, *which)
                    # Read again: another process may have written to it meanwhile.
                    trainings = [*_known(options.out), found]
                    write_json(options.out, {"trainings": trainings})
                    print(table([found]).splitlines()[-1], f"(seed {seed})", flush=True)
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    print(table(trainings))
    print(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
