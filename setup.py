"""The wheel's build step: the kernels, compiled for every instruction set of the architecture.

Everything else is in pyproject.toml. Without a C++ compiler the wheel holds Python and sources
only, and the kernels are compiled where it is installed, at first use.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def _kernels():
    """``paper_repro.engine.build`` by itself: the package around it needs torch."""
    sys.path.insert(0, str(ROOT))
    path = ROOT / "paper_repro" / "engine" / "build.py"
    spec = importlib.util.spec_from_file_location("engine_build", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KERNELS = _kernels()


class BuildWithKernels(build_py):
    """Copy the package, then compile its kernels into the copy."""

    def run(self):
        super().run()
        if self.editable_mode:
            return  # compiled beside the sources, at first use
        place = Path(self.build_lib) / "paper_repro" / "engine" / "native" / "lib"
        shutil.rmtree(place, ignore_errors=True)  # what an earlier build left
        for isa in KERNELS.compilable():
            try:
                print(f"compiled {KERNELS.build(isa, place)}")
            except ValueError as error:  # no compiler, or one too old for the instruction set
                print(f"the wheel lacks the kernels for {isa}: {error}")


class PlatformDistribution(Distribution):
    """Where the kernels can be compiled, what is built is for one platform."""

    def has_ext_modules(self):
        return KERNELS.compiler() is not None


class PlatformWheel(bdist_wheel):
    """For one platform then, but for any Python 3: ctypes loads the libraries."""

    def get_tag(self):
        tag = super().get_tag()
        return tag if self.root_is_pure else ("py3", "none", tag[2])


setup(
    distclass=PlatformDistribution,
    cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel},
)
