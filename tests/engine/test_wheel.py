"""What a wheel brings: the kernels compiled, found where it is installed."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from paper_repro.engine.build import compilable, compiler

CHECKOUT = Path(__file__).parents[2]


def wheel(folder, **environment):
    """Built from a copy, so that the checkout stays as it is."""
    source = folder / "source"
    if not source.exists():
        source.mkdir()
        for name in ("paper_repro", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
            _copy(CHECKOUT / name, source / name)
    out = folder / f"out{len(environment)}"
    command = [sys.executable, "-m", "pip", "wheel", str(source), "-w", str(out), "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "--quiet"],
        check=True,
        env={**os.environ, "PAPER_REPRO_CXXFLAGS": "", **environment},
    )
    (found,) = out.glob("*.whl")
    return found


def _copy(source, target):
    archive = target.parent / "copy.tar"
    with tarfile.open(archive, "w") as file:
        file.add(source, target.name, filter=lambda i: None if i.name.endswith(".so") else i)
    with tarfile.open(archive) as file:
        file.extractall(target.parent, filter="data")
    archive.unlink()


def libraries(path):
    with zipfile.ZipFile(path) as file:
        return sorted(name for name in file.namelist() if name.endswith(".so"))


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_a_wheel_brings_the_kernels_compiled(tmp_path):
    path = wheel(tmp_path)
    assert "-py3-none-" in path.name and not path.name.endswith("-any.whl")
    assert len(libraries(path)) == len(compilable())
    # purelib would be in a folder of its own, which auditwheel refuses.
    assert all(name.startswith("paper_repro/engine/native/lib/") for name in libraries(path))
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "installed")
        assert {"conv.h", "engine.cpp"} <= {Path(name).name for name in file.namelist()}
    code = (
        "from paper_repro.engine.build import build, library, supported\n"
        "for name in supported(): library(name); print(build(name))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "CXX": "/nonexistent",
            "PAPER_REPRO_CXXFLAGS": "",
            "PYTHONPATH": str(tmp_path / "installed"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        },
    )
    assert all(line.startswith(str(tmp_path / "installed")) for line in ran.stdout.split())


@pytest.mark.slow
def test_without_a_compiler_a_wheel_is_python_and_sources(tmp_path):
    path = wheel(tmp_path, CXX="/nonexistent")
    assert path.name.endswith("-py3-none-any.whl") and libraries(path) == []
