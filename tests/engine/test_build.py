"""Compiling the kernels: when, where, with what, and what is said where that cannot be."""

import ctypes
import runpy
import subprocess
import sys

import pytest

from paper_repro.engine import build as module
from paper_repro.engine.build import best, build, compiler, library, supported
from paper_repro.engine.program import Op
from paper_repro.errors import UserError

QUICK = ("-O0",)  # it is not run


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Two lines that compile at once, in the kernels' place."""
    folder = tmp_path / "native"
    folder.mkdir()
    (folder / "engine.cpp").write_text('extern "C" int engine_lanes() { return 4; }\n')
    monkeypatch.setattr(module, "_SOURCES", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PAPER_REPRO_CXXFLAGS", raising=False)
    return folder


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent")


def compiled(sources):
    return sorted(path.name for path in (sources / "lib").iterdir())


def test_it_compiles_once(sources, monkeypatch):
    path = build("generic", extra=QUICK)
    assert path.parent == sources / "lib" and compiled(sources) == [path.name]
    assert ctypes.CDLL(str(path)).engine_lanes() == 4
    monkeypatch.setenv("CXX", "/nonexistent")
    assert build("generic", extra=QUICK) == path  # as a wheel brings it


def test_a_stale_library_is_not_loaded(sources, monkeypatch):
    old = build("generic", extra=QUICK)
    (sources / "engine.cpp").write_text('extern "C" int engine_lanes() { return 8; }\n')
    new = build("generic", extra=QUICK)
    assert new != old and ctypes.CDLL(str(new)).engine_lanes() == 8
    (sources / "extra.h").write_text("// more\n")
    assert build("generic", extra=QUICK) not in (old, new)
    assert build("generic", extra=("-O1",)) not in (old, new)
    before = build("generic", extra=QUICK)
    monkeypatch.setenv("PAPER_REPRO_CXXFLAGS", "-g -DX='a b'")
    assert build("generic", extra=QUICK) != before


def test_what_a_dying_compiler_left_is_not_loaded(sources, tmp_path, monkeypatch):
    dying = tmp_path / "dying"
    # It writes half of the library and is killed.
    dying.write_text('#!/bin/sh\nfor last; do :; done\nprintf half > "$last"\nkill -9 $$\n')
    dying.chmod(0o755)
    monkeypatch.setenv("CXX", str(dying))
    with pytest.raises(UserError, match="does not compile with"):
        build("generic", extra=QUICK)
    assert compiled(sources) == []
    monkeypatch.delenv("CXX")
    assert ctypes.CDLL(str(build("generic", extra=QUICK))).engine_lanes() == 4


def test_two_processes_at_once_end_well(sources, tmp_path):
    code = (
        "import ctypes, sys; from importlib.util import *; from pathlib import Path;"
        "s = spec_from_file_location('b', sys.argv[1]); b = module_from_spec(s);"
        "s.loader.exec_module(b); b._SOURCES = Path(sys.argv[2]);"
        "p = b.build('generic', extra=('-O0',)); assert ctypes.CDLL(str(p)).engine_lanes() == 4;"
        "print(p)"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, module.__file__, str(sources)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    found = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(found) == 1 and len(compiled(sources)) == 1


def test_where_the_package_cannot_be_written_to_it_lies_in_the_cache(sources, tmp_path):
    (sources / "lib").write_text("not a folder")
    path = build("generic", extra=QUICK)
    assert path.is_relative_to(tmp_path / "cache" / "paper_repro")
    (tmp_path / "cache" / "paper_repro" / "engine" / path.name).unlink()
    (tmp_path / "cache" / "paper_repro" / "engine").rmdir()
    (tmp_path / "cache" / "paper_repro" / "engine").write_text("not a folder either")
    with pytest.raises(UserError, match="no place for the sparse engine's library"):
        build("generic", extra=QUICK)


def test_without_a_compiler(sources, no_compiler, monkeypatch):
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler"):
        build("generic", extra=QUICK)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    assert compiler() is None


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def old_compiler(tmp_path, monkeypatch):
    """It knows AVX2 and AVX-512 by their own names only, as GCC 8 to 10 do."""
    refused = 'case "$*" in *x86-64-v*) echo "error: bad value for -march" >&2; exit 1;; esac'
    found = script(tmp_path / "old", f'{refused}\nexec {compiler()[0]} "$@"')
    monkeypatch.setenv("CXX", found)
    monkeypatch.delenv("PAPER_REPRO_ISA", raising=False)


def test_a_compiler_that_does_not_know_an_instruction_set_gets_the_next(
    sources, old_compiler, monkeypatch, capsys
):
    assert best() == "generic"
    assert ctypes.CDLL(str(build(best(), extra=QUICK))).engine_lanes() == 4
    monkeypatch.setattr(module, "supported", lambda: ("avx2", "generic"))
    with pytest.raises(UserError, match=r"bad value for -march .PAPER_REPRO_ISA=generic asks"):
        build("avx2")
    monkeypatch.setattr(sys, "argv", ["engine", "--all"])
    runpy.run_module("paper_repro.engine", run_name="__main__")
    said = capsys.readouterr().out.splitlines()
    assert "bad value" in said[0] and said[1].startswith("the sparse engine for generic: ")
    # A library that is there already needs no compiler.
    _, name = module._flags("avx2")
    (sources / "lib" / name).touch()
    assert best() == "avx2"


def test_a_compiler_that_cannot_be_run_is_named(sources, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF of another machine")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(UserError, match=r"compiler .*broken cannot be run: Exec format error"):
        build("generic", extra=QUICK)
    monkeypatch.delenv("PAPER_REPRO_ISA", raising=False)
    assert best() == supported()[0]


def test_without_a_home_it_lies_beside_the_sources_or_nowhere(sources, monkeypatch):
    path = build("generic", extra=QUICK)
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(module.Path, "home", nobody)
    assert build("generic", extra=QUICK) == path
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("not a folder")
    with pytest.raises(UserError, match="no place for the sparse engine's library"):
        build("generic", extra=QUICK)


def test_a_compiler_may_have_arguments(sources, monkeypatch):
    plain = compiler()
    monkeypatch.setenv("CXX", f"{plain[0]} -DENGINE_TEST")
    assert compiler() == (plain[0], "-DENGINE_TEST")
    (sources / "engine.cpp").write_text(
        "#ifndef ENGINE_TEST\n#error not told\n#endif\n" + (sources / "engine.cpp").read_text()
    )
    assert build("generic", extra=QUICK).exists()
    monkeypatch.delenv("CXX")
    with pytest.raises(UserError, match="not told"):
        build("generic", extra=("-O1",))


def test_the_instruction_set_is_chosen_by_the_processor_or_by_name(monkeypatch):
    monkeypatch.delenv("PAPER_REPRO_ISA", raising=False)
    assert best() == supported()[0] and supported()[-1] == "generic"
    for name in supported():
        monkeypatch.setenv("PAPER_REPRO_ISA", name)
        assert best() == name
    monkeypatch.setenv("PAPER_REPRO_ISA", "mmx")
    with pytest.raises(UserError, match="PAPER_REPRO_ISA=mmx is not among"):
        best()


@pytest.mark.parametrize("isa", supported())
def test_every_instruction_set_compiles_to_its_registers(isa):
    lanes = {"avx512bf16": 16, "avx512": 16, "avx2": 8, "generic": 4}
    assert library(isa).engine_lanes() == lanes[isa]
    assert library(isa).engine_op_size() == ctypes.sizeof(Op)


def test_an_instruction_set_that_the_processor_lacks_is_not_loaded(monkeypatch):
    monkeypatch.setattr(module, "supported", lambda: ("generic",))
    with pytest.raises(UserError, match="'avx2' is not among this processor's: generic"):
        library.__wrapped__("avx2")


def test_a_file_that_is_no_library_is_one_sentence(sources):
    path = build("generic", extra=())
    path.write_bytes(b"not a library")
    library.cache_clear()
    try:
        with pytest.raises(UserError, match="cannot be loaded"):
            library("generic")
    finally:
        library.cache_clear()


def test_the_module_compiles_beforehand_and_goes_on_without_a_compiler(
    sources, monkeypatch, capsys
):
    """As ``make setup`` runs it."""
    monkeypatch.setattr(sys, "argv", ["engine"])
    runpy.run_module("paper_repro.engine", run_name="__main__")
    assert str(sources) in capsys.readouterr().out and len(compiled(sources)) == 1
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("PAPER_REPRO_CXXFLAGS", "-g")
    runpy.run_module("paper_repro.engine", run_name="__main__")
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "needs a C++ compiler" in said
