"""Let processes on one NVIDIA GPU run their kernels side by side, not slice by slice."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from paper_repro.errors import UserError

__all__ = ["PIPES", "PROGRAM", "multi_process_service"]

PROGRAM = "nvidia-cuda-mps-control"
PIPES = "CUDA_MPS_PIPE_DIRECTORY"  # in the environment of every process that shares a GPU
_PROBE = "import torch; torch.zeros(1, device='cuda').item()"
_PATIENCE = 120.0  # seconds for the daemon to start and a first process to use the GPU


@contextlib.contextmanager
def multi_process_service(folder: Path) -> Iterator[None]:
    """Inside, processes that are started share the GPU through a daemon of their own (MPS).

    Without it a GPU gives each process the whole chip for a while, one after the other, however
    little of it a small network's kernels fill. The GPU's settings stay as they are. The daemon
    ends with the block, and a process is tried on it first.

    Args:
        folder: for its pipes and logs.

    Raises:
        UserError: NVIDIA's daemon is not installed, does not start, or cannot be used here.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(f"{PROGRAM} is not on the PATH, so the GPU cannot be shared by MPS")
    places = {
        PIPES: folder.resolve() / "pipes",
        "CUDA_MPS_LOG_DIRECTORY": folder.resolve() / "logs",
    }
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    before = {name: os.environ.get(name) for name in places}
    os.environ.update({name: str(place) for name, place in places.items()})
    said = places["CUDA_MPS_LOG_DIRECTORY"] / "said.txt"
    try:
        try:
            _must([program, "-d"], "does not start", said)
            _must([sys.executable, "-c", _PROBE], "cannot be used here", said)
            yield
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [program],
                    input=b"quit\n",
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=_PATIENCE,
                    check=False,
                )
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _must(command: list[str], problem: str, said: Path) -> None:
    # Into a file: a daemon keeps a pipe open, and whoever reads from it would wait for ever.
    with said.open("wb") as file:
        try:
            ran = subprocess.run(command, stdout=file, stderr=file, timeout=_PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            reason = f"no answer in {_PATIENCE:g} s"
            raise UserError(f"NVIDIA's MPS daemon {problem}: {reason}") from None
    if ran.returncode:
        lines = said.read_text(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"status {ran.returncode}"
        raise UserError(f"NVIDIA's MPS daemon {problem}: {reason}")
