"""Compile the kernels for this machine's instruction set, once, and load them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paper_repro.errors import UserError  # nothing that needs torch: setup.py loads this file

__all__ = [
    "INSTRUCTION_SETS",
    "best",
    "build",
    "compilable",
    "compiler",
    "library",
    "supported",
]

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

_NOTHING = "int main() { return 0; }\n"
_SOURCES = Path(__file__).parent / "native"
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno")


def compiler() -> tuple[str, ...] | None:
    """The C++ compiler's command: ``CXX``, else the first of c++, g++ and clang++ that there is."""
    asked = os.environ.get("CXX")
    commands = [shlex.split(asked)] if asked else [["c++"], ["g++"], ["clang++"]]
    for name, *arguments in commands:
        found = shutil.which(name)
        if found is not None:
            return (found, *arguments)
    return None


_X86 = platform.machine() in ("x86_64", "AMD64")


def compilable() -> tuple[str, ...]:
    """The instruction sets that processors of this architecture may have, the widest first."""
    return tuple(name for name, (needs, _) in INSTRUCTION_SETS.items() if _X86 or not needs)


@functools.cache
def supported() -> tuple[str, ...]:
    """The instruction sets that this processor has, the widest first."""
    flags: set[str] = set()
    if _X86:
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

    That is of those whose library there is, or that the compiler knows: GCC knows ``x86-64-v4``
    since its version 11.

    Raises:
        UserError: it names one that this processor does not have.
    """
    asked = os.environ.get("PAPER_REPRO_ISA")
    if not asked:
        for isa in supported():
            if _built(isa) or _known(isa):
                return isa
        return supported()[0]  # building it says why it cannot be had
    if asked not in supported():
        raise UserError(
            f"PAPER_REPRO_ISA={asked} is not among this processor's: {', '.join(supported())}"
        )
    return asked


def build(isa: str, folder: Path | None = None, extra: tuple[str, ...] = ()) -> Path:
    """The compiled library for an instruction set, made if it is not there.

    Its name holds a hash of sources and flags, so that no stale one is ever loaded, and it gets its
    name when it is whole. It lies beside the sources, where wheels bring it, or where those cannot
    be written to in the user's cache.

    Args:
        isa: one of :data:`INSTRUCTION_SETS`.
        folder: where to put it.
        extra: more flags for the compiler, beside those in ``PAPER_REPRO_CXXFLAGS``.

    Raises:
        UserError: there is no C++ compiler, it cannot be run or fails, or there is no place for
            what it makes.
    """
    flags, name = _flags(isa, extra)
    places = _places(folder)
    for place in places:
        if os.path.exists(place / name):  # Path's own raises where a folder may not be read
            return place / name
    command = compiler()
    if command is None:
        raise UserError("the sparse engine needs a C++ compiler (c++, g++ or clang++), or CXX")
    reason: OSError | None = None
    for place in places:
        try:
            return _compile(command, flags, place, name)
        except OSError as error:
            reason = error  # read-only, full, or no folder
    raise UserError(f"there is no place for the sparse engine's library {name}: {reason}")


def _flags(isa: str, extra: Sequence[str] = ()) -> tuple[tuple[str, ...], str]:
    """The compiler's flags for an instruction set, and the name of the library that they make."""
    more = shlex.split(os.environ.get("PAPER_REPRO_CXXFLAGS", ""))
    flags = (*_FLAGS, *INSTRUCTION_SETS[isa][1], *extra, *more)
    digest = hashlib.sha256(" ".join((*flags, platform.machine())).encode())
    for source in sorted(_SOURCES.glob("*.[ch]*")):
        digest.update(source.read_bytes())
    return flags, f"engine-{isa}-{digest.hexdigest()[:12]}.so"


def _places(folder: Path | None = None) -> list[Path]:
    """Where a library may lie, in order."""
    if folder is not None:
        return [folder]
    cache = _cache()
    return [_SOURCES / "lib"] if cache is None else [_SOURCES / "lib", cache]


def _built(isa: str) -> bool:
    _, name = _flags(isa)
    return any(os.path.exists(place / name) for place in _places())


def _known(isa: str) -> bool:
    """Whether there is a compiler that knows an instruction set."""
    command = compiler()
    try:
        return command is not None and _compiles(command, INSTRUCTION_SETS[isa][1])
    except (UserError, OSError):
        return False


def _compile(command: Sequence[str], flags: Sequence[str], place: Path, name: str) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".") as scratch:
        made = Path(scratch) / name
        whole = [*command, *flags, *_openmp(tuple(command)), str(_SOURCES / "engine.cpp")]
        ran = _run([*whole, "-o", str(made)])
        if ran.returncode:
            lines = ran.stderr.splitlines() or [f"it returned {ran.returncode}"]
            first = next((line for line in lines if "error" in line), lines[0])
            least = "" if "-generic-" in name else " (PAPER_REPRO_ISA=generic asks least of it)"
            raise UserError(f"the sparse engine does not compile with {command[0]}: {first}{least}")
        with made.open("rb") as file:
            os.fsync(file.fileno())
        # Of two processes that build at once the later one replaces the file by an equal one.
        os.replace(made, place / name)
    return place / name


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler.

    Raises:
        UserError: it cannot be executed.
    """
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:  # built for another machine, say
        raise UserError(f"the C++ compiler {command[0]} cannot be run: {error.strerror}") from error


def _cache() -> Path | None:
    """The user's cache, if there is a user with a home."""
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(root or Path.home() / ".cache") / "paper_repro" / "engine"
    except RuntimeError:
        return None


def _openmp(command: tuple[str, ...]) -> tuple[str, ...]:
    """``-fopenmp`` where it works; without it the engine has one thread."""
    code = "#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n"
    return ("-fopenmp",) if _compiles(command, ("-fopenmp",), code) else ()


@functools.cache
def _compiles(command: tuple[str, ...], flags: tuple[str, ...], code: str = _NOTHING) -> bool:
    """Whether the compiler makes a program of this with these flags.

    Raises:
        UserError: it cannot be executed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "probe.cpp"
        source.write_text(code)
        ran = _run([*command, *flags, str(source), "-o", str(Path(scratch) / "probe")])
    return ran.returncode == 0


@functools.cache
def library(isa: str | None = None) -> ctypes.CDLL:
    """The loaded kernels, compiled before if need be.

    Args:
        isa: the instruction set; by default :func:`best`.

    Raises:
        UserError: they cannot be compiled or loaded, or this processor cannot run them.
    """
    if isa is not None and isa not in supported():
        raise UserError(
            f"instruction set {isa!r} is not among this processor's: {', '.join(supported())}"
        )
    path = build(isa or best())
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise UserError(f"the sparse engine's library cannot be loaded: {error}") from error
    loaded.engine_run.restype = None
    loaded.engine_backward_pattern.restype = ctypes.c_int64
    loaded.engine_forward_pattern.restype = None
    return loaded
