"""Run the benchmarks: ``python -m benchmarks [floor] [step] [loop] [packing] [compile]``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import floor, loading, loop, processes, step, zeros
from benchmarks.setup import images
from benchmarks.timing import Spread
from paper_repro.errors import UserError
from paper_repro.experiment.provenance import environment
from paper_repro.experiment.workplace import check_writable, usable_device
from paper_repro.files import check_target, write_json
from paper_repro.train.threads import set_threads

__all__ = ["main"]

PARTS = ("floor", "step", "loop", "packing", "compile", "zeros", "loading")
DEFAULT = ("floor", "step", "loop")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table of each part and write all of it as JSON; returns the exit status."""
    options = _options(arguments)
    try:
        options.device = usable_device(options.device)
        if options.out is None:
            kind = torch.device(options.device).type
            options.out = Path(__file__).parent / f"results-{kind}.json"
        check_target(options.out, _is_result, "a benchmark's result", options.force)
        check_writable(options.out.parent)
        if options.threads is not None:
            set_threads(options.threads)
        results = measure(options)
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    write_json(options.out, _plain(results))
    print(f"written: {options.out}")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every part asked for, printed as soon as it is there."""
    device = torch.device(options.device)
    quick = options.quick
    size: dict[str, Any] = {"model": "resnet_digits" if quick else "resnet32x2"}
    if quick:
        size["batch_size"] = 8
    rounds: Callable[[int], int] = lambda n: 2 if quick else (options.rounds or n)  # noqa: E731
    where = environment(device)
    print(
        f"{where['device']}, {where['threads']} of {where['cores']} cores, "
        f"torch {where['torch']}, Python {platform.python_version()}"
    )
    results: dict[str, Any] = {"environment": where, "started": time.strftime("%Y-%m-%d %H:%M")}
    parts = options.parts or DEFAULT
    data = images(options.data, device, 64 if quick else 20_000)
    if "floor" in parts:
        results["floor"] = floor.measure(data, rounds=rounds(10), **size)
        show("The floor", results["floor"])
    if "step" in parts:
        for precision in ("float32",) if quick else ("float32", "bf16"):
            name = f"step {precision}"
            results[name] = step.measure(data, precision=precision, rounds=rounds(60), **size)
            show(f"A training step with SGD, S2-SAM and SAM, {precision}", results[name])
        if device.type == "cuda":
            results["step replayed"] = step.measure(
                data, precision="bf16", graph=True, rounds=rounds(40), **size
            )
            show("The same, bf16, replayed as CUDA graphs", results["step replayed"])
    if "loop" in parts:
        results["loop"] = loop.measure(data, rounds=rounds(20), **size)
        show("The training loop against a plain one", results["loop"])
    if "packing" in parts:
        results["packing"] = processes.packing(options.data, device, quick)
        show("Processes at once, the cores divided among them", results["packing"])
    if "compile" in parts:
        results["compile"] = processes.compiled(options.data, device, quick, rounds(40))
        show("torch.compile", results["compile"])
    if "loading" in parts:
        few: dict[str, Any] = {"batch_size": 8, "batches": 2} if quick else {}
        results["loading"] = loading.measure(options.data, device, rounds=rounds(5), **few)
        show("Streamed images: the loader alone, and a step", results["loading"])
    if "zeros" in parts:
        some: dict[str, Any] = {"sparsities": (0.9,)} if quick else {}
        results["zeros"] = zeros.measure(data, rounds=rounds(12), **size, **some)
        if not quick:
            results["zeros"]["together"] = zeros.together(options.data)
        show("Whole steps that skip the zeros, data included", results["zeros"])
    return results


def show(title: str, results: dict[str, Any]) -> None:
    """Print nested results, one line a number; a spread as its median and quartiles."""
    print(f"\n{title}")
    for name, value in _lines(results):
        print(f"  {name:<58} {value}")
    sys.stdout.flush()


def _lines(results: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in results.items():
        label = f"{prefix}{name}"
        if isinstance(value, dict):
            lines += _lines(value, f"{label}: ")
        elif isinstance(value, float):
            lines.append((label, f"{value:.4g}"))
        else:
            lines.append((label, str(value)))
    return lines


def _is_result(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"environment", "started"} <= set(found)


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, help="data folder (default: PAPER_REPRO_DATA)")
    parser.add_argument("--threads", type=int, help="processor threads (default: all)")
    parser.add_argument("--rounds", type=int, help="timed rounds of each part")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument(
        "--out", type=Path, help="JSON file (of a whole run: results-<device>.json)"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a file that is no benchmark's result too"
    )
    return parser


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}; there are {', '.join(PARTS)}")
    for name in ("threads", "rounds"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if options.out is None:
        # Claim 4 reads that file.
        less = not set(DEFAULT) <= set(options.parts or DEFAULT)
        if less or options.quick or options.rounds or options.threads:
            parser.error(
                f"only a whole run ({', '.join(DEFAULT)}, as they stand) replaces the committed "
                "results; name another file with --out"
            )
    return options


if __name__ == "__main__":
    sys.exit(main())
