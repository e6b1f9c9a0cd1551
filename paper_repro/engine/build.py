"""Compile the kernels for this machine's instruction set, once, and load them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from paper_repro.errors import UserError

__all__ = ["INSTRUCTION_SETS", "best", "build", "compiler", "library", "supported"]

#: From the widest to the plainest: what the processor must have, and what the compiler is told.
INSTRUCTION_SETS: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "avx512bf16": (
        frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"}),
        ("-march=x86-64-v4", "-mavx512bf16"),
    ),
    "avx512": (
        frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"}),
        ("-march=x86-64-v4",),
    ),
    "avx2": (frozenset({"avx2", "fma", "f16c", "bmi2"}), ("-march=x86-64-v3",)),
    "generic": (frozenset(), ()),
}

_SOURCES = Path(__file__).parent / "native"
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno")


def compiler() -> str | None:
    """The C++ compiler: ``CXX``, else the first of c++, g++ and clang++ that there is."""
    asked = os.environ.get("CXX")
    names = [asked] if asked else ["c++", "g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name))), None)


@functools.cache
def supported() -> tuple[str, ...]:
    """The instruction sets that this processor has, the widest first."""
    flags: set[str] = set()
    if platform.machine() in ("x86_64", "AMD64"):
        try:
            for line in Path("/proc/cpuinfo").read_text().splitlines():
                if line.startswith("flags"):
                    flags = set(line.split(":", 1)[1].split())
                    break
        except OSError:
            pass  # not Linux: what every processor of this kind has
    return tuple(name for name, (needs, _) in INSTRUCTION_SETS.items() if needs <= flags)


def best() -> str:
    """The widest instruction set here, or what ``PAPER_REPRO_ISA`` names.

    Raises:
        UserError: it names one that this processor does not have.
    """
    asked = os.environ.get("PAPER_REPRO_ISA")
    if not asked:
        return supported()[0]
    if asked not in supported():
        raise UserError(
            f"PAPER_REPRO_ISA={asked} is not among this processor's: {', '.join(supported())}"
        )
    return asked


def build(isa: str, folder: Path | None = None, extra: tuple[str, ...] = ()) -> Path:
    """The compiled library for an instruction set, made if it is not there.

    Its name holds a hash of sources and flags, so that no stale one is ever loaded. It lies beside
    the sources, or where those cannot be written to in the user's cache.

    Args:
        isa: one of :data:`INSTRUCTION_SETS`.
        folder: where to put it.
        extra: more flags for the compiler.

    Raises:
        UserError: there is no C++ compiler, or it fails.
    """
    flags = (*_FLAGS, *INSTRUCTION_SETS[isa][1], *extra)
    digest = hashlib.sha256(" ".join((*flags, platform.machine())).encode())
    for source in sorted(_SOURCES.glob("*.[ch]*")):
        digest.update(source.read_bytes())
    name = f"engine-{isa}-{digest.hexdigest()[:12]}.so"
    places = [folder] if folder else [_SOURCES / "lib", _cache()]
    for place in places:
        if (place / name).exists():
            return place / name
    found = compiler()
    if found is None:
        raise UserError("the sparse engine needs a C++ compiler (c++, g++ or clang++), or CXX")
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place) as scratch:
                made = Path(scratch) / name
                command = [found, *flags, *_openmp(found), str(_SOURCES / "engine.cpp")]
                ran = subprocess.run(
                    [*command, "-o", str(made)], capture_output=True, text=True, check=False
                )
                if ran.returncode:
                    first = (ran.stderr.splitlines() or ["no message"])[0]
                    raise UserError(f"the sparse engine does not compile with {found}: {first}")
                os.replace(made, place / name)
            return place / name
        except OSError:
            if place == places[-1]:
                raise
    raise AssertionError("unreachable: the last place returns or raises")


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "paper_repro" / "engine"


@functools.cache
def _openmp(found: str) -> tuple[str, ...]:
    """``-fopenmp`` where it works; without it the engine has one thread."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "probe.cpp"
        source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
        ran = subprocess.run(
            [found, "-fopenmp", str(source), "-o", str(Path(scratch) / "probe")],
            capture_output=True,
            check=False,
        )
    return ("-fopenmp",) if ran.returncode == 0 else ()


@functools.cache
def library(isa: str | None = None) -> ctypes.CDLL:
    """The loaded kernels, compiled before if need be.

    Raises:
        UserError: they cannot be compiled or loaded.
    """
    path = build(isa or best())
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise UserError(f"the sparse engine's library cannot be loaded: {error}") from error
    loaded.engine_run.restype = None
    loaded.engine_backward_pattern.restype = ctypes.c_int64
    loaded.engine_forward_pattern.restype = None
    return loaded


if __name__ == "__main__":
    for name in supported() if "--all" in sys.argv else (best(),):
        print(build(name))
